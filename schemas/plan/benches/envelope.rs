//! What a signature costs: `cargo bench -p plan`.

use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, seal, sign};
use plan::id::{AgentId, ClusterId, CommandId};
use plan::step::{Plan, Step};
use uuid::Uuid;

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

fn signatures(c: &mut Criterion) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let envelope = envelope();
    c.bench_function("envelope sealed", |b| b.iter(|| seal(&envelope, &key)));
    let (sealed, public) = (seal(&envelope, &key), key.verifying_key());
    c.bench_function("envelope opened", |b| b.iter(|| sealed.open(&public).expect("its own signature")));
    c.bench_function("envelope's claims read", |b| b.iter(|| sealed.claims()));
    c.bench_function("HELLO signed", |b| b.iter(|| sign(&key, &[&[1; 140]])));
}

criterion_group!(benches, signatures);
criterion_main!(benches);
