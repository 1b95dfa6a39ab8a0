//! What a rule's component exports: the ABI of `sdk/wit/1.1`, translated.

pub use crate::bindings::rules as bindings;
use crate::rule::{Finding, JudgeFor, Judgement};

pub use bindings::export;

pub use bindings::exports::viworks::plugin1_1_0::rules::{Batch, Guest};
use bindings::exports::viworks::plugin1_1_0::rules::{Finding as GuestFinding, Verdict};

/// What is said of one agent.
pub type Answer = Result<Verdict, String>;

/// Answers `evaluate`.
pub fn evaluate(judge: JudgeFor, config: String, now_ms: u64, batch: Batch) -> Vec<Answer> {
    super::report_panics();
    let answers = judge(&config, now_ms, &batch);
    // One instance serves one call: what is given back piece by piece is given back for nothing.
    std::mem::forget(batch);
    // As large as before, so it takes the same place.
    answers.into_iter().map(|answer| answer.map(guest_verdict)).collect()
}

fn guest_verdict(judgement: Judgement) -> Verdict {
    let Judgement { judged, findings, state } = judgement;
    let mut told = Vec::with_capacity(findings.len());
    for Finding { key, severity, since_ms, value, message } in findings {
        told.push(GuestFinding { key, severity: severity.as_str().to_owned(), since_ms, value, message });
    }
    Verdict { judged, findings: told, state }
}
