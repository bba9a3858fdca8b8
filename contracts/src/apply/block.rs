//! Carrying out a whole block.

use super::{Context, Verified, apply, due_changes, verify_records};
use crate::envelope::Record;
use crate::refusal::{ApplyError, Refusal};
use crate::state::{Effects, Overlay, Remembering, StateError, StateRead};

/// What a block's records do to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOutcome {
    /// The writes of the accepted records together, and of the changes that are in force from the next height on, ascending by
    /// key.
    pub effects: Effects,
    /// Each record's answer, in order. A block is valid only if none is refused; a proposer leaves refused ones out.
    pub results: Vec<Result<(), Refusal>>,
}

impl BlockOutcome {
    /// The first refusal with its record's place in the block; `None` if the block is valid.
    #[must_use]
    pub fn first_refusal(&self) -> Option<(usize, &Refusal)> {
        self.results
            .iter()
            .enumerate()
            .find_map(|(i, r)| r.as_ref().err().map(|refusal| (i, refusal)))
    }
}

/// Carries out records in order, each on the state that the accepted ones before it leave, and at the end what members have
/// passed for the next height ([`due_changes`]). `verified` gives the token of a
/// record whose signatures the node has verified before; the others are verified here, in batches.
///
/// # Errors
/// [`StateError`] if the state cannot be read; nothing is then known about the block.
pub fn execute_block(
    state: &dyn StateRead,
    records: &[Record],
    verified: &dyn Fn(&Record) -> Option<Verified>,
    ctx: &Context,
) -> Result<BlockOutcome, StateError> {
    let state = &Remembering::new(state);
    // Nothing, unless blocks without records lie before this one and are not replayed: their ends have done it.
    let begun = due_changes(state, ctx.height)?;
    let mut first = Overlay::new(state);
    first.absorb(begun.clone());
    let mut tokens: Vec<Option<Verified>> = records.iter().map(verified).collect();
    let fresh: Vec<usize> = (0..records.len())
        .filter(|i| tokens.get(*i).is_some_and(Option::is_none))
        .collect();
    let unverified: Vec<&Record> = fresh.iter().filter_map(|i| records.get(*i)).collect();
    for (i, token) in fresh.iter().zip(verify_records(&first, &unverified)?) {
        if let Some(slot) = tokens.get_mut(*i) {
            // A wrong signature is found again, in its place in the order of checks, when the record is carried out.
            *slot = token.ok();
        }
    }
    let mut overlay = Overlay::new(state);
    overlay.absorb(begun);
    let mut results = Vec::with_capacity(records.len());
    for (record, token) in records.iter().zip(&tokens) {
        let done = match token {
            Some(token) => apply(&overlay, record, token, ctx),
            None => super::check_and_apply(&overlay, record, ctx),
        };
        results.push(match done {
            Ok(effects) => {
                overlay.absorb(effects);
                Ok(())
            }
            Err(ApplyError::Refused(refusal)) => Err(refusal),
            Err(ApplyError::State(e)) => return Err(e),
        });
    }
    let ended = due_changes(&overlay, ctx.height.saturating_add(1))?;
    overlay.absorb(ended);
    Ok(BlockOutcome {
        effects: overlay.into_effects(),
        results,
    })
}
