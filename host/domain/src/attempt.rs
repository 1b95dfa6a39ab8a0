//! One attempt's life. Every pair of state and event is decided in [`step`]; the store applies it
//! and nothing else.
//!
//! ```text
//!            release              send            acknowledge           start
//!   held ─────────────▶ queued ─────────▶ sent ─────────────▶ accepted ─────────▶ running
//!    │ │                 │  ▲               │ │                  │ │                 │ │
//!    │ └─ cancel, halt,  │  └─ not known ───┘ │                  │ │                 │ │
//!    │    deadline ──────┴─▶ cancelled        │                  │ │                 │ │
//!    │                       skipped          └── gone, deadline ─┴─┼── gone ─────────┘ │
//!    │                       expired               ▼                │                   │
//!    │                                           lost ◀─────────────┘                   │
//!    │                                             │ (a late report amends it)          │
//!    └─────────────────────────────────────────────┴──▶ succeeded failed timed_out ◀────┘
//!                                                       cancelled expired rejected interrupted
//! ```
//!
//! What came out of a backup is `held(restored)`: nobody knows whether it was sent after the backup was
//! made, so it is treated as `sent` is. Its agent's report settles it, it never reads as "never started"
//! without the agent's word, and the mark stays until the agent has spoken.
//!
//! Reports skip ahead: a RESULT may arrive while the row still reads `queued`, because `sent`,
//! `accepted` and `running` are written lazily and a result swallows them.

use std::fmt;

use plan::outcome::RejectCause;

/// What is known about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for something other than the agent; not sent.
    Held,
    /// Eligible; waits for the agent or a slot; not sent.
    Queued,
    /// Written to a socket, not acknowledged; may or may not have arrived.
    Sent,
    /// The agent has it on disk; not started.
    Accepted,
    /// The agent says its process started.
    Running,
    /// Ran to its end; the verb calls it a success.
    Succeeded,
    /// Ran to its end; the verb calls it a failure.
    Failed,
    /// The agent killed it at its run timeout.
    TimedOut,
    /// Never sent, or the agent confirmed that it was not started or was killed.
    Cancelled,
    /// The start deadline passed and it is proven that it never started.
    Expired,
    /// Refused by the agent; not started.
    Rejected,
    /// The rollout halted before it was sent.
    Skipped,
    /// Started, then the agent died; the effect is unknown.
    Interrupted,
    /// The agent has been away too long; only a late report may amend this.
    Lost,
}

impl State {
    /// All states in the order a person expects to read them.
    pub const ALL: [State; 14] = [
        State::Held,
        State::Queued,
        State::Sent,
        State::Accepted,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::TimedOut,
        State::Cancelled,
        State::Expired,
        State::Rejected,
        State::Skipped,
        State::Interrupted,
        State::Lost,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Queued => "queued",
            State::Sent => "sent",
            State::Accepted => "accepted",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::TimedOut => "timed_out",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            State::Rejected => "rejected",
            State::Skipped => "skipped",
            State::Interrupted => "interrupted",
            State::Lost => "lost",
        }
    }

    /// The state called `name`, if there is one.
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the attempt is over, as far as is known.
    pub fn is_terminal(self) -> bool {
        match self {
            State::Held | State::Queued | State::Sent | State::Accepted | State::Running => false,
            State::Succeeded
            | State::Failed
            | State::TimedOut
            | State::Cancelled
            | State::Expired
            | State::Rejected
            | State::Skipped
            | State::Interrupted
            | State::Lost => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an attempt is in its state, where the state alone does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Held: a retry is due later.
    Retry,
    /// Held: waits for a rollout slot.
    Rollout,
    /// Held, or released since: came out of a backup, and may have been sent after it was made.
    Restored,
    /// Expired: the agent was not connected and the caller asked not to wait.
    Offline,
    /// Expired: the start deadline passed while it waited.
    Deadline,
    /// Lost: sent, never acknowledged, and the start deadline passed.
    Unacknowledged,
    /// Lost: the agent has had no session for too long.
    AgentGone,
    /// Lost: the agent came back without any memory of it.
    JournalLost,
    /// Cancelled: before it was sent.
    NeverSent,
    /// Cancelled: the agent says it had not started.
    NotStarted,
    /// Cancelled: the agent killed it.
    Killed,
    /// Rejected, with the agent's cause.
    Agent(RejectCause),
    /// Rejected by the host, before it was sent.
    Withdrawn(Withdrawn),
    /// Skipped: too many failures elsewhere.
    Halted,
}

/// Why a host does not send what it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withdrawn {
    /// Its submitter may no longer have it run, or is gone.
    Submitter,
    /// The operator's grant no longer allows its plan to the plugin, or the plugin is switched off.
    Plugin,
    /// What is stored is not what was signed.
    Envelope,
    /// Its agent was deleted.
    Agent,
}

impl Reason {
    /// All reasons, for reading them back.
    pub const ALL: [Reason; 22] = [
        Reason::Retry,
        Reason::Rollout,
        Reason::Restored,
        Reason::Offline,
        Reason::Deadline,
        Reason::Unacknowledged,
        Reason::AgentGone,
        Reason::JournalLost,
        Reason::NeverSent,
        Reason::NotStarted,
        Reason::Killed,
        Reason::Agent(RejectCause::Signature),
        Reason::Agent(RejectCause::Stale),
        Reason::Agent(RejectCause::Policy),
        Reason::Agent(RejectCause::Plan),
        Reason::Agent(RejectCause::Busy),
        Reason::Agent(RejectCause::Spawn),
        Reason::Withdrawn(Withdrawn::Submitter),
        Reason::Withdrawn(Withdrawn::Plugin),
        Reason::Withdrawn(Withdrawn::Envelope),
        Reason::Withdrawn(Withdrawn::Agent),
        Reason::Halted,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Retry => "retry",
            Reason::Rollout => "rollout",
            Reason::Restored => "restored",
            Reason::Offline => "offline",
            Reason::Deadline => "deadline",
            Reason::Unacknowledged => "unacknowledged",
            Reason::AgentGone => "agent_gone",
            Reason::JournalLost => "journal_lost",
            Reason::NeverSent => "never_sent",
            Reason::NotStarted => "not_started",
            Reason::Killed => "killed",
            Reason::Agent(cause) => cause.as_str(),
            Reason::Withdrawn(Withdrawn::Submitter) => "grant_revoked",
            Reason::Withdrawn(Withdrawn::Plugin) => "plugin_denied",
            Reason::Withdrawn(Withdrawn::Envelope) => "envelope_invalid",
            Reason::Withdrawn(Withdrawn::Agent) => "agent_deleted",
            Reason::Halted => "halted",
        }
    }

    /// The reason called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// Something that happened to an attempt, or was learnt about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// What it was held for is over.
    Release,
    /// The host wrote it to the agent's socket.
    Send,
    /// The agent has it in its journal.
    Acknowledge,
    /// The agent started its first process.
    Start,
    /// It ran to its end and the verb judged it.
    Finish {
        /// The verb's judgement.
        succeeded: bool,
    },
    /// The agent killed it at its run timeout.
    TimeOut,
    /// The agent obeyed a cancel.
    AgentCancelled {
        /// Whether a process had been started.
        started: bool,
    },
    /// The agent would not start it past its deadline.
    AgentExpired,
    /// The agent refused it.
    Reject(RejectCause),
    /// The agent lost it while it ran.
    Interrupt,
    /// The agent opened a session and does not know it.
    NotKnown,
    /// Somebody asked to cancel it, and it is certain that it was never sent.
    CancelUnsent,
    /// The host found that it must not be sent any more.
    Withdraw(Withdrawn),
    /// Its start deadline passed, and it is certain whether it was sent.
    StartDeadline,
    /// Its agent is not connected and the caller asked not to wait.
    Offline,
    /// Its agent has had no session for longer than `lost_after`.
    AgentGone,
    /// Its rollout halted.
    Halt,
}

/// What an event does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The attempt is now in another state.
    To(State, Option<Reason>),
    /// Known already, overtaken, or none of this attempt's business.
    Stay,
}

/// Decides every pair of state and event. `reason` matters only for what came out of a backup.
pub fn step(state: State, reason: Option<Reason>, event: Event) -> Step {
    // Nobody knows whether it was sent; the mark goes with it until its agent has spoken.
    let restored = reason == Some(Reason::Restored) && matches!(state, State::Held | State::Queued | State::Sent);
    let mark = reason.filter(|_| restored);
    let reported = |to: State, reason: Option<Reason>| match state {
        State::Queued | State::Sent | State::Accepted | State::Running | State::Lost => Step::To(to, reason),
        State::Held if restored => Step::To(to, reason),
        // A held attempt was never sent, so nobody can have a report about it; the rest is over.
        State::Held
        | State::Succeeded
        | State::Failed
        | State::TimedOut
        | State::Cancelled
        | State::Expired
        | State::Rejected
        | State::Skipped
        | State::Interrupted => Step::Stay,
    };
    let unsent = |to: State, reason: Reason| match state {
        State::Held | State::Queued if !restored => Step::To(to, Some(reason)),
        _ => Step::Stay,
    };
    match event {
        Event::Release if state == State::Held => Step::To(State::Queued, mark),
        Event::Release => Step::Stay,
        Event::Send if state == State::Queued => Step::To(State::Sent, mark),
        Event::Send => Step::Stay,
        Event::Acknowledge => match state {
            State::Queued | State::Sent => Step::To(State::Accepted, None),
            State::Held if restored => Step::To(State::Accepted, None),
            _ => Step::Stay,
        },
        Event::Start => match state {
            State::Queued | State::Sent | State::Accepted | State::Lost => Step::To(State::Running, None),
            State::Held if restored => Step::To(State::Running, None),
            _ => Step::Stay,
        },
        Event::Finish { succeeded: true } => reported(State::Succeeded, None),
        Event::Finish { succeeded: false } => reported(State::Failed, None),
        Event::TimeOut => reported(State::TimedOut, None),
        Event::AgentCancelled { started: true } => reported(State::Cancelled, Some(Reason::Killed)),
        Event::AgentCancelled { started: false } => reported(State::Cancelled, Some(Reason::NotStarted)),
        Event::AgentExpired => reported(State::Expired, Some(Reason::Deadline)),
        Event::Reject(cause) => reported(State::Rejected, Some(Reason::Agent(cause))),
        Event::Interrupt => reported(State::Interrupted, None),
        Event::NotKnown => match state {
            State::Sent => Step::To(State::Queued, mark),
            State::Accepted | State::Running => Step::To(State::Lost, Some(Reason::JournalLost)),
            _ => Step::Stay,
        },
        Event::CancelUnsent => unsent(State::Cancelled, Reason::NeverSent),
        Event::Withdraw(_) if restored && state == State::Queued => Step::To(State::Held, mark),
        Event::Withdraw(why) => unsent(State::Rejected, Reason::Withdrawn(why)),
        Event::Offline => unsent(State::Expired, Reason::Offline),
        Event::StartDeadline if state == State::Sent || restored => Step::To(State::Lost, Some(Reason::Unacknowledged)),
        Event::StartDeadline => unsent(State::Expired, Reason::Deadline),
        Event::AgentGone => match state {
            State::Sent | State::Accepted | State::Running => Step::To(State::Lost, Some(Reason::AgentGone)),
            _ => Step::Stay,
        },
        Event::Halt => unsent(State::Skipped, Reason::Halted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [(&str, Event); 19] = [
        ("release", Event::Release),
        ("send", Event::Send),
        ("acknowledge", Event::Acknowledge),
        ("start", Event::Start),
        ("finish ok", Event::Finish { succeeded: true }),
        ("finish bad", Event::Finish { succeeded: false }),
        ("time out", Event::TimeOut),
        ("killed", Event::AgentCancelled { started: true }),
        ("not started", Event::AgentCancelled { started: false }),
        ("agent expired", Event::AgentExpired),
        ("reject", Event::Reject(RejectCause::Policy)),
        ("interrupt", Event::Interrupt),
        ("not known", Event::NotKnown),
        ("cancel unsent", Event::CancelUnsent),
        ("withdraw", Event::Withdraw(Withdrawn::Submitter)),
        ("start deadline", Event::StartDeadline),
        ("offline", Event::Offline),
        ("agent gone", Event::AgentGone),
        ("halt", Event::Halt),
    ];

    /// Rows are events; columns are held, queued, sent, accepted, running, lost, and held(restored),
    /// queued(restored), sent(restored). A dash stays; a star keeps the mark.
    const TABLE: &str = "
        release        | queued    | -           | -           | -           | -           | -           | queued*     | -           | -
        send           | -         | sent        | -           | -           | -           | -           | -           | sent*       | -
        acknowledge    | -         | accepted    | accepted    | -           | -           | -           | accepted    | accepted    | accepted
        start          | -         | running     | running     | running     | -           | running     | running     | running     | running
        finish ok      | -         | succeeded   | succeeded   | succeeded   | succeeded   | succeeded   | succeeded   | succeeded   | succeeded
        finish bad     | -         | failed      | failed      | failed      | failed      | failed      | failed      | failed      | failed
        time out       | -         | timed_out   | timed_out   | timed_out   | timed_out   | timed_out   | timed_out   | timed_out   | timed_out
        killed         | -         | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled
        not started    | -         | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled   | cancelled
        agent expired  | -         | expired     | expired     | expired     | expired     | expired     | expired     | expired     | expired
        reject         | -         | rejected    | rejected    | rejected    | rejected    | rejected    | rejected    | rejected    | rejected
        interrupt      | -         | interrupted | interrupted | interrupted | interrupted | interrupted | interrupted | interrupted | interrupted
        not known      | -         | -           | queued      | lost        | lost        | -           | -           | -           | queued*
        cancel unsent  | cancelled | cancelled   | -           | -           | -           | -           | -           | -           | -
        withdraw       | rejected  | rejected    | -           | -           | -           | -           | -           | held*       | -
        start deadline | expired   | expired     | lost        | -           | -           | -           | lost        | lost        | lost
        offline        | expired   | expired     | -           | -           | -           | -           | -           | -           | -
        agent gone     | -         | -           | lost        | lost        | lost        | -           | -           | -           | lost
        halt           | skipped   | skipped     | -           | -           | -           | -           | -           | -           | -
    ";

    #[test]
    fn every_state_and_event_is_decided_as_the_table_says() {
        let plain = [State::Held, State::Queued, State::Sent, State::Accepted, State::Running, State::Lost];
        let restored = [State::Held, State::Queued, State::Sent].map(|state| (state, Some(Reason::Restored)));
        let columns: Vec<(State, Option<Reason>)> =
            plain.map(|state| (state, None)).into_iter().chain(restored).collect();
        let rows: Vec<&str> = TABLE.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(rows.len(), EVENTS.len());
        for (row, (name, event)) in rows.iter().zip(EVENTS) {
            let mut cells = row.split('|').map(str::trim);
            assert_eq!(cells.next(), Some(name));
            for ((state, reason), cell) in columns.iter().zip(cells.by_ref()) {
                let found = match step(*state, *reason, event) {
                    Step::To(to, Some(Reason::Restored)) => format!("{to}*"),
                    Step::To(to, _) => to.as_str().to_owned(),
                    Step::Stay => "-".to_owned(),
                };
                assert_eq!(found, cell, "{name} in {state} {reason:?}");
            }
            assert_eq!(cells.next(), None);
        }
    }

    #[test]
    fn only_lost_is_ever_left_again() {
        for state in State::ALL.into_iter().filter(|state| state.is_terminal() && *state != State::Lost) {
            for (name, event) in EVENTS {
                assert_eq!(step(state, None, event), Step::Stay, "{name} in {state}");
            }
        }
    }

    #[test]
    fn nothing_is_called_never_started_once_it_may_have_arrived() {
        let restored = [State::Held, State::Queued, State::Sent].map(|state| (state, Some(Reason::Restored)));
        let sent = [State::Sent, State::Accepted, State::Running, State::Lost].map(|state| (state, None));
        for (state, reason) in sent.into_iter().chain(restored) {
            let withdraw = Event::Withdraw(Withdrawn::Plugin);
            for event in [Event::CancelUnsent, Event::StartDeadline, Event::Offline, Event::Halt, withdraw] {
                let proven = matches!(
                    step(state, reason, event),
                    Step::To(State::Cancelled | State::Expired | State::Skipped | State::Rejected, _)
                );
                assert!(!proven, "{event:?} in {state}");
            }
        }
    }

    #[test]
    fn names_read_back() {
        assert!(State::ALL.into_iter().all(|state| State::parse(state.as_str()) == Some(state)));
        assert!(Reason::ALL.into_iter().all(|reason| Reason::parse(reason.as_str()) == Some(reason)));
    }
}
