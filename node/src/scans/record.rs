//! What the scan log says of one scan.
//!
//! A leaf of the log's tree is the RFC 6962 leaf hash of domain || 16 bytes of salt || canonical bytes, so that a scan can be
//! deleted and its leaf kept, and nobody finds a scan by guessing its content.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains::SCAN;
use tally_contracts::ids::{BatchId, MemberId};
use tally_merkle::{Hash, leaf_hash};

use super::{CodeHash, Place, Reasons, ScanId, ScannedCode, TradeEvent};

const VERSION: u8 = 4;
/// The version before territories; its scans read as if none had been known.
const VERSION_WITHOUT_REACH: u8 = 3;

macro_rules! byte_enum {
    ($(#[$meta:meta])* $name:ident $what:literal { $($(#[$vmeta:meta])* $code:literal $variant:ident $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Canonical for $name {
            fn write(&self, w: &mut Writer) {
                w.u8(match self { $(Self::$variant => $code,)+ });
            }

            fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
                match r.u8($what)? {
                    $($code => Ok(Self::$variant),)+
                    found => Err(CodecError::Invalid { what: $what, found: found.into() }),
                }
            }
        }
    };
}

pub(super) use byte_enum;

byte_enum! {
    /// What a scan says of the code.
    Verdict "verdict" {
        /// Issued, released, and never scanned before.
        1 GenuineFirst "genuine_first",
        /// Issued, released, and scanned before.
        2 GenuineRepeat "genuine_repeat",
        /// Issued, but its batch is not released for sale.
        3 NotReleased "not_released",
        /// Issued, and its batch is recalled.
        4 Recalled "recalled",
        /// Not a code that was issued.
        5 Unknown "unknown",
        /// The issuer could not be asked; it will be asked again.
        6 CannotVerifyNow "cannot_verify_now",
        /// Issued, and this one unit is withdrawn.
        7 Revoked "revoked",
        /// Issued and released, and the last day of its batch is over.
        8 Expired "expired",
        /// Issued and released, but its scans are better explained by several packs with this code; see the reasons.
        9 Suspect "suspect",
    }
}

byte_enum! {
    /// How a scan came in.
    Channel "channel" {
        /// By the API.
        1 Post "post",
        /// By the button of the page.
        2 Page "page",
        /// From another member's node.
        3 Forward "forward",
    }
}

byte_enum! {
    /// What became of the claim code of a scan; the claim code itself is not stored.
    ClaimCheck "claim check" {
        /// None came with the scan, or it was not checked.
        0 Absent "absent",
        /// It is that of this unit.
        1 Right "right",
        /// It is not.
        2 Wrong "wrong",
    }
}

byte_enum! {
    /// Whether a scan was made where its batch was meant to be sold, as the ledger said at that time.
    Reach "reach" {
        /// The territory or the place is not known, or not well enough.
        0 Unknown "unknown",
        /// Inside, or not certainly outside.
        1 Inside "inside",
        /// Certainly outside.
        2 Outside "outside",
    }
}

impl Verdict {
    /// First or repeated.
    #[must_use]
    pub const fn is_genuine(self) -> bool {
        matches!(self, Self::GenuineFirst | Self::GenuineRepeat)
    }

    /// Whether a scan with it counts for its code: genuine, or suspect.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        self.is_genuine() || matches!(self, Self::Suspect)
    }
}

/// A unit within its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitRef {
    /// The batch.
    pub batch: BatchId,
    /// Index of the unit within its issuer.
    pub index: u64,
}

/// When and roughly where a code was scanned for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// POSIX milliseconds.
    pub time_ms: u64,
    /// Where, if it was said.
    pub place: Option<Place>,
}

/// One scan with its verdict, as it stands in the log for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRecord {
    /// Its name.
    pub id: ScanId,
    /// POSIX milliseconds of this node's clock.
    pub time_ms: u64,
    /// The code.
    pub code: ScannedCode,
    /// What was said of it.
    pub verdict: Verdict,
    /// Scans of this genuine code so far, this one included if it was counted.
    pub count: u64,
    /// The first counted scan of the code.
    pub first: Option<First>,
    /// The unit, if this member issued it.
    pub unit: Option<UnitRef>,
    /// Pseudonym of who scanned: a keyed hash, under a key that never leaves this node, of address and user agent.
    pub source: [u8; 16],
    /// Where, if it was said.
    pub place: Option<Place>,
    /// How it came.
    pub channel: Channel,
    /// The member that issued the product, if it is registered.
    pub issuer: Option<MemberId>,
    /// What became of the claim code.
    pub claim: ClaimCheck,
    /// Why it is suspect; none with another verdict.
    pub reasons: Reasons,
    /// Whether it was made in the batch's territory; unknown if the unit is not this member's.
    pub reach: Reach,
}

/// What the issuer said later of a scan that could not be verified at once. A leaf of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterVerdict {
    /// The scan.
    pub scan: ScanId,
    /// POSIX milliseconds of the answer.
    pub time_ms: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// Counted scans of the code by then.
    pub count: u64,
    /// The first of them.
    pub first: Option<First>,
    /// The unit, if this member issued it.
    pub unit: Option<UnitRef>,
    /// Why it is suspect; none with another verdict.
    pub reasons: Reasons,
    /// Whether it was made in the batch's territory.
    pub reach: Reach,
}

/// An entry of the log, without its salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogEntry {
    Scan(ScanRecord),
    Later(LaterVerdict),
    Event(TradeEvent),
}

impl LogEntry {
    /// POSIX milliseconds.
    pub(super) const fn time_ms(&self) -> u64 {
        match self {
            Self::Scan(scan) => scan.time_ms,
            Self::Later(later) => later.time_ms,
            Self::Event(event) => event.time_ms,
        }
    }
    /// Whether it is the first scan that counts for its code.
    pub(super) fn is_first(&self) -> bool {
        match self {
            Self::Scan(scan) => scan.is_counted() && scan.count == 1,
            Self::Later(later) => {
                later.unit.is_some() && later.verdict.is_counted() && later.count == 1
            }
            Self::Event(_) => false,
        }
    }
}

/// The leaf hash of an entry with canonical bytes `entry`.
#[must_use]
pub fn scan_leaf(salt: &[u8; 16], entry: &[u8]) -> Hash {
    leaf_hash(&[SCAN, salt, entry].concat())
}

/// Whether an entry's bytes are of the version that is written; older ones are read only.
pub(super) fn is_current(entry: &[u8]) -> bool {
    entry.first() == Some(&VERSION)
}

impl ScanRecord {
    /// The code's hash.
    #[must_use]
    pub fn code_hash(&self) -> CodeHash {
        self.code.hash()
    }

    /// Whether this scan counts for its code in this log: a genuine or suspect one of a unit that this member issued.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.unit.is_some() && self.verdict.is_counted()
    }
}

pub(super) fn write_option<T: Canonical>(w: &mut Writer, value: Option<&T>) {
    w.bool(value.is_some());
    if let Some(value) = value {
        value.write(w);
    }
}

pub(super) fn read_option<T: Canonical>(
    r: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<T>, CodecError> {
    Ok(if r.bool(what)? {
        Some(T::read(r)?)
    } else {
        None
    })
}

impl Canonical for ScanId {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self(r.array("scan ID")?))
    }
}

impl Canonical for UnitRef {
    fn write(&self, w: &mut Writer) {
        w.raw(self.batch.as_bytes()).u64(self.index);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            batch: BatchId(r.array("batch ID")?),
            index: r.u64("unit index")?,
        })
    }
}

impl Canonical for First {
    fn write(&self, w: &mut Writer) {
        w.u64(self.time_ms);
        write_option(w, self.place.as_ref());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            time_ms: r.u64("first time")?,
            place: read_option(r, "first place")?,
        })
    }
}

/// A member ID as a value that may be absent.
struct Issuer(MemberId);

impl Canonical for Issuer {
    fn write(&self, w: &mut Writer) {
        w.raw(self.0.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self(MemberId(r.array("issuer")?)))
    }
}

impl Canonical for ScanRecord {
    fn write(&self, w: &mut Writer) {
        self.id.write(w);
        w.u64(self.time_ms);
        self.code.write(w);
        self.verdict.write(w);
        w.u64(self.count);
        write_option(w, self.first.as_ref());
        write_option(w, self.unit.as_ref());
        w.raw(&self.source);
        write_option(w, self.place.as_ref());
        self.channel.write(w);
        write_option(w, self.issuer.map(Issuer).as_ref());
        self.claim.write(w);
        self.reasons.write(w);
        self.reach.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Self::read_version(r, VERSION)
    }
}

/// The reach of an entry of a version.
fn read_reach(r: &mut Reader<'_>, version: u8) -> Result<Reach, CodecError> {
    match version {
        VERSION_WITHOUT_REACH => Ok(Reach::Unknown),
        _ => Reach::read(r),
    }
}

impl ScanRecord {
    fn read_version(r: &mut Reader<'_>, version: u8) -> Result<Self, CodecError> {
        Ok(Self {
            id: ScanId::read(r)?,
            time_ms: r.u64("time")?,
            code: ScannedCode::read(r)?,
            verdict: Verdict::read(r)?,
            count: r.u64("count")?,
            first: read_option(r, "first")?,
            unit: read_option(r, "unit")?,
            source: r.array("source")?,
            place: read_option(r, "place")?,
            channel: Channel::read(r)?,
            issuer: read_option::<Issuer>(r, "issuer")?.map(|i| i.0),
            claim: ClaimCheck::read(r)?,
            reasons: Reasons::read(r)?,
            reach: read_reach(r, version)?,
        })
    }
}

impl Canonical for LaterVerdict {
    fn write(&self, w: &mut Writer) {
        self.scan.write(w);
        w.u64(self.time_ms);
        self.verdict.write(w);
        w.u64(self.count);
        write_option(w, self.first.as_ref());
        write_option(w, self.unit.as_ref());
        self.reasons.write(w);
        self.reach.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Self::read_version(r, VERSION)
    }
}

impl LaterVerdict {
    fn read_version(r: &mut Reader<'_>, version: u8) -> Result<Self, CodecError> {
        Ok(Self {
            scan: ScanId::read(r)?,
            time_ms: r.u64("time")?,
            verdict: Verdict::read(r)?,
            count: r.u64("count")?,
            first: read_option(r, "first")?,
            unit: read_option(r, "unit")?,
            reasons: Reasons::read(r)?,
            reach: read_reach(r, version)?,
        })
    }
}

impl Canonical for LogEntry {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        match self {
            Self::Scan(scan) => {
                w.u8(1);
                scan.write(w);
            }
            Self::Later(later) => {
                w.u8(2);
                later.write(w);
            }
            Self::Event(event) => {
                w.u8(3);
                event.write(w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = r.u8("entry version")?;
        if !matches!(version, VERSION | VERSION_WITHOUT_REACH) {
            return Err(CodecError::Invalid {
                what: "entry version",
                found: version.into(),
            });
        }
        match r.u8("entry kind")? {
            1 => ScanRecord::read_version(r, version).map(Self::Scan),
            2 => LaterVerdict::read_version(r, version).map(Self::Later),
            3 if version == VERSION => TradeEvent::read(r).map(Self::Event),
            found => Err(CodecError::Invalid {
                what: "entry kind",
                found: found.into(),
            }),
        }
    }
}
