//! How long the steps of a round wait on this node.

use std::time::Duration;

use malachitebft_app_channel::app::types::core::{LinearTimeouts, Timeout, TimeoutKind, Timeouts};

use super::context::TallyContext;

/// The most rounds of one height for which absence is known.
const KNOWN_ROUNDS: u32 = 128;

/// Time-outs that grow with the round, and short ones in a round whose proposal cannot be expected, because the connection to its
/// proposer is gone: for the proposal itself, and for the precommits that come after two thirds of them. Who proposes is not touched by what a node knows of its connections, only how long it waits before it votes nil. A
/// proposal that comes by way of others in that time is voted for as ever.
///
/// What a node knows is taken once, when the height starts, and may be wrong then or later. So it counts in the first rounds alone, in which
/// each validator has its turn once: who waits less than the others runs ahead of them, votes nil before there is anything to vote for, and
/// they may need its vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoundWaits {
    growing: LinearTimeouts,
    /// Bit `r` is set if the proposer of round `r` is not connected.
    absent: u128,
    absent_wait: Duration,
}

impl RoundWaits {
    /// `is_absent` says of one of the first `rounds` whether its proposer is not connected.
    pub(crate) fn new(
        growing: LinearTimeouts,
        absent_wait: Duration,
        rounds: u32,
        is_absent: impl Fn(u32) -> bool,
    ) -> Self {
        let absent = (0..rounds.min(KNOWN_ROUNDS))
            .filter(|round| is_absent(*round))
            .fold(0, |bits, round| bits | 1 << round);
        Self {
            growing,
            absent,
            absent_wait,
        }
    }

    fn is_absent(&self, round: u32) -> bool {
        round < KNOWN_ROUNDS && self.absent >> round & 1 == 1
    }
}

impl Timeouts<TallyContext> for RoundWaits {
    fn duration_for(&self, timeout: Timeout) -> Duration {
        let full = self.growing.duration_for(timeout);
        let absent = matches!(timeout.kind, TimeoutKind::Propose | TimeoutKind::Precommit)
            && timeout
                .round
                .as_u32()
                .is_some_and(|round| self.is_absent(round));
        if absent {
            full.min(self.absent_wait)
        } else {
            full
        }
    }
}

#[cfg(test)]
mod tests {
    use malachitebft_app_channel::app::types::core::Round;

    use super::*;

    #[test]
    fn only_the_rounds_of_an_absent_proposer_are_shorter() {
        let growing = LinearTimeouts {
            propose: Duration::from_millis(1_500),
            propose_delta: Duration::from_millis(500),
            max_timeout: Duration::from_secs(5),
            ..LinearTimeouts::default()
        };
        let short = Duration::from_millis(300);
        let waits = RoundWaits::new(growing, short, 100, |round| round % 4 == 2);
        for round in 0..200 {
            let at = Round::new(round);
            let propose = waits.duration_for(Timeout::propose(at));
            let precommit = waits.duration_for(Timeout::precommit(at));
            if round % 4 == 2 && round < 100 {
                assert_eq!((propose, precommit), (short, short));
            } else {
                assert_eq!(precommit, growing.duration_for(Timeout::precommit(at)));
                assert_eq!(propose, growing.duration_for(Timeout::propose(at)));
                assert!(
                    propose >= Duration::from_millis(1_500) && propose <= Duration::from_secs(5)
                );
            }
            for timeout in [Timeout::prevote(at), Timeout::rebroadcast(at)] {
                assert_eq!(waits.duration_for(timeout), growing.duration_for(timeout));
            }
        }
        // A short wait is never a longer one.
        let waits = RoundWaits::new(growing, Duration::from_secs(9), 1_000, |_| true);
        let first = Timeout::propose(Round::new(0));
        assert_eq!(waits.duration_for(first), growing.duration_for(first));
    }
}
