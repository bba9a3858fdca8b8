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
    /// List the products of all members
    List,
}

/// `codes ...`
#[derive(Debug, Subcommand)]
pub(crate) enum CodesCommand {
    /// Issue a batch of codes and write the printer's files
    Issue(IssueArgs),
    /// Write the printer's files of a batch again
    Export(ExportArgs),
    /// Make sheets of labels from a file of codes; needs no node
    Labels(LabelsArgs),
    /// Release a batch: until then its codes answer `not_released`
    #[command(
        after_help = "Examples:\n  tally codes activate 5d0c...\n  tally codes activate 5d0c... --territory CN-SC,CN-YN"
    )]
    Activate {
        /// The batch ID that `codes issue` printed
        batch: String,
        #[command(flatten)]
        territory: TerritoryArg,
    },
    /// Say where a batch is meant to be sold, in place of what was said before: scans certainly outside speak for a copy
    #[command(after_help = "Examples:\n\
    \x20 tally codes territory 5d0c... CN VN\n\
    \x20 tally codes territory 5d0c... CN-SC geohash:wm6\n\
    \x20 tally codes territory 5d0c... --unset\n\n\
    An area is a country (ISO 3166-1), a subdivision of one (ISO 3166-2; compared where shops tell it as the region \
    of a scan), or a map cell of at most four characters. Every member can read it in the ledger: who does not want \
    that leaves it out.")]
    Territory {
        /// The batch ID
        batch: String,
        /// Areas
        #[arg(required_unless_present = "unset")]
        areas: Vec<String>,
        /// Take back what was said
        #[arg(long, conflicts_with = "areas")]
        unset: bool,
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
    /// Withdraw single codes for ever, waste labels say: from then on they answer `revoked`
    #[command(after_help = "Examples:\n\
    \x20 tally codes void 5d0c... waste.txt\n\
    \x20 zbarimg --raw -q waste/*.jpg | tally codes void 5d0c... -\n\n\
    A line is a link, GTIN/SERIAL, a serial, or a row of an exported file; empty lines and those that begin with # \
    are passed over. If a line names no code of this batch, nothing is withdrawn and the bad lines are named. What \
    the ledger gets shows no serial and nothing of the order of production. A list may be given again: what is \
    withdrawn already is left out.")]
    Void {
        /// The batch ID
        batch: String,
        /// The list; `-` is standard input
        list: PathBuf,
    },
    /// Look at one code without counting it as a scan; exit code 4 unless it is genuine
    Verify(VerifyArgs),
    /// List the batches of all members, and how they stand
    List,
    /// List the key epochs that codes are verified against
    Epochs,
    /// Draw a new permutation key, which later batches take; codes of the others go on verifying. At most four are live
    NewEpoch,
    /// Destroy the permutation key of an epoch, to make room or because it leaked: its codes answer `unknown` for ever
    RetireEpoch {
        /// The epoch's number
        epoch: u32,
        /// Do it although there are codes of it
        #[arg(long)]
        forget_codes: bool,
    },
}

/// Where a batch is meant to be sold.
#[derive(Debug, Args)]
pub(crate) struct TerritoryArg {
    /// Where it is meant to be sold, for every member to read: countries, subdivisions, map cells; see `tally codes territory --help`
    #[arg(long, value_name = "AREA", value_delimiter = ',')]
    pub(crate) territory: Option<Vec<String>>,
}

/// `dealer ...`
#[derive(Debug, Subcommand)]
pub(crate) enum DealerCommand {
    /// Let a dealer or shop say what becomes of units, and write its key
    #[command(after_help = "Example:\n\
    \x20 tally dealer add \"Corner shop\" --key-file corner-shop.key\n\n\
    The key is told once and kept by nobody but the dealer. Gateways that share a scan index share the dealers; to \
    another gateway give the same key with --have-key.")]
    Add {
        /// Its name: events and the detector of copies know it by this, so it must be the same at every gateway
        name: String,
        /// The file that its key is written to, or read from with --have-key
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Take the key that another gateway made
        #[arg(long)]
        have_key: bool,
    },
    /// List the dealers of this node, or of all gateways that share its scan index
    List,
    /// Refuse a dealer's key from now on; what it said stays
    Remove {
        /// Its name
        name: String,
    },
}

/// Arguments of `event`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally event sell --key-file shop.key --url http://id.acme.example 09521234543213/ABC...\n\
    \x20 zbarimg --raw -q carton/*.jpg | tally event receive --key-file shop.key --list -\n\n\
    A code is the link of its QR code, or GTIN/SERIAL. A carton is the list of the codes in it. The same said again \
    counts once, so that it may be sent again after a failure. Exit code 4 if a code is not one of the brand's.")]
pub(crate) struct EventArgs {
    /// What happened: the units came in as stock, or were sold
    #[arg(value_parser = ["receive", "sell"])]
    pub(crate) event: String,
    /// Codes
    #[arg(required_unless_present = "list")]
    pub(crate) codes: Vec<String>,
    /// A file with a code in each line, or a row of an exported file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) list: Option<PathBuf>,
    /// The file with the dealer's key
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Tell the gateway at this http address (host, port and path), instead of the configured node's
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// Where something happened.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Where: two letters of ISO 3166
    #[arg(long)]
    pub(crate) country: Option<String>,
    /// Where: region or town
    #[arg(long, requires = "country")]
    pub(crate) region: Option<String>,
    /// Where: a geohash, of which the node keeps the first few characters
    #[arg(long, value_name = "GEOHASH", requires = "country")]
    pub(crate) cell: Option<String>,
    /// How well the cell is known; up to 1000 it is taken as the device's own position
    #[arg(long, value_name = "METRES", requires = "cell")]
    pub(crate) accuracy_m: Option<u32>,
}

/// How rows are written, and who gets claim codes.
#[derive(Debug, Args)]
pub(crate) struct RowArgs {
    /// How rows are written
    #[arg(long, value_parser = ["csv", "jsonl"], default_value = "csv")]
    pub(crate) format: String,
    /// Write the claim codes too, encrypted to this age recipient (age1...), or to those of a file with one a line; may be repeated
    #[arg(long, value_name = "AGE1|FILE")]
    pub(crate) claims_to: Vec<String>,
    /// Where the encrypted claim codes go [default: like --out, ending in .claims.csv.age]
    #[arg(long, value_name = "FILE", requires = "claims_to")]
    pub(crate) claims_out: Option<PathBuf>,
}

/// Arguments of `codes issue`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally codes issue --gtin 09521234543213 --lot L7 --count 10000 --out codes.csv\n\
    \x20 tally codes issue --gtin 09521234543213 --lot L7 --count 10000 --out codes.csv --expires 2027-06-30\n\
    \x20 tally codes issue --gtin 09521234543213 --lot L7 --count 10000 --out codes.csv --claims-to age1qz...\n\n\
    The file has the outer code of every unit: it goes to the printer and to nobody else. Claim codes, under a \
    scratch layer or in the cap, are written only encrypted, to the printer's age key; `age --decrypt` reads them. \
    The ledger holds only the batch's roots. Codes are not released yet: activate the batch when the goods leave. \
    Interrupted, the same command goes on.\n\n\
    An expiry date stands in the ledger for ever, with the batch; it cannot be changed. It is in the links too \
    (?17=YYMMDD) where a QR symbol of version 4-M has room for it: the address has at most 26 characters after \
    https://. The last day is over when it is over everywhere on Earth: at noon UTC on the day after.")]
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
    /// The file of outer codes to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    #[command(flatten)]
    pub(crate) territory: TerritoryArg,
    /// The last day on which the units are good, or the month at whose end they are not any more: then their codes answer `expired`
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) expires: Option<String>,
    /// Leave the expiry date out of the links: their QR symbols may be smaller
    #[arg(long, requires = "expires")]
    pub(crate) plain_links: bool,
    /// Issue although this node has no keys of earlier batches of its member, because they are lost for good
    #[arg(long)]
    pub(crate) keys_lost: bool,
}

/// Arguments of `codes export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tally codes export 5d0c... --out codes.jsonl --format jsonl\n  \
    tally codes export 5d0c... --claims-to printer.txt --claims-out claims.csv.age"
)]
pub(crate) struct ExportArgs {
    /// The batch ID
    pub(crate) batch: String,
    /// The file of outer codes to write
    #[arg(long, value_name = "FILE", required_unless_present = "claims_out")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

/// Arguments of `codes labels`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally codes labels codes.csv --out labels.pdf\n\
    \x20 tally codes labels codes.csv --out labels.png --format png --symbol datamatrix --page letter --columns 4 \
    --rows 6\n\n\
    Under each symbol stand the GTIN and the serial with its check character, as a person types them. Files of \
    several pages are one PDF, or several pictures with the page's number in their names. At most 20,000 labels at a \
    time: go on with --first.")]
pub(crate) struct LabelsArgs {
    /// The file of outer codes, CSV or JSON lines
    pub(crate) codes: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// What to write
    #[arg(long, value_parser = ["pdf", "svg", "png"], default_value = "pdf")]
    pub(crate) format: String,
    /// What is on a label; gs1-datamatrix holds GTIN and serial and is no link
    #[arg(long, value_parser = ["qr", "datamatrix", "gs1-datamatrix"], default_value = "qr")]
    pub(crate) symbol: String,
    /// The paper
    #[arg(long, value_parser = ["a4", "letter"], default_value = "a4")]
    pub(crate) page: String,
    /// Labels beside each other [default: as many as fit]
    #[arg(long, requires = "rows")]
    pub(crate) columns: Option<usize>,
    /// Labels below each other [default: as many as fit]
    #[arg(long, requires = "columns")]
    pub(crate) rows: Option<usize>,
    /// Side of a module in millimetres
    #[arg(long, value_name = "MM", default_value_t = 0.5)]
    pub(crate) module: f64,
    /// Free edge of a page in millimetres
    #[arg(long, value_name = "MM", default_value_t = 8.0)]
    pub(crate) margin: f64,
    /// Dots an inch of a PNG
    #[arg(long, default_value_t = 300)]
    pub(crate) dpi: u32,
    /// The first code, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) first: u64,
    /// How many labels [default: all, at most 20,000]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
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
#[command(after_help = "Examples:\n\
    \x20 tally scan http://127.0.0.1:26680/01/09521234543213/21/ABC...\n\
    \x20 tally scan 09521234543213/ABC... --country CN --region Sichuan --receipt scan.receipt\n\n\
    Verdicts: genuine_first, genuine_repeat, not_released, recalled, revoked, expired, suspect, unknown, \
    cannot_verify_now. A verdict is an answer, so the exit code is 0 for each of them.")]
pub(crate) struct ScanArgs {
    /// The code: the link of its QR code, or GTIN/SERIAL
    pub(crate) code: String,
    /// The claim code under the scratch layer
    #[arg(long)]
    pub(crate) claim: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
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

/// `scans ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ScansCommand {
    /// Count this node's scans by verdict, day, batch and place, and say which batches and places stand out
    Stats(StatsArgs),
}

/// Arguments of `scans stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n\
    \x20 tally scans stats\n\
    \x20 tally scans stats --days 30 --cell 3 --svg scans.svg\n\n\
    A batch or place stands out if more of its units were scanned again on another occasion than honest units are, \
    by an exact binomial test; of all that stand out at most 1 in 100 is expected to be honest. Places with few \
    scans are put together, so that no line is about one person. The whole log is read: about a second for half a \
    million scans.")]
pub(crate) struct StatsArgs {
    /// Only scans of the last so many days [default: all]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) days: Option<u64>,
    /// Count places by map cells (geohash) of so many characters, 1 to 4, instead of by region
    #[arg(long, value_name = "CHARACTERS", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) cell: Option<u8>,
    /// Put places with fewer scans together
    #[arg(long, value_name = "SCANS", default_value_t = 5)]
    pub(crate) least: u64,
    /// Share of your honest scanned units with a second visit [default: 0.027, that of the simulation]
    #[arg(long, value_name = "SHARE")]
    pub(crate) honest_rate: Option<f64>,
    /// Draw days and places here too
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}
