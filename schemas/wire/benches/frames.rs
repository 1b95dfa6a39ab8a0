//! What a frame costs, written and read: `cargo bench -p wire`.

use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, seal};
use plan::id::{AgentId, AttemptKey, ClusterId, CommandId};
use plan::step::{Plan, Step};
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, Command, HostFrame};
use wire::sample::{Disk, Sample, Usage};

const RESULT: &str = r#"{"type":"RESULT","attempt":"0193f2a4-7c1e-7abc-8def-0123456789ab/1","outcome":{"end":"exited","steps":[{"exit_code":0,"duration_ms":1,"stdout_bytes":3,"stderr_bytes":0}],"stdout":{"bytes":3,"head":3,"tail":0,"sha256":"dc51b8c96c2d745df3bd5590d990230a482fd247123599548e0632fdbf97fc22"},"stderr":{"bytes":0,"head":0,"tail":0},"duration_ms":2}}"#;

fn attempt() -> AttemptKey {
    "0193f2a4-7c1e-7abc-8def-0123456789ab/1".parse().expect("an attempt")
}

fn command() -> HostFrame {
    let id: uuid::Uuid = "0193f2a4-7c1e-7abc-8def-0123456789ab".parse().expect("an id");
    let envelope = Envelope {
        cluster_id: ClusterId(id),
        epoch: 1,
        command_id: CommandId(id),
        agent_id: AgentId(id),
        verb: "exec.run".into(),
        plugin_digest: "00".repeat(32),
        plan: Plan {
            steps: vec![Step::new("uname")],
            effect: Effect::Host,
            locks: Vec::new(),
            summary: "run uname".into(),
        },
        limits: RunLimits { run_timeout_ms: 60_000, output_bytes: 1 << 20, grace_ms: 5_000 },
        not_after_ms: 1_700_000_000_000,
        max_attempts: 1,
        submitter: "admin".into(),
        secrets: None,
    };
    HostFrame::Command(Command {
        attempt: attempt(),
        start_within_ms: 3_600_000,
        kill_after_ms: None,
        finish_within_ms: None,
        envelope: seal(&envelope, &SigningKey::from_bytes(&[7; 32])),
        secret_key: None,
        traceparent: None,
    })
}

fn sample() -> Sample {
    let usage = |used_bytes, total_bytes| Usage { used_bytes, total_bytes };
    Sample {
        at_ms: 1_700_000_000_000,
        cpu_percent: Some(12.5),
        load: Some([0.42, 0.37, 0.31]),
        memory: Some(usage(1_503_238_553, 8_589_934_592)),
        swap: Some(usage(0, 1_073_741_824)),
        disks: vec![Disk { mount: "/".to_owned(), usage: usage(21_474_836_480, 107_374_182_400) }],
        ..Sample::default()
    }
}

fn frames(c: &mut Criterion) {
    let command = command();
    c.bench_function("COMMAND written", |b| b.iter(|| encode(&command)));
    let text = encode(&command);
    c.bench_function("COMMAND read", |b| b.iter(|| decode::<HostFrame>(&text).expect("a frame")));
    c.bench_function("RESULT read", |b| b.iter(|| decode::<AgentFrame>(RESULT).expect("a frame")));
    let text = encode(&AgentFrame::Telemetry { sample: sample() });
    c.bench_function("TELEMETRY read", |b| b.iter(|| decode::<AgentFrame>(&text).expect("a frame")));
    let ack = AgentFrame::Ack { attempt: attempt() };
    c.bench_function("ACK written", |b| b.iter(|| encode(&ack)));
}

criterion_group!(benches, frames);
criterion_main!(benches);
