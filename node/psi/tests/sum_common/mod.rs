//! Terms, sets and machines of private sums for the scenarios and the example.
#![allow(dead_code)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use tally_measure::attribution::*;
use tally_measure::{Error as MeasureError, Identifier};
use tally_psi::sum::{
    LabelledSet, LabelledSetBuilder, SumInitiator, SumNoise, SumParams, SumResponder, SumTerms,
    ValuedSet, ValuedSetBuilder, plan_value_noise,
};
use tally_psi::*;

pub(crate) type Touches = BTreeMap<Identifier, Vec<Touch>>;
pub(crate) type People = BTreeMap<Identifier, Vec<Conversion>>;

pub(crate) const LINEAR: SumModel = SumModel::Linear { touches: 7 };

pub(crate) use common::seeds;

pub(crate) fn context(session: u8) -> Context {
    Context {
        session: session_id(&[session; 32], &[3; 32]),
        ..common::context(Computation::JoinSum)
    }
}

/// Terms for keys that are entries each.
pub(crate) fn terms(labels: usize, weights: &[u32], caps: &[u64]) -> SumTerms {
    SumTerms {
        minimum_people: vec![0; labels],
        weights: weights.to_vec(),
        unit: *weights.last().unwrap(),
        value_caps: caps.to_vec(),
        entries_per_person: 1,
        rows_per_entry: 1,
        slots: 1,
        max_label_rows: 1 << 16,
        max_entries: 1 << 12,
        noise: SumNoise::NoneInTestNetwork,
    }
}

/// Noise that covers the terms.
pub(crate) fn noise(terms: &SumTerms, epsilon_micro: u32) -> SumNoise {
    let changed = terms.entries_per_person * terms.slots;
    SumNoise::Laplace {
        matches: plan_bound(epsilon_micro, 6, changed).unwrap(),
        values: terms
            .value_caps
            .iter()
            .map(|cap| {
                let sensitivity = cap * u64::from(terms.unit) * u64::from(terms.entries_per_person);
                plan_value_noise(epsilon_micro, 6, sensitivity).unwrap()
            })
            .collect(),
    }
}

/// Key, label, class.
pub(crate) type Labelled = Vec<(String, u16, u16)>;
/// Key, values.
pub(crate) type Valued = Vec<(String, Vec<u64>)>;

pub(crate) fn labelled(terms: &SumTerms, rows: &Labelled) -> LabelledSet {
    let mut set = LabelledSetBuilder::new(IdType(1), Profile(1));
    let mut people = vec![0; terms.minimum_people.len()];
    for (key, label, class) in rows {
        set.push(*label, *class, key.as_bytes()).unwrap();
        people[usize::from(*label)] += 1;
    }
    set.finish(terms, &people).unwrap()
}

pub(crate) fn valued(terms: &SumTerms, rows: &Valued) -> ValuedSet {
    let mut set = ValuedSetBuilder::new(IdType(1), Profile(1), terms.value_caps.len());
    for (key, values) in rows {
        set.push(key.as_bytes(), values).unwrap();
    }
    set.finish(terms, rows.len() as u64).unwrap()
}

pub(crate) fn params(terms: &SumTerms, session: u8) -> SumParams {
    SumParams {
        context: context(session),
        terms: terms.clone(),
    }
}

pub(crate) fn pair(
    terms: &SumTerms,
    a: &Labelled,
    b: &Valued,
    seed: u64,
) -> (SumInitiator, SumResponder) {
    (
        SumInitiator::new(params(terms, 2), labelled(terms, a), seeds(2 * seed)).unwrap(),
        SumResponder::new(params(terms, 2), valued(terms, b), seeds(2 * seed + 1)).unwrap(),
    )
}

/// The sums that both hold at the end of a run.
pub(crate) fn run(a: &mut dyn Machine, b: &mut dyn Machine) -> Vec<i64> {
    let (report, transcript) = machine::run_in_memory(a, b).unwrap();
    let other = transcript.responder.unwrap();
    assert_eq!(report.statement, other.statement);
    match (report.outcome, other.outcome) {
        (Outcome::Sums { values }, Outcome::Sums { values: theirs }) => {
            assert_eq!(values, theirs);
            assert_eq!(report.statement.sums.as_deref(), Some(values.as_slice()));
            values
        }
        _ => panic!("no sums"),
    }
}

/// What the sums are without noise.
pub(crate) fn plain(terms: &SumTerms, a: &Labelled, b: &Valued) -> Vec<i64> {
    let values: HashMap<&str, &Vec<u64>> = b.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let q = terms.value_caps.len();
    let mut sums = vec![0; terms.minimum_people.len() * q];
    for (key, label, class) in a {
        for (i, v) in values
            .get(key.as_str())
            .into_iter()
            .copied()
            .flatten()
            .enumerate()
        {
            let weight = u64::from(terms.weights[usize::from(*class)]);
            sums[usize::from(*label) * q + i] += i64::try_from(weight * v).unwrap();
        }
    }
    sums
}

/// The sample journeys, with the names of their labels; people on both sides for whom `keep` is true.
pub(crate) fn journeys(keep: impl Fn(usize) -> bool) -> Option<(Touches, People, Labels)> {
    let dir = std::env::var_os("TALLY_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let dir = dir.join("journeys");
    let (Ok(media), Ok(brand)) = (
        File::open(dir.join("media_touches.csv")),
        File::open(dir.join("brand_conversions.csv")),
    ) else {
        assert_ne!(
            std::env::var("CI_STRICT").as_deref(),
            Ok("1"),
            "nothing may be skipped: no journeys"
        );
        println!("skipped: no journeys in {}", dir.display());
        return None;
    };
    let profile = "e164".parse().unwrap();
    let touches = import_touches(media, profile, None, &TouchColumns::default()).unwrap();
    let conversions =
        import_conversions(brand, profile, None, &ConversionColumns::default()).unwrap();
    let names = touches.channels().into_keys();
    let labels = Labels::new(
        names
            .map(|name| SumLabel {
                name,
                minimum_people: 50,
            })
            .collect(),
    )
    .unwrap();
    let mut media = touches.labelled(&labels);
    let (mut brand, _, _) = conversions.bounded(VALUE_CAP, 1);
    let all: BTreeSet<Identifier> = media.keys().chain(brand.keys()).cloned().collect();
    for (n, id) in all.iter().enumerate() {
        if !keep(n) {
            media.remove(id);
            brand.remove(id);
        }
    }
    Some((media, brand, labels))
}

/// U, in fen: 2,000 yuan.
pub(crate) const VALUE_CAP: u64 = 200_000;

/// Terms of an attribution over these journeys.
pub(crate) fn attribution_terms(labels: &Labels, model: &SumModel, windows: &Windows) -> SumTerms {
    SumTerms {
        minimum_people: (0..labels.count())
            .map(|l| if l == 0 { 0 } else { 50 })
            .collect(),
        weights: model.weights(),
        unit: model.unit(),
        value_caps: vec![VALUE_CAP],
        entries_per_person: 1,
        rows_per_entry: brand_rows_per_conversion(model, windows),
        slots: model.slots(),
        max_label_rows: 1 << 24,
        max_entries: 1 << 14,
        noise: SumNoise::NoneInTestNetwork,
    }
}

pub(crate) enum Trouble {
    Measure(MeasureError),
    Psi(Error),
}

impl From<MeasureError> for Trouble {
    fn from(e: MeasureError) -> Self {
        Self::Measure(e)
    }
}

impl std::fmt::Debug for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Measure(e) => write!(f, "{e}"),
            Self::Psi(e) => write!(f, "{e}"),
        }
    }
}

/// The media side's keys as a set.
pub(crate) fn media_set(
    touches: &Touches,
    terms: &SumTerms,
    model: &SumModel,
    windows: &Windows,
) -> LabelledSet {
    let mut set = LabelledSetBuilder::new(IdType(1), Profile(1));
    media_keys::<Trouble>(touches, model, windows, |label, class, key| {
        set.push(label, u16::try_from(class).unwrap(), key)
            .map_err(Trouble::Psi)
    })
    .unwrap();
    // The labels are folded already: those that are left have their people.
    let people: Vec<u64> = terms.minimum_people.iter().map(|m| u64::from(*m)).collect();
    set.finish(terms, &people).unwrap()
}

/// The brand side's keys as a set.
pub(crate) fn brand_set(
    conversions: &People,
    terms: &SumTerms,
    model: &SumModel,
    windows: &Windows,
) -> ValuedSet {
    let mut set = ValuedSetBuilder::new(IdType(1), Profile(1), 1);
    brand_keys::<Trouble>(conversions, model, windows, |key, value| {
        set.push(key, &[value]).map_err(Trouble::Psi)
    })
    .unwrap();
    let entries: usize = conversions.values().map(Vec::len).sum();
    set.finish(terms, entries as u64).unwrap()
}
