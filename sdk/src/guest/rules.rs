//! What a rule's component exports: the ABI of `sdk/wit/1.1`, translated.

pub use crate::bindings::rules as bindings;
use crate::rule::{self, Entrant, Finding, JudgeFor, Judgement, Sampled, Series};

pub use bindings::export;

pub use bindings::exports::viworks::plugin1_1_0::rules::{Batch, Guest};
use bindings::exports::viworks::plugin1_1_0::rules::{Finding as GuestFinding, Verdict};

/// What is said of one agent.
pub type Answer = Result<Verdict, String>;

/// Answers `evaluate`.
pub fn evaluate(judge: JudgeFor, config: String, now_ms: u64, batch: Batch) -> Vec<Answer> {
    super::report_panics();
    let batch = columns(batch);
    let answers = judge(&config, now_ms, &batch);
    // One instance serves one call: what is given back piece by piece is given back for nothing.
    std::mem::forget(batch);
    let mut translated = Vec::with_capacity(answers.len());
    for answer in answers {
        translated.push(answer.map(guest_verdict));
    }
    translated
}

fn columns(batch: Batch) -> rule::Batch {
    let mut series = Vec::with_capacity(batch.series.len());
    for known in batch.series {
        series.push(Series { metric: known.metric, label: known.label, word: known.word });
    }
    let mut samples = Vec::with_capacity(batch.samples.len());
    for sample in batch.samples {
        samples.push(Sampled { at_ms: sample.at_ms, readings: sample.readings });
    }
    let mut entries = Vec::with_capacity(batch.entries.len());
    for entry in batch.entries {
        entries.push(Entrant {
            agent: entry.agent,
            status: entry.status,
            heard_ms: entry.heard_ms,
            samples: entry.samples,
            state_version: entry.state_version,
            state: entry.state,
        });
    }
    rule::Batch { words: batch.words, series, entries, samples, which: batch.which, values: batch.values }
}

fn guest_verdict(judgement: Judgement) -> Verdict {
    let Judgement { judged, findings, state } = judgement;
    let mut told = Vec::with_capacity(findings.len());
    for Finding { key, severity, since_ms, value, message } in findings {
        told.push(GuestFinding { key, severity: severity.as_str().to_owned(), since_ms, value, message });
    }
    Verdict { judged, findings: told, state }
}
