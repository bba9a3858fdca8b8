//! What can be wrong with what this crate is handed.

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A position is not on the globe.
    #[error(
        "position: expected a latitude of -90 to 90 and a longitude of -180 to 180, found {lat} and {lon}"
    )]
    Position {
        /// Degrees north.
        lat: f64,
        /// Degrees east.
        lon: f64,
    },
    /// A cell has too few or too many characters.
    #[error("cell: expected 1 to {max} characters, found {found}")]
    CellLength {
        /// The most.
        max: usize,
        /// What came.
        found: usize,
    },
    /// A character is not of a geohash.
    #[error("cell: expected characters of a geohash, found {found:?}")]
    CellCharacter {
        /// What came.
        found: char,
    },
    /// Stored bytes do not read.
    #[error("stored {what}: expected {expected}, found {found}")]
    Stored {
        /// Which part.
        what: &'static str,
        /// The form.
        expected: &'static str,
        /// What came.
        found: u64,
    },
    /// A statistic was asked for with impossible counts or chances.
    #[error("statistics: {what}: expected {expected}")]
    Statistic {
        /// Which value.
        what: &'static str,
        /// The form.
        expected: &'static str,
    },
}
