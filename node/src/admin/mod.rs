//! The admin socket: one JSON request a line, answered by progress lines and one last line. The socket is the operator's
//! alone (mode 0600), so whoever can connect may do everything.

mod agreements;
mod audiences;
mod codes;
mod governance;
mod matches;
mod ops;
mod overlaps;
mod printing;
mod products;
mod proofs;
mod records;
mod scans;
mod trade;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::ids::MemberId;
use tally_contracts::state;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::runtime::Node;

/// Name of the socket in the node's directory.
pub const SOCKET: &str = "admin.sock";
/// The longest request, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request was not carried out, for people and machines.
#[derive(Debug)]
pub struct AdminError {
    /// Stable word.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to try.
    pub next: String,
}

impl AdminError {
    fn new(code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            next: next.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    op: String,
    #[serde(default)]
    args: Value,
}

/// Whether a line is a request, known operation or not.
pub(crate) fn is_request(line: &[u8]) -> bool {
    serde_json::from_slice::<Request>(line).is_ok()
}

/// Where an operation reports how far it is.
#[derive(Clone)]
pub struct Progress(mpsc::Sender<Value>);

impl Progress {
    /// Reports; a client that does not read misses some.
    pub fn report(&self, what: &str, done: u64, total: u64) {
        let _ = self
            .0
            .try_send(json!({"progress": {"what": what, "done": done, "total": total}}));
    }
}

/// Binds the socket, replacing one that nobody answers on.
///
/// # Errors
/// If a node answers on it, or the system refuses.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "a node is running on this directory",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves requests until `stop`.
pub async fn serve(listener: UnixListener, node: Arc<Node>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (node, stop) = (node.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        result = connection(stream, node) => {
                            if let Err(e) = result {
                                tracing::debug!(error = %e, "an admin connection ended early");
                            }
                        }
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "the admin socket does not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, node: Arc<Node>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read).take(MAX_LINE);
    match tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await {
        Ok(result) => result?,
        Err(_) => return Ok(()),
    };
    let (sender, mut receiver) = mpsc::channel(64);
    let answer = async {
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => ops::carry_out(&node, &request.op, request.args, Progress(sender)).await,
            Err(e) => Err(AdminError::new(
                "request",
                format!("not a request: {e}"),
                "use the tally command",
            )),
        }
    };
    tokio::pin!(answer);
    let last = loop {
        tokio::select! {
            Some(progress) = receiver.recv() => send(&mut write, &progress).await?,
            result = &mut answer => break result,
        }
    };
    let last = match last {
        Ok(value) => json!({"ok": value}),
        Err(e) => {
            let name = |id: &MemberId| {
                let member = state::member(node.chain.ledger().state(), id)
                    .ok()
                    .flatten();
                member.map(|m| m.name)
            };
            json!({"error": {"code": e.code, "message": named(&e.message, name), "next": e.next}})
        }
    };
    send(&mut write, &last).await?;
    write.shutdown().await
}

/// A message with the names of members in the place of their IDs, which the contracts speak in.
fn named(message: &str, name: impl Fn(&MemberId) -> Option<String>) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric());
        let (word, after) = from.split_at(end.unwrap_or(from.len()));
        out.push_str(before);
        match word.parse().ok().and_then(|id| name(&id)) {
            Some(name) => out.push_str(&name),
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, value: &Value) -> io::Result<()> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    write.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_by_name() {
        let id = MemberId([0xab; 16]);
        let name = |found: &MemberId| (*found == id).then(|| "acme".to_owned());
        let other = MemberId([0xcd; 16]);
        for (message, expected) in [
            (
                format!("GTIN 09521234543213 is registered by member {id} (gtin_taken)"),
                "GTIN 09521234543213 is registered by member acme (gtin_taken)".to_owned(),
            ),
            (
                format!("{id}, not {other}: \u{e9}{id}"),
                format!("acme, not {other}: \u{e9}acme"),
            ),
            // Part of something longer is no member.
            (format!("record {id}{id}"), format!("record {id}{id}")),
            (String::new(), String::new()),
        ] {
            assert_eq!(named(&message, name), expected);
        }
    }
}
