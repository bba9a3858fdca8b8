//! Sheets of labels: a symbol for each unit with its code in characters below, in a grid on pages.
//!
//! In scope: reading exported rows, laying pages out, drawing them as PDF, SVG and PNG. All three draw the same shapes, so that a
//! proof on the screen is what the printer makes; the characters are strokes of our own, so that no font must be there or be
//! embedded. Out of scope: which codes there are, claim codes (they are not on the outside of a pack), rolls and printer languages.

mod glyphs;
mod pdf;
mod png;
mod rows;
mod sheet;
mod svg;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use pdf::to_pdf;
pub use png::to_png;
pub use rows::{Label, read_labels};
pub use sheet::{Grid, Options, Page, Shape, Sheet};
pub use svg::to_svg;

/// The most labels of one call: they are laid out in memory.
pub const MAX_LABELS: usize = 20_000;

/// Why there are no labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The rows cannot be read.
    #[error("the codes cannot be read")]
    Read(#[from] std::io::Error),
    /// A row that names no code.
    #[error("line {line} names no code: {reason}")]
    Row {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// No row.
    #[error("no code from number {first} on: the file has {found}")]
    Empty {
        /// The first that was wanted, from 1.
        first: u64,
        /// How many the file has.
        found: u64,
    },
    /// A symbol that cannot be made.
    #[error(transparent)]
    Codes(#[from] tally_codes::Error),
    /// A measure out of its range.
    #[error("{what} is {found}, expected {min} to {max}")]
    Range {
        /// Which.
        what: &'static str,
        /// It.
        found: f64,
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A label is larger than its place.
    #[error(
        "a label of {width:.1} x {height:.1} mm does not fit a place of {place_width:.1} x {place_height:.1} mm; modules of {module:.2} mm would"
    )]
    TooLarge {
        /// What a label needs, millimetres.
        width: f64,
        /// What a label needs, millimetres.
        height: f64,
        /// What the grid leaves, millimetres.
        place_width: f64,
        /// What the grid leaves, millimetres.
        place_height: f64,
        /// The largest module that fits, millimetres.
        module: f64,
    },
    /// A picture cannot be written.
    #[error("the picture cannot be made: {0}")]
    Picture(String),
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// The words for all of them.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{}: expected {}", $what, Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words! {
    /// What stands on a label.
    SymbolKind, "symbol" {
        /// A QR symbol of the link, error correction level M.
        Qr "qr",
        /// A Data Matrix symbol of the link.
        DataMatrix "datamatrix",
        /// A GS1 Data Matrix symbol of GTIN and serial; it is no link.
        Gs1DataMatrix "gs1-datamatrix",
    }
}

words! {
    /// A size of paper.
    Paper, "page" {
        /// 210 x 297 mm.
        A4 "a4",
        /// 8.5 x 11 inches.
        Letter "letter",
    }
}

impl Paper {
    /// Width and height, millimetres.
    #[must_use]
    pub const fn size(self) -> (f64, f64) {
        match self {
            Self::A4 => (210.0, 297.0),
            Self::Letter => (215.9, 279.4),
        }
    }
}
