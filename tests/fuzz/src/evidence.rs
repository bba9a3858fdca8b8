//! Proofs to take home: what is in one has one form, and of the files of a real proof nothing can be changed.
//!
//! An input is the extra of a proof, or a policy, a zero byte and a proof, or a code.

use std::sync::LazyLock;

use tally_contracts::{Canonical, Genesis};
use tally_contracts::genesis::network_id;
use tally_contracts::ids::NetworkId;
use tally_evidence::{Extra, RecordExtra, UnitCode, network_policy, verify};
use tally_merkle::TlogProof;

use crate::{Seeds, named, same};

/// The golden proof of the evidence crate, made by a real ledger.
struct Golden {
    network: NetworkId,
    policy: &'static str,
    proof: &'static str,
    parsed: TlogProof,
    extra: Vec<u8>,
    /// The record in it, which the same proof is of as well.
    record: Vec<u8>,
}

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let proof = include_str!("../../../node/evidence/tests/golden/code.tlog-proof");
    let parsed: TlogProof = proof.parse().expect("a proof");
    let extra = parsed.extra.clone().expect("an extra");
    let Ok(Extra::Code(code)) = Extra::from_bytes(&extra) else {
        panic!("not of a code");
    };
    Golden {
        network: include_str!("../../../node/evidence/tests/golden/network_id")
            .trim()
            .parse()
            .expect("an ID"),
        policy: include_str!("../../../node/evidence/tests/golden/policy"),
        proof,
        parsed,
        extra,
        record: Extra::Record(code.issued).to_bytes(),
    }
});

/// Bytes as the extra of the golden proof.
fn extra(bytes: &[u8]) {
    let Ok(extra) = Extra::from_bytes(bytes) else {
        return;
    };
    same("extra", bytes, &extra.to_bytes());
    let golden = &*GOLDEN;
    let proof = TlogProof {
        extra: Some(bytes.to_vec()),
        ..golden.parsed.clone()
    }
    .to_string();
    let judge = |network: &NetworkId, policy: &str| {
        verify(network, policy.as_bytes(), proof.as_bytes(), None).is_ok()
    };
    let good = bytes == golden.extra || bytes == golden.record;
    assert_eq!(judge(&golden.network, golden.policy), good);
    // A network that its maker made up has other keys than those that signed.
    let RecordExtra { genesis, .. } = match &extra {
        Extra::Code(code) => &code.issued,
        Extra::Record(record) => record,
    };
    if let Ok(own) = Genesis::from_bytes(genesis)
        && let Ok(policy) = network_policy(&own)
    {
        assert_eq!(judge(&network_id(genesis), &policy.to_string()), good);
    }
}

/// Bytes for each.
pub fn run(bytes: &[u8]) {
    extra(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some((policy, proof)) = text.split_once('\0') {
        let golden = &*GOLDEN;
        let judged = verify(&golden.network, policy.as_bytes(), proof.as_bytes(), None);
        assert_eq!(
            judged.is_ok(),
            policy == golden.policy && proof == golden.proof
        );
    }
    if let Ok(code) = text.parse::<UnitCode>() {
        assert_eq!(code.to_string().parse(), Ok(code));
    }
}

/// The golden proof's extra, the record in it, its files, and codes in both forms.
pub fn seeds() -> Seeds {
    let golden = &*GOLDEN;
    let files = format!("{}\0{}", golden.policy, golden.proof);
    named([
        ("extra-code", golden.extra.clone()),
        ("extra-record", golden.record.clone()),
        ("policy-and-proof", files.into_bytes()),
        (
            "code",
            include_bytes!("../../../node/evidence/tests/golden/code")
                .trim_ascii()
                .to_vec(),
        ),
        (
            "code-link",
            b"https://id.t.cn/01/09521234543213/10/L7/21/o123456789abcdefghjk".to_vec(),
        ),
    ])
}
