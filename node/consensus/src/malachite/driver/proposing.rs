//! What this node proposes: a block of its own, the same one again after a restart, in signed parts.

use super::*;

impl<A: Application> Driver<A> {
    /// Our turn. No answer is an answer too: the round then passes.
    pub(super) async fn on_get_value(
        &mut self,
        height: Height,
        round: Round,
        reply: Reply<LocallyProposedValue<TallyContext>>,
    ) -> Result<(), Error> {
        let Some(number) = round.as_u32().filter(|_| height.0 == self.next) else {
            warn!(%height, %round, next = self.next, "asked for a block of another height");
            return Ok(());
        };
        if self.wanted.is_some() {
            // This height is decided; no other block is proposed for it.
            return Ok(());
        }
        let me = self.keys.public();
        // After a restart: what was proposed once in a round is proposed again, never something else.
        let before = self
            .store
            .at(height.0)
            .find(|p| p.round == number && p.sender == me)
            .map(|p| p.block);
        let (block, body) = match before {
            Some(block) => match self.store.body(height.0, &block).await? {
                Some(body) => (block, body),
                None => return Ok(()),
            },
            None => match self.build(height.0, number).await? {
                Some(built) => built,
                None => return Ok(()),
            },
        };
        let value = Value(block);
        answer(reply, LocallyProposedValue::new(height, round, value));
        self.publish(height, round, Round::Nil, value, &body).await
    }

    pub(super) async fn build(
        &mut self,
        height: u64,
        round: u32,
    ) -> Result<Option<(BlockHash, Vec<u8>)>, Error> {
        let body = match self.app.build_block(height, round).await {
            Ok(body) => body,
            Err(reason) => {
                warn!(height, round, %reason, "no block could be built");
                return Ok(None);
            }
        };
        if body.len() > MAX_BLOCK_BYTES {
            warn!(
                height,
                bytes = body.len(),
                max = MAX_BLOCK_BYTES,
                "the block built is too large"
            );
            return Ok(None);
        }
        let block = match convert::block_hash(&body) {
            Ok(block) => block,
            Err(error) => {
                warn!(height, %error, "the block built does not decode");
                return Ok(None);
            }
        };
        let proposed = Proposed {
            height,
            round,
            pol_round: None,
            block,
            sender: self.keys.public(),
        };
        self.store.put(proposed, body.clone()).await?;
        Ok(Some((block, body)))
    }

    pub(super) async fn publish(
        &mut self,
        height: Height,
        round: Round,
        pol_round: Round,
        value: Value,
        body: &[u8],
    ) -> Result<(), Error> {
        let number = round.as_u32().unwrap_or(0);
        let Some(parts) = parts::cut(&self.keys, height.0, number, pol_round, value.0, body) else {
            warn!(%height, bytes = body.len(), "a block of this size cannot be sent");
            return Ok(());
        };
        for part in parts {
            if self.app.keeps_back(height.0, number, part.index) {
                continue;
            }
            let stream = StreamId::new(part.header.body_id().to_vec().into());
            let sequence = part.index.into();
            let message = StreamMessage::new(stream, sequence, StreamContent::Data(part));
            self.channels
                .network
                .send(NetworkMsg::PublishProposalPart(message))
                .await
                .map_err(|_| Error::engine("its network is gone"))?;
        }
        Ok(())
    }
}
