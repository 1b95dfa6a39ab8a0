//! The options of `viworks run` that say how a command is delivered: until when, how often, to how many at once.

use std::time::Duration;

use api::command::NewCommand;
use api::delivery::{PortionBody, RetryBody, RolloutBody};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use domain::retry::Cause;
use domain::rollout::Portion;

use super::options::millis;
use crate::failure::Failure;
use crate::output::moment::parse_length;

const DELIVERY: &str = "How it is delivered";

/// Ends, retries and rollout.
#[derive(Clone, Debug, Default, Args)]
pub struct DeliveryOptions {
    /// Nothing of it runs later than this after now, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = parse_length, help_heading = DELIVERY)]
    pub finish_within: Option<Duration>,
    /// Kill it on an agent that has been without the host for this long; it goes on when not said
    #[arg(long, value_name = "TIME", value_parser = parse_length, help_heading = DELIVERY)]
    pub kill_after: Option<Duration>,
    /// Try each agent at most this often, 1 to 20
    #[arg(long, value_name = "N", help_heading = DELIVERY)]
    pub attempts: Option<u32>,
    /// Try again after these ends: failed, timed_out, interrupted, lost; what never started always is
    #[arg(long, value_name = "END", value_delimiter = ',', value_parser = cause, requires = "attempts", help_heading = DELIVERY)]
    pub retry_on: Vec<String>,
    /// Longest wait before the second attempt; it doubles with each
    #[arg(long, value_name = "TIME", value_parser = parse_length, requires = "attempts", help_heading = DELIVERY)]
    pub backoff: Option<Duration>,
    /// On at most so many agents at once, e.g. 10 or 25%
    #[arg(long, value_name = "N|P%", value_parser = slots, help_heading = DELIVERY)]
    pub max_concurrency: Option<PortionBody>,
    /// So many agents in all by each wave, e.g. 1,5%,25%; the rest come after the last
    #[arg(long, value_name = "N|P%", value_delimiter = ',', value_parser = portion, conflicts_with = "ramp", help_heading = DELIVERY)]
    pub waves: Vec<PortionBody>,
    /// From the end of one wave to the beginning of the next
    #[arg(long, value_name = "TIME", value_parser = parse_length, requires = "waves", help_heading = DELIVERY)]
    pub pause: Option<Duration>,
    /// exponential: one agent first, then in all twice as many as are over
    #[arg(long, value_name = "KIND", value_parser = ["off", "exponential"], hide_possible_values = true, help_heading = DELIVERY)]
    pub ramp: Option<String>,
    /// Halt when more agents than this did not succeed, e.g. 0 or 5%
    #[arg(long, value_name = "N|P%", value_parser = portion, help_heading = DELIVERY)]
    pub max_errors: Option<PortionBody>,
    /// Halt when more agents than this could not be reached in time
    #[arg(long, value_name = "N|P%", value_parser = portion, help_heading = DELIVERY)]
    pub max_unreached: Option<PortionBody>,
    /// What happens to what runs when it halts: finish or cancel
    #[arg(long, value_name = "WHAT", value_parser = ["finish", "cancel"], hide_possible_values = true, help_heading = DELIVERY)]
    pub on_halt: Option<String>,
}

fn cause(text: &str) -> Result<String, String> {
    let known = || format!("one of {}", Cause::ALL.map(Cause::as_str).join(", "));
    Cause::parse(text).map(|cause| cause.as_str().to_owned()).ok_or_else(known)
}

fn slots(text: &str) -> Result<PortionBody, String> {
    Portion::parse(text)?.check_slots()?;
    portion(text)
}

fn portion(text: &str) -> Result<PortionBody, String> {
    Ok(match Portion::parse(text)? {
        Portion::Count(count) => PortionBody::Count(count),
        Portion::Percent(_) => PortionBody::Text(text.to_owned()),
    })
}

impl DeliveryOptions {
    /// Writes into `command` what was said, and nothing where nothing was.
    ///
    /// # Errors
    /// When it would have to finish in a year that has no name.
    pub(super) fn apply(&self, command: &mut NewCommand, now: DateTime<Utc>) -> Result<(), Failure> {
        let end = |within: Duration| now.checked_add_signed(TimeDelta::from_std(within).ok()?);
        command.finish_by = match self.finish_within {
            None => None,
            Some(within) => {
                let end = end(within).ok_or_else(|| Failure::usage("`--finish-within` is too long"))?;
                Some(end.to_rfc3339_opts(SecondsFormat::Millis, true))
            }
        };
        command.on_disconnect = self.kill_after.map(|_| "kill_after".to_owned());
        command.kill_after_ms = self.kill_after.map(millis);
        command.retry = self.attempts.map(|max_attempts| RetryBody {
            max_attempts,
            on: (!self.retry_on.is_empty()).then(|| self.retry_on.clone()),
            backoff_ms: self.backoff.map(millis),
        });
        command.rollout = self.rollout();
        Ok(())
    }

    fn rollout(&self) -> Option<RolloutBody> {
        let rollout = RolloutBody {
            max_concurrency: self.max_concurrency.clone(),
            ramp: self.ramp.clone(),
            waves: self.waves.clone(),
            pause_ms: self.pause.map(millis),
            max_errors: self.max_errors.clone(),
            max_unreached: self.max_unreached.clone(),
            on_halt: self.on_halt.clone(),
        };
        (rollout != RolloutBody::default()).then_some(rollout)
    }
}

/// The option that sets what a pointer into the body points at.
pub(super) fn option_of(pointer: &str) -> Option<&'static str> {
    let known = [
        ("/finish_by", "--finish-within"),
        ("/kill_after_ms", "--kill-after"),
        ("/on_disconnect", "--kill-after"),
        ("/retry/max_attempts", "--attempts"),
        ("/retry/on", "--retry-on"),
        ("/retry/backoff_ms", "--backoff"),
        ("/rollout/max_concurrency", "--max-concurrency"),
        ("/rollout/ramp", "--ramp"),
        ("/rollout/waves", "--waves"),
        ("/rollout/pause_ms", "--pause"),
        ("/rollout/max_errors", "--max-errors"),
        ("/rollout/max_unreached", "--max-unreached"),
        ("/rollout/on_halt", "--on-halt"),
    ];
    let under = |place: &str| pointer.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    known.into_iter().find(|(place, _)| under(place)).map(|(_, option)| option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_option_that_caused_it() {
        assert_eq!(option_of("/rollout/waves/2"), Some("--waves"));
        assert_eq!(option_of("/retry/on/0"), Some("--retry-on"));
        assert_eq!(option_of("/finish_by"), Some("--finish-within"));
        assert_eq!(option_of("/rollout/wavesx"), None);
        assert_eq!(option_of("/rollout"), None);
    }
}
