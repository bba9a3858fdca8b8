//! ZIP-215, and only ZIP-215: what single verification says, a batch says, also of points with a torsion component.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha512};
use tally_contracts::ids::{PublicKey, Signature};
use tally_contracts::signature::{Signed, check_public_key, verify, verify_batch};

/// All 14 encodings that decode to a point of small order, 6 of them not canonical.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut out: Vec<[u8; 32]> = EIGHT_TORSION
        .iter()
        .map(|p| p.compress().to_bytes())
        .collect();
    // y = 1 and y = 0 written as p + 1 and p; and a sign on x = 0.
    let field = |low: u8| {
        let mut bytes = [0xff; 32];
        bytes[0] = low;
        bytes[31] = 0x7f;
        bytes
    };
    let one = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    };
    let signed = |mut bytes: [u8; 32]| {
        bytes[31] |= 0x80;
        bytes
    };
    for extra in [
        field(0xee),
        signed(field(0xee)),
        signed(one),
        signed(field(0xec)),
        field(0xed),
        signed(field(0xed)),
    ] {
        assert!(!out.contains(&extra));
        out.push(extra);
    }
    for bytes in &out {
        let point = CompressedEdwardsY(*bytes).decompress().unwrap();
        assert!(point.mul_by_cofactor().is_identity());
    }
    assert_eq!(out.len(), 14);
    out
}

fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(a)
        .chain_update(message)
        .finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

fn item(key: [u8; 32], r: [u8; 32], s: [u8; 32], message: &[u8]) -> Signed {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    Signed {
        key: PublicKey(key),
        message: message.to_vec(),
        signature: Signature(signature),
    }
}

/// The rule itself, from its text: decode A and R however encoded, s reduced, 8sB = 8R + 8kA.
fn zip215(item: &Signed) -> bool {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&item.signature.0[..32]);
    s.copy_from_slice(&item.signature.0[32..]);
    let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else {
        return false;
    };
    let decode =
        |bytes: [u8; 32]| -> Option<EdwardsPoint> { CompressedEdwardsY(bytes).decompress() };
    let (Some(a), Some(point)) = (decode(item.key.0), decode(r)) else {
        return false;
    };
    let k = challenge(&r, &item.key.0, &item.message);
    (ED25519_BASEPOINT_POINT * s - point - a * k)
        .mul_by_cofactor()
        .is_identity()
}

/// Honest signatures, signatures with torsion added to key or nonce point, small-order keys, and broken ones.
fn vectors() -> Vec<Signed> {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(215);
    let mut items = Vec::new();
    let small = small_order_encodings();
    for a in &small {
        for r in &small {
            items.push(item(*a, *r, [0; 32], b"Zcash"));
        }
    }
    for round in 0..4_u8 {
        for ta in EIGHT_TORSION {
            for tr in EIGHT_TORSION {
                let mut wide = [0; 64];
                rng.fill(&mut wide[..]);
                let secret = Scalar::from_bytes_mod_order_wide(&wide);
                rng.fill(&mut wide[..]);
                let nonce = Scalar::from_bytes_mod_order_wide(&wide);
                let a = (ED25519_BASEPOINT_POINT * secret + ta)
                    .compress()
                    .to_bytes();
                let r = (ED25519_BASEPOINT_POINT * nonce + tr).compress().to_bytes();
                let message = [round, 1, 2, 3];
                let s = nonce + challenge(&r, &a, &message) * secret;
                items.push(item(a, r, s.to_bytes(), &message));
            }
        }
    }
    let honest = items[200].clone();
    let parts = |i: &Signed| {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&i.signature.0[..32]);
        s.copy_from_slice(&i.signature.0[32..]);
        (i.key.0, r, s)
    };
    let (a, r, s) = parts(&honest);
    // s + l: the same scalar, not reduced.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0_u16;
    let mut high = [0; 32];
    for (i, byte) in high.iter_mut().enumerate() {
        let sum = u16::from(s[i]) + u16::from(order[i]) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    items.push(item(a, r, high, &honest.message));
    // y = 2 is on no point; as key and as nonce point.
    let mut off = [0; 32];
    off[0] = 2;
    assert!(CompressedEdwardsY(off).decompress().is_none());
    items.push(item(off, r, s, &honest.message));
    items.push(item(a, off, s, &honest.message));
    items.push(item(a, r, s, b"another message"));
    let mut wrong = s;
    wrong[0] ^= 1;
    items.push(item(a, r, wrong, &honest.message));
    items.push(item(a, r, [0; 32], &honest.message));
    items
}

fn single(items: &[Signed]) -> Vec<bool> {
    items
        .iter()
        .map(|i| verify("test", &i.key, &i.message, &i.signature).is_ok())
        .collect()
}

#[test]
fn accepts_exactly_what_zip215_accepts() {
    let items = vectors();
    let rule: Vec<bool> = items.iter().map(zip215).collect();
    assert_eq!(single(&items), rule);
    let accepted = rule.iter().filter(|r| **r).count();
    assert_eq!(accepted, 14 * 14 + 4 * 64);
    assert_eq!(rule.len() - accepted, 6);
}

#[test]
fn batches_of_every_make_up_agree_with_single_verification() {
    let items = vectors();
    let one_by_one = single(&items);
    assert_eq!(verify_batch(&items), one_by_one);
    let good: Vec<Signed> = items
        .iter()
        .zip(&one_by_one)
        .filter(|(_, right)| **right)
        .map(|(i, _)| i.clone())
        .collect();
    assert!(verify_batch(&good).into_iter().all(|right| right));
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(7);
    for _ in 0..60 {
        let picks: Vec<usize> = (0..rng.gen_range(1..40))
            .map(|_| rng.gen_range(0..items.len()))
            .collect();
        let batch: Vec<Signed> = picks.iter().map(|i| items[*i].clone()).collect();
        let expected: Vec<bool> = picks.iter().map(|i| one_by_one[*i]).collect();
        assert_eq!(verify_batch(&batch), expected);
    }
    assert_eq!(verify_batch(&[]), Vec::<bool>::new());
}

#[test]
fn keys_that_anyone_could_sign_under_do_not_enter_the_ledger() {
    for bytes in small_order_encodings() {
        assert!(check_public_key(&PublicKey(bytes)).is_err());
    }
    let good = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    assert_eq!(check_public_key(&PublicKey::from(&good)), Ok(()));
    let mut off = [0; 32];
    off[0] = 2;
    assert!(check_public_key(&PublicKey(off)).is_err());
    // Every y from p to 2^255 - 1 is another way to write a small number.
    for low in 0xed..=0xff_u8 {
        let mut bytes = [0xff; 32];
        bytes[0] = low;
        for top in [0x7f, 0xff] {
            bytes[31] = top;
            assert!(check_public_key(&PublicKey(bytes)).is_err());
        }
    }
}
