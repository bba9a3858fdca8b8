//! `tally bench attribution`: attribution by a private sum over two CSV files, both sides in this process, held against the plain
//! reference. Not measured: network, ledger, signatures and agreement.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::RngCore as _;
use rand::rngs::OsRng;
use serde::Serialize;
use tally_contracts::records::Profile;
use tally_measure::attribution::{
    ConversionColumns, Labels, SumLabel, SumModel, TouchColumns, Windows, attribute, brand_keys,
    brand_rows_per_conversion, import_conversions, import_touches, media_keys,
};
use tally_psi::sum::{
    LabelledSetBuilder, SumInitiator, SumNoise, SumParams, SumResponder, SumTerms, ValueNoise,
    ValuedSetBuilder, plan_value_noise,
};
use tally_psi::{
    Computation, Context, IdType, Outcome, Party, Seeds, Suite, machine, plan_bound, public_size,
    session_id,
};

use super::kit;

/// Delta of each noise is 10^-this.
const DELTA_EXPONENT: u32 = 6;

/// Why a bench gave no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or the model was refused.
    #[error(transparent)]
    Measure(#[from] tally_measure::Error),
    /// The protocol refused or failed.
    #[error(transparent)]
    Psi(#[from] tally_psi::Error),
    /// A number that does not fit.
    #[error("{what} does not fit")]
    Size {
        /// What.
        what: &'static str,
    },
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// CSV of touches.
    pub touches: PathBuf,
    /// CSV of conversions.
    pub conversions: PathBuf,
    /// The model.
    pub model: SumModel,
    /// The profile of the IDs.
    pub profile: Profile,
    /// Epsilon in millionths, of the sums and of the matches; `None`: no noise.
    pub epsilon_micro: Option<u32>,
    /// The largest value of a conversion, in minor units.
    pub value_cap: u64,
    /// Conversions of one person that count.
    pub per_person: u32,
    /// Channels that fewer people met go to `other`.
    pub minimum_people: u32,
    /// Window of a click, in seconds.
    pub click_s: u32,
    /// Window of a view, in seconds.
    pub view_s: u32,
}

/// One label's sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelSum {
    /// The channel, or `other`.
    pub label: String,
    /// What the private sum gave, in minor units, rounded towards zero.
    pub value: i64,
    /// What the plain reference gives, likewise.
    pub reference: i64,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The model.
    pub model: String,
    /// Whether every sum is the reference's: exactly without noise, within the noise's bounds with it.
    pub correct: bool,
    /// Sums by label.
    pub labels: Vec<LabelSum>,
    /// In 95 of 100 runs a sum is not further off, in minor units; 0 without noise.
    pub within_95: i64,
    /// Touches used.
    pub touches: u64,
    /// Conversions used.
    pub conversions: u64,
    /// Conversions left out as over those that count for one person.
    pub conversions_left_out: u64,
    /// Conversions whose value was cut.
    pub values_cut: u64,
    /// Rows of either file that were not used.
    pub dropped_rows: u64,
    /// Keys of the media side, fillers and dummies included.
    pub media_rows: u64,
    /// Keys of the brand side, fillers and dummies included.
    pub brand_rows: u64,
    /// Labels times weight classes.
    pub groups: usize,
    /// Wall time of the protocol, both sides, in seconds.
    pub wall_s: f64,
    /// CPU time of the protocol, both sides, in seconds.
    pub cpu_s: f64,
    /// CPU time a key, both sides, in microseconds.
    pub cpu_us_per_row: f64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Largest resident set of this process with both sides in it, in MB of 2^20 bytes.
    pub peak_mb: f64,
    /// Which arithmetic ran.
    pub backend: &'static str,
    /// Processor and kernel.
    pub hardware: String,
    /// Cores that were allowed.
    pub cores: usize,
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

fn size<T, U: TryFrom<T>>(n: T, what: &'static str) -> Result<U, Error> {
    U::try_from(n).map_err(|_| Error::Size { what })
}

/// Runs the bench.
///
/// # Errors
/// Any of [`Error`].
#[allow(clippy::too_many_lines, clippy::cast_precision_loss)]
pub fn run(options: &Options) -> Result<Figures, Error> {
    let (model, windows) = (
        options.model,
        Windows::new(options.click_s, options.view_s)?,
    );
    let journeys = import_touches(
        open(&options.touches)?,
        options.profile,
        None,
        &TouchColumns::default(),
    )?;
    let conversions = import_conversions(
        open(&options.conversions)?,
        options.profile,
        None,
        &ConversionColumns::default(),
    )?;
    let labels = Labels::new(
        journeys
            .channels()
            .into_keys()
            .map(|name| SumLabel {
                name,
                minimum_people: options.minimum_people,
            })
            .collect(),
    )?;
    let touches = journeys.labelled(&labels);
    let (bounded, left_out, cut) = conversions.bounded(options.value_cap, options.per_person);
    let entries: u64 = bounded.values().map(|c| c.len() as u64).sum();
    let reference = attribute(&touches, &bounded, labels.count(), &model, &windows)?;

    let mut terms = SumTerms {
        // The channels are put together already.
        minimum_people: vec![0; labels.count()],
        weights: model.weights(),
        unit: model.unit(),
        value_caps: vec![options.value_cap],
        entries_per_person: options.per_person,
        rows_per_entry: brand_rows_per_conversion(&model, &windows),
        slots: model.slots(),
        max_label_rows: 1 << 29,
        max_entries: public_size(entries),
        noise: SumNoise::NoneInTestNetwork,
    };
    if let Some(epsilon) = options.epsilon_micro {
        let sensitivity = options
            .value_cap
            .saturating_mul(terms.unit.into())
            .saturating_mul(options.per_person.into());
        terms.noise = SumNoise::Laplace {
            matches: plan_bound(epsilon, DELTA_EXPONENT, options.per_person * terms.slots)?,
            values: vec![plan_value_noise(epsilon, DELTA_EXPONENT, sensitivity)?],
        };
    }
    let (id_type, profile) = (IdType(1), tally_psi::Profile(1));
    let mut set = LabelledSetBuilder::new(id_type, profile);
    media_keys::<Error>(&touches, &model, &windows, |label, class, key| {
        Ok(set.push(label, size(class, "a weight class")?, key)?)
    })?;
    let media = set.finish(&terms, &vec![0; labels.count()])?;
    let mut set = ValuedSetBuilder::new(id_type, profile, 1);
    brand_keys::<Error>(&bounded, &model, &windows, |key, value| {
        Ok(set.push(key, &[value])?)
    })?;
    let brand = set.finish(&terms, entries)?;

    let params = SumParams {
        context: context(),
        terms,
    };
    let seeds = || {
        let mut noise = [0; 32];
        OsRng.fill_bytes(&mut noise);
        Seeds::new(&mut OsRng, noise)
    };
    let (used, started) = (kit::used(), Instant::now());
    let mut media = SumInitiator::new(params.clone(), media, seeds())?;
    let mut brand = SumResponder::new(params.clone(), brand, seeds())?;
    let (report, transcript) = machine::run_in_memory(&mut media, &mut brand)?;
    let (wall_s, after) = (started.elapsed().as_secs_f64(), kit::used());

    let Outcome::Sums { values } = report.outcome else {
        return Err(Error::Size { what: "an outcome" });
    };
    let bound: i64 = match &params.terms.noise {
        SumNoise::NoneInTestNetwork => 0,
        SumNoise::Laplace { values, .. } => {
            size(values.iter().map(|v| v.bound * 2).sum::<u64>(), "noise")?
        }
    };
    let within: u64 = match &params.terms.noise {
        SumNoise::NoneInTestNetwork => 0,
        SumNoise::Laplace { values, .. } => values.iter().map(ValueNoise::within_95).sum(),
    };
    let unit = i64::from(params.terms.unit);
    let mut correct = values.len() == reference.len();
    let mut sums = Vec::with_capacity(values.len());
    for (label, (value, exact)) in values.iter().zip(reference).enumerate() {
        let exact: i64 = size(exact, "a sum")?;
        correct &= (value - exact).abs() <= bound;
        sums.push(LabelSum {
            label: labels.name(label).unwrap_or_default().to_owned(),
            value: value / unit,
            reference: exact / unit,
        });
    }
    let [media_rows, brand_rows] = report.statement.counts;
    let cpu_s = after.cpu_s - used.cpu_s;
    Ok(Figures {
        model: model.to_string(),
        correct,
        labels: sums,
        within_95: size(within.div_ceil(params.terms.unit.into()), "noise")?,
        touches: journeys.report().used,
        conversions: entries,
        conversions_left_out: left_out,
        values_cut: cut,
        dropped_rows: journeys.report().dropped_rows() + conversions.report().dropped_rows(),
        media_rows,
        brand_rows,
        groups: params.terms.groups(),
        wall_s,
        cpu_s,
        cpu_us_per_row: cpu_s * 1e6 / (media_rows + brand_rows) as f64,
        bytes: transcript.frames.iter().map(|(_, f)| f.len() as u64).sum(),
        peak_mb: after.rss_mb,
        backend: tally_psi::backend(),
        hardware: kit::hardware(),
        cores: kit::cores(),
    })
}

/// A session of nobody's.
fn context() -> Context {
    let mut nonces = [[0; 32]; 2];
    nonces.iter_mut().for_each(|n| OsRng.fill_bytes(n));
    let party = |n| Party {
        member: [n; 16],
        node: [n; 32],
    };
    Context {
        network: [0; 32],
        suite: Suite::DhRistrettoV1,
        computation: Computation::JoinSum,
        session: session_id(&nonces[0], &nonces[1]),
        initiator: party(1),
        responder: party(2),
        agreement: [0; 32],
        initiator_root: [0; 32],
        responder_root: [0; 32],
    }
}
