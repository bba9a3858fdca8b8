//! What other nodes and the node's own files say: match messages, records and cosignatures, forwarded scans and their answers,
//! receipts, the scan log's lines, stored batches, links, admin requests, rows of codes for labels.

use tally_contracts::Canonical;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey};
use tally_node::fuzzing::{RECODERS, is_admin_request, samples};
use tally_node::gateway::{parse_link_path, parse_link_url};
use tally_node::labels::{Options, Sheet, read_labels};
use tally_node::matching::MatchId;
use tally_node::scans::{
    ClaimCheck, First, ForwardRequest, LaterVerdict, Place, Reasons, Receipt, ScanAnswer, ScanId,
    ScanRecord, ScannedCode, SignedAnswer, SignedReceipt, Verdict, verify_receipt,
};

use crate::codes::sample_keys;
use crate::{Seeds, named, same};

fn canonical<T: Canonical>(what: &str, bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        same(what, bytes, &value.to_bytes());
    }
}

/// A code that was read can be told to another node.
fn code(read: &ScannedCode) {
    let again = ScannedCode::from_bytes(&read.to_bytes());
    assert_eq!(again.as_ref(), Ok(read));
}

/// Bytes for every decoder.
pub fn run(bytes: &[u8]) {
    for (name, recode) in RECODERS {
        if let Some(again) = recode(bytes) {
            same(name, bytes, &again);
        }
    }
    canonical::<ForwardRequest>("forward request", bytes);
    canonical::<ScanAnswer>("scan answer", bytes);
    canonical::<SignedAnswer>("signed answer", bytes);
    canonical::<Receipt>("receipt", bytes);
    canonical::<SignedReceipt>("signed receipt", bytes);
    canonical::<ScanRecord>("scan record", bytes);
    canonical::<LaterVerdict>("later verdict", bytes);
    canonical::<ScannedCode>("scanned code", bytes);
    canonical::<Place>("place", bytes);
    assert!(verify_receipt(bytes, &PublicKey([1; 32])).is_err());
    let _ = is_admin_request(bytes);
    if let Ok(labels) = read_labels(&mut &*bytes, 1, 20) {
        // What was read can be laid out.
        let _ = Sheet::new(&labels, &Options::default());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for read in [parse_link_url(text), parse_link_path(text)]
            .iter()
            .flatten()
        {
            code(read);
        }
        if let Some((gtin, serial)) = text.split_once(' ')
            && let Ok(read) = ScannedCode::new(gtin, serial)
        {
            code(&read);
        }
        let _ = (text.parse::<ScanId>(), text.parse::<MatchId>());
    }
}

/// One of each.
pub fn seeds() -> Seeds {
    let (_, keys) = sample_keys();
    let code = ScannedCode::new("09521234543213", "0123456789ABCDEFGHJK").expect("a code");
    let place = Place::new("CN", "Sichuan").expect("a place");
    let (network, asker, issuer) = (NetworkId([1; 32]), MemberId([2; 16]), MemberId([3; 16]));
    let scan = ScanId([4; 16]);
    let request = ForwardRequest {
        network,
        asker,
        scan,
        code: code.clone(),
        place: Some(place.clone()),
        look: false,
        claim: Some("ABCD-EFGH-JKMN-P".to_owned().into()),
    };
    let key = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let answer = ScanAnswer {
        network,
        issuer,
        asker,
        scan,
        code: code.hash(),
        look: false,
        verdict: Verdict::GenuineFirst,
        count: 1,
        first: Some(First {
            time_ms: 1_790_000_000_000,
            place: Some(place),
        }),
        claim: ClaimCheck::Right,
        reasons: Reasons::none(),
        time_ms: 1_790_000_000_001,
    }
    .sign(&key);
    let receipt = Receipt {
        network,
        member: issuer,
        log_id: 0,
        scan,
        time_ms: 1_790_000_000_000,
        code: code.hash(),
        verdict: Verdict::GenuineFirst,
        count: 1,
        log_index: 7,
        log_size: 8,
        leaf: tally_merkle::Hash([6; 32]),
        reasons: Reasons::none(),
    }
    .sign(&key);
    let mut out = named(samples(&keys));
    out.extend(named([
        ("forward-request", request.to_bytes()),
        ("signed-answer", answer.to_bytes()),
        ("signed-receipt", receipt.to_bytes()),
        ("scanned-code", code.to_bytes()),
        (
            "link",
            b"https://id.example/01/09521234543213/22/2A/10/L%2F1/21/a+b%2fc?17=270101&x=y#x"
                .to_vec(),
        ),
        (
            "path",
            b"/01/09521234543213/21/0123456789ABCDEFGHJK".to_vec(),
        ),
        (
            "code-typed",
            b"09521234543213 0l23456789abcdefghjk".to_vec(),
        ),
        (
            "admin-request",
            br#"{"op":"codes_verify","args":{"code":"https://id.example/01/09521234543213/21/A"}}"#
                .to_vec(),
        ),
    ]));
    out
}
