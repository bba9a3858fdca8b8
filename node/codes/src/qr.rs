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

/// Data bits that each version holds at level M (ISO/IEC 18004 table 7).
const DATA_BITS_M: [usize; 10] = [128, 224, 352, 512, 688, 864, 992, 1232, 1456, 1728];

/// The version that a text needs at level M of which the first `chars` characters are alphanumeric, the next `bytes` are not, and the
/// last `digits` are digits, in a segment each; `None` above version 10.
#[must_use]
pub(crate) fn version_for_segments(chars: usize, bytes: usize, digits: usize) -> Option<u8> {
    let fits = |(at, room): (usize, &usize)| {
        // The lengths of the counts change at version 10.
        let counts = if at + 1 < 10 {
            9 + 8 + 10
        } else {
            11 + 16 + 12
        };
        let modes = 3 * 4;
        let data = (11 * chars).div_ceil(2) + 8 * bytes + (10 * digits).div_ceil(3);
        counts + modes + data <= *room
    };
    let at = DATA_BITS_M.iter().enumerate().position(fits)?;
    u8::try_from(at + 1).ok()
}
