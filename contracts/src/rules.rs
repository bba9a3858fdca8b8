//! What a network is for, and the rules that it starts with.

use crate::block::{MAX_BLOCK_BYTES, MAX_BLOCK_RECORDS};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::error::{Error, field};

/// The rules that this crate implements.
pub const RULES_VERSION: u32 = 1;

/// What a network may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkKind {
    /// A test network: agreements without noise are allowed, and every answer says so.
    Test,
    /// A network for real data.
    Live,
}

impl NetworkKind {
    /// 1 test, 2 live.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Test => 1,
            Self::Live => 2,
        }
    }

    /// The word for it: `test` or `live`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match r.u8("network kind")? {
            1 => Ok(Self::Test),
            2 => Ok(Self::Live),
            found => Err(CodecError::Invalid {
                what: "network kind",
                found: found.into(),
            }),
        }
    }
}

/// The rules that a network starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Version of the contracts; this crate knows [`RULES_VERSION`].
    pub rules_version: u32,
    /// Longest time between blocks, in milliseconds (100 to 3,600,000).
    pub heartbeat_ms: u64,
    /// Length of a privacy epoch, in milliseconds (1,000 to ten years); epoch = block time / `epoch_ms`.
    pub epoch_ms: u64,
    /// Largest block in bytes (1,024 to [`MAX_BLOCK_BYTES`]).
    pub max_block_bytes: u32,
    /// Most records in a block (1 to [`MAX_BLOCK_RECORDS`]).
    pub max_block_records: u32,
    /// How far a live block's time may be from a validator's clock, in milliseconds (1 to 3,600,000).
    pub max_skew_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rules_version: RULES_VERSION,
            heartbeat_ms: 10_000,
            epoch_ms: 7 * 24 * 3_600_000,
            max_block_bytes: 2 * 1024 * 1024,
            max_block_records: 8_192,
            max_skew_ms: 30_000,
        }
    }
}

impl Canonical for Rules {
    fn write(&self, w: &mut Writer) {
        w.u32(self.rules_version)
            .u64(self.heartbeat_ms)
            .u64(self.epoch_ms)
            .u32(self.max_block_bytes)
            .u32(self.max_block_records)
            .u64(self.max_skew_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            rules_version: r.u32("rules version")?,
            heartbeat_ms: r.u64("heartbeat")?,
            epoch_ms: r.u64("epoch length")?,
            max_block_bytes: r.u32("block bytes")?,
            max_block_records: r.u32("block records")?,
            max_skew_ms: r.u64("clock skew")?,
        })
    }
}

impl Rules {
    /// As a genesis must have them: by the contracts that this program knows.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.is_known() {
            return Err(field(
                "rules version",
                self.rules_version.to_string(),
                "the version of this program",
            ));
        }
        self.check_ranges()
    }

    /// Whether this program knows the contracts of these rules.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.rules_version == RULES_VERSION
    }

    pub(crate) fn check_ranges(&self) -> Result<(), Error> {
        let in_range = |what, found: u64, range: std::ops::RangeInclusive<u64>, expected| {
            if range.contains(&found) {
                Ok(())
            } else {
                Err(field(what, found.to_string(), expected))
            }
        };
        in_range(
            "heartbeat",
            self.heartbeat_ms,
            100..=3_600_000,
            "100 to 3600000 ms",
        )?;
        in_range(
            "epoch length",
            self.epoch_ms,
            1_000..=315_360_000_000,
            "1000 ms to ten years",
        )?;
        in_range(
            "block bytes",
            self.max_block_bytes.into(),
            1_024..=MAX_BLOCK_BYTES as u64,
            "1 KiB to 2 MiB",
        )?;
        in_range(
            "block records",
            self.max_block_records.into(),
            1..=MAX_BLOCK_RECORDS as u64,
            "1 to 8192",
        )?;
        in_range(
            "clock skew",
            self.max_skew_ms,
            1..=3_600_000,
            "1 to 3600000 ms",
        )
    }
}
