//! Touches and conversions from CSV files, with a report of every row that was not used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Conversion, Labels, MAX_TIME, MAX_TOUCHES, Touch, TouchKind};
use crate::import::find_columns;
use crate::record::{Fields, RecordReader};
use crate::{
    DropReason, Error, Identifier, ImportReport, Lines, MAX_SET_SIZE, Normaliser, Profile, Region,
};

/// How many line numbers a report gives for each reason.
const KEEP_LINES: usize = 20;
/// Longest name of a channel, in bytes.
pub(super) const MAX_CHANNEL_BYTES: usize = 64;
/// Most channels of one import.
pub(super) const MAX_CHANNELS: usize = 4096;
/// Largest value of a conversion that is read, in minor units: 2^48.
pub(super) const MAX_VALUE: u64 = 1 << 48;

/// Names of the columns of touches.
#[derive(Debug, Clone)]
pub struct TouchColumns {
    /// The ID; by default the ID type's name.
    pub id: Option<String>,
    /// POSIX seconds.
    pub at: String,
    /// The channel or campaign.
    pub channel: String,
    /// `view` or `click`.
    pub kind: String,
}

impl Default for TouchColumns {
    fn default() -> Self {
        Self {
            id: None,
            at: "touched_at".into(),
            channel: "channel".into(),
            kind: "kind".into(),
        }
    }
}

/// Names of the columns of conversions.
#[derive(Debug, Clone)]
pub struct ConversionColumns {
    /// The ID; by default the ID type's name.
    pub id: Option<String>,
    /// POSIX seconds.
    pub at: String,
    /// Minor units of the currency.
    pub value: String,
    /// The order; a person's conversions with the same one count once.
    pub order: String,
}

impl Default for ConversionColumns {
    fn default() -> Self {
        Self {
            id: None,
            at: "converted_at".into(),
            value: "value_cents".into(),
            order: "order_id".into(),
        }
    }
}

/// What became of every row: `rows = used + repeated.count +` the dropped ones. Counts and line numbers, never an ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowReport {
    /// Rows after the header.
    pub rows: u64,
    /// Rows used.
    pub used: u64,
    /// People in them.
    pub people: u64,
    /// Rows whose order came before for the same person.
    pub repeated: Lines,
    /// Rows not used, by reason.
    pub dropped: BTreeMap<DropReason, Lines>,
}

impl RowReport {
    fn drop(&mut self, reason: DropReason, line: u64) {
        self.dropped
            .entry(reason)
            .or_default()
            .add(line, KEEP_LINES);
    }

    /// The same as a report on people: `used` counts them, so rows of somebody who came before are in no number of it but `rows`.
    #[must_use]
    pub fn of_people(&self, profile: Profile) -> ImportReport {
        let mut report = ImportReport::new(profile);
        report.rows = self.rows;
        report.used = self.people;
        report.duplicates = self.repeated.clone();
        report.dropped = self.dropped.clone();
        report
    }

    /// How many rows were not used, for any reason but repetition.
    #[must_use]
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().map(|l| l.count).sum()
    }
}

pub(super) struct RawTouch {
    pub(super) at: u64,
    pub(super) channel: u16,
    pub(super) kind: TouchKind,
}

/// Everybody's touches, by channel.
pub struct Journeys {
    pub(super) people: BTreeMap<Identifier, Vec<RawTouch>>,
    pub(super) channels: Vec<String>,
    pub(super) report: RowReport,
}

impl Journeys {
    /// What became of the rows.
    #[must_use]
    pub const fn report(&self) -> &RowReport {
        &self.report
    }

    /// Everybody with a row, each once.
    pub fn people(&self) -> impl Iterator<Item = &Identifier> {
        self.people.keys()
    }

    /// How many people met each channel, by name. The own side's knowledge: not to be shown to the other.
    #[must_use]
    pub fn channels(&self) -> BTreeMap<String, usize> {
        self.met().into_iter().map(|(c, m)| (c, m.len())).collect()
    }

    fn met(&self) -> BTreeMap<String, BTreeSet<&Identifier>> {
        let mut met: BTreeMap<String, BTreeSet<&Identifier>> = self
            .channels
            .iter()
            .map(|c| (c.clone(), BTreeSet::new()))
            .collect();
        for (id, touches) in &self.people {
            for touch in touches {
                let channel = self.channels.get(usize::from(touch.channel));
                if let Some(set) = channel.and_then(|c| met.get_mut(c)) {
                    set.insert(id);
                }
            }
        }
        met
    }

    /// The touches under the labels of an agreement, each person's ordered by time and place in the import. Channels that the
    /// agreement does not name, or that fewer people met than it asks for, are label 0.
    #[must_use]
    pub fn labelled(&self, labels: &Labels) -> BTreeMap<Identifier, Vec<Touch>> {
        let of = labels.of_channels(&self.met());
        let label_of: Vec<u16> = self
            .channels
            .iter()
            .map(|c| of.get(c).copied().unwrap_or(0))
            .collect();
        self.people
            .iter()
            .map(|(id, touches)| {
                let mut touches: Vec<Touch> = touches
                    .iter()
                    .map(|t| Touch {
                        at: t.at,
                        label: label_of.get(usize::from(t.channel)).copied().unwrap_or(0),
                        kind: t.kind,
                    })
                    .collect();
                // Stable: touches of one second stay in the order of the import.
                touches.sort_by_key(|t| t.at);
                (id.clone(), touches)
            })
            .collect()
    }
}

pub(super) struct RawConversion {
    pub(super) at: u64,
    pub(super) value: u64,
    pub(super) order: [u8; 16],
}

/// Everybody's conversions, each order of a person once.
pub struct Conversions {
    pub(super) people: BTreeMap<Identifier, Vec<RawConversion>>,
    pub(super) report: RowReport,
}

impl Conversions {
    /// What became of the rows.
    #[must_use]
    pub const fn report(&self) -> &RowReport {
        &self.report
    }

    /// Everybody with a row, each once.
    pub fn people(&self) -> impl Iterator<Item = &Identifier> {
        self.people.keys()
    }

    /// The conversions within the bounds that the noise is made for: of each person the first `per_person` by time, and of each
    /// at most `value_cap` minor units. How many were left out and how many cut.
    #[must_use]
    pub fn bounded(
        &self,
        value_cap: u64,
        per_person: u32,
    ) -> (BTreeMap<Identifier, Vec<Conversion>>, u64, u64) {
        let (mut left_out, mut cut) = (0, 0);
        let people = self
            .people
            .iter()
            .map(|(id, all)| {
                let mut all: Vec<&RawConversion> = all.iter().collect();
                all.sort_by_key(|c| (c.at, c.order));
                let taken: Vec<Conversion> = all
                    .iter()
                    .take(per_person as usize)
                    .map(|c| {
                        cut += u64::from(c.value > value_cap);
                        Conversion {
                            at: c.at,
                            value: c.value.min(value_cap),
                        }
                    })
                    .collect();
                left_out += (all.len() - taken.len()) as u64;
                (id.clone(), taken)
            })
            .collect();
        (people, left_out, cut)
    }
}

/// Reads touches. Rows that cannot be used are reported and never end the import.
///
/// # Errors
/// Those of [`crate::import()`] for the file and its header.
pub fn import_touches<R: Read>(
    source: R,
    profile: Profile,
    default_region: Option<Region>,
    columns: &TouchColumns,
) -> Result<Journeys, Error> {
    let mut names: BTreeMap<String, u16> = BTreeMap::new();
    let names_of_columns = [
        columns
            .id
            .as_deref()
            .unwrap_or_else(|| profile.id_type().name()),
        &columns.at,
        &columns.channel,
        &columns.kind,
    ];
    let (people, report) = read(
        source,
        Normaliser::new(profile, default_region),
        names_of_columns,
        |[at, channel, kind], seen: &mut Vec<RawTouch>| {
            let at = number(at, MAX_TIME - 1).ok_or(DropReason::Time)?;
            let channel = text(channel)
                .filter(|c| !c.is_empty() && c.len() <= MAX_CHANNEL_BYTES)
                .ok_or(DropReason::Channel)?;
            let kind = match text(kind) {
                Some(k) if k.eq_ignore_ascii_case("click") => TouchKind::Click,
                Some(k) if k.eq_ignore_ascii_case("view") => TouchKind::View,
                _ => return Err(DropReason::Kind),
            };
            if seen.len() >= MAX_TOUCHES {
                return Err(DropReason::TooMany);
            }
            let channel = match names.get(channel) {
                Some(n) => *n,
                None if names.len() < MAX_CHANNELS => {
                    let n = u16::try_from(names.len()).map_err(|_| DropReason::Channel)?;
                    names.insert(channel.to_owned(), n);
                    n
                }
                None => return Err(DropReason::Channel),
            };
            seen.push(RawTouch { at, channel, kind });
            Ok(true)
        },
    )?;
    let mut by_number: Vec<(u16, String)> = names.into_iter().map(|(c, n)| (n, c)).collect();
    by_number.sort_unstable();
    Ok(Journeys {
        people,
        channels: by_number.into_iter().map(|(_, c)| c).collect(),
        report,
    })
}

/// Reads conversions; of a person's rows with one order the first counts.
///
/// # Errors
/// Those of [`crate::import()`] for the file and its header.
pub fn import_conversions<R: Read>(
    source: R,
    profile: Profile,
    default_region: Option<Region>,
    columns: &ConversionColumns,
) -> Result<Conversions, Error> {
    let names_of_columns = [
        columns
            .id
            .as_deref()
            .unwrap_or_else(|| profile.id_type().name()),
        &columns.at,
        &columns.value,
        &columns.order,
    ];
    let (people, report) = read(
        source,
        Normaliser::new(profile, default_region),
        names_of_columns,
        |[at, value, order], seen: &mut Vec<RawConversion>| {
            let at = number(at, MAX_TIME - 1).ok_or(DropReason::Time)?;
            let value = number(value, MAX_VALUE).ok_or(DropReason::Value)?;
            let mut hash = [0; 16];
            for (h, b) in hash.iter_mut().zip(Sha256::digest(order)) {
                *h = b;
            }
            if seen.iter().any(|c| c.order == hash) {
                return Ok(false);
            }
            if seen.len() >= MAX_TOUCHES {
                return Err(DropReason::TooMany);
            }
            seen.push(RawConversion {
                at,
                value,
                order: hash,
            });
            Ok(true)
        },
    )?;
    Ok(Conversions { people, report })
}

/// Reads rows with an ID in the first of `columns`; `take` puts the others into the person's list, or says false for a repeated
/// row.
#[allow(clippy::type_complexity)]
fn read<R: Read, T>(
    source: R,
    normaliser: Normaliser,
    columns: [&str; 4],
    mut take: impl FnMut([&[u8]; 3], &mut Vec<T>) -> Result<bool, DropReason>,
) -> Result<(BTreeMap<Identifier, Vec<T>>, RowReport), Error> {
    let mut reader = RecordReader::new(source);
    let mut fields = Fields::default();
    let [id, a, b, c] = find_columns(&mut reader, &mut fields, columns)?;
    let mut people: BTreeMap<Identifier, Vec<T>> = BTreeMap::new();
    let mut report = RowReport::default();
    while let Some((line, row)) = reader.next(&mut fields)? {
        report.rows += 1;
        let field = |i| fields.get(i).unwrap_or_default();
        let taken = row
            .and_then(|()| normaliser.normalise(field(id)))
            .and_then(|found| {
                // A person without a usable row is nobody.
                match people.get_mut(&found.id) {
                    Some(list) => take([field(a), field(b), field(c)], list),
                    None => {
                        let mut list = Vec::new();
                        let taken = take([field(a), field(b), field(c)], &mut list)?;
                        people.insert(found.id.clone(), list);
                        Ok(taken)
                    }
                }
            });
        match taken {
            Ok(true) => report.used += 1,
            Ok(false) => report.repeated.add(line, KEEP_LINES),
            Err(reason) => report.drop(reason, line),
        }
        if people.len() > MAX_SET_SIZE {
            return Err(Error::SetSize {
                found: people.len(),
                max: MAX_SET_SIZE,
            });
        }
    }
    report.people = people.len() as u64;
    Ok((people, report))
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok().map(str::trim)
}

fn number(field: &[u8], max: u64) -> Option<u64> {
    let digits = text(field)?;
    // `parse` alone would take a plus sign.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| *n <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::SumLabel;

    fn profile() -> Profile {
        "e164".parse().unwrap()
    }

    #[test]
    fn rows_that_cannot_be_used_have_a_reason() {
        let csv = "phone,touched_at,channel,kind\n\
            +8613006002602,100,a,view\n\
            +8613006002602,100,b,CLICK\n\
            +8613006002602,90,a,click\n\
            +8613006002602,-1,a,view\n\
            +8613006002602,1099511627776,a,view\n\
            +8613006002602,+5,a,view\n\
            +8613006002602,5,,view\n\
            +8613006002602,5,a,look\n\
            nobody,5,a,view\n\
            +8613001441258,5,rare,click\n";
        let touches =
            import_touches(csv.as_bytes(), profile(), None, &TouchColumns::default()).unwrap();
        let report = touches.report();
        assert_eq!((report.rows, report.used, report.people), (10, 4, 2));
        assert_eq!(report.dropped_rows(), 6);
        assert_eq!(report.dropped[&DropReason::Time].first_lines, [5, 6, 7]);
        assert_eq!(report.dropped[&DropReason::Channel].first_lines, [8]);
        assert_eq!(report.dropped[&DropReason::Kind].first_lines, [9]);
        assert_eq!(report.dropped[&DropReason::Phone].first_lines, [10]);
        let terms = |name: &str, minimum_people| SumLabel {
            name: name.into(),
            minimum_people,
        };
        let labels = Labels::new(vec![terms("a", 1), terms("b", 1), terms("rare", 2)]).unwrap();
        let labelled = touches.labelled(&labels);
        let of: Vec<Vec<(u64, u16)>> = labelled
            .values()
            .map(|l| l.iter().map(|t| (t.at, t.label)).collect())
            .collect();
        // `rare` has one person, and so is `other`; ties keep their order.
        assert_eq!(of, [vec![(5, 0)], vec![(90, 1), (100, 1), (100, 2)]]);
    }

    #[test]
    fn an_order_counts_once_and_bounds_hold() {
        let csv = "phone,converted_at,value_cents,order_id\n\
            +8613000285084,300,500,o1\n\
            +8613000285084,200,10,o2\n\
            +8613000285084,100,999,o1\n\
            +8613000285084,250,20,o3\n\
            +8613026188133,1,1,o1\n\
            +8613026188133,1,1.5,o9\n";
        let all = import_conversions(
            csv.as_bytes(),
            profile(),
            None,
            &ConversionColumns::default(),
        )
        .unwrap();
        let report = all.report();
        assert_eq!((report.rows, report.used, report.people), (6, 4, 2));
        assert_eq!(report.repeated.first_lines, [4]);
        assert_eq!(report.dropped[&DropReason::Value].first_lines, [7]);
        let (people, left_out, cut) = all.bounded(15, 2);
        assert_eq!((left_out, cut), (1, 1));
        let of: Vec<Vec<(u64, u64)>> = people
            .values()
            .map(|l| l.iter().map(|c| (c.at, c.value)).collect())
            .collect();
        assert_eq!(of, [vec![(200, 10), (250, 15)], vec![(1, 1)]]);
    }
}
