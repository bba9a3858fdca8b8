//! One body of each kind, for golden files and decoders.
#![allow(dead_code)]

use tally_contracts::ids::{AudienceLabel, BatchId, MemberId, RecordId, SessionId};
use tally_contracts::records::*;
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
        result: Hash([41; 32]),
        initiator_stream: Hash([42; 32]),
        responder_stream: Hash([43; 32]),
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
    ]
}
