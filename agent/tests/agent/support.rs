//! What several tests need: keys, envelopes, waiting for a level.

use std::future::Future;
use std::time::Duration;

use agent::config::SpoolLimits;
use agent::machine::Setup;
use agent::policy::Policy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits};
use plan::id::{AgentId, AttemptKey, ClusterId, CommandId};
use plan::step::{Plan, Step};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use wire::frame::Challenge;
use wire::limits::NONCE_BYTES;

pub const CEILING: Duration = Duration::from_secs(120);

/// How an agent names what a process printed.
pub fn digest(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes.as_ref()))
}

pub fn cluster_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn cluster_id() -> ClusterId {
    ClusterId(Uuid::from_u128(1))
}

pub fn agent_id() -> AgentId {
    AgentId(Uuid::from_u128(2))
}

/// An agent that has joined, as its program sets up the protocol core.
pub fn setup(policy: Policy, boot_id: &str, seed: u64) -> Setup {
    Setup {
        agent_id: agent_id(),
        cluster_id: cluster_id(),
        cluster_key: cluster_key().verifying_key(),
        key: SigningKey::from_bytes(&[5; 32]),
        next_key: None,
        boot_id: boot_id.to_owned(),
        policy,
        spool: SpoolLimits::default(),
        seed,
    }
}

/// What its host says first.
pub fn challenge() -> Challenge {
    Challenge {
        nonce: URL_SAFE_NO_PAD.encode([3; NONCE_BYTES]),
        cluster_id: cluster_id(),
        cluster_epoch: 1,
        epoch_signature: None,
        keys: Vec::new(),
        versions: vec![1],
    }
}

pub fn attempt(command: u128, number: u32) -> AttemptKey {
    AttemptKey { command: CommandId(Uuid::from_u128(command)), number }
}

pub fn step(program: &str, args: &[&str]) -> Step {
    Step { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..Step::new(program) }
}

pub fn plan(steps: Vec<Step>) -> Plan {
    Plan { steps, effect: Effect::Read, locks: Vec::new(), summary: "test".to_owned() }
}

pub fn envelope(attempt: AttemptKey, plan: Plan, not_after_ms: i64) -> Envelope {
    Envelope {
        cluster_id: cluster_id(),
        epoch: 1,
        command_id: attempt.command,
        agent_id: agent_id(),
        verb: "exec.run".to_owned(),
        plugin_digest: "00".repeat(32),
        plan,
        limits: RunLimits { run_timeout_ms: 60_000, output_bytes: 1 << 20, grace_ms: 1_000 },
        not_after_ms,
        max_attempts: 3,
        submitter: "test".to_owned(),
        secrets: None,
    }
}

/// Waits until `look` finds what it looks for; fails, saying `what`, after [`CEILING`].
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + CEILING;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {CEILING:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Whether the supervisor has on disk that it spawned this process. Until then a supervisor that dies
/// leaves an orphan nobody can name.
pub fn notes(data: &std::path::Path, pid: u32) -> bool {
    let log = std::fs::read(data.join("supervisor.log")).unwrap_or_default();
    String::from_utf8_lossy(&log).contains(&format!("\"pid\":{pid},"))
}
