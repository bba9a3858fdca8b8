//! The page that verifies proofs, from disk in a real browser: it takes what `tally audit verify` takes, and refuses what the command
//! refuses, for the same reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tally_contracts::genesis::{cosigner_name, origin};
use tally_contracts::ids::PublicKey;
use tally_contracts::records::{Change, KeyPurpose};
use tally_contracts::{Canonical as _, Record};
use tally_evidence::{Extra, Following, Question, Roster, UnitCode, verify, verify_under};
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{Ledger, Options};
use tally_merkle::{Checkpoint, Note, TlogProof, note};
use tally_node::proofs::{self, AtHead as _, StateTaken};
use tally_tests::{Scenario, skip, tally, until};

use crate::webdriver::{DESKTOP, Driver, PHONE, Session};

const PATIENCE: Duration = Duration::from_secs(20);
/// Bent files that the page judges in one call; a call may take 30 s.
const AT_ONCE: usize = 400;
const KINDS: [&str; 11] = [
    "code",
    "record",
    "scan",
    "batch",
    "member",
    "budget",
    "match",
    "sum",
    "overlap",
    "overlap-failed",
    "overlap-unconfirmed",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../node/evidence/tests/golden")
        .join(name)
}

/// The published proofs, their network and its policy.
pub(crate) struct Golden {
    pub(crate) network: String,
    pub(crate) policy: Vec<u8>,
    code: String,
}

impl Golden {
    pub(crate) fn read() -> Result<Self> {
        let text =
            |name| -> Result<String> { Ok(fs::read_to_string(golden(name))?.trim().to_owned()) };
        Ok(Self {
            network: text("network_id")?,
            policy: fs::read(golden("policy"))?,
            code: text("code")?,
        })
    }

    pub(crate) fn proof(name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(golden(&format!("{name}.tlog-proof")))?)
    }

    /// What the verifier of the command says: `verified`, or its reason.
    pub(crate) fn judge(
        &self,
        policy: &[u8],
        proof: &[u8],
        code: Option<&UnitCode>,
    ) -> Result<&'static str> {
        let network = self.network.parse().context("the network ID")?;
        Ok(verify(&network, policy, proof, code).map_or_else(|e| e.reason(), |_| "verified"))
    }
}

/// The path of the command's page, written anew.
fn page(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("verifier.html");
    let out = Command::new(tally())
        .args(["export", "verifier", "--json", "--out"])
        .arg(&file)
        .output()?;
    ensure!(out.status.success(), "tally export verifier: {out:?}");
    let told: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(told["bytes"] == fs::metadata(&file)?.len());
    let text = fs::read_to_string(&file)?;
    for host in [
        "http://", "https://", "//cdn", "import(", "fetch(", "XMLHttp",
    ] {
        // The name of a namespace is not an address that is asked.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        ensure!(!text.contains(host), "the page has {host}");
    }
    Ok(file)
}

/// The codes of the answers that a script lists.
fn codes(session: &Session, script: &str) -> Result<Vec<String>> {
    let said = session.execute(script)?;
    let said = said.as_array().context("a list")?;
    Ok(said
        .iter()
        .map(|v| v.as_str().unwrap_or_default().to_owned())
        .collect())
}

/// Runs a scenario on the command's page, opened from disk as its user does; skipped where there is no browser.
pub(crate) fn on_page(name: &str, body: impl FnOnce(&Scenario, &Session) -> Result<()>) {
    if let Some(reason) = crate::webdriver::missing() {
        skip(name, &reason);
        return;
    }
    Scenario::run(name, |scenario| {
        let file = page(scenario.dir())?;
        let driver = Driver::start(scenario.dir())?;
        let session = driver.session(DESKTOP, "en")?;
        session.open(&format!("file://{}", file.display()))?;
        body(scenario, &session)
    });
}

/// What the page says of bent files: those bytes of `what` are flipped by `flip`.
fn page_says(
    session: &Session,
    golden: &Golden,
    proof: &[u8],
    what: &str,
    at: &[usize],
    flip: u8,
) -> Result<Vec<String>> {
    let script = format!(
        "const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
         const proof = bytes('{}'), policy = bytes('{}');
         return (async () => {{
           const out = [];
           for (const at of {at:?}) {{
             const bent = {what}.slice();
             bent[at] ^= {flip};
             const r = await tally.verify('{}', '{what}' === 'policy' ? bent : policy, '{what}' === 'proof' ? bent : proof, '');
             out.push(r.code);
           }}
           return out;
         }})();",
        STANDARD.encode(proof),
        STANDARD.encode(&golden.policy),
        golden.network,
    );
    codes(session, &script)
}

/// What the page says of each of these proofs, without a members file.
pub(crate) fn page_says_of(
    session: &Session,
    network: &str,
    policy: &[u8],
    proofs: &[Vec<u8>],
) -> Result<Vec<String>> {
    let proofs: Vec<String> = proofs
        .iter()
        .map(|p| format!("bytes('{}')", STANDARD.encode(p)))
        .collect();
    let script = format!(
        "const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
         return (async () => {{
           const out = [];
           for (const proof of [{}]) out.push((await tally.verify('{network}', bytes('{}'), proof, '', null)).code);
           return out;
         }})();",
        proofs.join(", "),
        STANDARD.encode(policy),
    );
    codes(session, &script)
}

/// The page has one word for what is wrong with a policy.
fn is_one_word(page: &str, command: &str) -> bool {
    page == "policy_differs" && command.starts_with("policy_")
}

fn same(page: &str, command: &str, what: &str) -> bool {
    page == command
        || what == "policy" && is_one_word(page, command)
        // The policy that is no text.
        || what == "policy" && page == "policy_differs" && command == "malformed"
}

fn agree(session: &Session, golden: &Golden, name: &str, what: &str, step: usize) -> Result<usize> {
    let proof = Golden::proof(name)?;
    let bytes = if what == "proof" {
        &proof
    } else {
        &golden.policy
    };
    let mut count = 0;
    for (i, flip) in [0x01, 0x20, 0x80].into_iter().enumerate() {
        // The three ways start at different bytes, so that a step leaves none out for ever.
        let at: Vec<usize> = (i % step..bytes.len()).step_by(step).collect();
        for at in at.chunks(AT_ONCE) {
            let said = page_says(session, golden, &proof, what, at, flip)?;
            for (at, said) in at.iter().zip(said) {
                let mut bent = bytes.clone();
                bent[*at] ^= flip;
                let expected = match what {
                    "proof" => golden.judge(&golden.policy, &bent, None)?,
                    _ => golden.judge(&bent, &proof, None)?,
                };
                ensure!(
                    expected != "verified" && same(&said, expected, what),
                    "{name}: {what} byte {at} ^ {flip:#x}: the page says {said}, the command {expected}"
                );
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Fills the form in as a person does; gives the headline and all that is said.
fn fill(
    session: &Session,
    network: &str,
    proof: &Path,
    policy: Option<&Path>,
    code: &str,
) -> Result<(String, String)> {
    session.reload()?;
    session.fill("#network", network)?;
    session.choose("#proof", proof)?;
    if let Some(policy) = policy {
        session.choose("#policy", policy)?;
    }
    session.fill("#code", code)?;
    session.click("button[type=submit]")?;
    until("the answer", PATIENCE, || {
        Ok((session.text("#out h2")?, session.text("#out")?))
    })
}

#[test]
fn the_page_and_the_command_agree() {
    on_page("the_page_and_the_command_agree", |scenario, session| {
        let golden = Golden::read()?;
        ensure!(session.execute("return isSecureContext && !!crypto.subtle")? == true);
        for kind in KINDS {
            let proof = Golden::proof(kind)?;
            let script = format!(
                "return tally.verify('{}', null, Uint8Array.from(atob('{}'), c => c.charCodeAt(0)), '')",
                golden.network,
                STANDARD.encode(&proof)
            );
            let said = session.execute(&script)?;
            ensure!(said["code"] == "verified", "{kind}: {said}");
            ensure!(golden.judge(&golden.policy, &proof, None)? == "verified");
        }
        for (kind, refused) in [("void", "revoked"), ("expired", "expired")] {
            let proof = Golden::proof(kind)?;
            let script = format!(
                "return tally.verify('{}', null, Uint8Array.from(atob('{}'), c => c.charCodeAt(0)), '')",
                golden.network,
                STANDARD.encode(&proof)
            );
            let said = session.execute(&script)?;
            ensure!(said["code"] == refused && said["ok"] == false, "{said}");
            ensure!(golden.judge(&golden.policy, &proof, None)? == refused);
        }
        // A whole proof byte by byte, the others in steps that no length of a field divides.
        let mut count = agree(session, &golden, "code", "policy", 1)?;
        for kind in KINDS {
            let step = if kind == "scan" { 1 } else { 17 };
            count += agree(session, &golden, kind, "proof", step)?;
        }
        for kind in ["void", "expired"] {
            count += agree(session, &golden, kind, "proof", 17)?;
        }
        println!("{count} bent files, one verdict of both for each");

        // And the command itself, as a process.
        let proof = Golden::proof("match")?;
        let bent = scenario.dir().join("bent.tlog-proof");
        for at in (0..proof.len()).step_by(proof.len() / 12) {
            let mut bytes = proof.clone();
            bytes[at] ^= 1;
            fs::write(&bent, &bytes)?;
            let out = Command::new(tally())
                .args(["audit", "verify", "--json", "--network", &golden.network])
                .arg("--policy")
                .arg(self::golden("policy"))
                .arg("--proof")
                .arg(&bent)
                .output()?;
            ensure!(out.status.code() == Some(4), "byte {at}");
            let told: Value = serde_json::from_slice(&out.stdout)?;
            let said = page_says(session, &golden, &proof, "proof", &[at], 1)?;
            ensure!(
                told["error"]["code"] == said[0],
                "byte {at}: {told} {said:?}"
            );
        }
        Ok(())
    });
}

/// A network whose members admitted one, removed another, and rotated keys of a third, with the proofs of before and after.
struct Changed {
    network: String,
    policy: Vec<u8>,
    members: Vec<u8>,
    /// Name, proof, and the code of the answer.
    proofs: Vec<(&'static str, Vec<u8>, &'static str)>,
    /// The same, each with what leads to it from the genesis.
    led: Vec<(&'static str, Vec<u8>, &'static str)>,
}

impl Changed {
    fn new(dir: &Path) -> Result<Self> {
        let mut sample = SampleNetwork::new(4)?;
        let genesis = sample.genesis.to_bytes();
        let ledger = Ledger::open(dir, &genesis, Options::default())?;
        let mut time_ms = START_MS;
        let mut commit = |sample: &SampleNetwork, records: &[Record], signers| -> Result<()> {
            time_ms += 1000;
            let prepared = ledger.prepare(records, time_ms, sample.member(0), &|_| None)?;
            ensure!(prepared.refused.is_empty(), "{:?}", prepared.refused);
            let certificate = sample.certificate(&prepared.block.header, signers);
            ledger.commit(&prepared.block.to_bytes(), &certificate, &|_| None)?;
            Ok(())
        };
        let public = |sample: &SampleNetwork, i, of| PublicKey::from(&sample.key(i, of));
        let early = sample.records(2, START_MS)?;
        commit(&sample, &early, 3)?;

        let admit = sample.admission(4)?;
        let rotate = |sample: &SampleNetwork, member, purpose, of, new| Change::RotateKey {
            member: sample.member(member),
            purpose,
            old: public(sample, member, of),
            new: public(sample, new, of),
        };
        let changes = vec![
            admit,
            rotate(&sample, 2, KeyPurpose::Cosignature, "cosignature", 12),
            rotate(&sample, 0, KeyPurpose::Records, "records", 10),
        ];
        let changes = sample.change(changes, &[0, 1, 2], START_MS)?;
        commit(&sample, &changes, 3)?;
        let remove = Change::RemoveMember {
            member: sample.member(3),
        };
        // The one that leaves proposes it: its key is one of the past then.
        let removal = sample.change(vec![remove], &[3, 0, 1, 2], START_MS)?;
        // Of five validators four must sign.
        commit(&sample, &removal, 4)?;

        let head = ledger.head();
        let id = sample.genesis.network_id();
        let text = Checkpoint {
            origin: origin(&id),
            size: head.tree_size,
            root: head.tree_root,
        }
        .to_string();
        let mut note = Note::unsigned(text.clone())?;
        let log = note::sign(&text, &origin(&id), &sample.key(0, "checkpoint"))?;
        note.signatures.push(log);
        for (name, key) in [("member-0", 0), ("member-2", 12), ("member-4", 4)] {
            let key = sample.key(key, "cosignature");
            let name = cosigner_name(&id, name);
            note.signatures
                .push(note::cosign(&text, &name, &key, START_MS / 1000)?);
        }
        let mut proofs = Vec::new();
        let mut policy = Vec::new();
        // By a key that is no longer in force, by one that is, by a member that left.
        for (name, record) in [
            ("early", &early[0]),
            ("vote", &changes[1]),
            ("gone", &removal[0]),
        ] {
            let place = proofs::place(&ledger, &record.id())?;
            let kit = proofs::record_kit(&ledger, place, &note)?;
            policy = kit.policy.into_bytes();
            proofs.push((name, kit.proof.into_bytes(), "verified"));
        }
        for (name, member, code) in [("fifth", 4, "verified"), ("removed", 3, "absent")] {
            let taken = StateTaken::take(&ledger, Question::Member(sample.member(member)))?;
            let kit = taken.seal(&ledger, &note);
            let proof = match kit {
                Ok(kit) => kit.proof,
                Err(e) => bail!("{name}: {e}"),
            };
            proofs.push((name, proof.into_bytes(), code));
        }
        let led = proofs
            .iter()
            .map(|(name, proof, code)| {
                let kit = proofs::from_genesis(&ledger, std::str::from_utf8(proof)?)?;
                Ok((*name, kit.proof.into_bytes(), *code))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            led,
            network: id.to_string(),
            policy,
            members: Roster::of_state(ledger.state(), head.height)?.to_bytes(),
            proofs,
        })
    }

    /// What the command's verifier says.
    fn judge(&self, proof: &[u8], members: Option<&[u8]>) -> Result<&'static str> {
        let Ok(roster) = members.map(Roster::from_bytes).transpose() else {
            return Ok("members_malformed");
        };
        let network = self.network.parse().context("the network ID")?;
        let verified = verify_under(&network, &self.policy, proof, None, roster.as_ref());
        Ok(verified.map_or_else(|e| e.reason(), |_| "verified"))
    }

    fn page_judges(&self, session: &Session, proofs: &[Vec<u8>]) -> Result<Vec<String>> {
        page_says_of(session, &self.network, &self.policy, proofs)
    }

    /// What the page says with each of these members files.
    fn page_says(
        &self,
        session: &Session,
        proof: &[u8],
        members: &[Option<Vec<u8>>],
    ) -> Result<Vec<String>> {
        let text = |bytes: &[u8]| format!("bytes('{}')", STANDARD.encode(bytes));
        let members: Vec<String> = members
            .iter()
            .map(|m| m.as_deref().map_or_else(|| "null".into(), text))
            .collect();
        let script = format!(
            "const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
             return (async () => {{
               const out = [];
               for (const members of [{}]) out.push((await tally.verify('{}', {}, {}, '', members)).code);
               return out;
             }})();",
            members.join(", "),
            self.network,
            text(&self.policy),
            text(proof)
        );
        codes(session, &script)
    }
}

#[test]
fn the_page_follows_changed_members_as_the_command_does() {
    on_page(
        "the_page_follows_changed_members_as_the_command_does",
        |scenario, session| {
            let changed = Changed::new(&scenario.dir().join("ledger"))?;
            let mut count = 0;
            for (name, proof, code) in &changed.proofs {
                let with = Some(changed.members.clone());
                let said = changed.page_says(session, proof, &[with, None])?;
                let expected = [
                    changed.judge(proof, Some(&changed.members))?,
                    changed.judge(proof, None)?,
                ];
                // By the founders alone the policy is another one.
                ensure!(
                    said == expected && expected == [*code, "policy_differs"],
                    "{name}: the page says {said:?}, the command {expected:?}"
                );
                // Every seventh byte of the members file bent, and the file cut there.
                let bent: Vec<Option<Vec<u8>>> = (0..changed.members.len())
                    .step_by(7)
                    .flat_map(|at| {
                        let mut bent = changed.members.clone();
                        bent[at] ^= 1 << (at % 8);
                        [Some(bent), Some(changed.members[..at].to_vec())]
                    })
                    .collect();
                for some in bent.chunks(AT_ONCE) {
                    let said = changed.page_says(session, proof, some)?;
                    for (members, said) in some.iter().zip(said) {
                        let expected = changed.judge(proof, members.as_deref())?;
                        let policy = is_one_word(&said, expected);
                        ensure!(
                            said == expected || policy,
                            "{name}: the page says {said}, the command {expected} with {}",
                            members.as_deref().map_or_else(String::new, hex::encode)
                        );
                        count += 1;
                    }
                }
            }
            println!("{count} bent members files, one verdict of both for each");
            // And by hand, with files.
            let (_, proof, _) = &changed.proofs[0];
            let at = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
                let path = scenario.dir().join(name);
                fs::write(&path, bytes)?;
                Ok(path)
            };
            let proof = at("early.tlog-proof", proof)?;
            let members = at("members", &changed.members)?;
            session.reload()?;
            session.fill("#network", &changed.network)?;
            session.choose("#proof", &proof)?;
            session.choose("#members", &members)?;
            session.click("button[type=submit]")?;
            let said = until("the answer", PATIENCE, || {
                session.text("#out h2")?;
                session.text("#out")
            })?;
            for part in [
                "3 of 4 validators",
                "as of height 3, by a file with the SHA-256",
            ] {
                ensure!(said.contains(part), "{part:?} is not in {said}");
            }
            Ok(())
        },
    );
}

/// What a way from the genesis may lack, how both must judge it, and the change.
type OtherWay = (&'static str, &'static str, fn(&mut Following));
const OTHER_WAYS: [OtherWay; 9] = [
    ("no handovers", "following", |w| w.trail.clear()),
    // The founders decided the next one too: it is a shorter way of the same worth.
    ("the first left out", "verified", |w| {
        w.trail.remove(0);
    }),
    ("the last left out", "following", |w| {
        w.trail.pop();
    }),
    ("in another order", "following", |w| w.trail.reverse()),
    ("too few who decided", "following", |w| {
        w.certificate.signatures.pop();
    }),
    ("too few who handed over", "following", |w| {
        w.trail[0].certificate.signatures.pop();
    }),
    ("an older state", "following", |w| {
        w.header = w.trail[0].header.clone();
        w.certificate = w.trail[0].certificate.clone();
        w.trail.truncate(1);
    }),
    ("a member left out", "following", |w| {
        w.members.pop();
    }),
    ("keys of the past left out", "signer", |w| w.past.clear()),
];

/// A proof that carries its way from the genesis needs no members file. Bent copies are judged alike, and a bent way is refused.
#[test]
fn the_page_follows_from_the_genesis_as_the_command_does() {
    on_page(
        "the_page_follows_from_the_genesis_as_the_command_does",
        |scenario, session| {
            let changed = Changed::new(&scenario.dir().join("ledger"))?;
            if std::env::var_os("TALLY_BLESS").is_some() && !golden("followed.tlog-proof").exists()
            {
                let (_, proof, _) = changed.led.first().context("a proof")?;
                fs::write(golden("followed.tlog-proof"), proof)?;
                fs::write(golden("followed_policy"), &changed.policy)?;
                fs::write(
                    golden("followed_network_id"),
                    format!("{}\n", changed.network),
                )?;
            }
            let (mut count, mut not_followed) = (0, 0);
            for (number, (name, proof, code)) in changed.led.iter().enumerate() {
                let said = changed.page_judges(session, std::slice::from_ref(proof))?;
                let expected = changed.judge(proof, None)?;
                ensure!(
                    said == [expected] && expected == *code,
                    "{name}: the page says {said:?}, the command {expected}"
                );
                // The extra is bent as bytes, so that most copies get past the form of the text. Each proof begins at another byte.
                let text: TlogProof = std::str::from_utf8(proof)?.parse()?;
                let extra = text.extra.clone().context("an extra")?;
                let bent: Vec<Vec<u8>> = (number..extra.len())
                    .step_by(if number == 0 { 10 } else { 31 })
                    .map(|at| {
                        let mut bytes = extra.clone();
                        bytes[at] ^= 1 << (at % 8);
                        let bent = TlogProof {
                            extra: Some(bytes),
                            ..text.clone()
                        };
                        bent.to_string().into_bytes()
                    })
                    .collect();
                for some in bent.chunks(AT_ONCE / 4) {
                    let said = changed.page_judges(session, some)?;
                    for (proof, said) in some.iter().zip(said) {
                        let expected = changed.judge(proof, None)?;
                        let policy = is_one_word(&said, expected);
                        ensure!(
                            expected != "verified" && (said == expected || policy),
                            "{name}: the page says {said}, the command {expected} of {}",
                            String::from_utf8_lossy(proof)
                        );
                        count += 1;
                        not_followed += usize::from(said == "following");
                    }
                }
            }
            // Ways that are whole in form, each changed in one thing.
            let (_, proof, _) = changed.led.first().context("a proof")?;
            let text: TlogProof = std::str::from_utf8(proof)?.parse()?;
            let extra = Extra::from_bytes(text.extra.as_deref().context("an extra")?)?;
            let Extra::Followed(way, of) = extra else {
                bail!("the proof does not begin at the genesis");
            };
            for (what, reason, change) in OTHER_WAYS {
                let mut way = way.clone();
                change(&mut way);
                let bent = TlogProof {
                    extra: Some(Extra::Followed(way, of.clone()).to_bytes()),
                    ..text.clone()
                };
                let bent = bent.to_string().into_bytes();
                let expected = changed.judge(&bent, None)?;
                let said = changed.page_judges(session, &[bent])?;
                ensure!(
                    said == [expected] && expected == reason,
                    "{what}: the page says {said:?}, the command {expected}"
                );
            }
            println!(
                "{count} bent proofs, one verdict of both for each; {not_followed} do not follow from the genesis"
            );
            ensure!(not_followed > 100, "only {not_followed} bent ways");
            Ok(())
        },
    );
}

#[test]
fn a_person_verifies_from_disk() {
    let name = "a_person_verifies_from_disk";
    if let Some(reason) = crate::webdriver::missing() {
        skip(name, &reason);
        return;
    }
    Scenario::run(name, |scenario| {
        let golden = Golden::read()?;
        let file = page(scenario.dir())?;
        let driver = Driver::start(scenario.dir())?;
        let bent = scenario.dir().join("bent.tlog-proof");
        let mut bytes = Golden::proof("code")?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&bent, bytes)?;
        for screen in [PHONE, DESKTOP] {
            let session = driver.session(screen, "en")?;
            session.open(&format!("file://{}", file.display()))?;
            // A file counts by its size; nothing else is fetched, or the look says so.
            let look = |name: &str| {
                session.look_over(&format!("verifier-{name}"), &["a script"], 0..100_000)
            };
            look("form")?;
            let policy = self::golden("policy");
            let proof = self::golden("code.tlog-proof");
            let (head, all) = fill(
                &session,
                &golden.network,
                &proof,
                Some(&policy),
                &golden.code,
            )?;
            ensure!(
                head.starts_with("Verified: ") && head.contains(&golden.code),
                "{head}"
            );
            ensure!(all.contains("4 of 4 validators, 3 needed"), "{all}");
            look("good")?;
            let (head, all) = fill(&session, &golden.network, &bent, None, "")?;
            ensure!(
                head == "Not verified" && all.contains("Reason: "),
                "{head}: {all}"
            );
            look("refused")?;
            let other = "09521234543213/00000000000000000000";
            let (_, all) = fill(&session, &golden.network, &proof, None, other)?;
            ensure!(all.contains("Reason: other_code"), "{all}");
            let (_, all) = fill(&session, &"07".repeat(32), &proof, None, "")?;
            ensure!(all.contains("Reason: other_network"), "{all}");
            let (_, all) = fill(&session, &golden.network, &policy, None, "")?;
            ensure!(all.contains("Reason: malformed"), "{all}");
            let (_, all) = fill(&session, &golden.network, &proof, Some(&proof), "")?;
            ensure!(all.contains("Reason: policy_differs"), "{all}");
            let scan = self::golden("scan.tlog-proof");
            let (head, _) = fill(&session, &golden.network, &scan, None, "")?;
            ensure!(head.contains("answered genuine_repeat"), "{head}");
            look("scan")?;
        }
        Ok(())
    });
}
