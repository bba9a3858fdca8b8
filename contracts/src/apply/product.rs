//! Products, batches and anchors.

use tally_merkle::{Hash, verify_consistency};

use super::Call;
use crate::genesis::Roles;
use crate::ids::{BatchId, MemberId};
use crate::records::{
    ActivateBatch, AnchorScans, IssueBatch, RecallBatch, RegisterProduct, RevokeCodes, RevokedPart,
    SetTerritory,
};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{
    self, AnchorState, BatchState, BatchStatus, ProductState, RevokedState, StateRead,
    TerritoryState, keys,
};

impl Call<'_> {
    pub(super) fn register_product(&mut self, body: &RegisterProduct) -> Result<(), ApplyError> {
        let owner = self.brand()?;
        if let Some(product) = state::product(&self.state, &body.gtin)? {
            return Err(Refusal::GtinTaken {
                gtin: body.gtin,
                owner: product.owner,
            }
            .into());
        }
        let product = ProductState {
            owner,
            description: body.description.clone(),
            brand: body.brand.clone(),
            record: self.id,
        };
        self.state.put(keys::product(&body.gtin), &product);
        Ok(())
    }

    pub(super) fn issue_batch(&mut self, body: &IssueBatch) -> Result<(), ApplyError> {
        let owner = self.brand()?;
        let product = state::product(&self.state, &body.gtin)?
            .ok_or(Refusal::UnknownProduct { gtin: body.gtin })?;
        owned("product", product.owner, owner)?;
        let expected = state::next_index(&self.state, &owner)?;
        if body.first_index != expected {
            return Err(Refusal::Index {
                expected,
                found: body.first_index,
            }
            .into());
        }
        let id = body.id(&owner);
        // The body's form bounds both numbers: the sum is at most 2^36.
        let next = body.first_index.saturating_add(body.count);
        let batch = BatchState {
            owner,
            gtin: body.gtin,
            lot: body.lot.clone(),
            first_index: body.first_index,
            count: body.count,
            unit_root: body.unit_root,
            redemption_root: body.redemption_root,
            expires: body.expires,
            status: BatchStatus::Issued,
            record: self.id,
            changed_ms: self.ctx.block_time_ms,
            recall_reason: String::new(),
        };
        self.state.put(keys::batch(&id), &batch);
        self.state.set(
            keys::batch_range(&owner, body.first_index),
            Some(id.0.to_vec()),
        );
        self.state
            .set(keys::batch_next(&owner), Some(next.to_be_bytes().to_vec()));
        Ok(())
    }

    pub(super) fn activate_batch(&mut self, body: &ActivateBatch) -> Result<(), ApplyError> {
        self.move_batch(body.batch, BatchStatus::Active, "")
    }

    pub(super) fn recall_batch(&mut self, body: &RecallBatch) -> Result<(), ApplyError> {
        self.move_batch(body.batch, BatchStatus::Recalled, &body.reason)
    }

    fn move_batch(&mut self, id: BatchId, to: BatchStatus, reason: &str) -> Result<(), ApplyError> {
        let owner = self.brand()?;
        let mut batch =
            state::batch(&self.state, &id)?.ok_or(Refusal::UnknownBatch { batch: id })?;
        owned("batch", batch.owner, owner)?;
        let allowed = match to {
            BatchStatus::Issued => false,
            BatchStatus::Active => batch.status == BatchStatus::Issued,
            BatchStatus::Recalled => batch.status != BatchStatus::Recalled,
        };
        if !allowed {
            return Err(Refusal::BatchStatus {
                batch: id,
                found: batch.status,
                to,
            }
            .into());
        }
        batch.status = to;
        batch.changed_ms = self.ctx.block_time_ms;
        reason.clone_into(&mut batch.recall_reason);
        self.state.put(keys::batch(&id), &batch);
        Ok(())
    }

    /// Adds to the void list; what is void stays so, whatever becomes of the batch.
    pub(super) fn revoke_codes(&mut self, body: &RevokeCodes) -> Result<(), ApplyError> {
        let owner = self.brand()?;
        let id = body.batch;
        let batch = state::batch(&self.state, &id)?.ok_or(Refusal::UnknownBatch { batch: id })?;
        owned("batch", batch.owner, owner)?;
        // Parts are ascending, so the last one names the last leaf.
        if let Some(found) = body.parts.last().map(RevokedPart::last_leaf)
            && found >= batch.count
        {
            return Err(Refusal::RevokedLeaf {
                batch: id,
                count: batch.count,
                found,
            }
            .into());
        }
        let mut count = state::revoked_count(&self.state, &id)?;
        for part in &body.parts {
            let mut leaves = part.leaves.clone();
            let mut before = 0;
            if let Some(old) = state::revoked(&self.state, &id, part.number)? {
                before = old.leaves.count();
                leaves.add(&old.leaves);
            }
            // The list only grows, and a batch has at most 2^32 codes.
            count = count.saturating_add(leaves.count().saturating_sub(before));
            self.state
                .put(keys::revoked(&id, part.number), &RevokedState { leaves });
        }
        self.state
            .set(keys::revoked_count(&id), Some(count.to_be_bytes().to_vec()));
        Ok(())
    }

    /// Replaces the territory, whatever became of the batch: goods of a recalled one are scanned too.
    pub(super) fn set_territory(&mut self, body: &SetTerritory) -> Result<(), ApplyError> {
        let owner = self.brand()?;
        let id = body.batch;
        let batch = state::batch(&self.state, &id)?.ok_or(Refusal::UnknownBatch { batch: id })?;
        owned("batch", batch.owner, owner)?;
        let key = keys::territory(&id);
        if body.territory.is_empty() {
            self.state.set(key, None);
        } else {
            let territory = TerritoryState {
                territory: body.territory.clone(),
                record: self.id,
                set_ms: self.ctx.block_time_ms,
            };
            self.state.put(key, &territory);
        }
        Ok(())
    }

    pub(super) fn anchor_scans(&mut self, body: &AnchorScans) -> Result<(), ApplyError> {
        let member = self.single()?;
        let last = state::anchor(&self.state, &member, body.log_id)?;
        let (last_size, last_root) = last.map_or((0, Hash([0; 32])), |a| (a.size, a.root));
        if body.size <= last_size {
            return Err(Refusal::AnchorSize {
                log_id: body.log_id,
                last: last_size,
                found: body.size,
            }
            .into());
        }
        let extends = if last_size == 0 {
            body.consistency.is_empty()
        } else {
            verify_consistency(
                last_size,
                body.size,
                &last_root,
                &body.root,
                &body.consistency,
            )
            .is_ok()
        };
        if !extends {
            return Err(Refusal::AnchorProof {
                log_id: body.log_id,
                last: last_size,
                found: body.size,
            }
            .into());
        }
        let anchor = AnchorState {
            size: body.size,
            root: body.root,
            record: self.id,
            anchored_ms: self.ctx.block_time_ms,
        };
        self.state.put(keys::anchor(&member, body.log_id), &anchor);
        Ok(())
    }

    /// The only signer, which must be a brand.
    fn brand(&self) -> Result<MemberId, ApplyError> {
        let member = self.single()?;
        let entry = state::member(&self.state as &dyn StateRead, &member)?
            .ok_or(Refusal::UnknownMember { member })?;
        if entry.roles.has(Roles::BRAND) {
            return Ok(member);
        }
        Err(Refusal::Role {
            kind: self.kind,
            member,
            expected: "brand",
            found: entry.roles.to_string(),
        }
        .into())
    }
}

fn owned(what: &'static str, owner: MemberId, found: MemberId) -> Result<(), Refusal> {
    if owner == found {
        Ok(())
    } else {
        Err(Refusal::NotOwner { what, owner, found })
    }
}
