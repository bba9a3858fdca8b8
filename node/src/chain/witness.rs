//! External witnesses (C2SP tlog-witness): asked for a cosignature of this node's checkpoints, off the way of commits. A witness
//! cosigns only what extends the last tree it has seen, whichever node showed it that; so a reader who trusts it knows that no two
//! histories were shown.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tally_merkle::{KeyKind, Note, NoteSignature, Vkey};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Chain, lock};

/// The most witnesses that a node asks.
pub const MAX_WITNESSES: usize = 8;
/// How often it is looked whether there is something to ask for.
const TICK: Duration = Duration::from_millis(500);
/// How long one request may take, connection and all.
const PATIENCE: Duration = Duration::from_secs(5);
/// A checkpoint that does not change is cosigned again after this, so that it does not look frozen.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a checkpoint with witnesses' cosignatures is served while there is a newer one without.
const FRESH: Duration = Duration::from_secs(10);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes: some signature lines.
const MAX_ANSWER: usize = 16 << 10;
/// Witnesses take no more hashes (C2SP tlog-witness).
const MAX_PROOF: usize = 63;
/// How often a witness may say that it is at another size, for one checkpoint.
const MAX_CONFLICTS: usize = 3;

/// A witness as it is configured: its vkey (of kind 0x04), a space, and its URL without TLS, `http://HOST[:PORT][/PREFIX]`. What it
/// signs is verified with the key, so nothing is believed of whoever answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    key: Vkey,
    authority: String,
    host: String,
    prefix: String,
}

impl FromStr for Witness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, url) = text
            .split_once(' ')
            .ok_or_else(|| format!("{text:?} is not a vkey and a URL with a space between"))?;
        let key: Vkey = key.parse().map_err(|e| format!("{key:?}: {e}"))?;
        if key.kind() != KeyKind::Cosignature {
            return Err(format!("the key of {} does not cosign", key.name()));
        }
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("{url:?} does not begin with http://"))?;
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
        if host.is_empty() || !rest.chars().all(visible) {
            return Err(format!("{url:?} is not http://HOST[:PORT][/PREFIX]"));
        }
        let after_ip6 = host.rsplit_once(']').map_or(host, |(_, after)| after);
        let authority = if after_ip6.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        Ok(Self {
            key,
            authority,
            host: host.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }
}

impl Witness {
    /// Its name, as in its signature lines.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// Reads the witnesses of a configuration.
    ///
    /// # Errors
    /// What is wrong: one that cannot be read, more than [`MAX_WITNESSES`], or a name twice.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, String> {
        if texts.len() > MAX_WITNESSES {
            return Err(format!(
                "{} witnesses, at most {MAX_WITNESSES}",
                texts.len()
            ));
        }
        let all: Vec<Self> = texts.iter().map(|t| t.parse()).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        match all.iter().find(|w| !names.insert(w.name())) {
            Some(twice) => Err(format!("the witness {} twice", twice.name())),
            None => Ok(all),
        }
    }
}

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
enum WitnessError {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("{0}")]
    Connection(String),
    #[error("it answered with status {status}{}", meaning(*.status))]
    Status { status: StatusCode },
    #[error("its answer cannot be read: {0}")]
    Answer(String),
    #[error("its answer has no cosignature by its key")]
    NoSignature,
    #[error("{0}")]
    Ledger(String),
}

/// What a status means by C2SP tlog-witness.
fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => ": it trusts no key of this node for this network",
        StatusCode::NOT_FOUND => ": it does not know this network's origin",
        StatusCode::UNPROCESSABLE_ENTITY => {
            ": it has seen another history than this node's; compare them with `tally audit diff`"
        }
        _ => "",
    }
}

/// What an external witness last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessState {
    /// Its name.
    pub name: String,
    /// Size of the checkpoint that it cosigned last, and how long ago that was, in seconds. `None` if it has not since the node started.
    pub cosigned: Option<(u64, u64)>,
    /// How long ago it last answered in the protocol's form, whatever it said, in seconds.
    pub answered_s: Option<u64>,
    /// Why it gave no cosignature when it was last asked, if so.
    pub refusal: Option<String>,
}

/// The same, as it is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    name: String,
    cosigned: Option<(u64, Instant)>,
    answered: Option<Instant>,
    refusal: Option<String>,
}

impl Answers {
    fn state(&self, now: Instant) -> WitnessState {
        let age = |at: Instant| now.saturating_duration_since(at).as_secs();
        WitnessState {
            name: self.name.clone(),
            cosigned: self.cosigned.map(|(size, at)| (size, age(at))),
            answered_s: self.answered.map(age),
            refusal: self.refusal.clone(),
        }
    }

    fn note(&mut self, size: u64, answer: &Result<Option<NoteSignature>, WitnessError>) {
        let now = Instant::now();
        match answer {
            Ok(signature) => {
                if signature.is_some() {
                    self.cosigned = Some((size, now));
                }
                self.answered = Some(now);
                self.refusal = None;
            }
            Err(error) => {
                if matches!(error, WitnessError::Status { .. }) {
                    self.answered = Some(now);
                }
                self.refusal = Some(error.to_string());
            }
        }
    }
}

/// The newest checkpoint that witnesses have cosigned.
#[derive(Default)]
pub(super) struct Witnessed {
    newest: Option<(u64, String, Instant)>,
    /// The largest size that was served: what is served never goes back.
    served: u64,
}

impl Witnessed {
    /// What is served while `note` of `size` is the newest checkpoint: that of the witnesses, unless it is old.
    fn choose(&mut self, size: u64, note: String, now: Instant) -> (u64, String) {
        let chosen = match &self.newest {
            Some((witnessed, text, at))
                if *witnessed >= self.served
                    && *witnessed <= size
                    && now.saturating_duration_since(*at) < FRESH + AGAIN =>
            {
                (*witnessed, text.clone())
            }
            _ => (size, note),
        };
        self.served = self.served.max(chosen.0);
        chosen
    }
}

/// What is known of one witness.
struct Client {
    witness: Witness,
    /// The size it cosigned last, as far as this node knows.
    old: u64,
    failures: u32,
    not_before: Option<Instant>,
    answers: Answers,
}

impl Client {
    /// Asks for a cosignature of a checkpoint. `None` if the witness has seen a larger tree than this one.
    async fn ask(
        &mut self,
        chain: &Chain,
        size: u64,
        note: &Note,
    ) -> Result<Option<NoteSignature>, WitnessError> {
        for _ in 0..MAX_CONFLICTS {
            if self.old > size {
                return Ok(None);
            }
            let body = add_checkpoint(chain, self.old, size, note).await?;
            let exchange = post(&self.witness, body);
            let (status, answer) = tokio::time::timeout(PATIENCE, exchange)
                .await
                .map_err(|_| WitnessError::Late)??;
            match status {
                StatusCode::OK => {
                    let signature = signature_in(&answer, note, &self.witness.key)?;
                    self.old = size;
                    return Ok(Some(signature));
                }
                // It has seen another size: from this node before a restart, or from another member's.
                StatusCode::CONFLICT => {
                    self.old = answer
                        .strip_suffix('\n')
                        .and_then(|text| text.parse().ok())
                        .ok_or_else(|| WitnessError::Answer("no size in a conflict".into()))?;
                }
                other => return Err(WitnessError::Status { status: other }),
            }
        }
        Ok(None)
    }

    /// As [`Self::ask`], unless it is too early after failures; tells of the first of them.
    async fn try_ask(&mut self, chain: &Chain, size: u64, note: &Note) -> Option<NoteSignature> {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let answer = self.ask(chain, size, note).await;
        self.answers.note(size, &answer);
        match answer {
            Ok(signature) => {
                if self.failures > 0 {
                    tracing::info!(witness = self.witness.name(), "a witness answers again");
                }
                (self.failures, self.not_before) = (0, None);
                signature
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(witness = self.witness.name(), %error, "a witness did not cosign");
                }
                let pause = Duration::from_secs(1 << self.failures.min(6)).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.not_before = Some(Instant::now() + pause);
                None
            }
        }
    }
}

/// The body of an `add-checkpoint` request.
async fn add_checkpoint(
    chain: &Chain,
    old: u64,
    size: u64,
    note: &Note,
) -> Result<String, WitnessError> {
    let mut body = format!("old {old}\n");
    if old > 0 && old < size {
        let ledger = chain.ledger().clone();
        let proof = tokio::task::spawn_blocking(move || ledger.consistency_proof(old, size))
            .await
            .map_err(|e| WitnessError::Ledger(e.to_string()))?
            .map_err(|e| WitnessError::Ledger(e.to_string()))?;
        if proof.len() > MAX_PROOF {
            return Err(WitnessError::Ledger("a proof of over 63 hashes".into()));
        }
        for hash in &proof {
            let _ = writeln!(body, "{}", STANDARD.encode(hash.as_bytes()));
        }
    }
    let _ = write!(body, "\n{note}");
    Ok(body)
}

/// Sends the request; the answer's status and its text.
async fn post(witness: &Witness, body: String) -> Result<(StatusCode, String), WitnessError> {
    let connection = |e: &dyn std::fmt::Display| WitnessError::Connection(e.to_string());
    let stream = TcpStream::connect(&witness.authority)
        .await
        .map_err(|e| connection(&e))?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| connection(&e))?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/add-checkpoint", witness.prefix))
        .header(HOST, &witness.host)
        .header("content-type", "text/plain; charset=utf-8")
        .body(Body::from(body))
        .map_err(|e| connection(&e))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| connection(&e))?;
    let status = response.status();
    let bytes = to_bytes(Body::new(response.into_body()), MAX_ANSWER)
        .await
        .map_err(|e| WitnessError::Answer(e.to_string()))?;
    let text = String::from_utf8(bytes.to_vec())
        .map_err(|_| WitnessError::Answer("not UTF-8 text".into()))?;
    Ok((status, text))
}

/// The witness's signature among the lines of its answer, verified.
fn signature_in(answer: &str, note: &Note, key: &Vkey) -> Result<NoteSignature, WitnessError> {
    let signed = Note::parse(&format!("{}\n{answer}", note.text()))
        .map_err(|e| WitnessError::Answer(e.to_string()))?;
    let signature = signed
        .signatures
        .into_iter()
        .find(|s| s.name == key.name() && s.key_id == key.id())
        .ok_or(WitnessError::NoSignature)?;
    signature
        .verify(note.text(), key)
        .map_err(|e| WitnessError::Answer(e.to_string()))?;
    Ok(signature)
}

impl Chain {
    /// What each external witness last said; empty if none is asked.
    #[must_use]
    pub fn witnesses(&self) -> Vec<WitnessState> {
        let now = Instant::now();
        let witnesses = lock(&self.0.witnesses);
        witnesses.iter().map(|w| w.state(now)).collect()
    }

    /// The checkpoint to serve to readers, and its size: the newest with a quorum; where witnesses are asked, the newest that they
    /// have cosigned too, as long as that is not older than 20 s. Its size never goes back.
    #[must_use]
    pub fn served_checkpoint(&self) -> Option<(u64, String)> {
        let (size, note) = self.checkpoint()?;
        Some(lock(&self.0.witnessed).choose(size, note, Instant::now()))
    }
}

/// Asks witnesses to cosign the newest checkpoint, when there is a new one and from time to time. Never returns if there are any.
pub async fn run_witnessing(chain: Chain, witnesses: Vec<Witness>) {
    if witnesses.is_empty() {
        return;
    }
    let mut clients: Vec<Client> = witnesses
        .into_iter()
        .map(|witness| Client {
            answers: Answers {
                name: witness.name().to_owned(),
                ..Answers::default()
            },
            witness,
            old: 0,
            failures: 0,
            not_before: None,
        })
        .collect();
    let tell = |clients: &[Client]| {
        *lock(&chain.0.witnesses) = clients.iter().map(|c| c.answers.clone()).collect();
    };
    tell(&clients);
    let mut asked: Option<(u64, Instant)> = None;
    loop {
        tokio::time::sleep(TICK).await;
        let Some((size, text)) = chain.checkpoint() else {
            continue;
        };
        if asked.is_some_and(|(last, at)| last == size && at.elapsed() < AGAIN) {
            continue;
        }
        let Ok(mut note) = Note::parse(&text) else {
            continue;
        };
        let at = Instant::now();
        let answers = join_all(clients.iter_mut().map(|c| c.try_ask(&chain, size, &note))).await;
        tell(&clients);
        let before = note.signatures.len();
        note.signatures.extend(answers.into_iter().flatten());
        if note.signatures.len() > before {
            lock(&chain.0.witnessed).newest = Some((size, note.to_string(), at));
            asked = Some((size, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public() -> [u8; 32] {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        key.verifying_key().to_bytes()
    }

    fn vkey(name: &str) -> String {
        Vkey::cosignature(name, public()).unwrap().to_string()
    }

    #[test]
    fn witnesses_are_read_or_refused() {
        let one = format!("{} http://w.example:7380/p/", vkey("w.example/1"));
        let witness: Witness = one.parse().unwrap();
        assert_eq!(witness.authority, "w.example:7380");
        assert_eq!(witness.prefix, "/p");
        let plain: Witness = format!("{} http://[::1]", vkey("w")).parse().unwrap();
        assert_eq!(
            (plain.authority.as_str(), plain.prefix.as_str()),
            ("[::1]:80", "")
        );
        for bad in [
            vkey("w"),
            format!("{} https://w.example", vkey("w")),
            format!("{} http://", vkey("w")),
            format!("{} http://a@b", vkey("w")),
            format!("{} http://a/b c", vkey("w")),
            format!("{} http://a", Vkey::ed25519("w", public()).unwrap()),
            "w http://a".into(),
        ] {
            bad.parse::<Witness>().unwrap_err();
        }
        Witness::parse_all(&[one.clone(), one]).unwrap_err();
        let many: Vec<String> = (0..9)
            .map(|i| format!("{} http://a", vkey(&format!("w{i}"))))
            .collect();
        Witness::parse_all(&many).unwrap_err();
        assert_eq!(Witness::parse_all(&many[1..]).unwrap().len(), 8);
    }

    #[test]
    fn what_a_witness_said_is_told_with_its_reason() {
        let mut answers = Answers {
            name: "w".into(),
            ..Answers::default()
        };
        let refused = |status| Err(WitnessError::Status { status });
        answers.note(7, &Err(WitnessError::Late));
        let said = answers.state(Instant::now());
        assert_eq!((said.cosigned, said.answered_s), (None, None));
        assert_eq!(said.refusal.as_deref(), Some("no answer within 5 s"));
        for (status, word) in [
            (403, "trusts no key"),
            (404, "origin"),
            (422, "another history"),
        ] {
            answers.note(7, &refused(StatusCode::from_u16(status).unwrap()));
            let said = answers.state(Instant::now());
            assert!(said.refusal.unwrap().contains(word), "{status}");
            assert_eq!(said.answered_s, Some(0));
        }
        // It has seen more than this node: an answer, no cosignature, and no refusal.
        answers.note(7, &Ok(None));
        assert_eq!(answers.state(Instant::now()).refusal, None);
        let text = "a\n9\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let signature = tally_merkle::note::cosign(text, "w", &key, 5).unwrap();
        answers.note(9, &Ok(Some(signature)));
        let later = Instant::now() + Duration::from_secs(12);
        assert_eq!(answers.state(later).cosigned, Some((9, 12)));
    }

    #[test]
    fn what_is_served_is_witnessed_while_that_is_fresh_and_never_goes_back() {
        let (mut w, now) = (Witnessed::default(), Instant::now());
        let at = |s: u64| now + Duration::from_secs(s);
        assert_eq!(w.choose(10, "a".into(), now).0, 10);
        w.newest = Some((12, "b+".into(), now));
        assert_eq!(w.choose(12, "b".into(), now), (12, "b+".into()));
        assert_eq!(w.choose(15, "c".into(), at(19)), (12, "b+".into()));
        assert_eq!(w.choose(16, "d".into(), at(21)), (16, "d".into()));
        // Fresh again, but of a smaller tree than was served.
        w.newest = Some((14, "e+".into(), at(22)));
        assert_eq!(w.choose(17, "f".into(), at(22)), (17, "f".into()));
        w.newest = Some((18, "g+".into(), at(23)));
        assert_eq!(w.choose(20, "h".into(), at(23)), (18, "g+".into()));
    }
}
