//! One batch, judged by one rule, from columns to checked answers, on the thread it is called on.
//!
//! Invariant: an answer of a guest is data from a stranger until everything here has looked at it. What is wrong with
//! the answer for one agent costs that agent's answer alone.

use std::collections::HashSet;

use domain::alert::Finding;
use plan::rule::MAX_STATE_BYTES;
use ports::rules::{Answer, Batch, Verdict};

use crate::abi::Circumstances;
use crate::build::Build;
use crate::engine::Sandbox;
use crate::execute::{Executed, Health, line};
use crate::fault::Fault;

/// Most things that may be wrong with one agent.
const MAX_FINDINGS: usize = 1_000;
/// Most bytes of a key.
const MAX_KEY: usize = 256;

/// Asks the rule, and holds each answer against what the host keeps and shows.
pub(crate) fn evaluate(
    sandbox: &Sandbox,
    build: &Build,
    circumstances: Circumstances,
    config: &str,
    batch: Batch,
) -> Executed<Result<Vec<Answer>, Fault>> {
    let called = build.prepared.evaluate(sandbox, circumstances, config, batch);
    let mut health = Health::Well;
    let answer = match called.answer {
        Ok(answers) => {
            let answers = answers.into_iter().map(|answer| {
                let verdict = answer.map_err(|why| line(&why))?;
                admit(verdict, circumstances.now_ms).inspect_err(|_| health = Health::Faulty)
            });
            Ok(answers.collect())
        }
        Err(fault) => {
            health = Health::Faulty;
            Err(fault)
        }
    };
    Executed { answer, log: called.log, health }
}

fn admit(mut verdict: Verdict, now_ms: u64) -> Answer {
    if let Some(state) = verdict.state.as_ref().filter(|state| state.text.len() > MAX_STATE_BYTES) {
        return Err(format!("wants {} bytes kept; at most {MAX_STATE_BYTES}", state.text.len()));
    }
    if verdict.findings.len() > MAX_FINDINGS {
        return Err(format!("finds {} things wrong; at most {MAX_FINDINGS}", verdict.findings.len()));
    }
    if !verdict.judged && !verdict.findings.is_empty() {
        return Err("says that nothing can be said, and finds something wrong".to_owned());
    }
    let mut keys = HashSet::new();
    for Finding { key, since_ms, value, message, .. } in &mut verdict.findings {
        if key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(format!("a key has at most {MAX_KEY} bytes, and no control characters"));
        }
        if !keys.insert(key.clone()) {
            return Err(format!("finds `{key}` twice"));
        }
        *message = line(message);
        *since_ms = (*since_ms).min(now_ms);
        *value = value.filter(|value| value.is_finite());
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use domain::alert::{Seen, Severity};
    use ports::rules::State;

    use super::*;

    fn finding(key: &str) -> Finding {
        let seen = Seen::Wrong(Severity::Warning);
        Finding { key: key.to_owned(), seen, since_ms: 9, value: Some(f64::NAN), message: "a\nb".to_owned() }
    }

    #[test]
    fn what_a_rule_says_is_bounded_and_put_on_one_line() {
        let said = |findings: Vec<Finding>| admit(Verdict { judged: true, findings, state: None }, 5);
        let Finding { since_ms, value, message, .. } = &said(vec![finding("/")]).expect("fits").findings[0];
        assert_eq!((*since_ms, *value, message.as_str()), (5, None, "a b"), "nothing is wrong since tomorrow");
        for (findings, told) in [
            (vec![finding("a"), finding("a")], "finds `a` twice"),
            (vec![finding("a\u{1b}")], "control"),
            (vec![finding(&"k".repeat(257))], "at most 256"),
            ((0..1001).map(|number| finding(&number.to_string())).collect(), "finds 1001"),
        ] {
            assert!(said(findings).expect_err(told).contains(told), "{told}");
        }
        let state = Some(State { version: 1, text: "x".repeat(MAX_STATE_BYTES + 1) });
        assert!(admit(Verdict { state, ..Verdict::default() }, 5).expect_err("too much").contains("wants 65537 bytes"));
        let mute = Verdict { findings: vec![finding("a")], ..Verdict::default() };
        assert!(admit(mute, 5).is_err());
    }
}
