//! What strangers' bytes meet first: one plain function for each reader, to be called with anything. None may
//! panic, hang, or take memory out of proportion. `tests/corpus.rs` runs them in every check; cargo-fuzz runs
//! them for as long as anybody likes (`cargo +nightly fuzz run frames`, in `fuzz/`).

use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;
use std::time::Duration;

use agent::policy::Policy;
use agent::verdict::judge;
use domain::expression::Written;
use domain::telemetry::report::{TOLERATED_SKEW_MS, Watch};
use domain::time::Timestamp;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use plan::effect::Effect;
use plan::envelope::{Envelope, SignedEnvelope};
use plan::id::ClusterId;
use plan::keyring::{Keyring, Turn};
use plan::manifest::Manifest;
use plan::secret::hide;
use plan::step::Plan;
use rest::jwt::{Key, Tokens};
use runtime::schema::Schema;
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, HostFrame};
use wire::sample::Sample;

/// Takes anything.
pub type Target = fn(&[u8]);

/// Every target and the folder of its corpus.
pub const ALL: [(&str, Target); 12] = [
    ("frames", frames),
    ("telemetry", telemetry),
    ("envelope", envelope),
    ("keys", keys),
    ("jwt", jwt),
    ("body", body),
    ("manifest", manifest),
    ("plan", plan),
    ("policy", policy),
    ("schema", schema),
    ("settings", settings),
    ("expression", expression),
];

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let der = KEY.to_pkcs8_der().expect("a key has that form").as_bytes().to_vec();
    Tokens::new(&Key::Ed25519(der), "cluster", Duration::from_secs(60)).expect("a good key")
});
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::of(&Effect::ALL, &[("true", "/bin/true"), ("uname", "/bin/true")]).expect("every machine has it")
});

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Frames of either side: what is read is said again and read as the same.
pub fn frames(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(frame) = decode::<HostFrame>(text) {
        assert_eq!(decode::<HostFrame>(&encode(&frame)).ok(), Some(frame), "a frame reads back");
    }
    if let Ok(frame) = decode::<AgentFrame>(text) {
        // Numbers with a fraction may come back as their neighbours.
        decode::<AgentFrame>(&encode(&frame)).expect("a frame reads back");
    }
}

/// A sample alone: whatever is believed of it can be.
pub fn telemetry(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        _ = gateway::readings::is_sample(text);
    }
    if let Ok(sample) = serde_json::from_slice::<Sample>(bytes) {
        _ = serde_json::to_string(&sample);
        if let Ok(readings) = gateway::readings::readings(&sample) {
            assert_eq!(domain::telemetry::report::check(&readings), Ok(()), "what is believed can be");
        }
        let now = Timestamp::from_millis(1_700_000_000_000);
        if let Ok((at, _)) = Watch::default().settle(sample.at_ms, now) {
            assert!(at.0.abs_diff(now.0) <= TOLERATED_SKEW_MS.unsigned_abs() * 1_000, "never far from now");
        }
    }
}

/// An envelope as it is sent, and the bytes that a signature vouches for.
pub fn envelope(bytes: &[u8]) {
    _ = serde_json::from_slice::<Envelope>(bytes);
    let sent = serde_json::from_slice::<SignedEnvelope>(bytes).ok();
    let lines = || {
        let (signed, signature) = text(bytes)?.split_once('\n')?;
        Some(SignedEnvelope { signed: signed.to_owned(), signature: signature.to_owned() })
    };
    if let Some(sent) = sent.or_else(lines) {
        _ = sent.claims();
        _ = sent.open(&KEY.verifying_key());
        _ = Keyring::pinned(KEY.verifying_key()).open(&sent);
    }
}

/// How a cluster's key came to be the one it is.
pub fn keys(bytes: &[u8]) {
    _ = serde_json::from_slice::<Keyring>(bytes);
    if let Ok(turns) = serde_json::from_slice::<Vec<Turn>>(bytes)
        && let Ok(cluster) = "0193f2a4-7c1e-7abc-8def-0123456789ab".parse::<ClusterId>()
    {
        _ = Keyring::pinned(KEY.verifying_key()).after(cluster, &turns);
    }
}

/// An access token.
pub fn jwt(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        _ = TOKENS.read(text, Timestamp::from_millis(1_700_000_000_000));
    }
}

/// A body of REST.
pub fn body(bytes: &[u8]) {
    _ = rest::json::read(bytes);
}

/// What a plugin says of itself.
pub fn manifest(bytes: &[u8]) {
    _ = serde_json::from_slice::<Manifest>(bytes);
    if let Some(text) = plan::packed::unpack(bytes, plan::manifest::MAX_MANIFEST_BYTES) {
        assert!(text.len() <= plan::manifest::MAX_MANIFEST_BYTES);
    }
}

/// A plan, held against a policy.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = serde_json::from_slice::<Plan>(bytes) {
        _ = plan.check();
        _ = judge(&POLICY, &plan);
    }
}

/// What an operator writes on an agent's machine: its policy and its settings.
pub fn policy(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file.toml");
    std::fs::write(&file, bytes).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("private");
    _ = Policy::load(&file);
    _ = agent::config::Config::load(&file);
}

/// A plugin's schema on its first line, arguments on the others.
pub fn schema(bytes: &[u8]) {
    let Some((schema, args)) = text(bytes).and_then(|text| text.split_once('\n')) else { return };
    let Ok(schema) = serde_json::from_str(schema) else { return };
    if let (Ok(compiled), Ok(args)) = (Schema::compile(&schema), serde_json::from_str(args))
        && compiled.check(&args).is_ok()
    {
        _ = hide(&schema, &args);
    }
}

/// The host's settings.
pub fn settings(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("host.toml");
    std::fs::write(&file, bytes).expect("written");
    _ = server::config::Config::load(Some(&file), [], |_| ());
}

/// A target's expression.
pub fn expression(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        _ = Written::parse(text);
    }
}
