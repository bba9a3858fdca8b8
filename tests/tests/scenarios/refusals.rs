//! Bad input is refused with a typed reason; the node stays up, nothing is used up, and nothing is lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tally_contracts::ids::{MemberId, NetworkId, PublicKey};
use tally_contracts::records::{ActivateBatch, Body, RegisterProduct};
use tally_contracts::{Record, Signer, Unsigned};
use tally_node::keys::KeyStore;
use tally_node::passphrase::Passphrase;
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, request};

const PATIENCE: Duration = Duration::from_secs(30);

/// A member that signs whatever this test wants.
struct Hand<'a> {
    client: &'a Client,
    member: MemberId,
    key: SigningKey,
    network: NetworkId,
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

fn product(number: u32) -> Result<Body> {
    Ok(RegisterProduct {
        gtin: gtin(number).parse()?,
        description: "Tea".into(),
        brand: "A brand".into(),
    }
    .into())
}

impl Hand<'_> {
    fn unsigned(&self, nonce: u64, body: &Body) -> Result<Unsigned> {
        let signer = Signer::new(self.member, &PublicKey::from(&self.key), nonce);
        Ok(Unsigned::new(
            self.network,
            now_ms()? + 600_000,
            vec![signer],
            body,
        ))
    }

    fn submit_bytes(&self, bytes: &[u8]) -> Result<tally_tests::Outcome> {
        let file = self.client.dir.join("record.bin");
        fs::write(&file, bytes)?;
        self.client.run(&["ledger", "submit", "record.bin"])
    }

    fn submit(&self, unsigned: &Unsigned) -> Result<tally_tests::Outcome> {
        self.submit_bytes(unsigned.sign(&[&self.key])?.bytes())
    }

    /// That a record is refused for the reason with this code.
    fn refused(&self, record: &[u8], reason: &str) -> Result<()> {
        let (exit, code, message) = self.submit_bytes(record)?.refusal()?;
        ensure!(
            exit == 1 && code == "refused" && message.ends_with(&format!("({reason})")),
            "expected {reason}, found exit {exit}, {code}: {message}"
        );
        Ok(())
    }
}

/// One request over the admin socket, without the command: what a broken or hostile tool could send.
fn over_socket(client: &Client, line: &[u8]) -> Result<Value> {
    let mut stream = UnixStream::connect(client.dir.join("admin.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(line)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    serde_json::from_str(answer.lines().last().context("no answer")?).context("an answer in JSON")
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    Scenario::run("refusals", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let passphrase = Passphrase::new("a passphrase of a test".into()).context("passphrase")?;
        let platform = network[1].client();
        let keys = KeyStore::new(platform.dir.join("keys")).open_node(&passphrase)?;
        let status = platform.ok(&["status"])?;
        let network_id: NetworkId = status["network_id"].as_str().context("ID")?.parse()?;
        let genesis = platform.ok(&["genesis", "show", "ledger/genesis"])?;
        let member: MemberId = genesis["members"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|m| m["name"] == "platform")
            .and_then(|m| m["id"].as_str())
            .context("the platform")?
            .parse()?;
        let hand = Hand {
            client: &platform,
            member,
            key: keys.records(),
            network: network_id,
        };

        // Accepted first: a refusal must not come from everything being refused.
        hand.submit(&hand.unsigned(0, &product(1)?)?)?.ok()?;
        let size = |client: &Client| -> Result<(u64, String)> {
            let head = client.ok(&["ledger", "head"])?;
            Ok((
                head["tree_size"].as_u64().context("size")?,
                head["state_root"].to_string(),
            ))
        };
        let before = size(&platform)?;

        let good = hand.unsigned(1, &product(2)?)?;
        let signed = good.sign(&[&hand.key])?;
        let with = |change: &dyn Fn(&mut Unsigned)| -> Result<Record> {
            let mut unsigned = good.clone();
            change(&mut unsigned);
            Ok(unsigned.sign(&[&hand.key])?)
        };

        // Wrong signature: of another key, and one flipped bit.
        let stranger = SigningKey::from_bytes(&[7; 32]);
        hand.refused(good.sign(&[&stranger])?.bytes(), "signature")?;
        let mut flipped = signed.bytes().to_vec();
        let last = flipped.len() - 1;
        flipped[last - 40] ^= 1;
        hand.refused(&flipped, "signature")?;
        // A key that the member does not have, and a member that the network does not have.
        let unknown = Signer::new(hand.member, &PublicKey::from(&stranger), 0);
        let mut other = good.clone();
        other.signers = vec![unknown];
        hand.refused(other.sign(&[&stranger])?.bytes(), "unknown_key")?;
        hand.refused(
            with(&|u| u.signers[0].member = MemberId([9; 16]))?.bytes(),
            "unknown_member",
        )?;
        // A nonce that was used.
        hand.refused(with(&|u| u.signers[0].nonce = 0)?.bytes(), "nonce_replayed")?;
        // Another network, a time that is over, a time that is too far.
        hand.refused(
            with(&|u| u.network = NetworkId([1; 32]))?.bytes(),
            "network",
        )?;
        hand.refused(with(&|u| u.valid_until_ms = 1)?.bytes(), "expired")?;
        hand.refused(
            with(&|u| u.valid_until_ms = u64::MAX)?.bytes(),
            "valid_too_long",
        )?;
        // A kind that nobody knows, a body that is cut, a body that goes on.
        hand.refused(with(&|u| u.kind = 60_000)?.bytes(), "unknown_kind")?;
        hand.refused(
            with(&|u| u.body.truncate(u.body.len() - 1))?.bytes(),
            "malformed",
        )?;
        hand.refused(with(&|u| u.body.push(0))?.bytes(), "malformed")?;
        // A GTIN with a wrong check digit, inside a record and as text.
        let wrong = with(&|u| {
            let digits = gtin(2);
            if let Some(at) = u.body.windows(14).position(|w| w == digits.as_bytes()) {
                u.body[at + 13] = b'0' + (u.body[at + 13] - b'0' + 1) % 10;
            }
        })?;
        ensure!(wrong.id() != signed.id(), "the body has no GTIN in it");
        hand.refused(wrong.bytes(), "malformed")?;
        let (exit, code, message) = platform
            .run(&[
                "product",
                "add",
                "--gtin",
                "09521234543214",
                "--description",
                "x",
            ])?
            .refusal()?;
        ensure!(
            exit == 1 && message.contains("check digit"),
            "{exit} {code} {message}"
        );
        let answer = request(
            &platform.http,
            "POST",
            "/v1/scans",
            &[("content-type", "application/json")],
            br#"{"gtin":"09521234543214","serial":"ABC"}"#,
        )?;
        ensure!(
            answer.status == 400 && answer.json()["type"] == "urn:tally:problem:gtin",
            "{}",
            answer.told()
        );
        // What belongs to another, or was never there.
        hand.refused(
            hand.unsigned(1, &product(1)?)?.sign(&[&hand.key])?.bytes(),
            "gtin_taken",
        )?;
        let nothing = ActivateBatch {
            batch: tally_contracts::ids::BatchId([3; 16]),
        }
        .into();
        hand.refused(
            hand.unsigned(1, &nothing)?.sign(&[&hand.key])?.bytes(),
            "unknown_batch",
        )?;

        // Oversized: the command does not send it, and the node does not take it.
        let large = vec![0x54; 65_536];
        let (exit, _, message) = hand.submit_bytes(&large)?.refusal()?;
        ensure!(exit == 1 && message.contains("65535"), "{message}");
        let line =
            json!({"op": "submit", "args": {"record_hex": hex::encode(&large)}}).to_string() + "\n";
        let said = over_socket(&platform, line.as_bytes())?;
        let message = said["error"]["message"].as_str().unwrap_or_default();
        ensure!(
            said["error"]["code"] == "refused" && message.ends_with("(envelope)"),
            "{said}"
        );
        // Cut, empty, and none at all.
        hand.refused(&signed.bytes()[..signed.bytes().len() - 1], "envelope")?;
        hand.refused(&[], "envelope")?;
        hand.refused(b"T\x01\x01", "envelope")?;
        for line in [
            &b"{}\n"[..],
            b"null\n",
            b"{\"op\":\"submit\"}\n",
            b"{\"op\":\"format_disk\"}\n",
            b"\xff\xfe\n",
        ] {
            let said = over_socket(&platform, line)?;
            ensure!(said["error"]["code"].is_string(), "{said}");
        }

        // Nothing of it stands in the ledger or used a nonce, and every node is well.
        let after = size(&platform)?;
        ensure!(
            before == after,
            "refused records changed the ledger: {before:?} {after:?}"
        );
        hand.submit(&good)?.ok()?;
        // The same once more is no second one: the record is found where it stands.
        let again = hand.submit(&good)?.ok()?;
        ensure!(
            again["record"] == signed.id().to_string().as_str(),
            "{again}"
        );
        for member in network.iter_mut() {
            ensure!(member.ended().is_none(), "{} ended", member.name);
            let ready = get(&member.http, "/readyz")?;
            ensure!(ready.status == 200, "{}: {}", member.name, ready.told());
            ensure!(
                !member.log().contains(" panicked at "),
                "{} panicked",
                member.name
            );
        }
        let (_, _) = network.agree(PATIENCE)?;
        network.stop()
    });
}
