//! Runs a command again where it did not do what was wanted: a child command with the same verb, arguments
//! and priority, on some of its targets.

use std::sync::Arc;

use domain::access::Caller;
use domain::attempt::{Reason, State};
use domain::command::{Command, Invocation};
use domain::target::Target;
use domain::terms::{RetryWish, Wishes};
use domain::time::millis;
use futures_util::future::try_join_all;
use plan::id::CommandId;
use ports::error::StoreError;
use serde_json::json;

use crate::browse::{Browse, BrowseError};
use crate::origin::Origin;
use crate::replays::Keep;
use crate::submit::{Accepted, Request, Submit, SubmitError};

/// Invocations read at once.
const PAGE: u32 = 500;
/// Invocations whose earlier attempts are read at once.
const AT_ONCE: usize = 8;

/// On which targets it runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Those that may have run and did not succeed.
    Failed,
    /// Those on which it certainly never started; where it was refused, it will be again until what refused it
    /// has changed.
    NeverStarted,
}

impl Only {
    /// Both.
    pub const ALL: [Only; 2] = [Only::Failed, Only::NeverStarted];

    /// The name used in JSON and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Only::Failed => "failed",
            Only::NeverStarted => "never_started",
        }
    }

    /// The choice called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Only> {
        Only::ALL.into_iter().find(|only| only.as_str() == name)
    }

    /// Whether an invocation that ended like this is meant.
    pub fn means(self, state: State, reason: Option<Reason>) -> bool {
        let never_started = match state {
            State::Expired | State::Skipped | State::Rejected => true,
            State::Cancelled => matches!(reason, Some(Reason::NeverSent | Reason::NotStarted)),
            State::Failed | State::TimedOut | State::Interrupted | State::Lost => false,
            State::Held | State::Queued | State::Sent | State::Accepted | State::Running | State::Succeeded => {
                return false;
            }
        };
        match self {
            Only::NeverStarted => never_started,
            // A cancelled one did what was wanted.
            Only::Failed => !never_started && state != State::Cancelled,
        }
    }
}

/// The use case.
pub struct FollowUp {
    /// Reads commands.
    pub browse: Arc<Browse>,
    /// Accepts the child.
    pub submit: Arc<Submit>,
}

/// Why there is no child.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FollowUpError {
    /// No such command, or out of the caller's sight.
    #[error("no such command")]
    NotFound,
    /// None of its invocations ended like that.
    #[error("no invocation ended like that; nothing to run again")]
    Nothing,
    /// The child was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BrowseError> for FollowUpError {
    fn from(error: BrowseError) -> FollowUpError {
        match error {
            BrowseError::NotFound => FollowUpError::NotFound,
            BrowseError::Store(error) => FollowUpError::Store(error),
        }
    }
}

impl FollowUp {
    /// Submits the child.
    ///
    /// # Errors
    /// See [`FollowUpError`]; nothing was accepted then.
    pub async fn run(
        &self,
        caller: &Caller,
        command: CommandId,
        only: Only,
        once: Option<Keep<Accepted>>,
        origin: &Origin,
    ) -> Result<Accepted, FollowUpError> {
        let parent = self.browse.command(caller, command).await?.command;
        let mut agents = Vec::new();
        let mut after = None;
        loop {
            let page = self.browse.invocations(caller, command, None, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.agent);
            for some in page.chunks(AT_ONCE) {
                let meant = try_join_all(some.iter().map(|one| self.is_meant(only, one))).await?;
                let meant = some.iter().zip(meant).filter(|(_, meant)| *meant);
                agents.extend(meant.map(|(one, _)| one.agent.to_string()));
            }
        }
        if agents.is_empty() {
            return Err(FollowUpError::Nothing);
        }
        let target = Target { agents, ..Target::default() };
        Ok(self.submit.run(caller, Request { once, ..request(&parent, target) }, origin).await?)
    }

    /// Whether it ended like that. One whose last attempt never started although an earlier one may have is failed.
    async fn is_meant(&self, only: Only, one: &Invocation) -> Result<bool, StoreError> {
        let never_started = |state, reason| Only::NeverStarted.means(state, reason);
        if one.attempt == 1 || !never_started(one.state, one.reason) {
            return Ok(only.means(one.state, one.reason));
        }
        let earlier = self.browse.commands.attempts(one.command, one.agent).await?;
        let never = earlier.iter().all(|attempt| never_started(attempt.state, attempt.reason));
        Ok(never == (only == Only::NeverStarted))
    }
}

/// The parent's intent for other targets. Its end of all is its own.
fn request(parent: &Command, target: Target) -> Request {
    let terms = &parent.terms;
    let retry = RetryWish {
        max_attempts: terms.retry.max_attempts,
        on: Some(terms.retry.on.clone()),
        backoff_ms: Some(millis(terms.retry.backoff)),
    };
    Request {
        verb: parent.verb.to_string(),
        // What was stored was JSON when it was accepted.
        args: serde_json::from_str(&parent.args).unwrap_or_default(),
        target_json: json!({ "agents": target.agents }).to_string(),
        target,
        priority: parent.priority,
        wishes: Wishes {
            start_within_ms: Some(millis(terms.start_within)),
            finish_by: None,
            kill_after_ms: terms.kill_after.map(millis),
            retry: Some(retry),
            rollout: terms.rollout.clone(),
        },
        run_timeout_ms: Some(parent.run_timeout_ms),
        parent: Some(parent.id),
        once: None,
    }
}

#[cfg(test)]
mod tests {
    use plan::outcome::RejectCause;

    use super::*;

    #[test]
    fn an_end_is_failed_or_never_started_and_never_both() {
        let busy = Some(Reason::Agent(RejectCause::Busy));
        let cases = [
            (State::Succeeded, None, [false, false]),
            (State::Running, None, [false, false]),
            (State::Failed, None, [true, false]),
            (State::Lost, Some(Reason::AgentGone), [true, false]),
            (State::Rejected, Some(Reason::Agent(RejectCause::Policy)), [false, true]),
            (State::Rejected, busy, [false, true]),
            (State::Expired, Some(Reason::Deadline), [false, true]),
            (State::Skipped, Some(Reason::Halted), [false, true]),
            (State::Cancelled, Some(Reason::NeverSent), [false, true]),
            (State::Cancelled, Some(Reason::Killed), [false, false]),
        ];
        for (state, reason, expected) in cases {
            assert_eq!(Only::ALL.map(|only| only.means(state, reason)), expected, "{state} {reason:?}");
        }
    }
}
