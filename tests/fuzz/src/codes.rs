//! What is scanned, typed and stored of codes: links, GTINs, serials, claim codes, openings, keys. What is read can be written,
//! and is read again as the same.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tally_codes::batch::{
    BatchBuild, BatchSpec, Deriver, RedemptionOpening, RowBuffers, RowForms, UnitOpening,
    verify_redemption_opening, verify_unit_opening,
};
use tally_codes::gs1::{DigitalLink, Gtin, LinkOptions, Lot, UrlBase};
use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys};
use tally_codes::qr::Symbol;
use tally_codes::{ClaimCode, Serial};
use tally_merkle::Hash;

use crate::{Seeds, named, same};

const STEM: &str = "https://id.example/stem";

/// What is written is short of nothing and uses no name; an identifier without a rule needs the option that let it in.
fn link(read: &DigitalLink, options: LinkOptions) {
    let plain = LinkOptions {
        unknown_attributes: options.unknown_attributes,
        ..LinkOptions::default()
    };
    let again = DigitalLink::parse(&read.to_uri(STEM), plain);
    assert_eq!(again.as_ref(), Ok(read), "{}", read.to_uri(STEM));
    let _ = (read.gtin(), read.serial(), read.lot());
}

/// Elements, one a line: identifier, space, value.
fn elements(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .take(20)
        .filter_map(|l| l.split_once(' '))
        .collect()
}

fn texts(text: &str) {
    for bits in 0..8 {
        let options = LinkOptions {
            short_gtin: bits & 1 != 0,
            names: bits & 2 != 0,
            unknown_attributes: bits & 4 != 0,
        };
        if let Ok(read) = DigitalLink::parse(text, options) {
            link(&read, options);
        }
        if let Ok(made) = DigitalLink::from_elements(&elements(text), options) {
            link(&made, options);
        }
    }
    if let Ok(gtin) = text.parse::<Gtin>() {
        assert_eq!(gtin.as_str(), text);
    }
    if let Ok(gtin) = Gtin::parse_short(text) {
        assert!(gtin.as_str().ends_with(text));
    }
    if let Ok(lot) = text.parse::<Lot>() {
        assert_eq!(lot.as_str(), text);
    }
    if let Ok(serial) = text.parse::<Serial>() {
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!(Serial::parse_typed(&serial.to_typed()), Ok(serial));
    }
    if let Ok(serial) = Serial::parse_typed(text) {
        assert_eq!(serial.to_string().parse(), Ok(serial));
    }
    if let Ok(claim) = ClaimCode::parse(text) {
        let again = ClaimCode::parse(&claim.to_printed());
        assert!(again.is_ok_and(|again| again.is_same(&claim)));
    }
    if let Ok(base) = UrlBase::parse(text) {
        assert!(UrlBase::parse(base.as_str()).as_ref() == Ok(&base));
        let _ = base.qr_note();
        let gtin: Gtin = "09521234543213".parse().expect("a GTIN");
        let url = base.url(&gtin, Serial::from_bits(77));
        let read = DigitalLink::parse(&url, LinkOptions::default()).expect("its own link");
        assert_eq!(read.gtin(), Some(gtin));
        assert_eq!(
            read.serial(),
            Some(Serial::from_bits(77).to_string().as_str())
        );
    }
    // Drawing is slow, and knows the length alone.
    if text.len() < 40
        && let Ok(symbol) = Symbol::of(text)
    {
        let _ = symbol.to_svg();
    }
}

/// Bytes for every reader.
pub fn run(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        texts(text);
    }
    if let Ok(opening) = UnitOpening::from_bytes(bytes) {
        same("unit opening", bytes, &opening.to_bytes());
        assert!(verify_unit_opening(&Hash([7; 32]), 1000, &opening).is_err());
        let redemption = RedemptionOpening {
            nullifier: opening.claim_commitment.0,
            leaf_index: opening.leaf_index,
            path: opening.path,
        };
        assert!(verify_redemption_opening(&Hash([7; 32]), 1000, &redemption).is_err());
    }
    if let Ok(keys) = IssuerKeys::from_secret_bytes(bytes) {
        same("issuer keys", bytes, &keys.to_secret_bytes());
    }
    if let Ok(keys) = BatchKeys::from_secret_bytes(bytes) {
        same("batch keys", bytes, &keys.to_secret_bytes());
    }
}

/// Keys from a fixed seed: published, so worth nothing.
pub(crate) fn sample_keys() -> (IssuerKeys, BatchKeys) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut rng);
    (issuer, BatchKeys::generate(&mut rng))
}

/// Links of every shape, codes as printed and as typed, an opening, keys.
pub fn seeds() -> Seeds {
    let (mut issuer, keys) = sample_keys();
    let spec = BatchSpec::new("09521234543213".parse().expect("a GTIN"), 0, 1000).expect("a range");
    let deriver = Deriver::new(&issuer, issuer.current(), &keys, spec).expect("a key");
    let mut build = BatchBuild::new(&deriver, &RowForms::none());
    let mut rows = RowBuffers::default();
    while build.next_rows(&mut rows) {}
    let trees = build.finish().expect("all rows");
    let opening = deriver
        .unit_opening(17, |level, i| trees.unit.node(level, i))
        .expect("a unit");
    verify_unit_opening(&trees.unit.root(), 1000, &opening).expect("a good opening");
    let unit = deriver.unit(17).expect("a unit");
    let base = UrlBase::parse("https://id.example:8443/S").expect("a base");
    let of = |elements: &[_]| DigitalLink::from_elements(elements, LinkOptions::default());
    let full = of(&[
        ("01", "09521234543213"),
        ("10", "L/1_a"),
        ("21", "a+b/c"),
        ("17", "281100"),
        ("3103", "000195"),
        ("99", "any&thing"),
    ]);
    let sscc = of(&[("00", "106141412345678908")]);
    issuer
        .begin_epoch(&mut ChaCha20Rng::seed_from_u64(2))
        .expect("an epoch");
    let mut out = named([
        ("unit-link", base.url(spec.gtin(), unit.serial).into_bytes()),
        ("serial", unit.serial.to_string().into_bytes()),
        ("serial-typed", unit.serial.to_typed().into_bytes()),
        ("claim", unit.claim.to_printed().as_bytes().to_vec()),
        ("gtin", b"09521234543213".to_vec()),
        ("gtin-short", b"9521234543213".to_vec()),
        ("base", base.as_str().as_bytes().to_vec()),
        ("opening", opening.to_bytes()),
        ("issuer-keys", issuer.to_secret_bytes().to_vec()),
        ("batch-keys", keys.to_secret_bytes().to_vec()),
        (
            "elements",
            b"01 09521234543213\n21 a+b\n10 L1\n17 281100".to_vec(),
        ),
    ]);
    for (name, made) in [("link", full), ("link-sscc", sscc)] {
        let uri = made.expect("a link").to_uri(STEM);
        out.push((name.into(), uri.into_bytes()));
    }
    out
}
