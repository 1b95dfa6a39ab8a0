//! A command: the intent, immutable once accepted, and what its invocations add up to.

use std::fmt;

use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Outcome;

use crate::access::Principal;
use crate::attempt::{Reason, State};
use crate::counts::Counts;
use crate::priority::Priority;
use crate::terms::Terms;
use crate::time::Timestamp;
use crate::verb::VerbName;

/// What was accepted, before its invocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// The verb.
    pub verb: VerbName,
    /// Name of the plugin that planned it.
    pub plugin: String,
    /// Version of that plugin.
    pub plugin_version: String,
    /// SHA-256 of that plugin.
    pub plugin_digest: String,
    /// The arguments, compact JSON text.
    pub args: String,
    /// The target as asked for, compact JSON text.
    pub target: String,
    /// Urgency.
    pub priority: Priority,
    /// Name of the user who asked.
    pub submitter: String,
    /// What their authority is looked up by when it is sent; absent where an earlier version stored it.
    pub principal: Option<Principal>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Nothing of its first attempts starts after this.
    pub start_by: Timestamp,
    /// One attempt's longest run, in milliseconds.
    pub run_timeout_ms: u64,
    /// Its clocks, retries and rollout.
    pub terms: Terms,
    /// The command this one follows up.
    pub parent: Option<CommandId>,
    /// One sentence of the plan, for people.
    pub summary: String,
    /// The request that submitted it, for tracing.
    pub correlation_id: String,
    /// W3C trace context of that request.
    pub traceparent: Option<String>,
}

/// A command on one agent, as accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvocation {
    /// The agent.
    pub agent: AgentId,
    /// Its name then.
    pub agent_name: String,
    /// Its site then.
    pub site: String,
    /// What the agent will be sent.
    pub envelope: SignedEnvelope,
    /// Whether its rollout lets it go later: it begins as `held(rollout)`, not as `queued`.
    pub held: bool,
}

impl NewInvocation {
    /// The state it begins in.
    pub fn state(&self) -> State {
        if self.held { State::Held } else { State::Queued }
    }

    /// Why.
    pub fn reason(&self) -> Option<Reason> {
        self.held.then_some(Reason::Rollout)
    }
}

/// A command on one agent, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The command.
    pub command: CommandId,
    /// The agent.
    pub agent: AgentId,
    /// Its name when the command was accepted.
    pub agent_name: String,
    /// Its site when the command was accepted.
    pub site: String,
    /// The latest attempt, from 1.
    pub attempt: u32,
    /// That attempt's state.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// What a person should know besides, e.g. the agent's sentence about a refusal.
    pub message: Option<String>,
    /// When a cancel was asked for.
    pub cancel_requested_at: Option<Timestamp>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// With `held(retry)`: when it is tried again.
    pub due_at: Option<Timestamp>,
    /// When the agent said it started.
    pub started_at: Option<Timestamp>,
    /// When its state last changed.
    pub changed_at: Timestamp,
    /// How the agent says it ended.
    pub outcome: Option<Outcome>,
    /// The typed result, JSON text.
    pub result: Option<String>,
    /// The verb's one line about it.
    pub summary: Option<String>,
    /// Why there is no typed result though it ran to its end.
    pub parse_fault: Option<String>,
}

impl Invocation {
    /// The latest attempt's key.
    pub fn key(&self) -> AttemptKey {
        AttemptKey { command: self.command, number: self.attempt }
    }
}

/// An attempt that a later one has taken the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Where it ended; a late report may still amend `lost`.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// What a person should know besides.
    pub message: Option<String>,
    /// When the agent said it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub changed_at: Timestamp,
    /// How the agent says it ended.
    pub outcome: Option<Outcome>,
    /// The typed result, JSON text.
    pub result: Option<String>,
    /// The verb's one line about it.
    pub summary: Option<String>,
    /// Why there is no typed result though it ran to its end.
    pub parse_fault: Option<String>,
}

/// A command as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandView {
    /// What was accepted.
    pub command: Command,
    /// What its invocations add up to.
    pub status: Status,
    /// How many invocations are in each state.
    pub counts: Counts,
    /// When the last invocation ended, if all have.
    pub completed_at: Option<Timestamp>,
    /// Why its rollout halted, if it did.
    pub halted: Option<String>,
}

/// What a command's invocations add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Not due yet.
    Scheduled,
    /// Nothing has been sent.
    Pending,
    /// Something may be running, or some have ended and some have not.
    Running,
    /// Over; its rollout halted.
    Halted,
    /// Over; all succeeded.
    Succeeded,
    /// Over; some succeeded.
    Partial,
    /// Over; none succeeded and the effect of at least one is unknown.
    Unknown,
    /// Over; all were cancelled.
    Cancelled,
    /// Over; none ever started, all ran out of time to.
    Expired,
    /// Over; none of the above.
    Failed,
}

impl Status {
    /// All statuses.
    pub const ALL: [Status; 10] = [
        Status::Scheduled,
        Status::Pending,
        Status::Running,
        Status::Halted,
        Status::Succeeded,
        Status::Partial,
        Status::Unknown,
        Status::Cancelled,
        Status::Expired,
        Status::Failed,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Scheduled => "scheduled",
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Halted => "halted",
            Status::Succeeded => "succeeded",
            Status::Partial => "partial",
            Status::Unknown => "unknown",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Failed => "failed",
        }
    }

    /// The status called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether every invocation is over.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Status::Scheduled | Status::Pending | Status::Running)
    }

    /// What `counts` add up to.
    pub fn of(counts: &Counts) -> Status {
        let open: u32 = counts.iter().filter(|(state, _)| !state.is_terminal()).map(|(_, n)| n).sum();
        if open > 0 {
            let unsent = counts.of(State::Held) + counts.of(State::Queued);
            return if unsent == counts.total() { Status::Pending } else { Status::Running };
        }
        if counts.of(State::Skipped) > 0 {
            Status::Halted
        } else if counts.all(State::Succeeded) {
            Status::Succeeded
        } else if counts.of(State::Succeeded) > 0 {
            Status::Partial
        } else if counts.of(State::Lost) + counts.of(State::Interrupted) > 0 {
            Status::Unknown
        } else if counts.all(State::Cancelled) {
            Status::Cancelled
        } else if counts.all(State::Expired) {
            Status::Expired
        } else {
            Status::Failed
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(states: &[State], expected: Status) {
        assert_eq!(Status::of(&states.iter().copied().collect()), expected, "{states:?}");
    }

    #[test]
    fn a_status_never_says_more_than_its_invocations() {
        use State::*;
        check(&[Queued, Held], Status::Pending);
        check(&[Queued, Succeeded], Status::Running);
        check(&[Sent], Status::Running);
        check(&[Succeeded, Succeeded], Status::Succeeded);
        check(&[Succeeded, Failed], Status::Partial);
        check(&[Succeeded, Lost], Status::Partial);
        check(&[Failed, Lost], Status::Unknown);
        check(&[Cancelled, Interrupted], Status::Unknown);
        check(&[Cancelled, Cancelled], Status::Cancelled);
        check(&[Expired], Status::Expired);
        check(&[Cancelled, Expired], Status::Failed);
        check(&[Rejected], Status::Failed);
        check(&[Succeeded, Skipped], Status::Halted);
    }

    #[test]
    fn names_read_back() {
        assert!(Status::ALL.into_iter().all(|status| Status::parse(status.as_str()) == Some(status)));
    }
}
