//! Asks the running node over its Unix socket: one JSON line out; progress lines and one answer line back.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::progress::Progress;

/// The socket in a node's data directory.
pub(crate) const SOCKET: &str = "admin.sock";
/// The longest answer line, in bytes.
const MAX_LINE: u64 = 64 << 20;
/// The longest socket path that every Unix takes as it is.
const MAX_SOCKET_PATH: usize = 100;

/// A connection to the node.
pub(crate) struct AdminClient {
    stream: BufReader<UnixStream>,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(Progress),
    Ok(Value),
    Error(Refused),
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    message: String,
    #[serde(default)]
    next: Option<String>,
}

impl AdminClient {
    /// Connects to the node of a data directory. `timeout` is how long each word from it may take.
    pub(crate) fn connect(data_dir: &Path, config: &Path, timeout: Duration) -> Result<Self> {
        let path = data_dir.join(SOCKET);
        let stream = open(data_dir, &path).map_err(|e| {
            let failure = match e.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(
                    Exit::NotRunning,
                    "not_running",
                    format!("the node of {} is not running", config.display()),
                )
                .next(format!(
                    "start it with `tally up --config {}`",
                    config.display()
                )),
                ErrorKind::PermissionDenied => Failure::new(
                    Exit::Failed,
                    "permission",
                    format!("{} belongs to another user", path.display()),
                )
                .next("run this as the user that runs the node"),
                _ => Failure::new(
                    Exit::Failed,
                    "socket",
                    format!("cannot reach the node at {}", path.display()),
                ),
            };
            anyhow::Error::new(e).context(failure)
        })?;
        let wait = (!timeout.is_zero()).then_some(timeout);
        stream.set_read_timeout(wait)?;
        stream.set_write_timeout(wait)?;
        Ok(Self {
            stream: BufReader::new(stream),
            timeout,
        })
    }

    /// Asks, and hears of the progress until the answer comes.
    pub(crate) fn call(
        &mut self,
        op: &str,
        args: &Value,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Value> {
        let mut line = json!({"op": op, "args": args}).to_string().into_bytes();
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|e| self.broken(e))?;
        loop {
            match self.line()? {
                Line::Progress(news) => progress(&news),
                Line::Ok(value) => return Ok(value),
                Line::Error(refused) => {
                    let exit = match refused.code.as_str() {
                        "timeout" => Exit::Timeout,
                        "not_verified" | "verification" => Exit::NotVerified,
                        _ => Exit::Failed,
                    };
                    let failure = Failure {
                        exit,
                        code: refused.code,
                        message: refused.message,
                        next: refused.next.filter(|n| !n.is_empty()),
                        told: false,
                    };
                    return Err(failure.into());
                }
            }
        }
    }

    fn line(&mut self) -> Result<Line> {
        let mut bytes = Vec::new();
        let read = (&mut self.stream)
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut bytes);
        read.map_err(|e| self.broken(e))?;
        if bytes.last() != Some(&b'\n') {
            let failure = if bytes.len() as u64 > MAX_LINE {
                Failure::new(
                    Exit::Failed,
                    "answer",
                    format!("the node's answer is longer than {MAX_LINE} bytes"),
                )
            } else {
                Failure::new(Exit::Failed, "gone", "the node stopped before it answered")
                    .next("`tally status` says whether it runs; its log says why it stopped")
            };
            return Err(failure.into());
        }
        serde_json::from_slice(&bytes).map_err(|e| {
            anyhow!(e).context(
                Failure::new(
                    Exit::Failed,
                    "answer",
                    "the node's answer is none that this program knows",
                )
                .next("use the same version of `tally` for both"),
            )
        })
    }

    fn broken(&self, error: io::Error) -> anyhow::Error {
        let failure = match error.kind() {
            // What the system says of a deadline says nothing to anybody.
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                let what = format!("the node said nothing for {} s", self.timeout.as_secs());
                return Failure::new(Exit::Timeout, "timeout", what)
                    .next("it may still do what was asked: look with `tally status`, or wait longer with --timeout SECONDS")
                    .into();
            }
            _ => Failure::new(Exit::Failed, "gone", "the connection to the node broke")
                .next("`tally status` says whether it runs; its log says why it stopped"),
        };
        anyhow!(error).context(failure)
    }
}

/// Whether a node runs on this data directory.
pub(crate) fn is_running(data_dir: &Path) -> bool {
    open(data_dir, &data_dir.join(SOCKET)).is_ok()
}

/// Connects; a path that is too long for a socket address goes through the open folder instead.
fn open(data_dir: &Path, path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(path);
    }
    let dir = File::open(data_dir)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    UnixStream::connect(through.join(SOCKET))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A node that answers one request with fixed lines.
    fn node(dir: &Path, answer: &'static [u8]) -> thread::JoinHandle<String> {
        let listener = UnixListener::bind(dir.join(SOCKET)).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            reader.get_mut().write_all(answer).unwrap();
            line
        })
    }

    fn ask(answer: &'static [u8]) -> (Result<Value>, Vec<Progress>, String) {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path(), answer);
        let mut client =
            AdminClient::connect(dir.path(), Path::new("tally.toml"), Duration::from_secs(5))
                .unwrap();
        let mut news = Vec::new();
        let answer = client.call("codes_issue", &json!({"count": 3}), &mut |p| {
            news.push(p.clone());
        });
        (answer, news, node.join().unwrap())
    }

    fn exit_of(answer: Result<Value>) -> (Exit, String) {
        let error = answer.unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        (failure.exit, failure.code.clone())
    }

    #[test]
    fn progress_comes_before_the_answer() {
        let (answer, news, line) =
            ask(b"{\"progress\":{\"done\":1,\"total\":3,\"what\":\"codes\"}}\n{\"ok\":{\"batch\":\"b1\"}}\n");
        assert_eq!(answer.unwrap(), json!({"batch": "b1"}));
        assert_eq!(news.len(), 1);
        assert_eq!(
            line.trim_end(),
            r#"{"args":{"count":3},"op":"codes_issue"}"#
        );
    }

    #[test]
    fn refusals_and_rubbish_have_their_codes() {
        let cases: [(&'static [u8], Exit, &str); 5] = [
            (
                b"{\"error\":{\"code\":\"role\",\"message\":\"no\",\"next\":\"x\"}}\n",
                Exit::Failed,
                "role",
            ),
            (
                b"{\"error\":{\"code\":\"timeout\",\"message\":\"no\"}}\n",
                Exit::Timeout,
                "timeout",
            ),
            (b"rubbish\n", Exit::Failed, "answer"),
            (b"{\"ok\":1", Exit::Failed, "gone"),
            (b"", Exit::Failed, "gone"),
        ];
        for (answer, exit, code) in cases {
            assert_eq!(exit_of(ask(answer).0), (exit, code.to_owned()));
        }
    }

    #[test]
    fn no_node_and_a_silent_node_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let connect = |ms| {
            AdminClient::connect(
                dir.path(),
                Path::new("tally.toml"),
                Duration::from_millis(ms),
            )
        };
        let error = connect(50).err().unwrap();
        assert_eq!(
            error.downcast_ref::<Failure>().unwrap().exit,
            Exit::NotRunning
        );
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let answer = connect(50).unwrap().call("status", &json!({}), &mut |_| {});
        assert_eq!(exit_of(answer).0, Exit::Timeout);
        drop(listener);
        assert_eq!(
            connect(50)
                .err()
                .unwrap()
                .downcast_ref::<Failure>()
                .unwrap()
                .exit,
            Exit::NotRunning
        );
    }

    #[test]
    fn a_long_path_is_reached_through_its_folder() {
        let tmp = tempfile::tempdir().unwrap();
        let deep = tmp.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let dir = File::open(&deep).unwrap();
        let listener =
            UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())).unwrap();
        assert!(is_running(&deep));
        drop(listener);
        assert!(!is_running(&deep));
    }
}
