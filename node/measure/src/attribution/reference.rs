//! Attribution in the clear: what the private form has to equal.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Conversion, SumModel, Touch, Windows, credit};
use crate::{Error, Identifier};

/// The value of each of `labels` labels, in minor units times [`SumModel::unit`]: for every conversion by itself, its value times
/// the weight of the label. People of one side alone add nothing.
///
/// # Errors
/// [`Error::Overflow`] past 2^64 - 1, [`Error::Model`], [`Error::Label`].
pub fn attribute(
    touches: &BTreeMap<Identifier, Vec<Touch>>,
    conversions: &BTreeMap<Identifier, Vec<Conversion>>,
    labels: usize,
    model: &SumModel,
    windows: &Windows,
) -> Result<Vec<u64>, Error> {
    let zero = || Ok(vec![0_u64; labels]);
    conversions
        .par_iter()
        .filter_map(|(id, conversions)| Some((touches.get(id)?, conversions)))
        .try_fold(
            || vec![0_u64; labels],
            |mut totals, (touches, conversions)| {
                for c in conversions {
                    for share in credit(model, touches, c.at, windows)? {
                        let total =
                            totals
                                .get_mut(usize::from(share.label))
                                .ok_or(Error::Label {
                                    found: share.label,
                                    labels,
                                })?;
                        *total = c
                            .value
                            .checked_mul(share.weight.into())
                            .and_then(|part| total.checked_add(part))
                            .ok_or(Error::Overflow)?;
                    }
                }
                Ok(totals)
            },
        )
        .reduce(zero, |a, b| {
            a?.into_iter()
                .zip(b?)
                .map(|(a, b)| a.checked_add(b).ok_or(Error::Overflow))
                .collect()
        })
}
