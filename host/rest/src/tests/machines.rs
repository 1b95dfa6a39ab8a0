//! What the world of these tests has instead of machines: a clock that is moved by hand, ids that
//! count, two verbs without a sandbox, agents that never answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::plugin::{Order, Passage, Record};
use domain::time::Timestamp;
use domain::verb::{CancelBehaviour, Profile, VerbName, VerbTraits};
use ed25519_dalek::SigningKey;
use plan::effect::Effect;
use plan::envelope::{self, Envelope, SignedEnvelope};
use plan::id::{AgentId, ClusterId, CommandId, KeyId, TokenId, UserId};
use plan::policy::Rules;
use plan::step::{Plan, Step};
use ports::channels::{Courier, Parcel};
use ports::clock::{Clock, Ids};
use ports::commands::{Due, Open};
use ports::journal::Cluster;
use ports::link::{Link, Settle};
use ports::live::{Live, Subscription};
use ports::passwords::{PasswordError, Passwords};
use ports::plugin_life::{OrderError, PluginLife};
use ports::plugins::{
    Interpretation, Outputs, PlanError, PluginIdentity, PluginStatus, Plugins, ResolveError, Verb, VerbContract,
    Violation,
};
use ports::rules::{Rule, Rules as LoadedRules};
use ports::seal::{Notary, Seal, Vault};
use serde_json::{Value, json};
use services::digest::sha256_hex;
use services::meter::Meter;
use uuid::Uuid;

pub const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(0xc1));

/// A clock that stands still until it is moved.
pub struct Hand(AtomicI64);

impl Default for Hand {
    fn default() -> Hand {
        Hand(AtomicI64::new(1_700_000_000_000_000))
    }
}

impl Hand {
    pub fn forward(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).expect("a test's span"), Ordering::SeqCst);
    }

    pub fn back(&self, span: Duration) {
        self.0.fetch_sub(i64::try_from(span.as_micros()).expect("a test's span"), Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Ids that count up.
#[derive(Default)]
pub struct Counting(AtomicU64);

impl Counting {
    fn next(&self) -> Uuid {
        Uuid::from_u128(
            0x0193_0000_0000_7000_8000_0000_0000_0000 | u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1),
        )
    }
}

impl Ids for Counting {
    fn agent(&self) -> AgentId {
        AgentId(self.next())
    }

    fn command(&self) -> CommandId {
        CommandId(self.next())
    }

    fn user(&self) -> UserId {
        UserId(self.next())
    }

    fn token(&self) -> TokenId {
        TokenId(self.next())
    }

    fn key(&self) -> KeyId {
        KeyId(self.next())
    }

    fn secret(&self) -> [u8; 32] {
        let id = self.next().into_bytes();
        std::array::from_fn(|at| id[at % 16] ^ u8::try_from(at).expect("32 bytes"))
    }
}

/// Hashing that takes no time, so that the rest can be tested; argon2id has its own tests.
pub struct Quick;

#[async_trait]
impl Passwords for Quick {
    async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        Ok(format!("quick:{password}"))
    }

    async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError> {
        Ok(hash == Some(&format!("quick:{password}")))
    }
}

/// No rules.
pub struct NoRules;

impl LoadedRules for NoRules {
    fn rules(&self) -> Vec<Arc<dyn Rule>> {
        Vec::new()
    }
}

/// Goes nowhere.
pub struct Nowhere;

#[async_trait]
impl Courier for Nowhere {
    fn accepts(&self, url: &str) -> Result<(), String> {
        if url.starts_with("https://") { Ok(()) } else { Err("it must begin with https://".to_owned()) }
    }

    async fn post(&self, _: Parcel) -> Result<u16, String> {
        Err("nobody goes there".to_owned())
    }
}

/// Agents that are connected and never say a word.
pub struct Silent;

impl Link for Silent {
    fn offer(&self, _: Vec<Due>) {}

    fn settle(&self, _: Open, _: Settle) -> bool {
        true
    }

    fn cut(&self, _: AgentId, _: &str) {}
}

/// The signing key, in memory.
pub struct Signer(pub SigningKey);

impl Seal for Signer {
    fn cluster(&self) -> Cluster {
        Cluster { id: CLUSTER, epoch: 1 }
    }

    fn seal(&self, envelope: &Envelope) -> SignedEnvelope {
        envelope::seal(envelope, &self.0)
    }

    fn open(&self, signed: &SignedEnvelope) -> Option<Envelope> {
        signed.open(&self.0.verifying_key()).ok()
    }

    fn prove_epoch(&self) -> String {
        envelope::sign(&self.0, &[&envelope::epoch_parts(CLUSTER, 1)])
    }

    fn public_key(&self) -> String {
        envelope::key_text(&self.0.verifying_key())
    }

    fn pin(&self) -> String {
        "0123456789abcdef".to_owned()
    }
}

/// Keeps secrets under no key at all.
pub struct Drawer;

impl Vault for Drawer {
    fn wrap(&self, _: CommandId, key: &[u8; 32], _: [u8; 24]) -> String {
        format!("{key:?}")
    }

    fn unwrap(&self, _: CommandId, wrapped: &str) -> Option<[u8; 32]> {
        serde_json::from_str(wrapped).ok()
    }

    fn digest(&self, text: &str) -> String {
        sha256_hex(text.as_bytes())
    }
}

/// The key that seals the audit log, in memory.
#[derive(Debug)]
pub struct Notar(pub SigningKey);

impl Notary for Notar {
    fn sign(&self, bytes: &[u8]) -> String {
        envelope::sign(&self.0, &[bytes])
    }

    fn public_key(&self) -> String {
        envelope::key_text(&self.0.verifying_key())
    }
}

/// `test.echo {text}` reads, `test.wipe` destroys, `test.gone` was removed.
pub struct Shelf {
    verbs: Vec<Arc<Sample>>,
}

impl Default for Shelf {
    fn default() -> Shelf {
        let verb = |name: &str, effect: Effect| {
            Arc::new(Sample {
                traits: VerbTraits {
                    name: VerbName::parse(name).expect("a name"),
                    summary: format!("tests {name}"),
                    effect,
                    idempotent: true,
                    cancel: CancelBehaviour::Clean,
                    default_timeout_ms: 60_000,
                    needs: None,
                },
                contract: VerbContract {
                    args_schema: json!({ "type": "object", "properties": { "text": { "type": "string" } } }),
                    result_schema: json!({ "type": "object" }),
                    examples: vec![json!({ "text": "hello" })],
                },
                plugin: PluginIdentity { name: "test".into(), version: "1.0.0".into(), digest: "ab".repeat(32) },
            })
        };
        Shelf { verbs: vec![verb("test.wipe", Effect::Destroy), verb("test.echo", Effect::Read)] }
    }
}

struct Sample {
    traits: VerbTraits,
    contract: VerbContract,
    plugin: PluginIdentity,
}

#[async_trait]
impl Verb for Sample {
    fn traits(&self) -> &VerbTraits {
        &self.traits
    }

    fn contract(&self) -> &VerbContract {
        &self.contract
    }

    fn plugin(&self) -> &PluginIdentity {
        &self.plugin
    }

    fn validate(&self, args: &Value) -> Result<(), Vec<Violation>> {
        let text = args.get("text").is_none_or(Value::is_string);
        let violation = || Violation { pointer: "/text".into(), message: "is not text".into(), keyword: "type".into() };
        if text { Ok(()) } else { Err(vec![violation()]) }
    }

    async fn plan(&self, _: &Profile, args: &Value) -> Result<Arc<Plan>, PlanError> {
        let text = args["text"].as_str().unwrap_or("nothing").to_owned();
        match text.as_str() {
            "denied" => Err(PlanError::Denied { pointer: "/steps/0/program".into(), message: "not granted".into() }),
            "trap" => Err(PlanError::Failed { plugin: "test".into(), message: "unreachable at 0xdead".into() }),
            "busy" => Err(PlanError::Overloaded),
            "panic" => panic!("the secret of the guest"),
            _ => {
                let effect = if text == "raise" { Effect::Destroy } else { self.traits.effect };
                let step = Step { args: vec![text], ..Step::new("echo") };
                Ok(Arc::new(Plan { steps: vec![step], effect, locks: vec![], summary: "says it".into() }))
            }
        }
    }

    async fn interpret(&self, _: &Profile, _: &Value, _: Outputs) -> Interpretation {
        Interpretation { succeeded: true, result: None, summary: String::new(), parse_fault: None }
    }
}

impl Plugins for Shelf {
    fn resolve(&self, name: &str) -> Result<Arc<dyn Verb>, ResolveError> {
        if name == "test.gone" {
            return Err(ResolveError::Unavailable { name: name.into(), why: "its plugin was removed".into() });
        }
        let found = self.verbs.iter().find(|verb| verb.traits.name.as_str() == name);
        let unknown = || ResolveError::Unknown { name: name.into(), nearest: vec!["test.echo".into()] };
        found.map(|verb| verb.clone() as Arc<dyn Verb>).ok_or_else(unknown)
    }

    fn pinned(&self, name: &VerbName, _: &str) -> Option<Arc<dyn Verb>> {
        self.resolve(name.as_str()).ok()
    }

    fn verbs(&self) -> Vec<Arc<dyn Verb>> {
        self.verbs.iter().map(|verb| verb.clone() as Arc<dyn Verb>).collect()
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        vec![PluginStatus {
            kind: Some("verb"),
            name: "test".into(),
            state: "active",
            active: Some(self.verbs[0].plugin.clone()),
            file: "test.wasm".into(),
            verbs: vec!["test.echo".into(), "test.wipe".into()],
            grant: Rules::default(),
            faults: 0,
            refusal: None,
            record: Some(Record::new("test", "test.wasm")),
            signature: None,
        }]
    }

    fn grant(&self, _: &str) -> Option<Arc<Rules>> {
        None
    }

    fn generation(&self) -> u64 {
        1
    }
}

/// Keeps every order to itself.
#[async_trait]
impl PluginLife for Shelf {
    fn record(&self, name: &str) -> Option<(Record, Option<String>)> {
        (name == "test").then(|| (Record::new("test", "test.wasm"), None))
    }

    fn records(&self) -> Vec<Record> {
        Vec::new()
    }

    async fn order(&self, _: &str, _: Order, _: &str) -> Result<(), OrderError> {
        Ok(())
    }

    fn passages(&self, _: u64) -> Vec<(u64, Passage)> {
        Vec::new()
    }

    async fn changed(&self, _: u64) -> u64 {
        std::future::pending().await
    }
}

/// Counts what is committed on its way to whoever listens, as the host does.
pub struct Metered {
    pub live: Arc<dyn Live>,
    pub meter: Arc<Meter>,
}

impl Live for Metered {
    fn publish(&self, events: &[Arc<Event>]) {
        self.meter.heard(events);
        self.live.publish(events);
    }

    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription> {
        self.live.subscribe(command)
    }
}
