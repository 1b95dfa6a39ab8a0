//! The checks on a COMMAND, in the order that keeps a stolen store, a replayed frame and a confused
//! host from running anything: signature, addressee, epoch, attempt, validity, form, policy, room.
//!
//! Invariant: pure; nothing is remembered here.

use plan::envelope::Envelope;
use plan::id::{AgentId, ClusterId};
use plan::keyring::Keyring;
use plan::outcome::RejectCause;
use plan::secret::exposed;
use wire::frame::Command;

use crate::journal::KEEP_TOMBSTONE_MS;
use crate::policy::Policy;

/// Longest sentence in a refusal.
const MAX_MESSAGE_CHARS: usize = 1024;

/// What to do with a COMMAND.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Not signed for us. It is answered and not remembered: what anybody could have written must not
    /// use up the name of an attempt.
    Forged(String),
    /// Signed for us, and refused for good.
    Refused(Box<Envelope>, RejectCause, String),
    /// Its time to start was over when it came.
    Late(Box<Envelope>),
    /// To be remembered and run.
    Accepted(Box<Envelope>),
}

/// What the checks compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench<'a> {
    pub keys: &'a Keyring,
    pub cluster_id: ClusterId,
    pub agent_id: AgentId,
    pub highest_epoch: u64,
    /// The host's clock now.
    pub host_ms: i64,
    pub policy: &'a Policy,
    /// Why there is no room, if there is none.
    pub full: Option<&'a str>,
}

/// Judges `command`.
pub(super) fn examine(command: &Command, bench: Bench<'_>) -> Verdict {
    let envelope = match bench.keys.open(&command.envelope) {
        Ok(envelope) => Box::new(envelope),
        Err(error) => return Verdict::Forged(error.to_string()),
    };
    if envelope.cluster_id != bench.cluster_id {
        return Verdict::Forged(format!("the envelope is of cluster {}, not ours", envelope.cluster_id));
    }
    if envelope.agent_id != bench.agent_id {
        return Verdict::Forged(format!("the envelope is for agent {}, not us", envelope.agent_id));
    }
    if envelope.command_id != command.attempt.command {
        return Verdict::Forged(format!("the envelope is of command {}, the attempt is not", envelope.command_id));
    }
    let refused = |cause, message: String| {
        Verdict::Refused(envelope.clone(), cause, message.chars().take(MAX_MESSAGE_CHARS).collect())
    };
    if envelope.epoch < bench.highest_epoch {
        let message = format!("cluster epoch {} is older than {}, seen before", envelope.epoch, bench.highest_epoch);
        return refused(RejectCause::Stale, message);
    }
    if command.attempt.number > envelope.max_attempts {
        let message = format!("attempt {} is over the {} agreed to", command.attempt.number, envelope.max_attempts);
        return refused(RejectCause::Stale, message);
    }
    if envelope.not_after_ms <= bench.host_ms {
        let late_ms = bench.host_ms - envelope.not_after_ms;
        // As long as that whatever was started is remembered, so it is certain that this one never was.
        if late_ms < KEEP_TOMBSTONE_MS {
            return Verdict::Late(envelope);
        }
        return refused(RejectCause::Stale, format!("its validity was over {late_ms} ms ago"));
    }
    if let Err(faults) = envelope.plan.check() {
        let fault = faults.first().map(ToString::to_string).unwrap_or_default();
        return refused(RejectCause::Plan, fault);
    }
    if let Some(pointer) = exposed(&envelope.plan) {
        return refused(RejectCause::Plan, format!("{pointer}: a secret may stand in env values and stdin only"));
    }
    if let Err(message) = envelope.secrets(command.secret_key.as_ref()) {
        return refused(RejectCause::Plan, message.to_owned());
    }
    if let Err(denied) = bench.policy.resolve(&envelope.plan) {
        return refused(RejectCause::Policy, denied.to_string());
    }
    if let Some(full) = bench.full {
        return refused(RejectCause::Busy, full.to_owned());
    }
    Verdict::Accepted(envelope)
}
