//! The hottest functions, as `cargo xtask counts` calls them: under callgrind for their instructions, and beside an
//! allocator that counts for their allocations. Neither feels what else the machine does.
//!
//! Each `counted_…` is one call of what it is named after; the names are what the counts are looked up by.

use std::hint::black_box;

use api::command::NewCommand;
use api::target::TargetBody;
use domain::attempt::{Event, State, Step as Moved, step};
use domain::priority::Priority;
use domain::time::Timestamp;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonschema::{Draft, PatternOptions, Validator};
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, SignedEnvelope, seal};
use plan::id::{AgentId, AttemptKey, ClusterId, CommandId};
use plan::outcome::{End, Outcome, StepEnd, StreamEnd};
use plan::step::{Plan, Step};
use serde_json::{Value, json};
use uuid::Uuid;
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, Command, HostFrame};

/// Commands that a queue is chosen from.
const QUEUED: i64 = 256;
/// The schema of `exec.run`, as its plugin says it.
const EXEC: &str = include_str!("../../../schemas/json/verbs/exec.run.json");

/// A function by name, and one call of it on what it is given.
pub type Call<'a> = (&'static str, Box<dyn Fn() -> usize + 'a>);

/// What the functions are given.
pub struct Given {
    key: SigningKey,
    envelope: Envelope,
    sealed: SignedEnvelope,
    frame: HostFrame,
    result: String,
    schema: Validator,
    args: Value,
    body: String,
    queue: Vec<(Priority, Timestamp)>,
}

impl Default for Given {
    fn default() -> Given {
        let key = SigningKey::from_bytes(&[7; 32]);
        let envelope = envelope();
        let sealed = seal(&envelope, &key);
        let frame = HostFrame::Command(Command {
            attempt: attempt(),
            start_within_ms: 3_600_000,
            kill_after_ms: None,
            finish_within_ms: None,
            envelope: sealed.clone(),
            secret_key: None,
            traceparent: None,
        });
        let result = encode(&AgentFrame::Result { attempt: attempt(), outcome: outcome(), traceparent: None });
        let args = json!({ "program": "systemctl", "args": ["restart", "web"], "env": { "LANG": "C" }, "cwd": "/tmp" });
        let body = NewCommand::new("exec.run", args.clone(), TargetBody { all: true, ..TargetBody::default() });
        let body = serde_json::to_string(&body).expect("a body is JSON");
        let queue = (0..QUEUED)
            .map(|number| (Priority::ALL[number as usize % 4], Timestamp((number * 7_919) % QUEUED * 60_000_000)))
            .collect();
        Given { key, envelope, sealed, frame, result, schema: schema(), args, body, queue }
    }
}

impl Given {
    /// All of them. What a call answers with is used by nobody, and has to be.
    pub fn calls(&self) -> [Call<'_>; 8] {
        let public = self.key.verifying_key();
        [
            ("frame_encode", Box::new(|| counted_frame_encode(black_box(&self.frame)).len())),
            (
                "frame_decode",
                Box::new(|| match counted_frame_decode(black_box(&self.result)) {
                    AgentFrame::Result { outcome, .. } => outcome.steps.len(),
                    _ => 0,
                }),
            ),
            ("envelope_sign", Box::new(|| counted_envelope_sign(black_box(&self.envelope), &self.key).signed.len())),
            ("envelope_open", Box::new(move || counted_envelope_open(black_box(&self.sealed), &public).verb.len())),
            (
                "arguments_judged",
                Box::new(|| usize::from(counted_arguments_judged(&self.schema, black_box(&self.args)))),
            ),
            ("queue_chosen", Box::new(|| counted_queue_chosen(black_box(&self.queue)))),
            ("attempt_stepped", Box::new(|| counted_attempt_stepped(black_box(State::Sent)))),
            ("body_read_and_written", Box::new(|| counted_body_read_and_written(black_box(&self.body)).len())),
        ]
    }
}

#[inline(never)]
fn counted_frame_encode(frame: &HostFrame) -> String {
    encode(frame)
}

#[inline(never)]
fn counted_frame_decode(text: &str) -> AgentFrame {
    decode(text).expect("a frame")
}

#[inline(never)]
fn counted_envelope_sign(envelope: &Envelope, key: &SigningKey) -> SignedEnvelope {
    seal(envelope, key)
}

#[inline(never)]
fn counted_envelope_open(sealed: &SignedEnvelope, key: &VerifyingKey) -> Envelope {
    sealed.open(key).expect("its own signature")
}

#[inline(never)]
fn counted_arguments_judged(schema: &Validator, args: &Value) -> bool {
    schema.is_valid(args)
}

/// The place of the one that is next.
#[inline(never)]
fn counted_queue_chosen(queue: &[(Priority, Timestamp)]) -> usize {
    let turns = queue.iter().enumerate().map(|(place, (priority, accepted))| (priority.turn(*accepted), place));
    turns.min().map_or(0, |(_, place)| place)
}

/// One state and every event of a command that goes well.
#[inline(never)]
fn counted_attempt_stepped(from: State) -> usize {
    let events = [Event::Release, Event::Send, Event::Acknowledge, Event::Start];
    events.into_iter().filter(|event| matches!(step(black_box(from), None, black_box(*event)), Moved::To(..))).count()
}

#[inline(never)]
fn counted_body_read_and_written(text: &str) -> String {
    let body: NewCommand = serde_json::from_str(text).expect("a body");
    serde_json::to_string(&body).expect("a body is JSON")
}

fn attempt() -> AttemptKey {
    "0193f2a4-7c1e-7abc-8def-0123456789ab/1".parse().expect("an attempt")
}

fn envelope() -> Envelope {
    let mut step = Step::new("systemctl");
    step.args = vec!["restart".to_owned(), "web".to_owned()];
    Envelope {
        cluster_id: ClusterId(Uuid::from_u128(1)),
        epoch: 1,
        command_id: CommandId(Uuid::from_u128(2)),
        agent_id: AgentId(Uuid::from_u128(3)),
        verb: "exec.run".into(),
        plugin_digest: "00".repeat(32),
        plan: Plan { steps: vec![step], effect: Effect::Host, locks: Vec::new(), summary: "restart web".into() },
        limits: RunLimits { run_timeout_ms: 60_000, output_bytes: 1 << 20, grace_ms: 5_000 },
        not_after_ms: 1_700_000_000_000,
        max_attempts: 1,
        submitter: "admin".into(),
        secrets: None,
    }
}

fn outcome() -> Outcome {
    let step = StepEnd { exit_code: Some(0), signal: None, duration_ms: 1, stdout_bytes: 3, stderr_bytes: 0 };
    Outcome {
        end: End::Exited,
        steps: vec![step],
        stdout: StreamEnd { bytes: 3, head: 3, tail: 0, sha256: "0".repeat(64) },
        stderr: StreamEnd::default(),
        duration_ms: 2,
    }
}

/// Compiled as a host compiles it.
fn schema() -> Validator {
    let file: Value = serde_json::from_str(EXEC).expect("a file of JSON");
    let options = jsonschema::options().with_draft(Draft::Draft202012).offline();
    options.with_pattern_options(PatternOptions::regex()).build(&file["args_schema"]).expect("a schema")
}
