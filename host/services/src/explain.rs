//! One sentence a person understands about an invocation's state.

use domain::attempt::{Reason, State, Withdrawn};
use domain::command::Invocation;

/// Says what is known, and no more. Of an invocation that was tried before it speaks of the latest attempt.
pub fn sentence(invocation: &Invocation) -> String {
    let text = of_attempt(invocation);
    let never = matches!(invocation.state, State::Skipped | State::Expired | State::Rejected | State::Cancelled);
    match invocation.attempt {
        number @ 2.. if never => format!("attempt {number}: {text}; see its earlier attempts for what ran"),
        _ => text,
    }
}

fn of_attempt(invocation: &Invocation) -> String {
    let cancelling = invocation.cancel_requested_at.is_some();
    let text = match invocation.state {
        State::Held => match invocation.reason {
            Some(Reason::Retry) => "waits for its next try",
            Some(Reason::Restored) if cancelling => {
                "came out of a backup; cancel asked for, the agent will say whether it ever ran"
            }
            Some(Reason::Restored) => {
                "came out of a backup, so it may have run already; not sent until it is released, and the agent runs \
                 nothing twice"
            }
            _ => "is held back; not sent",
        },
        State::Queued if invocation.reason == Some(Reason::Restored) => "released after a restore; waits for the agent",
        State::Queued if cancelling => "cancel asked for; the agent will confirm when it is back",
        State::Queued => "waits for the agent; not started",
        State::Sent if cancelling => "sent, then a cancel was asked for; the agent has not confirmed either",
        State::Sent => "sent; the agent has not confirmed it",
        State::Accepted if cancelling => "cancel asked for; the agent has not confirmed it yet",
        State::Accepted => "the agent has it and has not started it",
        State::Running if cancelling => "running; cancel asked for, the agent has not confirmed it yet",
        State::Running => "running",
        State::Succeeded => "ran and succeeded",
        State::Failed => "ran and failed",
        State::TimedOut => "started, and was killed when its time to run was over",
        State::Cancelled => match invocation.reason {
            Some(Reason::NeverSent) => "cancelled before it was sent; it never ran",
            Some(Reason::NotStarted) => "cancelled; the agent says it had not started",
            _ => "cancelled while it ran; the agent killed it",
        },
        State::Expired => match invocation.reason {
            Some(Reason::Offline) => "the agent was not connected; it never ran",
            _ => "its time to start passed; it never ran",
        },
        State::Rejected => match invocation.reason {
            Some(Reason::Withdrawn(why)) => match why {
                Withdrawn::Submitter => "its submitter may no longer have it run; it was not sent and never ran",
                Withdrawn::Plugin => "its plugin may no longer plan this; it was not sent and never ran",
                Withdrawn::Envelope => "what is stored is not what was signed; it was not sent and never ran",
                Withdrawn::Agent => "its agent was deleted; it was not sent and never ran",
            },
            Some(Reason::Agent(plan::outcome::RejectCause::Policy)) => {
                "the agent's own policy does not allow it; it never ran"
            }
            Some(Reason::Agent(plan::outcome::RejectCause::Busy)) => "the agent had no room for it; it never ran",
            Some(Reason::Agent(plan::outcome::RejectCause::Spawn)) => "the agent could not start the program",
            _ => "the agent refused it; it never ran",
        },
        State::Skipped => "not sent: too many failures elsewhere",
        State::Interrupted => "it may have started; its effect is not known",
        State::Lost => match invocation.reason {
            Some(Reason::Unacknowledged) => "sent, never confirmed, and the agent is away; it may or may not have run",
            Some(Reason::JournalLost) => "the agent came back without any memory of it; effect unknown",
            _ if invocation.started_at.is_some() => "agent went away after it started; effect unknown",
            _ => "agent went away before it said anything; it may or may not have run",
        },
    };
    // Of what ran to its end this is the one place in which everybody sees that the output is not whole, or was
    // not understood: without it an empty output looks like one of a program that printed nothing.
    let gap = match invocation.state {
        State::Succeeded | State::Failed => invocation.parse_fault.as_ref(),
        _ => None,
    };
    match invocation.message.as_ref().or(gap) {
        Some(message) => format!("{text} ({message})"),
        None => text.to_owned(),
    }
}
