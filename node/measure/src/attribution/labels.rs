//! Labels: the campaigns or channels that an agreement names, and `other` for everything else.

use std::collections::{BTreeMap, BTreeSet};

use tally_contracts::records::{MAX_LABEL_NAME, MAX_SUM_LABELS, OTHER_LABEL, SumLabel};

use crate::{Error, Identifier};

/// The labels of a query: [`OTHER_LABEL`] first, then those of the agreement, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    terms: Vec<SumLabel>,
}

impl Labels {
    /// The labels of an agreement.
    ///
    /// # Errors
    /// [`Error::Labels`] unless there are at most [`MAX_SUM_LABELS`], each with another name of 1 to 64 bytes that is not
    /// [`OTHER_LABEL`].
    pub fn new(terms: Vec<SumLabel>) -> Result<Self, Error> {
        let names: BTreeSet<&str> = terms.iter().map(|t| t.name.as_str()).collect();
        let good = |n: &&str| !n.is_empty() && n.len() <= MAX_LABEL_NAME && **n != *OTHER_LABEL;
        if terms.len() > MAX_SUM_LABELS || names.len() != terms.len() || !names.iter().all(good) {
            return Err(Error::Labels {
                found: terms.len(),
                max: MAX_SUM_LABELS,
            });
        }
        Ok(Self { terms })
    }

    /// How many there are, [`OTHER_LABEL`] included: at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.terms.len() + 1
    }

    /// The name of a label.
    #[must_use]
    pub fn name(&self, label: usize) -> Option<&str> {
        match label.checked_sub(1) {
            None => Some(OTHER_LABEL),
            Some(i) => self.terms.get(i).map(|t| t.name.as_str()),
        }
    }

    /// The label of each channel, given who met it: its own one if the agreement names it and enough people met it, else
    /// number 0.
    pub(crate) fn of_channels(
        &self,
        people: &BTreeMap<String, BTreeSet<&Identifier>>,
    ) -> BTreeMap<String, u16> {
        people
            .iter()
            .map(|(channel, met)| {
                let place = self.terms.iter().zip(1_u16..).find_map(|(t, label)| {
                    (t.name == *channel && met.len() >= t.minimum_people as usize).then_some(label)
                });
                (channel.clone(), place.unwrap_or(0))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(name: &str, minimum_people: u32) -> SumLabel {
        SumLabel {
            name: name.into(),
            minimum_people,
        }
    }

    #[test]
    fn a_label_below_its_minimum_goes_to_other() {
        let labels = Labels::new(vec![terms("a", 2), terms("b", 3), terms("c", 0)]).unwrap();
        let ids: Vec<_> = (0_u8..3)
            .map(|i| Identifier::from_bytes(&[i]).unwrap())
            .collect();
        let met = |n: usize| ids.iter().take(n).collect::<BTreeSet<_>>();
        let people = [("a", 2), ("b", 2), ("x", 3)]
            .map(|(c, n)| (c.to_owned(), met(n)))
            .into();
        let of = labels.of_channels(&people);
        assert_eq!((of["a"], of["b"], of["x"]), (1, 0, 0));
        assert_eq!(labels.name(0), Some(OTHER_LABEL));
        assert_eq!(labels.name(3), Some("c"));
        assert_eq!(labels.name(4), None);
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", OTHER_LABEL, &"x".repeat(65)] {
            assert!(Labels::new(vec![terms(bad, 1)]).is_err());
        }
        assert!(Labels::new(vec![terms("a", 1), terms("a", 2)]).is_err());
        assert!(Labels::new((0..255).map(|i| terms(&i.to_string(), 1)).collect()).is_ok());
        assert!(Labels::new((0..256).map(|i| terms(&i.to_string(), 1)).collect()).is_err());
    }
}
