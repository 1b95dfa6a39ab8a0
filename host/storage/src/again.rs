//! Whether an attempt that has just ended is followed by another, decided where its end is written, so that
//! a command never reads as over between two attempts.

use std::sync::Arc;
use std::time::Duration;

use domain::terms::Terms;
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey};

use crate::fold::Standing;

/// What an invocation's command says about trying again; only of commands that may.
#[derive(Clone, Debug)]
pub(crate) struct Retrying {
    /// The command's terms.
    pub terms: Arc<Terms>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// One attempt's longest run.
    pub run_timeout: Duration,
    /// Whether nothing more of it is to begin: a cancel was asked for, or its rollout has halted.
    pub over: bool,
}

/// The attempt that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// When it is eligible.
    pub due_at: Timestamp,
    /// It is not to start after this.
    pub start_by: Timestamp,
}

impl Retrying {
    /// The attempt after `key`, which stands at `standing` now. There is none that could not start any more: what
    /// became of the one before would be hidden behind it.
    pub fn next(&self, key: AttemptKey, agent: AgentId, standing: &Standing) -> Option<Next> {
        if self.over || !standing.state.is_terminal() {
            return None;
        }
        let Terms { retry, finish_by, .. } = &*self.terms;
        let at = standing.changed_at;
        let due_at = retry.next(key.number, standing.state, standing.reason, at, *finish_by, chance(key, agent))?;
        let start_by = self.terms.next_start_by(self.created_at, due_at, self.run_timeout);
        (start_by > due_at).then_some(Next { due_at, start_by })
    }
}

/// A number in 0..1 that differs from agent to agent and from attempt to attempt. Spread is all that is
/// asked of it, and the ids have it already (Source: the finaliser of SplitMix64).
fn chance(key: AttemptKey, agent: AgentId) -> f64 {
    let bits = key.command.0.as_u128() ^ agent.0.as_u128().rotate_left(64);
    let folded = (bits >> 64) as u64 ^ bits as u64 ^ u64::from(key.number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut mixed = folded;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use domain::attempt::State;
    use domain::retry::{Cause, Retry};
    use plan::id::CommandId;
    use uuid::Uuid;

    use super::*;

    fn key(command: u128, number: u32) -> AttemptKey {
        AttemptKey { command: CommandId(Uuid::from_u128(command)), number }
    }

    #[test]
    fn chances_are_spread_over_agents_and_attempts() {
        let mut tenths = [0; 10];
        for n in 0..10_000u128 {
            let chance = chance(key(7, 1), AgentId(Uuid::from_u128(n)));
            assert!((0.0..1.0).contains(&chance));
            tenths[(chance * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
        let agent = AgentId(Uuid::from_u128(1));
        assert!((chance(key(7, 1), agent) - chance(key(7, 2), agent)).abs() > f64::EPSILON);
    }

    #[test]
    fn what_was_asked_to_end_is_not_tried_again() {
        let retry = Retry { max_attempts: 2, on: vec![Cause::Failed], backoff: Duration::from_secs(1) };
        let retrying = Retrying {
            terms: Arc::new(Terms { retry, ..Terms::default() }),
            created_at: Timestamp(0),
            run_timeout: Duration::from_secs(1),
            over: false,
        };
        let mut failed = Standing::new(State::Failed, None, None);
        failed.changed_at = Timestamp(5);
        let agent = AgentId(Uuid::from_u128(1));
        let next = retrying.next(key(7, 1), agent, &failed).expect("another attempt");
        assert!(next.due_at >= Timestamp(5) && next.start_by > next.due_at);
        assert_eq!(retrying.next(key(7, 2), agent, &failed), None, "two are enough");
        let over = Retrying { over: true, ..retrying.clone() };
        assert_eq!(over.next(key(7, 1), agent, &failed), None);

        // Reported when all that was signed for it has passed.
        let end = retrying.terms.not_after(retrying.created_at, retrying.run_timeout);
        failed.changed_at = end - Duration::from_secs(60);
        assert!(retrying.next(key(7, 1), agent, &failed).is_some());
        failed.changed_at = end;
        assert_eq!(retrying.next(key(7, 1), agent, &failed), None);
    }
}
