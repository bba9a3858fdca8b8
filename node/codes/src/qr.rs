//! QR symbols of unit codes: SVG and PNG for print, blocks of text for a terminal. Error correction level M. The symbols themselves need
//! the feature `symbols`; how large one will be does not.

#[cfg(feature = "symbols")]
mod symbol;

#[cfg(feature = "symbols")]
pub use self::symbol::{MAX_TEXT, Symbol};

/// Alphanumeric characters that each version holds at level M (ISO/IEC 18004 table 7).
const CAPACITY_M: [usize; 10] = [20, 38, 61, 90, 122, 154, 178, 221, 262, 311];

/// The version that a text of `chars` alphanumeric characters needs at level M; `None` above version 10. A symbol has
/// `17 + 4 * version` modules a side.
#[must_use]
pub fn version_for(chars: usize) -> Option<u8> {
    let at = CAPACITY_M.iter().position(|c| chars <= *c)?;
    u8::try_from(at + 1).ok()
}
