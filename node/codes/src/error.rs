//! What can go wrong.

/// Why a code, key, link or opening is refused. No message holds a code or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text of another length.
    #[error("{what}: expected {expected} characters, found {found}")]
    Length {
        /// What was read.
        what: &'static str,
        /// Its length.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A character that may not stand there.
    #[error("{what}: character {position} is not one of {allowed}")]
    Character {
        /// What was read.
        what: &'static str,
        /// Its place, from 1.
        position: usize,
        /// The set.
        allowed: &'static str,
    },
    /// A check digit or character that does not fit the rest: a typing or reading error.
    #[error("{what}: check character is {found:?}, expected {expected:?}")]
    CheckDigit {
        /// What was read.
        what: &'static str,
        /// What the rest asks for.
        expected: char,
        /// What came.
        found: char,
    },
    /// The check character of a secret code does not fit the rest; neither is named.
    #[error("{what}: wrong check character, a typing error")]
    Mistyped {
        /// What was read.
        what: &'static str,
    },
    /// A number out of its range.
    #[error("{what} is {found}, expected {min} to {max}")]
    Range {
        /// The number's name.
        what: &'static str,
        /// It.
        found: u64,
        /// The least allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// Not a GS1 Digital Link URI.
    #[error("digital link: {what}")]
    Link {
        /// What is wrong.
        what: &'static str,
    },
    /// A GS1 element that may not be so.
    #[error("digital link: application identifier ({ai}): {what}")]
    Element {
        /// The application identifier, at most 32 characters of what was found.
        ai: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Not a format of rows.
    #[error("format of rows: expected csv or jsonl")]
    RowFormat,
    /// The address that printed codes begin with is of no use.
    #[error("code address: {what}")]
    UrlBase {
        /// What is wrong.
        what: &'static str,
    },
    /// No permutation key of this epoch is live.
    #[error("no live permutation key of epoch {epoch}")]
    UnknownEpoch {
        /// The epoch.
        epoch: u32,
    },
    /// One more permutation key than may live at a time.
    #[error("{max} permutation keys are live already, retire one first")]
    TooManyEpochs {
        /// How many may be.
        max: usize,
    },
    /// Stored keys, trees or openings that are not of their form.
    #[error("{what}: malformed at byte {offset}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// Where.
        offset: usize,
    },
    /// An opening does not lead to the root.
    #[error("{what}: does not lead to the anchored root")]
    Root {
        /// What was opened.
        what: &'static str,
    },
    /// A symbol that cannot be drawn.
    #[error("QR symbol: {what}")]
    Qr {
        /// Why not.
        what: String,
    },
    /// A Data Matrix symbol that cannot be made.
    #[error("Data Matrix symbol: {what}")]
    DataMatrix {
        /// Why not.
        what: String,
    },
    /// Called out of order; a bug of the caller.
    #[error("internal error: {what}")]
    Internal {
        /// What.
        what: &'static str,
    },
}
