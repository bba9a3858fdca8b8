//! What was decided: blocks by sync, certificates, blocks that are refused and asked for again.

use super::*;

impl<A: Application> Driver<A> {
    pub(super) async fn on_synced(
        &mut self,
        height: Height,
        round: Round,
        proposer: Address,
        body: &[u8],
    ) -> Result<SyncedValueOutcome<TallyContext>, Error> {
        if height.0 != self.next || body.len() > MAX_BLOCK_BYTES {
            return Ok(SyncedValueOutcome::PeerFault);
        }
        let number = round.as_u32().unwrap_or(0);
        let checked = self
            .app
            .check_block(height.0, number, body, CheckContext::Sync)
            .await;
        let (block, validity) = match checked {
            Ok(block) => (block, Validity::Valid),
            Err(Refusal::Invalid(reason) | Refusal::Untimely(reason)) => {
                warn!(%height, reason, "synced block refused");
                return Ok(SyncedValueOutcome::PeerFault);
            }
            Err(Refusal::Diverged(reason)) => match convert::block_hash(body) {
                // Whether this is the decided block only the engine knows; it reports that as an event.
                Ok(block) => {
                    warn!(%height, %block, reason, "synced block gives another state here");
                    (block, Validity::Invalid)
                }
                Err(_) => return Ok(SyncedValueOutcome::PeerFault),
            },
        };
        let proposed = Proposed {
            height: height.0,
            round: number,
            pol_round: None,
            block,
            sender: proposer.0,
        };
        if validity == Validity::Valid {
            self.store.put(proposed.clone(), body.to_vec()).await?;
            self.synced = true;
        }
        let mut value = self.value(&proposed, validity);
        value.proposer = proposer;
        Ok(SyncedValueOutcome::Verdict(value))
    }

    /// Commits the decided block; `false` if its bytes were refused and are wanted anew.
    pub(super) async fn on_decided(
        &mut self,
        certificate: &EngineCertificate<TallyContext>,
    ) -> Result<bool, Error> {
        let certificate = convert::certificate(certificate);
        let (height, block) = (certificate.height, certificate.block);
        if height.checked_add(1) == Some(self.next) {
            return Ok(true);
        }
        if height != self.next {
            return Err(self.halted(Fatal(format!("height {height} was decided out of turn"))));
        }
        let Some(body) = self.store.body(height, &certificate.block).await? else {
            // A disk that lost it: the engine decided from its log of votes. The others have it.
            let reason = format!("decided block {block} is not on disk");
            self.on_refused(height, block, reason).await?;
            return Ok(false);
        };
        match self.app.commit_block(body, certificate).await {
            Ok(()) => self.wanted = None,
            Err(CommitError::Fatal(reason)) => return Err(self.halted(reason)),
            Err(CommitError::Refused(reason)) => {
                self.on_refused(height, block, reason).await?;
                return Ok(false);
            }
        }
        let next = self.app.next_height().await;
        if Some(next) != height.checked_add(1) {
            return Err(self.halted(Fatal(format!(
                "after committing height {height} the next height is {next}"
            ))));
        }
        self.prepare_height().await?;
        self.store.forget_through(height).await?;
        self.assembler.forget_through(height);
        self.pending.retain(|p| p.height > height);
        Ok(true)
    }

    /// Whether blocks are taken in bulk from now on, the engine resting: it signs nothing meanwhile, and hears of the new height once
    /// all below it are on disk.
    pub(super) async fn begins_to_fetch(&mut self) -> bool {
        self.fetching = self.app.is_far_behind().await;
        if self.fetching {
            info!(height = self.next, "far behind: taking blocks in bulk");
        }
        self.fetching
    }

    /// Commits blocks that were handed over in bulk; without any, or if they are refused, the engine goes on.
    pub(super) async fn on_blocks(
        &mut self,
        blocks: Option<Vec<DecidedBlock>>,
    ) -> Result<(), Error> {
        match blocks {
            None => self.fetching = false,
            Some(blocks) => match self.app.commit_blocks(blocks).await {
                Ok(()) => {}
                Err(CommitError::Fatal(reason)) => return Err(self.halted(reason)),
                Err(CommitError::Refused(reason)) => {
                    warn!(reason, "blocks that were handed over are refused");
                    self.fetching = false;
                }
            },
        }
        self.prepare_height().await?;
        let below = self.next.saturating_sub(1);
        self.store.forget_through(below).await?;
        self.assembler.forget_through(below);
        self.pending.retain(|p| p.height > below);
        if !self.fetching {
            info!(height = self.next, "no blocks are taken in bulk any more");
        }
        self.release("it has caught up").await
    }

    /// The bytes kept for a decided block are not that block: others have to send it.
    pub(super) async fn on_refused(
        &mut self,
        height: u64,
        block: BlockHash,
        reason: String,
    ) -> Result<(), Error> {
        let before = self.wanted.take().map_or(0, |w| w.refused);
        let own = self
            .store
            .find(height, &block)
            .is_some_and(|p| p.sender == self.keys.public());
        if own || before >= MAX_REFUSED {
            // Nobody else is to blame, or nobody has it better.
            return Err(self.halted(Fatal(reason)));
        }
        warn!(height, %block, reason, "a decided block was refused; asking others for it");
        self.store.forget(height, &block).await?;
        self.assembler.forget_through(height);
        self.wanted = Some(Wanted {
            height,
            block,
            refused: before + 1,
        });
        Ok(())
    }

    /// Whether this block may be voted for at its height.
    pub(super) fn is_wanted(&self, height: u64, block: &BlockHash) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|w| w.height != height || w.block == *block)
    }

    pub(super) async fn decided_values(
        &mut self,
        first: u64,
        last: u64,
    ) -> Vec<RawDecidedValue<TallyContext>> {
        let mut values = Vec::new();
        let mut bytes = 0usize;
        for height in (first..=last).take(MAX_SYNC_BLOCKS) {
            let Some((body, certificate)) = self.app.block_at(height).await else {
                break;
            };
            bytes += body.len();
            if bytes > MAX_SYNC_BYTES {
                break;
            }
            values.push(RawDecidedValue::new(
                body.into(),
                convert::sync_certificate(&certificate),
            ));
        }
        values
    }
}
