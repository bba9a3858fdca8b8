//! Records by members' keys on a small state: the contracts accept or refuse, never panic, and a block does what its records
//! do one by one.
//!
//! An input is a byte (a live or a test network) and steps. A step is a number: of a kind of record, then a byte that says who
//! signs (bits 0 to 3: members; bit 4: the first of them by its administrator's key) and the body behind its length; or 128,
//! then milliseconds (u64) that pass.

use tally_contracts::ids::{RecordId, SessionId};
use tally_contracts::records::*;
use tally_contracts::state::{MemoryState, keys};
use tally_contracts::{Context, NetworkKind, Record, StateTree, due_changes, execute_block};
use tally_merkle::{Hash, leaf_hash, node_hash};

use crate::bytes::{Bytes, put_piece};
use crate::net::{EPOCH_MS, NAMES, Net};
use crate::{Seeds, bodies};

const MAX_STEPS: usize = 48;
const TIME: u8 = 128;
const ADMIN: u8 = 16;

fn signers(bits: u8) -> Vec<(&'static str, &'static str)> {
    let mut out: Vec<_> = NAMES
        .iter()
        .enumerate()
        .filter(|(i, _)| bits >> i & 1 == 1)
        .map(|(_, (name, ..))| (*name, "records"))
        .collect();
    if bits & ADMIN != 0
        && let Some(first) = out.first_mut()
    {
        first.1 = "admin";
    }
    out
}

fn network(byte: u8) -> Net {
    Net::new(if byte & 1 == 0 {
        NetworkKind::Live
    } else {
        NetworkKind::Test
    })
}

/// The records of one block: as one, they do what they did alone, and then comes into force what members have passed.
fn as_block(before: &MemoryState, after: &mut MemoryState, records: &[Record], ctx: &Context) {
    after.apply(due_changes(after, ctx.height + 1).expect("a readable state"));
    let after = &*after;
    let outcome = execute_block(before, records, &|_| None, ctx).expect("a readable state");
    assert!(outcome.first_refusal().is_none());
    let mut tree = StateTree::from_leaves(before.iter()).expect("a small tree");
    let expected = StateTree::from_leaves(after.iter())
        .expect("a small tree")
        .root();
    assert_eq!(tree.preview(&outcome.effects), expected);
    assert_eq!(
        tree.commit(&outcome.effects).expect("a small tree"),
        expected
    );
    let mut state = before.clone();
    state.apply(outcome.effects);
    assert_eq!(state, *after);
}

/// Carries out an input.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let mut net = network(input.u8());
    let mut before = net.state.clone();
    let mut records = Vec::new();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        if step == TIME {
            as_block(&before, &mut net.state, &records, &net.ctx);
            records.clear();
            before = net.state.clone();
            let Some(now) = net.ctx.block_time_ms.checked_add(input.u64()) else {
                return;
            };
            // The time of a block is near a clock: far futures overflow the validity of the net's own records.
            net.ctx.block_time_ms = now.min(1 << 60);
            net.ctx.height += 1;
            continue;
        }
        let signers = signers(input.u8());
        let Ok(body) = Body::from_bytes(step.into(), input.piece()) else {
            continue;
        };
        if signers.is_empty() {
            continue;
        }
        let record = net.record(body, &signers);
        if net.submit(&record).is_ok() {
            records.push(record);
        }
    }
    as_block(&before, &mut net.state, &records, &net.ctx);
    for (key, _) in net.state.iter() {
        let _ = keys::show(key);
    }
}

/// Writes down what it does to a network, all of which is accepted.
struct Script {
    net: Net,
    bytes: Vec<u8>,
}

impl Script {
    fn new(byte: u8) -> Self {
        Self {
            net: network(byte),
            bytes: vec![byte],
        }
    }

    fn by(&mut self, bits: u8, body: impl Into<Body>) -> RecordId {
        let body = body.into();
        let record = self.net.record(body.clone(), &signers(bits));
        self.net.submit(&record).expect("accepted");
        let kind = u8::try_from(body.kind().code()).expect("a small number");
        self.bytes.extend([kind, bits]);
        put_piece(&mut self.bytes, &body.to_bytes());
        record.id()
    }

    fn wait(&mut self, ms: u64) {
        self.net.ctx.block_time_ms += ms;
        self.net.ctx.height += 1;
        let due = due_changes(&self.net.state, self.net.ctx.height).expect("a readable state");
        self.net.state.apply(due);
        self.bytes.push(TIME);
        self.bytes.extend(ms.to_be_bytes());
    }
}

const BRAND: u8 = 1;
const MEDIA: u8 = 4;

fn products() -> Vec<u8> {
    let mut script = Script::new(0);
    let all = bodies::all();
    let body = |name: &str| {
        let found = all.iter().find(|(n, _)| *n == name);
        found.expect("a body of that name").1.clone()
    };
    script.by(BRAND, body("register_product"));
    let Body::IssueBatch(mut issue) = body("issue_batch") else {
        unreachable!("an issue");
    };
    issue.first_index = 0;
    script.by(BRAND, issue.clone());
    let batch = issue.id(&script.net.member("brand"));
    script.wait(1000);
    script.by(BRAND, ActivateBatch { batch });
    script.by(
        BRAND,
        RevokeCodes {
            batch,
            parts: vec![bodies::revoked_part(0, &[0])],
        },
    );
    for areas in [&["CN-SC", "geohash:wm6"][..], &[]] {
        let territory = bodies::territory(areas);
        script.by(BRAND, SetTerritory { batch, territory });
    }
    issue.first_index = issue.count;
    script.by(BRAND, issue);
    script.wait(1000);
    script.by(
        BRAND,
        RecallBatch {
            batch,
            reason: "seal may leak".into(),
        },
    );
    script.bytes
}

fn anchors() -> Vec<u8> {
    let mut script = Script::new(0);
    let leaves = [0, 1, 2, 3].map(|i| leaf_hash(&[i]));
    let pair = node_hash(&leaves[0], &leaves[1]);
    let four = node_hash(&pair, &node_hash(&leaves[2], &leaves[3]));
    let anchor = |size, root, consistency: &[Hash]| AnchorScans {
        log_id: 0,
        size,
        root,
        consistency: consistency.to_vec(),
    };
    script.by(MEDIA, anchor(2, pair, &[]));
    script.wait(2000);
    script.by(MEDIA, anchor(3, node_hash(&pair, &leaves[2]), &[leaves[2]]));
    script.by(MEDIA, anchor(4, four, &[leaves[2], leaves[3], pair]));
    script.bytes
}

/// An agreement, an audience of each, and a match that is opened, released and closed, or fails.
fn matches(computation: Computation, done: bool) -> Vec<u8> {
    let mut script = Script::new(0);
    let mut parties = vec![script.net.member("brand"), script.net.member("media")];
    parties.sort();
    let agreement = script.by(BRAND | ADMIN, bodies::terms(parties));
    script.by(MEDIA | ADMIN, AcceptAgreement { agreement });
    script.wait(1000);
    let epoch = script.net.epoch();
    let audiences = [bodies::audience(10, epoch), bodies::audience(20, epoch)];
    for (bits, audience) in [BRAND, MEDIA].into_iter().zip(&audiences) {
        script.by(
            bits,
            CommitAudience {
                label: audience.label,
                epoch: audience.epoch,
                root: audience.root,
                size_bucket: audience.size_bucket,
                profile: Profile::plain(Form::PhoneE164),
            },
        );
    }
    let session = SessionId([1; 32]);
    let [initiator_audience, responder_audience] = audiences;
    script.by(
        BRAND | MEDIA,
        OpenMatch {
            agreement,
            computation,
            session,
            initiator: script.net.member("brand"),
            responder: script.net.member("media"),
            initiator_audience,
            responder_audience,
        },
    );
    script.wait(1000);
    if done {
        script.by(
            MEDIA,
            ReleaseMatch {
                session,
                initiator_stream: Hash([42; 32]),
            },
        );
        let noise = Noise::Laplace {
            micro_eps: 500_000,
            delta: 1 << 41,
            bound: 25,
        };
        let spent = if computation == Computation::List {
            BudgetCap::default()
        } else {
            noise.charge()
        };
        let receipt = MatchReceipt {
            computation,
            noise,
            initiator_bucket: 14,
            responder_bucket: 14,
            spent,
            count_spent: BudgetCap::default(),
            result: Hash([1; 32]),
            initiator_stream: Hash([42; 32]),
            responder_stream: Hash([43; 32]),
        };
        let close = Close::Done(receipt);
        script.by(BRAND | MEDIA, CloseMatch { session, close });
    } else {
        let close = Close::Failed;
        script.by(BRAND, CloseMatch { session, close });
    }
    script.wait(EPOCH_MS);
    script.by(BRAND | ADMIN, RevokeAgreement { agreement });
    script.bytes
}

/// An agreement of three parties and a helper, and an overlap that all join, that is released, closed and confirmed, or fails.
fn overlap(done: bool) -> Vec<u8> {
    const MEMBERS: [u8; 3] = [BRAND, 2, MEDIA];
    const AUDITOR: u8 = 8;
    let mut script = Script::new(0);
    let mut parties = ["brand", "platform", "media"].map(|name| script.net.member(name));
    parties.sort();
    let helper = script.net.member("auditor");
    let terms = bodies::overlap_terms(parties.to_vec(), Some(helper));
    let [spent, helper_spent] = terms.charges(Computation::OverlapN);
    let (noise, regions) = (terms.noise, terms.overlap.as_ref().map(|o| o.regions));
    let agreement = script.by(BRAND | ADMIN, terms);
    for bits in [2, MEDIA, AUDITOR] {
        script.by(bits | ADMIN, AcceptAgreement { agreement });
    }
    let (epoch, session) = (script.net.epoch(), SessionId([1; 32]));
    for bits in MEMBERS {
        let audience = bodies::audience(10 * bits, epoch);
        script.by(
            bits,
            CommitAudience {
                label: audience.label,
                epoch: audience.epoch,
                root: audience.root,
                size_bucket: audience.size_bucket,
                profile: Profile::plain(Form::PhoneE164),
            },
        );
        script.by(
            bits,
            JoinOverlap {
                agreement,
                session,
                audience,
            },
        );
    }
    script.wait(1000);
    let close = |close| CloseOverlap { session, close };
    if !done {
        script.by(2, close(OverlapClose::Failed));
        return script.bytes;
    }
    let streams = [42, 43, 44].map(|i| Hash([i; 32])).to_vec();
    script.by(
        AUDITOR,
        ReleaseOverlap {
            session,
            streams: streams.clone(),
        },
    );
    let receipt = OverlapReceipt {
        noise,
        regions: regions.unwrap_or(Noise::None),
        buckets: vec![14; 3],
        spent,
        helper_spent,
        result: Hash([1; 32]),
        streams,
    };
    let digest = receipt.digest(&session);
    script.by(AUDITOR, close(OverlapClose::Done(receipt)));
    for bits in MEMBERS {
        script.by(
            bits,
            ConfirmOverlap {
                session,
                receipt: digest,
            },
        );
    }
    script.bytes
}

/// Proposals that pass, at once or later, are turned down, and are taken back.
fn governance() -> Vec<u8> {
    let mut script = Script::new(0);
    let members = NAMES.map(|(name, ..)| script.net.member(name));
    let node = |name| crate::net::public(name, "transport");
    let end = script.net.ctx.block_time_ms + EPOCH_MS;
    let proposal = |delay_blocks, changes: &[Change]| ProposeChange {
        changes: changes.to_vec(),
        delay_blocks,
        expires_ms: end,
        why: String::new(),
    };
    let power = Change::SetPower {
        member: members[1],
        node: node("platform"),
        power: 3,
    };
    let rotate = Change::RotateKey {
        member: members[2],
        purpose: KeyPurpose::Records,
        old: crate::net::public("media", "records"),
        new: crate::net::public("media", "records 2"),
    };
    let remove = Change::RemoveMember { member: members[3] };
    for (delay, change, approve) in [(0, power, true), (2, rotate, true), (0, remove, false)] {
        let change = script.by(BRAND | ADMIN, proposal(delay, &[change]));
        script.by(MEDIA | ADMIN, Vote { change, approve });
        script.by(2 | ADMIN, Vote { change, approve });
        script.wait(1000);
    }
    let parameters = Change::SetParameters(Parameters {
        heartbeat_ms: 5_000,
        max_block_bytes: 1 << 20,
        max_block_records: 100,
        max_skew_ms: 20_000,
    });
    let change = script.by(BRAND | ADMIN, proposal(0, &[parameters]));
    let approve = false;
    script.by(BRAND | ADMIN, Vote { change, approve });
    script.wait(1000);
    script.bytes
}

/// The lives of a batch, of a scan log, and of matches, all accepted.
pub fn seeds() -> Seeds {
    crate::named([
        ("products", products()),
        ("anchors", anchors()),
        ("match-done", matches(Computation::Cardinality, true)),
        ("match-failed", matches(Computation::Cardinality, false)),
        ("governance", governance()),
        ("match-list", matches(Computation::List, true)),
        ("overlap-done", overlap(true)),
        ("overlap-failed", overlap(false)),
    ])
}
