//! One body of each kind, for golden files and decoders.
#![allow(dead_code)]

use tally_contracts::ids::{
    AudienceLabel, BatchId, MemberId, PublicKey, RecordId, SessionId, Signature,
};
use tally_contracts::records::*;
use tally_contracts::{MemberEntry, NodeEntry, Roles};
use tally_merkle::Hash;

pub(crate) fn audience(label: u8, epoch: u64) -> AudienceRef {
    AudienceRef {
        label: AudienceLabel([label; 32]),
        epoch,
        root: Hash([label + 1; 32]),
        size_bucket: 14,
    }
}

pub(crate) fn terms(parties: Vec<MemberId>) -> ProposeAgreement {
    ProposeAgreement {
        parties,
        purpose: "reach of the spring campaign".into(),
        computations: vec![Computation::List, Computation::Cardinality],
        suite: Suite::DhRistrettoV1,
        profile: Profile::plain(Form::PhoneE164),
        min_set_size: 100,
        max_set_size: 1_000_000,
        min_result: 50,
        noise: Noise::Laplace {
            micro_eps: 500_000,
            delta: 1 << 41,
            bound: 25,
        },
        epoch_cap: BudgetCap {
            micro_rho: 300_000,
            delta: 1 << 45,
        },
        lifetime_cap: BudgetCap {
            micro_rho: 1_000_000,
            delta: 1 << 46,
        },
        max_audiences: 2,
        max_matches: 10,
        expires_ms: 1_800_000_000_000,
        sums: None,
        overlap: None,
    }
}

/// Terms that allow sums besides, asked for by `label_side`, at the price of a count for it and more for the other side.
pub(crate) fn sum_terms(parties: Vec<MemberId>, label_side: MemberId) -> ProposeAgreement {
    let mut terms = terms(parties);
    terms.computations.push(Computation::JoinSum);
    terms.sums = Some(JoinSumTerms {
        label_side,
        model: SumModel::Linear { touches: 3 },
        click_window_s: 7 * 86_400,
        view_window_s: 86_400,
        labels: ["eta", "iota"]
            .map(|name| SumLabel {
                name: name.into(),
                minimum_people: 50,
            })
            .to_vec(),
        value_cap: 200_000,
        conversions_per_person: 2,
        max_conversions: 8_192,
        max_keys: 1 << 20,
        noise: SumNoise::Laplace {
            sums_micro_eps: 500_000,
            matches_micro_eps: 400_000,
            delta_exp: 19,
        },
    });
    terms
}

pub(crate) fn territory(areas: &[&str]) -> Territory {
    Territory::new(areas.iter().map(|a| a.parse().unwrap()).collect()).unwrap()
}

/// Terms on the overlap of these parties, at the price of a count for the count and 80,000 for what the helper sees.
pub(crate) fn overlap_terms(parties: Vec<MemberId>, helper: Option<MemberId>) -> ProposeAgreement {
    let mut terms = terms(parties);
    terms.computations = vec![Computation::OverlapN];
    terms.suite = Suite::HelperPrfV1;
    terms.overlap = Some(HelperTerms {
        helper,
        regions: Noise::Laplace {
            micro_eps: 400_000,
            delta: 1 << 41,
            bound: 120,
        },
    });
    terms
}

pub(crate) fn overlap_receipt() -> OverlapReceipt {
    OverlapReceipt {
        noise: Noise::None,
        regions: Noise::None,
        buckets: vec![13, 14, 15],
        spent: BudgetCap {
            micro_rho: 125_000,
            delta: 3,
        },
        helper_spent: BudgetCap {
            micro_rho: 80_000,
            delta: 4,
        },
        result: Hash([41; 32]),
        streams: [42, 43, 44].map(|i| Hash([i; 32])).to_vec(),
    }
}

pub(crate) fn revoked_part(number: u32, leaves: &[u64]) -> RevokedPart {
    let mut part = RevokedLeaves::default();
    leaves.iter().for_each(|leaf| part.insert(*leaf));
    RevokedPart {
        number,
        leaves: part,
    }
}

pub(crate) fn receipt() -> MatchReceipt {
    MatchReceipt {
        computation: Computation::Cardinality,
        noise: Noise::None,
        initiator_bucket: 13,
        responder_bucket: 14,
        spent: BudgetCap {
            micro_rho: 125_000,
            delta: 3,
        },
        count_spent: BudgetCap::default(),
        result: Hash([41; 32]),
        initiator_stream: Hash([42; 32]),
        responder_stream: Hash([43; 32]),
    }
}

/// A node of made-up keys.
pub(crate) fn node(first: u8) -> NodeEntry {
    let key = |i: u8| PublicKey([first + i; 32]);
    NodeEntry {
        transport: key(0),
        consensus: key(1),
        checkpoint: key(2),
        cosignature: key(3),
        records: key(4),
        power: 5,
        consensus_addr: "/dns4/fifth.example/tcp/26600".into(),
        swarm_addr: "/dns4/fifth.example/tcp/26601".into(),
        http_url: "https://fifth.example".into(),
    }
}

/// One of each change.
pub(crate) fn changes() -> Vec<Change> {
    let member = MemberId([50; 16]);
    let key = |i| PublicKey([i; 32]);
    vec![
        Change::AdmitMember {
            entry: MemberEntry {
                id: member,
                name: "fifth".into(),
                roles: Roles::MEDIA.with(Roles::BRAND),
                admin_keys: vec![key(51), key(52)],
                nodes: vec![node(60)],
            },
            signer: key(51),
            signature: Signature([53; 64]),
        },
        Change::RemoveMember { member },
        Change::SetPower {
            member,
            node: key(60),
            power: 7,
        },
        Change::AddNode {
            member,
            node: node(70),
        },
        Change::RemoveNode {
            member,
            node: key(70),
        },
        Change::RotateKey {
            member,
            purpose: KeyPurpose::Consensus,
            old: key(61),
            new: key(80),
        },
        Change::SetAddresses {
            member,
            node: key(60),
            consensus_addr: "/ip4/192.0.2.1/tcp/1".into(),
            swarm_addr: "/ip4/192.0.2.1/tcp/2".into(),
            http_url: String::new(),
        },
        Change::AddAdminKey {
            member,
            key: key(81),
        },
        Change::RemoveAdminKey {
            member,
            key: key(52),
        },
        Change::SetRulesVersion { version: 2 },
        Change::SetParameters(Parameters {
            heartbeat_ms: 5_000,
            max_block_bytes: 1 << 20,
            max_block_records: 4_096,
            max_skew_ms: 20_000,
        }),
    ]
}

/// A proposal of all of them.
pub(crate) fn proposal() -> ProposeChange {
    ProposeChange {
        changes: changes(),
        delay_blocks: 10,
        expires_ms: 1_800_000_000_000,
        why: "one of each".into(),
    }
}

pub(crate) fn all() -> Vec<(&'static str, Body)> {
    let (a, b) = (MemberId([1; 16]), MemberId([2; 16]));
    let batch = BatchId([3; 16]);
    let agreement = RecordId([4; 32]);
    let session = SessionId([5; 32]);
    vec![
        (
            "register_product",
            RegisterProduct {
                gtin: "09521234543213".parse().unwrap(),
                description: "Green tea 250 g".into(),
                brand: "Example Tea".into(),
            }
            .into(),
        ),
        (
            "issue_batch",
            IssueBatch {
                gtin: "09521234543213".parse().unwrap(),
                lot: "L-2026/11".parse().unwrap(),
                first_index: 4_096,
                count: 10_000,
                unit_root: Hash([6; 32]),
                redemption_root: Hash([7; 32]),
                expires: Some("281100".parse().unwrap()),
            }
            .into(),
        ),
        ("activate_batch", ActivateBatch { batch }.into()),
        (
            "recall_batch",
            RecallBatch {
                batch,
                reason: "seal may leak".into(),
            }
            .into(),
        ),
        (
            "revoke_codes",
            RevokeCodes {
                batch,
                parts: vec![revoked_part(0, &[1, 9]), revoked_part(2, &[2047])],
            }
            .into(),
        ),
        (
            "set_territory",
            SetTerritory {
                batch,
                territory: territory(&["CN-SC", "VN", "geohash:wm6"]),
            }
            .into(),
        ),
        (
            "anchor_scans",
            AnchorScans {
                log_id: 1,
                size: 7,
                root: Hash([8; 32]),
                consistency: vec![Hash([9; 32]), Hash([10; 32])],
            }
            .into(),
        ),
        ("propose_agreement", terms(vec![a, b]).into()),
        ("accept_agreement", AcceptAgreement { agreement }.into()),
        ("revoke_agreement", RevokeAgreement { agreement }.into()),
        (
            "commit_audience",
            CommitAudience {
                label: AudienceLabel([11; 32]),
                epoch: 20_717,
                root: Hash([12; 32]),
                size_bucket: 14,
                profile: "prehashed:sha256:uid2".parse().unwrap(),
            }
            .into(),
        ),
        (
            "open_match",
            OpenMatch {
                agreement,
                computation: Computation::Cardinality,
                session,
                initiator: a,
                responder: b,
                initiator_audience: audience(20, 20_717),
                responder_audience: audience(30, 20_716),
            }
            .into(),
        ),
        (
            "release_match",
            ReleaseMatch {
                session,
                initiator_stream: Hash([13; 32]),
            }
            .into(),
        ),
        (
            "close_match_done",
            CloseMatch {
                session,
                close: Close::Done(receipt()),
            }
            .into(),
        ),
        (
            "close_match_failed",
            CloseMatch {
                session,
                close: Close::Failed,
            }
            .into(),
        ),
        (
            "propose_overlap",
            overlap_terms(vec![a, b, MemberId([6; 16])], Some(MemberId([7; 16]))).into(),
        ),
        (
            "join_overlap",
            JoinOverlap {
                agreement,
                session,
                audience: audience(20, 20_717),
            }
            .into(),
        ),
        (
            "release_overlap",
            ReleaseOverlap {
                session,
                streams: [13, 14, 15].map(|i| Hash([i; 32])).to_vec(),
            }
            .into(),
        ),
        (
            "close_overlap_done",
            CloseOverlap {
                session,
                close: OverlapClose::Done(overlap_receipt()),
            }
            .into(),
        ),
        (
            "close_overlap_cancelled",
            CloseOverlap {
                session,
                close: OverlapClose::Cancelled,
            }
            .into(),
        ),
        (
            "confirm_overlap",
            ConfirmOverlap {
                session,
                receipt: Hash([16; 32]),
            }
            .into(),
        ),
        ("propose_change", proposal().into()),
        (
            "vote",
            Vote {
                change: RecordId([14; 32]),
                approve: true,
            }
            .into(),
        ),
    ]
}
