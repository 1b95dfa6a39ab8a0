//! A command's terms as the JSON text that both databases keep, and the way back. What is as by default
//! is left out, so that the usual command costs a few bytes.

use std::time::Duration;

use domain::retry::{Cause, Retry};
use domain::rollout::{OnHalt, Portion, Ramp, Rollout};
use domain::terms::Terms;
use domain::time::{Timestamp, millis};
use serde::{Deserialize, Serialize};

use crate::text;

#[derive(Serialize, Deserialize)]
struct TermsText {
    start_within_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish_by_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kill_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutText>,
}

#[derive(Serialize, Deserialize)]
struct RetryText {
    max_attempts: u32,
    on: Vec<String>,
    backoff_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct RolloutText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    exponential: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waves: Vec<String>,
    #[serde(default)]
    pause_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_errors: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_unreached: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    cancel_on_halt: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The text of `terms`.
pub(crate) fn text_of(terms: &Terms) -> String {
    let Terms { start_within, finish_by, kill_after, retry, rollout } = terms;
    text::json(&TermsText {
        start_within_ms: millis(*start_within),
        finish_by_us: finish_by.map(|at| at.0),
        kill_after_ms: kill_after.map(millis),
        retry: (retry.max_attempts > 1).then(|| retry_text(retry)),
        rollout: (!rollout.is_plain()).then(|| rollout_text(rollout)),
    })
}

fn retry_text(retry: &Retry) -> RetryText {
    let Retry { max_attempts, on, backoff } = retry;
    let on = on.iter().map(|cause| cause.as_str().to_owned()).collect();
    RetryText { max_attempts: *max_attempts, on, backoff_ms: millis(*backoff) }
}

fn rollout_text(rollout: &Rollout) -> RolloutText {
    let Rollout { max_concurrency, ramp, max_errors, max_unreached, on_halt } = rollout;
    let portion = |portion: &Option<Portion>| portion.map(|portion| portion.to_string());
    let (exponential, waves, pause_ms) = match ramp {
        Ramp::Off => (false, Vec::new(), 0),
        Ramp::Exponential => (true, Vec::new(), 0),
        Ramp::Waves { totals, pause } => (false, totals.iter().map(Portion::to_string).collect(), millis(*pause)),
    };
    RolloutText {
        max_concurrency: portion(max_concurrency),
        exponential,
        waves,
        pause_ms,
        max_errors: portion(max_errors),
        max_unreached: portion(max_unreached),
        cancel_on_halt: *on_halt == OnHalt::Cancel,
    }
}

/// Reads what [`text_of`] wrote.
pub(crate) fn parse(text: &str) -> Result<Terms, String> {
    let TermsText { start_within_ms, finish_by_us, kill_after_ms, retry, rollout } = text::parse(text)?;
    Ok(Terms {
        start_within: Duration::from_millis(start_within_ms),
        finish_by: finish_by_us.map(Timestamp),
        kill_after: kill_after_ms.map(Duration::from_millis),
        retry: retry.map_or_else(|| Ok(Retry::none()), parse_retry)?,
        rollout: rollout.map_or_else(|| Ok(Rollout::default()), parse_rollout)?,
    })
}

fn parse_retry(retry: RetryText) -> Result<Retry, String> {
    let RetryText { max_attempts, on, backoff_ms } = retry;
    let cause = |name: &String| Cause::parse(name).ok_or_else(|| format!("`{name}` is not a cause of a retry"));
    let on = on.iter().map(cause).collect::<Result<_, _>>()?;
    Ok(Retry { max_attempts, on, backoff: Duration::from_millis(backoff_ms) })
}

fn parse_rollout(rollout: RolloutText) -> Result<Rollout, String> {
    let RolloutText { max_concurrency, exponential, waves, pause_ms, max_errors, max_unreached, cancel_on_halt } =
        rollout;
    let portion = |text: Option<String>| text.as_deref().map(Portion::parse).transpose();
    let ramp = match (exponential, waves.is_empty()) {
        (true, _) => Ramp::Exponential,
        (false, true) => Ramp::Off,
        (false, false) => {
            let totals = waves.iter().map(|wave| Portion::parse(wave)).collect::<Result<_, _>>()?;
            Ramp::Waves { totals, pause: Duration::from_millis(pause_ms) }
        }
    };
    Ok(Rollout {
        max_concurrency: portion(max_concurrency)?,
        ramp,
        max_errors: portion(max_errors)?,
        max_unreached: portion(max_unreached)?,
        on_halt: if cancel_on_halt { OnHalt::Cancel } else { OnHalt::Finish },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_read_back_as_written_and_the_usual_ones_are_short() {
        let usual = Terms::default();
        assert_eq!(text_of(&usual), r#"{"start_within_ms":3600000}"#);
        let waves = vec![Portion::Count(1), Portion::Percent(25)];
        let all = Terms {
            start_within: Duration::ZERO,
            finish_by: Some(Timestamp(1_700_000_000_000_001)),
            kill_after: Some(Duration::from_secs(9)),
            retry: Retry { max_attempts: 5, on: Cause::ALL.to_vec(), backoff: Duration::from_millis(250) },
            rollout: Rollout {
                max_concurrency: Some(Portion::Percent(10)),
                ramp: Ramp::Waves { totals: waves, pause: Duration::from_secs(60) },
                max_errors: Some(Portion::Count(0)),
                max_unreached: Some(Portion::Percent(50)),
                on_halt: OnHalt::Cancel,
            },
        };
        let ramp = Terms { rollout: Rollout { ramp: Ramp::Exponential, ..Rollout::default() }, ..usual.clone() };
        for terms in [usual, all, ramp] {
            assert_eq!(parse(&text_of(&terms)), Ok(terms));
        }
        assert!(parse(r#"{"start_within_ms":1,"retry":{"max_attempts":2,"on":["bored"],"backoff_ms":1}}"#).is_err());
    }
}
