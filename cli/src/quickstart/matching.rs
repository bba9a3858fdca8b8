//! Two audiences, two agreements, two matches: one exact and compared with a plain join over the raw files, one with noise.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::join;
use super::network::{Member, Network};

/// The sample data that is shipped with the project; cli/sample/README.md says how it was made.
const SAMPLE: [(&str, &[u8]); 2] = [
    (
        "brand_conversions.csv",
        include_bytes!("../../sample/brand_conversions.csv"),
    ),
    (
        "media_touches.csv",
        include_bytes!("../../sample/media_touches.csv"),
    ),
];
const COMPUTATION: &str = "cardinality";
/// Noise of the second agreement: epsilon in millionths, delta = 2^-20.
const NOISE: (u32, u32) = (500_000, 20);
/// How long a node may take to see what another one has committed.
const STEP: Duration = Duration::from_secs(20);

/// The raw files.
pub(crate) struct Files {
    pub(crate) brand: PathBuf,
    pub(crate) media: PathBuf,
    /// Whose they are, for the report.
    pub(crate) source: String,
}

impl Files {
    /// Those of a folder.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let file = |name: &str| -> Result<PathBuf> {
            let path = std::path::absolute(dir.join(name))?;
            ensure!(
                path.is_file(),
                "{} is missing: --data takes a folder with brand_conversions.csv and media_touches.csv, each with a \
                 column named phone",
                path.display()
            );
            Ok(path)
        };
        let [(brand, _), (media, _)] = SAMPLE;
        Ok(Self {
            brand: file(brand)?,
            media: file(media)?,
            source: dir.display().to_string(),
        })
    }

    /// The shipped ones, written below `root`.
    pub(crate) fn sample(root: &Path) -> Result<Self> {
        let dir = root.join("sample");
        std::fs::create_dir_all(&dir)?;
        for (name, bytes) in SAMPLE {
            std::fs::write(dir.join(name), bytes)?;
        }
        let files = Self::of(&dir)?;
        Ok(Self {
            source: "generated sample data, shipped with this program".to_owned(),
            ..files
        })
    }
}

/// What became of a file's rows.
pub(crate) struct Imported {
    pub(crate) member: &'static str,
    pub(crate) rows: u64,
    pub(crate) people: u64,
    pub(crate) repeated: u64,
    pub(crate) dropped: u64,
    /// Reasons with their first lines.
    pub(crate) reasons: Vec<String>,
}

/// A match with noise.
pub(crate) struct Noisy {
    /// `None` if the agreement withholds it as too small.
    pub(crate) found: Option<i64>,
    /// Each side's draw is at most this.
    pub(crate) bound: i64,
    pub(crate) within_95: i64,
    /// The same question again gave the same answer and opened no match.
    pub(crate) again_is_free: bool,
    pub(crate) answers_left: Option<u64>,
}

impl Noisy {
    /// Whether the answer is as far from the truth as two draws can bring it, and no farther.
    pub(crate) fn is_near(&self, expected: u64) -> bool {
        let expected = i64::try_from(expected).unwrap_or(i64::MAX);
        match self.found {
            Some(found) => (found - expected).abs() <= 2 * self.bound,
            None => expected <= 2 * self.bound,
        }
    }
}

/// What the matches gave.
pub(crate) struct Matching {
    pub(crate) source: String,
    pub(crate) imports: Vec<Imported>,
    pub(crate) computation: &'static str,
    /// By the plain join over the raw files.
    pub(crate) expected: u64,
    pub(crate) found: Option<i64>,
    pub(crate) size_a: u64,
    pub(crate) size_b: u64,
    pub(crate) seconds: f64,
    pub(crate) receipts: bool,
    pub(crate) noisy: Noisy,
}

impl Matching {
    /// Whether the exact match is the plain join, and the noisy one near it.
    pub(crate) fn ok(&self) -> bool {
        self.is_equal()
            && self.receipts
            && self.noisy.again_is_free
            && self.noisy.is_near(self.expected)
    }

    pub(crate) fn is_equal(&self) -> bool {
        self.found.and_then(|n| u64::try_from(n).ok()) == Some(self.expected)
    }
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key]
        .as_u64()
        .with_context(|| format!("an answer without {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("an answer without {key}"))
}

fn import(member: &Member, file: &Path, label: &str) -> Result<Imported> {
    let done = member.call(
        "audience_import",
        &json!({"file": file, "id_type": "phone", "profile": "e164", "label": label}),
    )?;
    let report = &done["report"];
    let dropped = report["dropped"].as_array().cloned().unwrap_or_default();
    let reasons = dropped
        .iter()
        .map(|d| {
            let word = |key| d[key].as_str().unwrap_or_default();
            let lines = word("lines");
            let s = if lines.contains(',') { "s" } else { "" };
            format!("{} {}: line{s} {lines}", d["rows"], word("why"))
        })
        .collect();
    Ok(Imported {
        member: member.name,
        rows: number(report, "rows")?,
        people: number(report, "people")?,
        repeated: number(report, "repeated_rows")?,
        dropped: number(report, "dropped_rows")?,
        reasons,
    })
}

/// Proposed by the brand, accepted by the media company, seen by both.
fn agree(network: &Network, purpose: &str, noise: &Value, min_result: u64) -> Result<String> {
    let (brand, media) = (network.brand(), network.media());
    let proposed = brand.call(
        "agreement_propose",
        &json!({
            "with": [media.name],
            "purpose": purpose,
            "computations": [COMPUTATION],
            "id_type": "phone",
            "profile": "e164",
            "noise": noise,
            "epoch_answers": 10,
            "lifetime_answers": 40,
            "min_set": 1,
            "max_set": 10_000_000,
            "min_result": min_result,
            "max_audiences": 4,
            "max_matches": 20,
            "days": 30,
        }),
    )?;
    let id = text(&proposed, "agreement")?.to_owned();
    see(media, &proposed)?;
    let accepted = media.call("agreement_accept", &json!({"agreement": id}))?;
    ensure!(
        text(&accepted, "status")? == "active",
        "an agreement that every party accepted is not active"
    );
    see(brand, &accepted)?;
    Ok(id)
}

/// Waits until a member's node has committed what another's answer speaks of.
fn see(member: &Member, answer: &Value) -> Result<()> {
    let height = number(answer, "height")?;
    if member.wait_height(height, STEP)? {
        return Ok(());
    }
    bail!("the node of {} did not reach height {height}", member.name)
}

fn ask(network: &Network, agreement: &str) -> Result<Value> {
    network.brand().call(
        "match_request",
        &json!({"agreement": agreement, "computation": COMPUTATION, "audience": "buyers"}),
    )
}

/// Imports both files, and matches them with and without noise.
pub(crate) fn run(network: &Network, files: Files, say: &dyn Fn(&str)) -> Result<Matching> {
    let (brand, media) = (network.brand(), network.media());
    say("importing an audience at the brand's node and one at the media company's");
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| import(brand, &files.brand, "buyers"));
        let b = import(media, &files.media, "viewers");
        (a.join(), b)
    });
    let a = a.map_err(|_| anyhow::anyhow!("the import of the brand died"))??;
    let b = b?;
    // A responder checks the other side's set against its own ledger.
    let height = brand.height()?.max(media.height()?);
    brand.wait_height(height, STEP)?;
    media.wait_height(height, STEP)?;

    say("matching under an agreement without noise, as only a test network allows");
    let exact = agree(
        network,
        "quickstart: compare with a plain join",
        &json!("none"),
        0,
    )?;
    let begin = Instant::now();
    let answer = ask(network, &exact)?;
    let seconds = begin.elapsed().as_secs_f64();
    let plain = (join::people(&files.brand)?, join::people(&files.media)?);
    let expected = join::common(&plain.0, &plain.1);

    say("matching under an agreement with noise, and asking the same again");
    let (epsilon_micro, delta_exp) = NOISE;
    let noise = json!({"epsilon_micro": epsilon_micro, "delta_exp": delta_exp});
    let agreement = agree(network, "quickstart: a noisy count", &noise, 50)?;
    let noisy = ask(network, &agreement)?;
    let again = ask(network, &agreement)?;
    let shown = brand.call("agreement_show", &json!({"agreement": agreement}))?;
    let budgets = shown["budget_left"].as_array().cloned().unwrap_or_default();
    let answers_left = budgets
        .iter()
        .filter_map(|b| b["answers_left_this_epoch"].as_u64())
        .min();
    let signed = |m: &Value| m["stage"] == "done" && m["receipt_record"].is_string();
    let detail = &noisy["noise_detail"];
    Ok(Matching {
        source: files.source,
        computation: COMPUTATION,
        expected,
        found: answer["found"].as_i64(),
        size_a: number(&answer, "people")?,
        size_b: b.people,
        seconds,
        receipts: signed(&answer) && signed(&noisy),
        noisy: Noisy {
            found: noisy["found"].as_i64(),
            bound: detail["bound"]
                .as_i64()
                .context("an answer without its noise")?,
            within_95: detail["within_95"].as_i64().unwrap_or_default(),
            again_is_free: again["match"] == noisy["match"]
                && text(&shown, "matches")? == "1 of 20",
            answers_left,
        },
        imports: vec![a, b],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_answer_is_near_or_it_is_not() {
        let noisy = |found| Noisy {
            found,
            bound: 25,
            within_95: 8,
            again_is_free: true,
            answers_left: None,
        };
        assert!(noisy(Some(150)).is_near(100) && noisy(Some(50)).is_near(100));
        assert!(!noisy(Some(151)).is_near(100) && !noisy(Some(49)).is_near(100));
        assert!(noisy(None).is_near(50) && !noisy(None).is_near(101));
        assert!(noisy(Some(-3)).is_near(0));
    }

    #[test]
    fn a_folder_without_the_files_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = Files::of(dir.path()).err().unwrap().to_string();
        assert!(error.contains("brand_conversions.csv"), "{error}");
    }
}
