//! Arguments around audiences, agreements and matches.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `audience ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AudienceCommand {
    /// Read a CSV file of people; every row that is not used is reported with its line and reason
    Import(ImportArgs),
    /// List the audiences of this node
    List,
}

/// Arguments of `audience import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally audience import customers.csv --label spring\n\
    \x20 tally audience import users.csv --id-type email --profile uid2 --label newsletter\n\
    \x20 tally audience import touches.csv --holds touches --label ads\n\n\
    The file has a header line; the column named like the ID type is read, or the one named by --column. IDs stay on \
    this node, encrypted: the ledger and the other members see a salted commitment.\n\n\
    Profiles: phone e164, digits, cn11; email uid2, google, plain; prehashed:sha256:PROFILE for IDs that come hashed.")]
pub(crate) struct ImportArgs {
    /// The CSV file
    pub(crate) file: PathBuf,
    /// The kind of ID, which is the column that is read: phone or email
    #[arg(long, default_value = "phone")]
    pub(crate) id_type: String,
    /// How IDs are normalised; both sides of a match need the same
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// The name of the audience on this node
    #[arg(long)]
    pub(crate) label: String,
    /// The column that is read, by its name in the first line; left out, the one named like the ID type
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// Country of phone numbers without one: two letters of ISO 3166
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// What the rows are: people; touches, with columns touched_at, channel, kind; conversions, with converted_at, value_cents,
    /// order_id
    #[arg(long, default_value = "people", value_parser = ["people", "touches", "conversions"])]
    pub(crate) holds: String,
}

/// The profile that is meant if none is named.
pub(crate) fn default_profile(id_type: &str) -> &'static str {
    match id_type {
        "email" => "uid2",
        "idfa" => "idfa",
        "gaid" => "gaid",
        "oaid" => "oaid",
        "open_id" => "open_id",
        _ => "e164",
    }
}

/// `agreement ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AgreementCommand {
    /// Propose an agreement; it counts once every party has accepted it
    Propose(Box<ProposeArgs>),
    /// Accept an agreement that another member proposed
    #[command(
        after_help = "Example:\n  tally agreement show 9a41...   read it first\n  tally agreement accept 9a41..."
    )]
    Accept {
        /// The agreement ID
        agreement: String,
    },
    /// End an agreement at once; no party can ask under it any more
    Revoke {
        /// The agreement ID
        agreement: String,
    },
    /// List the agreements of this member
    List,
    /// Show what an agreement allows and how much of its budget is left
    Show {
        /// The agreement ID
        agreement: String,
    },
}

/// The noise of an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// None: in a test network only.
    None,
    /// Two draws on each counted answer.
    Laplace {
        /// Millionths.
        epsilon_micro: u64,
        /// delta = 2^-this.
        delta_exp: u32,
    },
}

impl Noise {
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::None => json!("none"),
            Self::Laplace {
                epsilon_micro,
                delta_exp,
            } => json!({"epsilon_micro": epsilon_micro, "delta_exp": delta_exp}),
        }
    }
}

impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let expected = || format!("{text:?}, expected none, or EPSILON,2^-N such as 1.0,2^-30");
        let (epsilon, delta) = text.split_once(',').ok_or_else(expected)?;
        let epsilon_micro = micro(epsilon.trim())
            .filter(|e| *e > 0)
            .ok_or_else(expected)?;
        let delta_exp = delta
            .trim()
            .strip_prefix("2^-")
            .and_then(|n| n.parse().ok())
            .ok_or_else(expected)?;
        if !(1..=60).contains(&delta_exp) {
            return Err(format!("delta 2^-{delta_exp}, expected 2^-1 to 2^-60"));
        }
        Ok(Self::Laplace {
            epsilon_micro,
            delta_exp,
        })
    }
}

/// A decimal number with at most six places, in millionths.
fn micro(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > 6 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(part)
}

/// Arguments of `agreement propose`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally agreement propose --with media --purpose \"reach of the spring campaign\" --noise 0.5,2^-20\n\
    \x20 tally agreement propose --with media --purpose trial --computation list --computation cardinality --noise none\n\
    \x20 tally agreement propose --with media --purpose attribution --computation join_sum --noise 0.5,2^-20 \\\n\
    \x20   --sum-label search --sum-label video --model last_touch --value-cap 200000\n\
    \x20 tally agreement propose --with media --with shop --helper auditor --purpose reach --computation overlap_n \
    --noise 0.5,2^-20\n\n\
    cardinality tells how many people are in both audiences, with noise, charged to the budget. list tells who, to \
    the side that asks: no noise protects those people. join_sum tells for each label what the conversions are worth \
    that it is credited for, with noise; the side with the touches asks. overlap_n tells how many people are in the \
    audiences of all parties, three to eight; a helper that is no party counts pseudonyms for them, and accepts the \
    agreement too. `--noise none` is refused in a live network, unless only lists are agreed.")]
pub(crate) struct ProposeArgs {
    /// Name of another party; may be given more than once
    #[arg(long, value_name = "MEMBER", required = true)]
    pub(crate) with: Vec<String>,
    /// What the answers are for; every member may read it
    #[arg(long)]
    pub(crate) purpose: String,
    /// What may be computed: cardinality, list, join_sum or overlap_n; may be given more than once
    #[arg(
        long = "computation",
        value_name = "COMPUTATION",
        default_value = "cardinality"
    )]
    pub(crate) computations: Vec<String>,
    /// The protocol: dh-ristretto-v1, or where list alone is agreed vole-rr22-v1, which is faster for large audiences, or
    /// vole-rr22-malicious-v1, which is nearly as fast and checks that the other side follows it; for overlap_n helper-prf-v1. Left out,
    /// helper-prf-v1 for overlap_n and dh-ristretto-v1 for all else
    #[arg(long)]
    pub(crate) suite: Option<String>,
    /// The kind of ID that is matched
    #[arg(long, default_value = "phone")]
    pub(crate) id_type: String,
    /// How both sides normalise it
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Noise that each side adds to a counted answer: EPSILON,2^-N (delta is 2^-N), or none
    #[arg(long, value_name = "NOISE")]
    pub(crate) noise: Noise,
    /// Counted answers that an owner's budget pays for in an epoch, over all analysts
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) epoch_answers: u64,
    /// Counted answers that an owner's budget pays for in all, for one analyst
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) lifetime_answers: u64,
    /// Smallest audience that may be brought
    #[arg(long, value_name = "PEOPLE", default_value_t = 1_000)]
    pub(crate) min_set: u64,
    /// Largest audience that may be brought
    #[arg(long, value_name = "PEOPLE", default_value_t = 10_000_000)]
    pub(crate) max_set: u64,
    /// Smaller results are withheld
    #[arg(long, value_name = "PEOPLE", default_value_t = 50)]
    pub(crate) min_result: u64,
    /// Different audiences of one owner that may be used in an epoch
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) max_audiences: u32,
    /// How many matches may be run
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) max_matches: u32,
    /// How long it is good for
    #[arg(long, default_value_t = 90)]
    pub(crate) days: u64,
    #[command(flatten)]
    pub(crate) sums: SumArgs,
    #[command(flatten)]
    pub(crate) overlap: OverlapArgs,
}

/// Who counts for `overlap_n`.
#[derive(Debug, Args)]
#[command(next_help_heading = "For overlap_n")]
pub(crate) struct OverlapArgs {
    /// The member whose node counts, none of the parties: it sees pseudonyms, sizes and noisy numbers, and must take no party's side
    #[arg(long, value_name = "MEMBER")]
    pub(crate) helper: Option<String>,
    /// Noise against the helper, as in --noise; left out, that of the counts
    #[arg(long, value_name = "NOISE")]
    pub(crate) helper_noise: Option<Noise>,
}

/// What `join_sum` sums up.
#[derive(Debug, Args)]
#[command(next_help_heading = "For join_sum")]
pub(crate) struct SumArgs {
    /// The party that has the touches, and asks; left out, this member
    #[arg(long, value_name = "MEMBER")]
    pub(crate) label_side: Option<String>,
    /// A channel or campaign that gets a sum of its own; may be given more than once. Everything else goes to `other`
    #[arg(long = "sum-label", value_name = "NAME")]
    pub(crate) labels: Vec<String>,
    /// A label that fewer people met goes to `other`
    #[arg(long, value_name = "PEOPLE", default_value_t = 50)]
    pub(crate) label_min: u32,
    /// Who is credited: first, last_touch, or linear:N (the latest N touches alike, N up to 7)
    #[arg(long, default_value = "last_touch")]
    pub(crate) model: String,
    /// A larger value of a conversion counts as this, in minor units of the currency; it scales the noise
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) value_cap: Option<u64>,
    /// Conversions of one person that count, the first ones; it scales the noise
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) conversions_per_person: u32,
    /// How long after a click a conversion may come
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) click_days: u32,
    /// How long after a view a conversion may come
    #[arg(long, value_name = "DAYS", default_value_t = 1)]
    pub(crate) view_days: u32,
    /// Most conversions that may be brought
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub(crate) max_conversions: u64,
    /// Most keys of the touches that may be brought: about 8 for a touch under last_touch, 40 under linear:7
    #[arg(long, value_name = "N", default_value_t = 1 << 22)]
    pub(crate) max_keys: u64,
}

/// `match ...`
#[derive(Debug, Subcommand)]
pub(crate) enum MatchCommand {
    /// Ask for a match and wait for its answer
    Request(RequestArgs),
    /// List matches, newest first
    List,
    /// Show one match: stage, answer, noise, records
    #[command(after_help = "Examples:\n  tally match show 3f9c20...\n  \
        tally match show 3f9c20 --out people.csv    the people of a list that this node asked for")]
    Show {
        /// The match ID that `match request` printed, or its first characters
        #[arg(value_name = "MATCH")]
        id: String,
        /// New file for the people of a list; mode 0600, nobody else can read it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Cancel a match that has not ended
    Cancel {
        /// The match ID, or its first characters
        #[arg(value_name = "MATCH")]
        id: String,
    },
}

/// Arguments of `match request`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally match request --agreement 9a41... --audience spring\n\
    \x20 tally match request --agreement 9a41... --audience spring --computation list --out people.csv\n\
    \x20 tally match request --agreement 7c02... --audience spring --computation overlap_n\n\n\
    The other side must answer: match.auto_accept in its configuration says so. The same question over the same sets \
    gets the stored answer and costs nothing. People of a list are written to --out alone, never printed. Both sign \
    a receipt that is anchored in the ledger, with sizes, budget spent and a digest of the result, and no ID of \
    anybody.")]
pub(crate) struct RequestArgs {
    /// The agreement ID
    #[arg(long)]
    pub(crate) agreement: String,
    /// The own audience, by its label
    #[arg(long)]
    pub(crate) audience: String,
    /// What to compute; the agreement must allow it
    #[arg(long, default_value = "cardinality")]
    pub(crate) computation: String,
    /// Which party, if the agreement has more than one other
    #[arg(long, value_name = "MEMBER")]
    pub(crate) peer: Option<String>,
    /// Which audience of the other side, by the label in the ledger; left out, the only one that fits the agreement
    #[arg(long, value_name = "LABEL")]
    pub(crate) peer_audience: Option<String>,
    /// For overlap_n: which audience another party is to bring, as MEMBER=LABEL; may be given more than once
    #[arg(long = "party-audience", value_name = "MEMBER=LABEL")]
    pub(crate) party_audiences: Vec<String>,
    /// New file for the people of a list; mode 0600, nobody else can read it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_read_exactly() {
        let budget = |epsilon_micro, delta_exp| {
            Ok(Noise::Laplace {
                epsilon_micro,
                delta_exp,
            })
        };
        assert_eq!("none".parse(), Ok(Noise::None));
        assert_eq!("1.0,2^-30".parse(), budget(1_000_000, 30));
        assert_eq!("0.000001, 2^-60".parse(), budget(1, 60));
        assert_eq!("12,2^-1".parse(), budget(12_000_000, 1));
    }

    #[test]
    fn other_noise_is_refused() {
        for text in [
            "",
            "None",
            "1.0",
            "0,2^-30",
            "-1,2^-30",
            "1,1e-9",
            "1,2^-0",
            "1,2^-61",
            "0.0000001,2^-30",
            ".5,2^-3",
            "1e3,2^-3",
        ] {
            assert!(text.parse::<Noise>().is_err(), "{text}");
        }
        assert!(format!("{},2^-30", u64::MAX).parse::<Noise>().is_err());
    }
}
