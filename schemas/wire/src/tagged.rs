//! What comes thousands of times a second, read in one pass. By its tag alone, serde keeps all fields of a frame aside
//! until it knows the type, and reads them again from there; a frame whose type stands first needs none of that.
//! Whatever else is read the long way, and means the same.

use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::frame::{AgentFrame, Gone, HostFrame, Output};
use crate::sample::Sample;

/// What is read from text.
pub trait Frame: DeserializeOwned {
    /// Reads text that begins with this type, if there is a short way.
    fn short(_kind: &str, _text: &str) -> Option<serde_json::Result<Self>> {
        None
    }
}

impl Frame for HostFrame {}

impl Frame for AgentFrame {
    fn short(kind: &str, text: &str) -> Option<serde_json::Result<AgentFrame>> {
        Some(match kind {
            "ACK" => read(text, |Ack { attempt, .. }| AgentFrame::Ack { attempt }),
            "STARTED" => read(text, |Started { attempt, pid, traceparent, .. }| AgentFrame::Started {
                attempt,
                pid,
                traceparent,
            }),
            "OUTPUT" => read(text, |Chunk { attempt, stream, offset, data, gone, .. }| {
                AgentFrame::Output(Output { attempt, stream, offset, data, gone })
            }),
            "RESULT" => read(text, |Ended { attempt, outcome, traceparent, .. }| AgentFrame::Result {
                attempt,
                outcome,
                traceparent,
            }),
            "TELEMETRY" => read(text, |Telemetry { sample, .. }| AgentFrame::Telemetry { sample }),
            _ => return None,
        })
    }
}

/// The type, if the text begins with it, written plainly.
pub fn kind(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("{\"type\":\"")?;
    rest.split_once('"').map(|(kind, _)| kind)
}

fn read<B: DeserializeOwned>(text: &str, frame: impl FnOnce(B) -> AgentFrame) -> serde_json::Result<AgentFrame> {
    serde_json::from_str(text).map(frame)
}

// The type is a field, so that a second one is refused as any other is.

#[derive(Deserialize)]
struct Ack {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    attempt: AttemptKey,
}

#[derive(Deserialize)]
struct Started {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    attempt: AttemptKey,
    pid: u32,
    traceparent: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    attempt: AttemptKey,
    stream: Stream,
    offset: u64,
    data: String,
    gone: Option<Gone>,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    attempt: AttemptKey,
    outcome: Outcome,
    traceparent: Option<String>,
}

#[derive(Deserialize)]
struct Telemetry {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    sample: Sample,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0193f2a4-7c1e-7abc-8def-0123456789ab/1";

    fn texts() -> Vec<String> {
        let outcome = r#"{"end":{"kind":"exited"},"steps":[{"exit_code":0}],"duration_ms":5}"#;
        [
            format!(r#"{{"type":"ACK","attempt":"{KEY}"}}"#),
            format!(r#"{{"type":"ACK","later":{{"a":[1]}},"attempt":"{KEY}"}}"#),
            format!(r#"{{"type":"STARTED","attempt":"{KEY}","pid":7}}"#),
            format!(r#"{{"type":"STARTED","attempt":"{KEY}","pid":7,"traceparent":"00-1-2-01"}}"#),
            format!(r#"{{"type":"STARTED","attempt":"{KEY}","pid":7,"traceparent":null}}"#),
            format!(r#"{{"type":"OUTPUT","attempt":"{KEY}","stream":"stdout","offset":0,"data":"b2sK"}}"#),
            format!(
                r#"{{"type":"OUTPUT","attempt":"{KEY}","stream":"stderr","offset":9,"data":"","gone":{{"from":1,"until":2}}}}"#
            ),
            format!(r#"{{"type":"RESULT","attempt":"{KEY}","outcome":{outcome}}}"#),
            r#"{"type":"TELEMETRY","sample":{"at_ms":5,"cpu_percent":1.5,"load":[1,0.5,0]}}"#.to_owned(),
            r#"{"type":"TELEMETRY","sample":{"at_ms":5,"disks":[{"mount":"/","used_bytes":1,"total_bytes":2}]}}"#.to_owned(),
            r#"{"type":"HEARTBEAT","attempts":2}"#.to_owned(),
        ]
        .into()
    }

    /// Each text, with what a careless or hostile agent may make of it.
    fn changed(text: &str) -> Vec<String> {
        let mut all = vec![text.to_owned(), text.replacen("{\"type\":", "{ \"type\": ", 1)];
        all.extend((0..text.len()).filter(|at| text.is_char_boundary(*at)).map(|at| text[..at].to_owned()));
        all.extend(["ACK", "STARTED", "OUTPUT", "RESULT", "TELEMETRY"].map(|kind| {
            let (_, rest) = text["{\"type\":\"".len()..].split_once('"').expect("a type");
            format!("{{\"type\":\"{kind}\"{rest}")
        }));
        all.push(text.replacen('}', ",\"type\":\"ACK\"}", 1));
        all.push(format!("{},\"type\":\"ACK\"}}", &text[..text.len() - 1]));
        for (from, to) in [
            (":5", ":5.5"),
            (":5", ":-5"),
            (":7", ":\"7\""),
            (":0", ":null"),
            ("}", "}}"),
            ("\"pid\"", "\"pid\":1,\"pid\""),
        ] {
            all.push(text.replacen(from, to, 1));
        }
        all
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        let mut short = 0;
        for text in texts().iter().flat_map(|text| changed(text)) {
            let long = serde_json::from_str::<AgentFrame>(&text);
            let Some(found) = kind(&text).and_then(|kind| AgentFrame::short(kind, &text)) else { continue };
            short += 1;
            assert_eq!(found.as_ref().ok(), long.as_ref().ok(), "{text}: {found:?}, {long:?}");
        }
        assert!(short > 500, "{short}");
        let known = texts()
            .iter()
            .filter(|text| {
                kind(text).is_some_and(|kind| AgentFrame::short(kind, text).is_some_and(|frame| frame.is_ok()))
            })
            .count();
        assert_eq!(known, texts().len() - 1, "all but HEARTBEAT");
    }
}
