//! What is kept of a code's scans, in bounded room.
//!
//! Scans are gathered into **visits**. A scan belongs to an earlier visit if its pseudonym was seen there, or if it may have been
//! made in the same place within a day. So a family at one table is one visit, and the same bottle at home, in a shop and at a
//! friend's is three. A visit is in a new **place** if there certainly is a gap between it and every place before.
//!
//! A scan that nobody can have travelled to in time (faster than 900 km/h after taking both accuracy radii off) is a
//! **contradiction**. If both positions come from devices it counts as a visit of its own; if one comes from a network address,
//! which a VPN or a mobile network's gateway may put anywhere, it is counted and makes no visit: see `score`. When such scans come from
//! more places at once than VPNs explain, these are counted: see `burst`.

use crate::Error;
use crate::burst::Burst;
use crate::cell::Spot;
use crate::observation::{Claim, Observation, Stage, Territory};
use crate::ratio::{MAX_SEEN, Seen};

mod stored;

pub use stored::MAX_HISTORY_BYTES;

/// The fastest that goods and people travel, metres a second: 900 km/h.
pub const MAX_SPEED_M_PER_S: f64 = 250.0;
/// Scans in one place within this time are one visit, milliseconds.
pub const VISIT_MS: u64 = 24 * 3_600_000;
/// The place of a network address may be another city of the province or the next. So a gap of less than this, metres, within
/// [`NEIGHBOUR_MS`] is a contradiction too, unless both positions are devices' own.
pub const NEIGHBOUR_M: f64 = 400_000.0;
/// See [`NEIGHBOUR_M`]; milliseconds.
pub const NEIGHBOUR_MS: u64 = 6 * 3_600_000;
/// A new place with a gap of at least this to every place before is far, metres: gifts and travellers go to near places more often.
pub const FAR_M: f64 = 1_500_000.0;
/// A new place that is reached within this time of another visit is prompt, milliseconds: gifts lie for weeks.
pub const PROMPT_MS: u64 = 25 * 24 * 3_600_000;
/// Most visits that are kept; of more, the first [`KEPT_FIRST`] and the latest are, of these rather those with a place.
pub const MAX_VISITS: usize = 8;
/// How many of the first visits are kept in any case.
pub const KEPT_FIRST: usize = 4;
/// Most pseudonyms that are kept: the latest.
pub const MAX_SOURCES: usize = 16;
/// Failures of a source in the last day from which it counts as guessing.
pub const GUESSING_FAILURES: u32 = 5;

/// Half of a pseudonym: enough to tell a few people apart.
type Person = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visit {
    first_ms: u64,
    last_ms: u64,
    spot: Option<Spot>,
}

/// What was counted. These only grow, so that nothing that was noticed is forgotten when a scan is. All stop at 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Counts {
    /// Visits.
    pub visits: u8,
    /// Places with a gap between them.
    pub places: u8,
    /// Visits with no known place.
    pub unplaced: u8,
    /// Contradictions in which a network's word for the place is involved.
    pub network_jumps: u8,
    /// Contradictions between positions of devices.
    pub device_jumps: u8,
    /// Visits with the right claim code after one with it.
    pub claim_again: u8,
    /// Wrong claim codes, one a pseudonym.
    pub claim_wrong: u8,
    /// Visits before the batch was activated or the unit was shipped.
    pub early: u8,
    /// Places outside the territory.
    pub outside: u8,
    /// Stock scans after the sale.
    pub after_sale: u8,
    /// Visits after a recall.
    pub recalled: u8,
    /// Scans while on a void list.
    pub void: u8,
    /// Pseudonyms that failed with other codes.
    pub guessing: u8,
    /// New places far from every place before.
    pub far: u8,
    /// New places soon after another visit.
    pub prompt: u8,
    /// Places far from each other in which different people scanned at once, when they were more than phones on VPNs explain.
    pub at_once: u8,
}

impl Counts {
    /// Every count, in stored order.
    pub(crate) const fn fields(&mut self) -> [&mut u8; 16] {
        [
            &mut self.visits,
            &mut self.places,
            &mut self.unplaced,
            &mut self.network_jumps,
            &mut self.device_jumps,
            &mut self.claim_again,
            &mut self.claim_wrong,
            &mut self.early,
            &mut self.outside,
            &mut self.after_sale,
            &mut self.recalled,
            &mut self.void,
            &mut self.guessing,
            &mut self.far,
            &mut self.prompt,
            &mut self.at_once,
        ]
    }
}

/// What a pseudonym was counted for already.
mod seen {
    pub(super) const RIGHT: u8 = 1;
    pub(super) const WRONG: u8 = 2;
    pub(super) const EARLY: u8 = 4;
    pub(super) const AFTER_SALE: u8 = 8;
    pub(super) const RECALLED: u8 = 16;
    pub(super) const VOID: u8 = 32;
    pub(super) const GUESSING: u8 = 64;
}

/// The latest time that is told apart, milliseconds: what six bytes hold.
const MAX_TIME_MS: u64 = (1 << 48) - 1;

/// What one of the first pseudonyms did first, and the quarter of it that tells it from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FirstScan {
    quarter: u32,
    seen: Seen,
}

impl FirstScan {
    fn new(person: Person, time_ms: u64, spot: Option<Spot>) -> Self {
        Self {
            quarter: quarter_of(person),
            seen: Seen {
                time_ms: time_ms.min(MAX_TIME_MS),
                spot,
                claim: Claim::Absent,
                territory: Territory::Unknown,
                again: false,
            },
        }
    }

    /// The burst that it began.
    fn burst(&self) -> Burst {
        Burst::begin(self.seen.time_ms, self.seen.spot)
    }

    /// Claim code, territory and whether it came again, in one byte.
    fn marks(&self) -> u8 {
        let claim = match self.seen.claim {
            Claim::Absent => 0,
            Claim::Right => 1,
            Claim::Wrong => 2,
        };
        let territory = match self.seen.territory {
            Territory::Unknown => 0,
            Territory::Inside => 1,
            Territory::Outside => 2,
        };
        claim | territory << 2 | u8::from(self.seen.again) << 4
    }

    fn with_marks(mut self, marks: u8) -> Result<Self, Error> {
        let bad = || Error::Stored {
            what: "marks of a scan",
            expected: "known ones",
            found: marks.into(),
        };
        self.seen.claim = match marks & 3 {
            0 => Claim::Absent,
            1 => Claim::Right,
            2 => Claim::Wrong,
            _ => return Err(bad()),
        };
        self.seen.territory = match marks >> 2 & 3 {
            0 => Territory::Unknown,
            1 => Territory::Inside,
            2 => Territory::Outside,
            _ => return Err(bad()),
        };
        self.seen.again = marks >> 4 & 1 == 1;
        if marks >> 5 == 0 {
            Ok(self)
        } else {
            Err(bad())
        }
    }
}

/// The history of one code: at most [`MAX_VISITS`] visits, [`MAX_SOURCES`] pseudonyms, the first scans of [`MAX_SEEN`] of them and
/// sixteen counts, whatever comes.
///
/// It depends on the order in which scans are shown, as a log has one; their times may be out of order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    counts: Counts,
    claimed: bool,
    visits: Vec<Visit>,
    sources: Vec<(Person, u8)>,
    /// The first pseudonyms.
    first: Vec<FirstScan>,
    /// Whether there were more of them.
    more: bool,
    /// The highest score so far, milli-nats.
    peak_mnat: u16,
    /// Who said first that it was sold.
    seller: Option<Person>,
    /// The scans that come without a day between them.
    burst: Burst,
}

/// What a dealer or shop says of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Custody {
    /// It came in as stock.
    Received,
    /// It was sold to a consumer.
    Sold,
}

/// The half of a pseudonym that is kept.
fn person_of(source: &[u8; 16]) -> Person {
    u64::from_be_bytes(std::array::from_fn(|i| {
        source.get(i).copied().unwrap_or_default()
    }))
}

/// Half of what is kept: enough to tell a handful apart. It is the later half: scans that one member forwards differ only by their
/// time, and of eight bytes of milliseconds the first four stay for weeks.
fn quarter_of(person: Person) -> u32 {
    u32::try_from(person & u64::from(u32::MAX)).unwrap_or_default()
}

/// How a scan relates to the visits before.
enum Arrival {
    /// Part of a visit.
    Joins(usize),
    /// Nobody travels so fast; whether both positions are devices' own.
    Jump { device: bool },
    /// A visit of its own.
    New,
}

fn grow(count: &mut u8) {
    *count = count.saturating_add(1);
}

impl Visit {
    /// Milliseconds between a time and the visit; 0 within it.
    const fn away_ms(&self, time_ms: u64) -> u64 {
        if time_ms < self.first_ms {
            self.first_ms - time_ms
        } else {
            time_ms.saturating_sub(self.last_ms)
        }
    }

    /// Metres that certainly lie between; `None` if a place is not known.
    fn gap_m(&self, spot: Option<&Spot>) -> Option<f64> {
        Some(self.spot.as_ref()?.gap_m(spot?))
    }

    fn take_in(&mut self, o: &Observation) {
        self.first_ms = self.first_ms.min(o.time_ms);
        self.last_ms = self.last_ms.max(o.time_ms);
        let better = match (&self.spot, &o.spot) {
            (Some(have), Some(new)) => new.radius_m() < have.radius_m(),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if better {
            self.spot = o.spot;
        }
    }
}

impl History {
    /// No scan yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Of the first pseudonyms, what each did first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.first.iter().map(|f| f.seen).collect()
    }

    /// Whether there were more pseudonyms than are looked at one by one.
    pub(crate) const fn is_long(&self) -> bool {
        self.more
    }

    /// The highest score so far, milli-nats.
    pub(crate) const fn peak_mnat(&self) -> u16 {
        self.peak_mnat
    }

    /// Whether all scans lie within a time, milliseconds, as far as it is known: a visit that was forgotten may lie anywhere.
    pub(crate) fn is_within(&self, span_ms: u64) -> bool {
        let visits = self.visits.iter().flat_map(|v| [v.first_ms, v.last_ms]);
        let seen = self.first.iter().map(|f| f.seen.time_ms);
        let times = || visits.clone().chain(seen.clone());
        let first = times().min().unwrap_or_default();
        let last = times().max().unwrap_or_default().max(self.burst.last_ms);
        self.visits.len() == usize::from(self.counts.visits)
            && last.saturating_sub(first) <= span_ms
    }

    /// The latest burst of scans.
    pub(crate) const fn burst(&self) -> &Burst {
        &self.burst
    }

    /// Takes a scan in.
    pub fn observe(&mut self, o: &Observation) {
        self.note_first(o);
        self.count(o);
        let now = u16::try_from(self.score_now_mnat()).unwrap_or(u16::MAX);
        self.peak_mnat = self.peak_mnat.max(now);
    }

    /// Keeps a scan if its pseudonym is one of the first.
    fn note_first(&mut self, o: &Observation) {
        let person = person_of(&o.source);
        let quarter = quarter_of(person);
        if let Some(known) = self.first.iter_mut().find(|f| f.quarter == quarter) {
            known.seen.again = true;
            if known.seen.claim == Claim::Absent {
                known.seen.claim = o.claim;
            }
        } else if self.first.len() < MAX_SEEN {
            let mut new = FirstScan::new(person, o.time_ms, o.spot);
            new.seen.claim = o.claim;
            new.seen.territory = o.territory;
            self.first.push(new);
        } else {
            self.more = true;
        }
    }

    /// Counts a scan.
    fn count(&mut self, o: &Observation) {
        let person = person_of(&o.source);
        let known = self.sources.iter().position(|(p, _)| *p == person);
        let mut new_visit = false;
        let mut flags = match known {
            Some(at) => self.sources.remove(at).1,
            None => {
                new_visit = self.arrive(o);
                0
            }
        };
        let c = &mut self.counts;
        let mut once = |flag: u8, happened: bool, count: &mut u8| {
            if happened && flags & flag == 0 {
                flags |= flag;
                grow(count);
            }
        };
        once(seen::WRONG, o.claim == Claim::Wrong, &mut c.claim_wrong);
        let early = matches!(o.stage, Stage::BeforeRelease | Stage::BeforeShipment);
        once(seen::EARLY, early, &mut c.early);
        once(
            seen::AFTER_SALE,
            o.stage == Stage::StockAfterSale,
            &mut c.after_sale,
        );
        once(seen::RECALLED, o.stage == Stage::Recalled, &mut c.recalled);
        once(seen::VOID, o.stage == Stage::Void, &mut c.void);
        let guessing = o.failures >= GUESSING_FAILURES;
        once(seen::GUESSING, guessing, &mut c.guessing);
        if o.claim == Claim::Right {
            if self.claimed && new_visit && flags & seen::RIGHT == 0 {
                grow(&mut c.claim_again);
            }
            flags |= seen::RIGHT;
            self.claimed = true;
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sources.remove(0);
        }
        self.sources.push((person, flags));
    }

    /// Takes in what a dealer, whose pseudonym is the source of `o`, says of the unit; the stage and the claim code of `o` are not looked at.
    ///
    /// Goods go through many hands before they are sold: until then no place is counted. The first who says that it was sold is its seller;
    /// whatever anybody else says of it afterwards is about stock that should not be there. What the seller itself says is not: goods
    /// are taken back, and tills ring twice.
    pub fn custody(&mut self, custody: Custody, o: &Observation) {
        let dealer = person_of(&o.source);
        match (self.seller, custody) {
            (Some(seller), _) if seller != dealer => self.observe(&Observation {
                stage: Stage::StockAfterSale,
                claim: Claim::Absent,
                ..*o
            }),
            (None, Custody::Sold) => self.seller = Some(dealer),
            (Some(_), _) | (None, Custody::Received) => {}
        }
    }

    /// Whether somebody said that the unit was sold.
    #[must_use]
    pub const fn is_sold(&self) -> bool {
        self.seller.is_some()
    }

    /// Puts a scan of a new pseudonym with its visit; says whether it is one of its own.
    fn arrive(&mut self, o: &Observation) -> bool {
        if let Some(places) = self.burst.take_in(o.time_ms, o.spot) {
            self.counts.at_once = self.counts.at_once.max(places);
        }
        match self.arrival(o) {
            Arrival::Joins(at) => {
                if let Some(visit) = self.visits.get_mut(at) {
                    visit.take_in(o);
                }
                return false;
            }
            Arrival::Jump { device: false } => {
                grow(&mut self.counts.network_jumps);
                return false;
            }
            Arrival::Jump { device: true } => grow(&mut self.counts.device_jumps),
            Arrival::New => {}
        }
        let c = &mut self.counts;
        grow(&mut c.visits);
        if o.spot.is_some() {
            let near = |v: &Visit| v.gap_m(o.spot.as_ref()).is_some_and(|gap| gap <= 0.0);
            if !self.visits.iter().any(near) {
                grow(&mut c.places);
                // Gaps to the places before, and the time to the nearest visit in one.
                let mut placed = self.visits.iter().filter(|v| v.spot.is_some()).peekable();
                if placed.peek().is_some() {
                    let far = |v: &Visit| v.gap_m(o.spot.as_ref()).is_some_and(|g| g >= FAR_M);
                    let prompt = |v: &Visit| v.away_ms(o.time_ms) <= PROMPT_MS;
                    let (mut all_far, mut any_prompt) = (true, false);
                    for visit in placed {
                        all_far &= far(visit);
                        any_prompt |= prompt(visit);
                    }
                    if all_far {
                        grow(&mut c.far);
                    }
                    if any_prompt {
                        grow(&mut c.prompt);
                    }
                }
                if o.territory == Territory::Outside {
                    grow(&mut c.outside);
                }
            }
        } else {
            grow(&mut c.unplaced);
        }
        if self.visits.len() >= MAX_VISITS {
            // One without a place goes first: a place that is forgotten would count as new when it comes again.
            let later = self.visits.iter().skip(KEPT_FIRST);
            let without = later.take_while(|v| v.spot.is_some()).count();
            let at = KEPT_FIRST + without;
            self.visits.remove(if at < self.visits.len() {
                at
            } else {
                KEPT_FIRST
            });
        }
        self.visits.push(Visit {
            first_ms: o.time_ms,
            last_ms: o.time_ms,
            spot: o.spot,
        });
        true
    }

    fn arrival(&self, o: &Observation) -> Arrival {
        let spot = o.spot.as_ref();
        let joined = self.visits.iter().rposition(|v| {
            v.away_ms(o.time_ms) <= VISIT_MS && v.gap_m(spot).is_none_or(|gap| gap <= 0.0)
        });
        if let Some(at) = joined {
            return Arrival::Joins(at);
        }
        let mut jump = None;
        for visit in &self.visits {
            let Some(gap) = visit.gap_m(spot) else {
                continue;
            };
            let away = visit.away_ms(o.time_ms);
            #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
            let seconds = away as f64 / 1000.0;
            let both = spot.is_some_and(Spot::is_device)
                && visit.spot.as_ref().is_some_and(Spot::is_device);
            let neighbour = !both && gap < NEIGHBOUR_M && away < NEIGHBOUR_MS;
            if neighbour || gap > MAX_SPEED_M_PER_S * seconds {
                jump = Some(jump.unwrap_or(false) || both);
            }
        }
        jump.map_or(Arrival::New, |device| Arrival::Jump { device })
    }
}
