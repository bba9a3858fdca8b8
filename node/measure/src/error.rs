//! What makes an import fail as a whole; a bad row never does.

/// Why an import or a set is refused. No message ever holds what stood in a file: a file without a header row has a person's
/// ID where names are expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source cannot be read.
    #[error("cannot read the input")]
    Read(#[from] std::io::Error),
    /// The input has no rows at all, not even a header.
    #[error("the input is empty; expected a header row with a column named {expected}")]
    Empty {
        /// The column that was asked for.
        expected: String,
    },
    /// The header row is not a CSV row.
    #[error("the header row is not readable as CSV ({why})")]
    Header {
        /// What is wrong with it.
        why: &'static str,
    },
    /// No column has the name.
    #[error("none of the {columns} columns is named {expected}; is the first row a header?")]
    NoColumn {
        /// The column that was asked for.
        expected: String,
        /// How many columns the header row has.
        columns: usize,
    },
    /// Several columns have the name.
    #[error("{found} columns are named {expected}")]
    AmbiguousColumn {
        /// The column that was asked for.
        expected: String,
        /// How many columns have that name.
        found: usize,
    },
    /// Text that names no region.
    #[error("expected a region as two letters, such as CN or US")]
    Region,
    /// A value that cannot be an identifier.
    #[error("expected an identifier of 1 to {max} bytes, found {found}")]
    IdentifierLength {
        /// Its length in bytes.
        found: usize,
        /// The largest length.
        max: usize,
    },
    /// More people than a set may hold.
    #[error("set of {found} is over the limit of {max}")]
    SetSize {
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Stored touches or conversions that are not what was written.
    #[error("stored rows are damaged: expected {expected}")]
    Frozen {
        /// What should stand there.
        expected: &'static str,
    },
    /// A stored set that is not in the order, or has not the root, that it was committed with.
    #[error("the set's content does not give the root that it was committed under")]
    SetRoot,
    /// Bytes of another length than an opening's.
    #[error("expected an opening of {expected} bytes, found {found}")]
    Opening {
        /// The length of an opening.
        expected: usize,
        /// How many bytes came.
        found: usize,
    },
    /// A window of attribution that is none.
    #[error("window of {found} seconds, expected 1 to {max}")]
    Window {
        /// What was asked for.
        found: u32,
        /// The longest.
        max: u32,
    },
    /// A linear model over a number of touches that it cannot share a conversion among.
    #[error("a linear model over {touches} touches, expected 1 to 22")]
    Model {
        /// How many.
        touches: u8,
    },
    /// Labels that are too many, repeat a name, or have a bad one.
    #[error("{found} labels, expected at most {max} with names of 1 to 64 bytes, each once")]
    Labels {
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// A touch of a label that is none.
    #[error("label {found}, expected less than {labels}")]
    Label {
        /// The label.
        found: u16,
        /// How many there are.
        labels: usize,
    },
    /// Times out of order or past 2^40 seconds.
    #[error("expected times in order and below 2^40 seconds")]
    Time,
    /// More touches of one person than are taken.
    #[error("{found} touches of one person are over the limit of {max}")]
    Touches {
        /// How many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// A sum of money that does not fit 64 bits.
    #[error("a total is over 2^64 - 1")]
    Overflow,
    /// A bug in this crate.
    #[error("internal error: {what}")]
    Internal {
        /// Which invariant broke.
        what: &'static str,
    },
}
