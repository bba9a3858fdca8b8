//! Arguments around products, codes and scans.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `product ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// Register a product: afterwards this member alone issues codes for its GTIN
    #[command(
        after_help = "Example:\n  tally product add --gtin 09521234543213 --description \"Green tea, 100 g\" --brand Acme"
    )]
    Add {
        /// GTIN with its check digit; 8, 12 and 13 digits are filled up with zeros to 14
        #[arg(long)]
        gtin: String,
        /// What it is, for people
        #[arg(long)]
        description: String,
        /// The brand's name, for people
        #[arg(long, default_value = "")]
        brand: String,
    },
}

/// `codes ...`
#[derive(Debug, Subcommand)]
pub(crate) enum CodesCommand {
    /// Issue a batch of codes and write them to a CSV file for the printer
    Issue(IssueArgs),
    /// Release a batch: until then its codes answer `not_released`
    #[command(after_help = "Example:\n  tally codes activate 5d0c...")]
    Activate {
        /// The batch ID that `codes issue` printed
        batch: String,
    },
    /// Recall a batch: from then on its codes answer `recalled`
    #[command(after_help = "Example:\n  tally codes recall 5d0c... --reason \"glass in lot L7\"")]
    Recall {
        /// The batch ID
        batch: String,
        /// Why; every member and every consumer may read it
        #[arg(long)]
        reason: String,
    },
    /// Look at one code without counting it as a scan; exit code 4 unless it is genuine
    Verify(VerifyArgs),
    /// List this member's batches
    List,
}

/// Arguments of `codes issue`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tally codes issue --gtin 09521234543213 --lot L7 --count 10000 --out codes.csv\n\n\
    The CSV holds the secret codes of every unit: it goes to the printer and to nobody else. The ledger holds only the batch's\n\
    roots. Codes are not released yet: activate the batch when the goods leave."
)]
pub(crate) struct IssueArgs {
    /// GTIN of a product of this member
    #[arg(long)]
    pub(crate) gtin: String,
    /// Lot, as it is printed on the goods
    #[arg(long)]
    pub(crate) lot: String,
    /// How many codes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// The CSV file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Arguments of `codes verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tally codes verify http://127.0.0.1:26680/01/09521234543213/21/ABC..."
)]
pub(crate) struct VerifyArgs {
    /// The code: the link of its QR code, or GTIN/SERIAL
    pub(crate) code: String,
    /// The claim code under the scratch layer
    #[arg(long)]
    pub(crate) claim: Option<String>,
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally scan http://127.0.0.1:26680/01/09521234543213/21/ABC...\n  \
    tally scan 09521234543213/ABC... --country CN --region Sichuan --receipt scan.receipt\n\n\
    Verdicts: genuine_first, genuine_repeat, not_released, recalled, suspect, unknown, cannot_verify_now. A verdict is an answer, so the\n\
    exit code is 0 for each of them."
)]
pub(crate) struct ScanArgs {
    /// The code: the link of its QR code, or GTIN/SERIAL
    pub(crate) code: String,
    /// The claim code under the scratch layer
    #[arg(long)]
    pub(crate) claim: Option<String>,
    /// Where: two letters of ISO 3166
    #[arg(long)]
    pub(crate) country: Option<String>,
    /// Where: region or town
    #[arg(long, requires = "country")]
    pub(crate) region: Option<String>,
    /// Makes a repeated request count once
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Ask the gateway at this http address (host, port and path), instead of the configured node's
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Write the signed receipt here
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}
