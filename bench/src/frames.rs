//! Frames as a simulated agent reads and writes them: one pass over the text, answers from templates.
//! A real agent parses more, but a real agent has a machine of its own.
//!
//! Invariant: what is written here is, byte for byte, what `wire::codec` would write; a test says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use plan::outcome::{End, Outcome, StepEnd, Stream, StreamEnd};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use wire::limits::MAX_OUTPUT_CHUNK_BYTES;

/// What matters of a host's frame while commands flow.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Heard<'a> {
    /// `COMMAND`, `RESULT_ACK`, …
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Which attempt, in frames that name one.
    pub attempt: Option<&'a str>,
    /// The envelope of a COMMAND.
    pub signed: Option<&'a str>,
    /// Its signature.
    pub signature: Option<&'a str>,
}

impl<'a> Heard<'a> {
    /// Reads a host's frame; `None` when it is no frame.
    pub fn read(text: &'a str) -> Option<Heard<'a>> {
        serde_json::from_str(text).ok()
    }
}

/// What an agent answers to a COMMAND, but for the attempt's key.
#[derive(Clone, Debug)]
pub struct Answers {
    chunks: Vec<String>,
    outcome: String,
}

impl Answers {
    /// The answers of a process that writes `output` to its standard output and exits with 0.
    pub fn new(output: &[u8]) -> Answers {
        let bytes = output.len() as u64;
        let sha256 = match output {
            [] => String::new(),
            some => HEXLOWER.encode(&Sha256::digest(some)),
        };
        let step = StepEnd { exit_code: Some(0), signal: None, duration_ms: 1, stdout_bytes: bytes, stderr_bytes: 0 };
        let outcome = Outcome {
            end: End::Exited,
            steps: vec![step],
            stdout: StreamEnd { bytes, head: bytes, tail: 0, sha256 },
            stderr: StreamEnd::default(),
            duration_ms: 2,
        };
        let chunks = output.chunks(MAX_OUTPUT_CHUNK_BYTES).enumerate().map(|(index, chunk)| {
            let (stream, offset) = (Stream::Stdout.as_str(), index * MAX_OUTPUT_CHUNK_BYTES);
            format!(r#"","stream":"{stream}","offset":{offset},"data":"{}"}}"#, STANDARD.encode(chunk))
        });
        let end = serde_json::to_string(&outcome).expect("an outcome holds nothing that JSON cannot");
        Answers { chunks: chunks.collect(), outcome: format!(r#"","outcome":{end}}}"#) }
    }

    /// ACK.
    pub fn ack(attempt: &str) -> String {
        frame("ACK", attempt, r#""}"#)
    }

    /// STARTED.
    pub fn started(attempt: &str) -> String {
        frame("STARTED", attempt, r#"","pid":4242}"#)
    }

    /// All OUTPUT frames.
    pub fn output(&self, attempt: &str) -> impl Iterator<Item = String> {
        self.chunks.iter().map(move |chunk| frame("OUTPUT", attempt, chunk))
    }

    /// RESULT.
    pub fn result(&self, attempt: &str) -> String {
        frame("RESULT", attempt, &self.outcome)
    }
}

fn frame(kind: &str, attempt: &str, rest: &str) -> String {
    let mut text = String::with_capacity(32 + kind.len() + attempt.len() + rest.len());
    for part in [r#"{"type":""#, kind, r#"","attempt":""#, attempt, rest] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use plan::envelope::SignedEnvelope;
    use plan::id::AttemptKey;
    use wire::codec::{decode, encode};
    use wire::frame::{AgentFrame, Command, HostFrame, Output};

    use super::*;

    const KEY: &str = "0193f2a4-7c1e-7abc-8def-0123456789ab/1";

    fn key() -> AttemptKey {
        KEY.parse().expect("a key")
    }

    #[track_caller]
    fn same(text: &str, expected: &AgentFrame) {
        assert_eq!(text, encode(expected));
        assert_eq!(&decode::<AgentFrame>(text).expect("a frame"), expected);
    }

    #[test]
    fn templates_write_what_the_codec_writes() {
        let answers = Answers::new(b"ok\n");
        same(&Answers::ack(KEY), &AgentFrame::Ack { attempt: key() });
        same(&Answers::started(KEY), &AgentFrame::Started { attempt: key(), pid: 4242, traceparent: None });
        let output: Vec<String> = answers.output(KEY).collect();
        let data = STANDARD.encode(b"ok\n");
        same(
            &output[0],
            &AgentFrame::Output(Output { attempt: key(), stream: Stream::Stdout, offset: 0, data, gone: None }),
        );
        assert_eq!(output.len(), 1);
        let result: AgentFrame = decode(&answers.result(KEY)).expect("a frame");
        same(&answers.result(KEY), &result);
        let AgentFrame::Result { outcome, .. } = result else { panic!("not a RESULT: {result:?}") };
        assert_eq!((outcome.end, outcome.steps[0].exit_code, outcome.stdout.bytes), (End::Exited, Some(0), 3));
        assert_eq!(outcome.stdout.sha256, "dc51b8c96c2d745df3bd5590d990230a482fd247123599548e0632fdbf97fc22");
    }

    #[test]
    fn long_output_is_cut_into_chunks_the_protocol_allows_and_none_is_no_frame() {
        let bytes: Vec<u8> = (0..80_000_u32).map(|i| i as u8).collect();
        let mut joined = Vec::new();
        for text in Answers::new(&bytes).output(KEY) {
            let AgentFrame::Output(output) = decode(&text).expect("a frame") else { panic!("not OUTPUT: {text}") };
            let data = STANDARD.decode(&output.data).expect("base64");
            assert!(data.len() <= MAX_OUTPUT_CHUNK_BYTES);
            assert_eq!(output.offset as usize, joined.len());
            joined.extend(data);
        }
        assert_eq!(joined, bytes);
        let silent = Answers::new(b"");
        assert_eq!(silent.output(KEY).count(), 0);
        assert!(matches!(decode(&silent.result(KEY)), Ok(AgentFrame::Result { .. })));
    }

    #[test]
    fn a_hosts_frames_are_read_in_one_pass() {
        let envelope = SignedEnvelope { signed: "c2ln".into(), signature: "bmVk".into() };
        let command = Command {
            attempt: key(),
            start_within_ms: 1000,
            kill_after_ms: None,
            finish_within_ms: None,
            envelope,
            secret_key: None,
            traceparent: Some("00-\"x".into()),
        };
        let text = encode(&HostFrame::Command(command));
        let heard = Heard::read(&text).expect("a frame");
        let expected = Heard { kind: "COMMAND", attempt: Some(KEY), signed: Some("c2ln"), signature: Some("bmVk") };
        assert_eq!(heard, expected);
        let ack = encode(&HostFrame::ResultAck { attempt: key() });
        let heard = Heard::read(&ack).expect("a frame");
        assert_eq!((heard.kind, heard.attempt, heard.signed), ("RESULT_ACK", Some(KEY), None));
        assert_eq!(Heard::read("[1]"), None);
    }
}
