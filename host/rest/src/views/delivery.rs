//! How a command is delivered: wishes in, attempts, rollups and groups out.

use std::time::Duration;

use api::delivery::{AttemptBody, GroupBody, PortionBody, RetryBody, RolloutBody, ShareBody};
use domain::command::Attempt;
use domain::retry::{Cause, Retry};
use domain::rollout::{OnHalt, Portion, Ramp, Rollout, Share};
use domain::terms::{RetryWish, Terms};
use domain::time::millis;
use ports::commands::Group;
use serde_json::Value;

use crate::instant;
use crate::problem::{Code, Problem};
use crate::query::one_of;

fn refuse<T>(at: &str, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::at(Code::InvalidBody, at, message))
}

/// When to try again.
///
/// # Errors
/// 422 with the place.
pub fn retry_wish(body: RetryBody) -> Result<RetryWish, Problem> {
    let RetryBody { max_attempts, on, backoff_ms } = body;
    let mut causes = Vec::new();
    for (index, name) in on.iter().flatten().enumerate() {
        match Cause::parse(name) {
            Some(cause) if causes.contains(&cause) => {}
            Some(cause) => causes.push(cause),
            None => return refuse(&format!("/retry/on/{index}"), one_of(Cause::ALL.map(Cause::as_str))),
        }
    }
    Ok(RetryWish { max_attempts, on: on.is_some().then_some(causes), backoff_ms })
}

/// How targets are let go.
///
/// # Errors
/// 422 with the place.
pub fn rollout(body: RolloutBody) -> Result<Rollout, Problem> {
    let RolloutBody { max_concurrency, ramp, waves, pause_ms, max_errors, max_unreached, on_halt } = body;
    let exponential = match ramp.as_deref() {
        None | Some("off") => false,
        Some("exponential") => true,
        Some(_) => return refuse("/rollout/ramp", one_of(["off", "exponential"])),
    };
    if exponential && !waves.is_empty() {
        return refuse("/rollout/waves", "waves and an exponential ramp exclude each other");
    }
    if pause_ms.is_some() && waves.is_empty() {
        return refuse("/rollout/pause_ms", "a pause lies between waves, and there are none");
    }
    let totals: Vec<Portion> = waves
        .into_iter()
        .enumerate()
        .map(|(index, wave)| portion(&format!("/rollout/waves/{index}"), wave))
        .collect::<Result<_, _>>()?;
    let ramp = match (exponential, totals.is_empty()) {
        (true, _) => Ramp::Exponential,
        (false, true) => Ramp::Off,
        (false, false) => Ramp::Waves { totals, pause: Duration::from_millis(pause_ms.unwrap_or_default()) },
    };
    let on_halt = match on_halt.as_deref() {
        None | Some("finish") => OnHalt::Finish,
        Some("cancel") => OnHalt::Cancel,
        Some(_) => return refuse("/rollout/on_halt", one_of(["finish", "cancel"])),
    };
    let some = |at: &str, wish: Option<PortionBody>| wish.map(|wish| portion(at, wish)).transpose();
    Ok(Rollout {
        max_concurrency: some("/rollout/max_concurrency", max_concurrency)?,
        ramp,
        max_errors: some("/rollout/max_errors", max_errors)?,
        max_unreached: some("/rollout/max_unreached", max_unreached)?,
        on_halt,
    })
}

fn portion(at: &str, body: PortionBody) -> Result<Portion, Problem> {
    match body {
        PortionBody::Count(count) => Ok(Portion::Count(count)),
        PortionBody::Text(text) => Portion::parse(&text).or_else(|message| refuse(at, message)),
    }
}

fn portion_body(portion: Portion) -> PortionBody {
    match portion {
        Portion::Count(count) => PortionBody::Count(count),
        Portion::Percent(_) => PortionBody::Text(portion.to_string()),
    }
}

/// The terms' retries and rollout as they are shown.
pub fn terms(terms: &Terms) -> (RetryBody, Option<RolloutBody>) {
    let Retry { max_attempts, on, backoff } = &terms.retry;
    let on = on.iter().map(|cause| cause.as_str().to_owned()).collect();
    let retry = RetryBody { max_attempts: *max_attempts, on: Some(on), backoff_ms: Some(millis(*backoff)) };
    if terms.rollout.is_plain() {
        return (retry, None);
    }
    let Rollout { max_concurrency, ramp, max_errors, max_unreached, on_halt } = &terms.rollout;
    let (ramp, waves, pause_ms) = match ramp {
        Ramp::Off => ("off", Vec::new(), None),
        Ramp::Exponential => ("exponential", Vec::new(), None),
        Ramp::Waves { totals, pause } => {
            ("off", totals.iter().copied().map(portion_body).collect(), Some(millis(*pause)))
        }
    };
    let on_halt = match on_halt {
        OnHalt::Finish => "finish",
        OnHalt::Cancel => "cancel",
    };
    let rollout = RolloutBody {
        max_concurrency: max_concurrency.map(portion_body),
        ramp: Some(ramp.to_owned()),
        waves,
        pause_ms,
        max_errors: max_errors.map(portion_body),
        max_unreached: max_unreached.map(portion_body),
        on_halt: Some(on_halt.to_owned()),
    };
    (retry, Some(rollout))
}

/// An earlier attempt.
pub fn attempt(attempt: Attempt) -> AttemptBody {
    let Attempt { number, state, reason, message: _, started_at, changed_at, outcome, result, summary, parse_fault: _ } =
        attempt;
    AttemptBody {
        attempt: number,
        state: state.as_str().to_owned(),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        started_at: started_at.map(instant::text),
        changed_at: instant::text(changed_at),
        exit_code: outcome.as_ref().and_then(|outcome| outcome.steps.last()?.exit_code),
        result: result.and_then(|text| serde_json::from_str(&text).ok()),
        summary,
        outcome,
    }
}

/// A part of a rollup.
pub fn share(share: Share) -> ShareBody {
    let Share { site, state, reason, count, changed_at } = share;
    ShareBody {
        site,
        state: state.as_str().to_owned(),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        count,
        changed_at: instant::text(changed_at),
    }
}

/// Invocations that ended alike.
pub fn group(group: Group) -> GroupBody {
    let Group { state, value, count, agents } = group;
    let value = value.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
    GroupBody { state: state.as_str().to_owned(), value, count, agents }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: serde_json::Value) -> String {
        let body: RolloutBody = serde_json::from_value(body).expect("a body");
        rollout(body).expect_err("refused").errors[0].pointer.clone()
    }

    #[test]
    fn a_rollout_is_read_and_shown_the_same_and_faults_are_pointed_at() {
        let body = serde_json::json!({
            "max_concurrency": "10%", "ramp": "off", "waves": [1, "5%", "100%"], "pause_ms": 60000,
            "max_errors": 0, "max_unreached": "50%", "on_halt": "cancel"
        });
        let read = rollout(serde_json::from_value(body.clone()).expect("a body")).expect("a rollout");
        let shown = terms(&Terms { rollout: read, ..Terms::default() }).1;
        assert_eq!(serde_json::to_value(shown).expect("JSON"), body);
        assert!(rollout(RolloutBody::default()).expect("a rollout").is_plain());
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(refused(json(r#"{"ramp": "steep"}"#)), "/rollout/ramp");
        assert_eq!(refused(json(r#"{"ramp": "exponential", "waves": [1]}"#)), "/rollout/waves");
        assert_eq!(refused(json(r#"{"waves": [1, "1O%"]}"#)), "/rollout/waves/1");
        assert_eq!(refused(json(r#"{"pause_ms": 1}"#)), "/rollout/pause_ms");
        assert_eq!(refused(json(r#"{"max_errors": "101%"}"#)), "/rollout/max_errors");
        assert_eq!(refused(json(r#"{"on_halt": "panic"}"#)), "/rollout/on_halt");
        let on = RetryBody { max_attempts: 2, on: Some(vec!["failed".into(), "bored".into()]), backoff_ms: None };
        assert_eq!(retry_wish(on).expect_err("refused").errors[0].pointer, "/retry/on/1");
    }
}
