//! Tiles and entry bundles (C2SP tlog-tiles): paths, widths, bytes, and the tree read back from tiles.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::Error;
use crate::hash::{Hash, parents};
use crate::tree::NodeSource;
use crate::vkey::parse_decimal;

/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// The largest entry: a bundle gives its length in 16 bits.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// The highest tile level that a tree of 64-bit size can have.
const MAX_TREE_LEVEL: u8 = 7;
/// The highest level that a path may name (the format's bound).
const MAX_PATH_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of this level: leaf hashes at 0, roots of full tiles of the level below above that.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// The address of a tile or bundle; its text is `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// A tile's address. `width` is 1 to 256; 256 is a full tile.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, Error> {
        if width == 0 || width > TILE_WIDTH {
            return Err(Error::OutOfRange {
                what: "tile width",
                found: width.into(),
                size: TILE_WIDTH.into(),
            });
        }
        if let TileKind::Hashes(level) = kind
            && level > MAX_PATH_LEVEL
        {
            return Err(Error::OutOfRange {
                what: "tile level",
                found: level.into(),
                size: MAX_PATH_LEVEL.into(),
            });
        }
        Ok(Self { kind, index, width })
    }

    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its index in its level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has all 256, and so will never change.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Whether a tree of `size` entries has all that this tile holds.
    #[must_use]
    pub fn is_within(&self, size: u64) -> bool {
        width_at(self.kind, self.index, size) >= self.width
    }

    /// Every tile and bundle of a tree of `size` entries: bundles first, then the levels upwards, each by index; the last of a
    /// level may be partial.
    pub fn of_tree(size: u64) -> impl Iterator<Item = Self> {
        Self::added(0, size)
    }

    /// The tiles and bundles of a tree of `new` entries that are not full in one of `old` entries.
    pub fn added(old: u64, new: u64) -> impl Iterator<Item = Self> {
        std::iter::once(TileKind::Entries)
            .chain((0..=MAX_TREE_LEVEL).map(TileKind::Hashes))
            .flat_map(move |kind| {
                let count = nodes_at(kind, new);
                let first = nodes_at(kind, old) / u64::from(TILE_WIDTH);
                let same = nodes_at(kind, old) == count;
                (first..count.div_ceil(u64::from(TILE_WIDTH)))
                    .filter(move |_| !same)
                    .map(move |index| Self {
                        kind,
                        index,
                        width: width_at(kind, index, new),
                    })
            })
    }
}

/// How many hashes (or entries) a tree of `size` has at a tile level.
fn nodes_at(kind: TileKind, size: u64) -> u64 {
    match kind {
        TileKind::Entries => size,
        TileKind::Hashes(level) => size
            .checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))
            .unwrap_or(0),
    }
}

/// The width of a tile in a tree of `size` entries: 0 (no such tile) to 256 (full).
#[must_use]
pub fn width_at(kind: TileKind, index: u64, size: u64) -> u16 {
    let start = index.saturating_mul(u64::from(TILE_WIDTH));
    let left = nodes_at(kind, size).saturating_sub(start);
    u16::try_from(left).map_or(TILE_WIDTH, |w| w.min(TILE_WIDTH))
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (left, group) in groups.iter().enumerate().rev() {
            if left > 0 {
                write!(f, "x{group:03}/")?;
            } else {
                write!(f, "{group:03}")?;
            }
        }
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = Error;

    /// Reads a path without leading slash, in the one form that [`fmt::Display`] gives.
    fn from_str(path: &str) -> Result<Self, Error> {
        let bad = || {
            Error::malformed(
                "tile path",
                path,
                "tile/<level or entries>/<index>[.p/<width>]",
            )
        };
        // 7 groups hold any 64-bit index.
        if path.len() > 64 {
            return Err(bad());
        }
        let (kind, rest) = path
            .strip_prefix("tile/")
            .and_then(|p| p.split_once('/'))
            .ok_or_else(bad)?;
        let kind = if kind == "entries" {
            TileKind::Entries
        } else {
            TileKind::Hashes(
                u8::try_from(parse_decimal("tile level", kind)?)
                    .ok()
                    .filter(|l| *l <= MAX_PATH_LEVEL)
                    .ok_or_else(bad)?,
            )
        };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((index, width)) => (
                index,
                u16::try_from(parse_decimal("tile width", width)?)
                    .ok()
                    .filter(|w| (1..TILE_WIDTH).contains(w))
                    .ok_or_else(bad)?,
            ),
        };
        let mut number = 0u64;
        for group in index.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            number = digits
                .parse::<u64>()
                .ok()
                .and_then(|d| number.checked_mul(1000)?.checked_add(d))
                .ok_or_else(bad)?;
        }
        let tile = Self::new(kind, number, width)?;
        // Redundant groups and misplaced `x` are what is left to refuse.
        if tile.to_string() != path {
            return Err(bad());
        }
        Ok(tile)
    }
}

/// The bytes of a hash tile: its hashes, one after the other.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|h| h.0).collect()
}

/// Reads a hash tile of `width` hashes.
///
/// # Errors
/// [`Error::Malformed`] if the length is not 32 times the width.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Hash>, Error> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != usize::from(width) {
        return Err(Error::malformed(
            "tile",
            format!("{} bytes", bytes.len()),
            "32 bytes for each hash of its width",
        ));
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// The bytes of an entry bundle: for each entry its length as u16, then its bytes.
///
/// # Errors
/// [`Error::TooLarge`] for an entry over 65,535 bytes.
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(entries.iter().map(|e| e.as_ref().len() + 2).sum());
    for entry in entries {
        let entry = entry.as_ref();
        let len = u16::try_from(entry.len()).map_err(|_| Error::TooLarge {
            what: "entry",
            found: entry.len(),
            max: MAX_ENTRY_BYTES,
        })?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}

/// Reads an entry bundle of `width` entries.
///
/// # Errors
/// [`Error::Malformed`] if the bytes are not exactly that many entries.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, Error> {
    let bad = |found: &str| Error::malformed("entry bundle", found, "as many entries as its width");
    let mut entries = Vec::with_capacity(usize::from(width.min(TILE_WIDTH)));
    let mut rest = bytes;
    while entries.len() < usize::from(width) {
        let (len, tail) = rest
            .split_first_chunk::<2>()
            .ok_or_else(|| bad("too few bytes"))?;
        let (entry, tail) = tail
            .split_at_checked(u16::from_be_bytes(*len).into())
            .ok_or_else(|| bad("too few bytes"))?;
        entries.push(entry);
        rest = tail;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(bad("too many bytes"))
    }
}

/// A store of hash tiles.
pub trait TileReader {
    /// What reading can fail with.
    type Error: From<Error>;

    /// The hashes of tile `index` of `level`: all that the tree has, or at least those asked for so far.
    ///
    /// # Errors
    /// Whatever the store gives.
    fn tile(&self, level: u8, index: u64) -> Result<Arc<[Hash]>, Self::Error>;
}

/// The tree behind a store of tiles.
#[derive(Debug, Clone)]
pub struct TileTree<R>(pub R);

impl<R: TileReader> NodeSource for TileTree<R> {
    type Error = R::Error;

    fn node(&self, level: u8, index: u64) -> Result<Hash, R::Error> {
        let out_of_range = || Error::OutOfRange {
            what: "subtree index",
            found: index,
            size: 0,
        };
        // A subtree of height 8 L + r is 2^r neighbouring hashes of a tile of level L.
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index.checked_mul(1 << height).ok_or_else(out_of_range)?;
        let tile = self.0.tile(tile_level, first / u64::from(TILE_WIDTH))?;
        let start = usize::try_from(first % u64::from(TILE_WIDTH)).map_err(|_| out_of_range())?;
        let mut hashes = tile
            .get(start..start + (1 << height))
            .ok_or_else(out_of_range)?
            .to_vec();
        while hashes.len() > 1 {
            let (pairs, _) = hashes.as_chunks::<2>();
            hashes = parents(pairs.as_flattened());
        }
        Ok(hashes.first().copied().ok_or_else(out_of_range)?)
    }
}
