//! What becomes of versions: those that fail go back, people switch, approve and try again, and a restart forgets
//! nothing of it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::audit::Entry;
use domain::plugin::life::Life;
use domain::plugin::{Order, PROBATION, Passage, Record};
use domain::time::Timestamp;
use plan::id::CommandId;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::plugin_life::{OrderError, PluginBook, PluginLife as _, Waiting};
use ports::plugins::{PlanError, PluginStatus, Plugins as _, ResolveError};
use runtime::{DefaultGrants, Options};
use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::{Guest, LOOP, TRAP};

const CEILING: Duration = Duration::from_secs(120);

fn good(version: &str) -> Vec<u8> {
    Guest::new("demo", version).build()
}

/// Fails whenever its arguments are not `{}`.
fn bad(version: &str) -> Vec<u8> {
    Guest { plan: TRAP.into(), ..Guest::new("demo", version) }.build()
}

/// Asks for another program, too.
fn greedy(version: &str) -> Vec<u8> {
    let mut guest = Guest::new("demo", version);
    let programs = guest.manifest["grants"]["programs"].as_array_mut().expect("a list");
    programs.push(json!({ "program": "rm", "args": [["**"]] }));
    guest.build()
}

/// Takes a text where others take a number.
fn texts(version: &str) -> Vec<u8> {
    let mut guest = Guest::new("demo", version);
    guest.manifest["verbs"][0]["args_schema"]["properties"]["mode"] = json!({ "type": "string" });
    guest.build()
}

async fn put(house: &House, bytes: &[u8]) {
    house.write("demo.wasm", bytes);
    house.handle.rescan().await.expect("the service runs");
}

fn status(house: &House) -> PluginStatus {
    house.handle.plugins().into_iter().find(|status| status.file == "demo.wasm").expect("the plugin is known")
}

/// State of the plugin, the version that serves, and the refusal of the file.
fn stands(house: &House) -> (&'static str, Option<String>, Option<String>) {
    let status = status(house);
    (status.state, status.active.map(|active| active.version), status.refusal.map(|refusal| refusal.code))
}

#[track_caller]
fn assert_stands(house: &House, state: &str, version: Option<&str>, refusal: Option<&str>) {
    assert_eq!(
        stands(house),
        (leak(state), version.map(str::to_owned), refusal.map(str::to_owned)),
        "{:#?}",
        status(house)
    );
}

fn leak(state: &str) -> &'static str {
    Life::parse(state).expect("a state").as_str()
}

async fn order(house: &House, order: Order) -> Result<(), OrderError> {
    house.handle.order("demo", order, "ada").await
}

async fn fail_until_sent_back(house: &House, state: &str) {
    let verb = house.verb("demo.run");
    let mut changes = house.handle.changes();
    for _ in 0..5 {
        let failed = verb.plan(&profile(), &json!({ "mode": 1 })).await;
        assert!(matches!(failed, Err(PlanError::Failed { .. })), "{failed:?}");
    }
    let changed = changes.wait_for(|_| status(house).state == state);
    tokio::time::timeout(CEILING, changed).await.expect("in time").expect("the service runs");
}

fn history(house: &House) -> Vec<(Option<String>, String, Option<String>)> {
    let version = |passage: &Passage| passage.version.clone().map(|(version, _)| version);
    house.handle.passages(0).into_iter().map(|(_, p)| (version(&p), p.to, p.actor)).collect()
}

#[tokio::test]
async fn an_update_that_fails_goes_back_to_the_last_good_version_by_itself() {
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| options).await;
    assert_stands(&house, "active", Some("1.0.0"), None);
    put(&house, &bad("1.1.0")).await;
    assert_stands(&house, "probation", Some("1.1.0"), None);
    fail_until_sent_back(&house, "active").await;
    assert_stands(&house, "active", Some("1.0.0"), Some("quarantined"));
    assert!(status(&house).refusal.expect("a refusal").cause.contains("5 faults in a row"));
    house.verb("demo.run").plan(&profile(), &json!({ "mode": 1 })).await.expect("the last good one works");

    // The same bytes stay where they are, also under another name; others get their chance.
    house.handle.rescan().await.expect("the service runs");
    put(&house, &good("1.0.0")).await;
    put(&house, &bad("1.1.0")).await;
    assert_stands(&house, "active", Some("1.0.0"), Some("quarantined"));
    put(&house, &good("1.2.0")).await;
    assert_stands(&house, "probation", Some("1.2.0"), None);
    let told = history(&house);
    let expected =
        [("1.0.0", "active"), ("1.1.0", "probation"), ("1.0.0", "kept"), ("1.1.0", "quarantined"), ("1.0.0", "active")];
    let expected: Vec<_> = expected.map(|(version, to)| (Some(version.to_owned()), to.to_owned(), None)).to_vec();
    assert_eq!(told[..5], expected, "{told:#?}");
}

#[tokio::test]
async fn a_first_version_that_fails_is_quarantined_until_somebody_says_so() {
    let house = House::open(&[("demo.wasm", &bad("1.0.0"))], |options| options).await;
    fail_until_sent_back(&house, "quarantined").await;
    let gone = house.handle.resolve("demo.run").map(|verb| verb.plugin().clone());
    assert!(
        matches!(&gone, Err(ResolveError::Quarantined { why, .. }) if why.contains("5 faults in a row")),
        "{gone:?}"
    );
    assert!(house.handle.grant("demo").is_some(), "what is queued may run: its plans were made");
    order(&house, Order::Retry).await.expect("somebody says so");
    assert_stands(&house, "active", Some("1.0.0"), None);
    fail_until_sent_back(&house, "quarantined").await;
    assert!(matches!(order(&house, Order::Rollback).await, Err(OrderError::NotNow(_))));
    assert!(matches!(house.handle.order("nobody", Order::Retry, "ada").await, Err(OrderError::Unknown(_))));
}

#[tokio::test]
async fn people_go_back_try_again_and_switch_off() {
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| options).await;
    put(&house, &good("1.1.0")).await;
    order(&house, Order::Rollback).await.expect("back");
    assert_stands(&house, "active", Some("1.0.0"), Some("rolled_back"));
    order(&house, Order::Retry).await.expect("again");
    assert_stands(&house, "probation", Some("1.1.0"), None);
    order(&house, Order::Disable).await.expect("off");
    assert_stands(&house, "disabled", None, None);
    assert!(matches!(house.handle.resolve("demo.run"), Err(ResolveError::Unavailable { .. })));
    assert!(house.handle.grant("demo").is_none());
    // Whatever comes into the folder stays off.
    put(&house, &good("1.2.0")).await;
    assert_stands(&house, "disabled", None, None);
    order(&house, Order::Enable).await.expect("on");
    assert_eq!(status(&house).active.map(|active| active.version), Some("1.2.0".into()));
}

#[tokio::test]
async fn an_update_that_asks_for_more_waits_beside_the_version_that_serves() {
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| options).await;
    put(&house, &greedy("1.1.0")).await;
    assert_stands(&house, "active", Some("1.0.0"), Some("grants_widened"));
    assert!(status(&house).refusal.expect("a refusal").cause.contains("program `rm`"));
    order(&house, Order::Approve).await.expect("consent");
    assert_stands(&house, "probation", Some("1.1.0"), None);
    assert_eq!(status(&house).grant.programs.len(), 2);
    put(&house, &greedy("1.2.0")).await;
    assert_stands(&house, "probation", Some("1.2.0"), None);

    let closed = |options: Options| Options { default_grants: DefaultGrants::None, ..options };
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], closed).await;
    assert_stands(&house, "needs_approval", None, None);
    order(&house, Order::Approve).await.expect("consent");
    assert_stands(&house, "active", Some("1.0.0"), None);
    put(&house, &good("1.1.0")).await;
    assert_stands(&house, "probation", Some("1.1.0"), None);
    put(&house, &greedy("1.2.0")).await;
    assert_stands(&house, "probation", Some("1.1.0"), Some("grants_widened"));
}

#[tokio::test]
async fn the_operators_file_pins_limits_and_names() {
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| options).await;
    house.write(
        "demo.toml",
        b"pin = \"1.0.0\"\n[limits]\nplan_ms = 3\nmemory_mib = 1\n[aliases]\n\"d.r\" = \"demo.run\"\n",
    );
    house.handle.rescan().await.expect("the service runs");
    assert_eq!(house.verb("d.r").traits().name.as_str(), "demo.run");
    assert_eq!(house.handle.verbs().len(), 1);
    let looping = Guest { plan: LOOP.into(), ..Guest::new("demo", "1.1.0") }.build();
    put(&house, &looping).await;
    assert_stands(&house, "active", Some("1.0.0"), Some("pinned"));
    house.write("demo.toml", b"[limits]\nplan_ms = 3\n[aliases]\n\"demo.run\" = \"demo.run\"\n");
    house.handle.rescan().await.expect("the service runs");
    let refusal = status(&house).refusal.expect("a refusal");
    assert!(refusal.code == "config_invalid" && refusal.cause.starts_with("`demo.toml:4`"), "{refusal:?}");
    house.write("demo.toml", b"[limits]\nplan_ms = 3\n");
    house.handle.rescan().await.expect("the service runs");
    assert_stands(&house, "probation", Some("1.1.0"), None);
    let failed = house.verb("demo.run").plan(&profile(), &json!({ "mode": 1 })).await;
    assert!(matches!(&failed, Err(PlanError::Failed { message, .. }) if message.contains("3 ms")), "{failed:?}");
}

/// A clock that stands until it is turned.
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn probation_is_over_after_five_minutes() {
    let hand = Arc::new(Hand(AtomicI64::new(1_700_000_000_000_000)));
    let clock = hand.clone();
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| Options { clock, ..options }).await;
    put(&house, &good("1.1.0")).await;
    for (seconds, state) in [(PROBATION.as_secs() - 1, "probation"), (1, "active")] {
        hand.0.fetch_add(i64::try_from(seconds).expect("small") * 1_000_000, Ordering::Relaxed);
        house.handle.rescan().await.expect("the service runs");
        assert_stands(&house, state, Some("1.1.0"), None);
    }
    assert!(house.handle.record("demo").expect("known").0.versions[0].proven);
}

/// A book in memory, and what it says waits.
#[derive(Default)]
pub struct Book {
    waiting: Mutex<Vec<(Waiting, String)>>,
    away: std::sync::atomic::AtomicBool,
}

impl Book {
    pub fn waits(&self, args: &str, digest: &str) {
        let command: CommandId = "0193f2a4-7c1e-7abc-8def-0123456789ab".parse().expect("an id");
        let waiting = Waiting { command, verb: "demo.run".into(), args: args.into() };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((waiting, digest.to_owned()));
    }

    fn all(&self) -> Result<Vec<(Waiting, String)>, StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("away".into())),
            false => Ok(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

#[async_trait]
impl PluginBook for Book {
    async fn plugin_records(&self) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }

    async fn keep_plugins(&self, _: Vec<Record>, _: Vec<Passage>, _: Option<Entry>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn plugin_history(&self, _: &str, _: Option<u64>, _: u32) -> Result<Vec<(u64, Passage)>, StoreError> {
        Ok(Vec::new())
    }

    async fn plugin_waiting(&self, _: &str, _: Option<CommandId>, _: u32) -> Result<Vec<Waiting>, StoreError> {
        Ok(self.all()?.into_iter().map(|(waiting, _)| waiting).collect())
    }

    async fn plugin_digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.all()?.into_iter().map(|(_, digest)| digest).collect())
    }
}

fn with(book: &Arc<Book>) -> impl FnOnce(Options) -> Options + use<> {
    let book: Arc<dyn PluginBook> = book.clone();
    move |options| Options { book: Some(book), ..options }
}

#[tokio::test]
async fn an_update_that_would_break_what_waits_needs_consent() {
    let book = Arc::new(Book::default());
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], with(&book)).await;
    put(&house, &texts("1.1.0")).await;
    assert_stands(&house, "probation", Some("1.1.0"), None);
    put(&house, &good("1.2.0")).await;
    book.waits(r#"{"mode":1}"#, "");
    put(&house, &texts("1.3.0")).await;
    assert_stands(&house, "probation", Some("1.2.0"), Some("breaks_queued"));
    let cause = status(&house).refusal.expect("a refusal").cause;
    assert!(cause.contains("`/mode`") && cause.contains("demo.run"), "{cause}");
    order(&house, Order::Approve).await.expect("consent");
    assert_stands(&house, "probation", Some("1.3.0"), None);
    // While the store does not say what waits, nothing that could break it serves.
    book.away.store(true, Ordering::Relaxed);
    put(&house, &good("1.4.0")).await;
    assert_stands(&house, "probation", Some("1.3.0"), None);
    book.away.store(false, Ordering::Relaxed);
    house.handle.rescan().await.expect("the service runs");
    assert_stands(&house, "probation", Some("1.4.0"), None);
    // Once nothing waits any more, nothing is broken.
    put(&house, &texts("1.5.0")).await;
    assert_stands(&house, "probation", Some("1.4.0"), Some("breaks_queued"));
    book.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    house.handle.rescan().await.expect("the service runs");
    assert_stands(&house, "probation", Some("1.5.0"), None);
}

#[tokio::test]
async fn a_version_that_an_unfinished_command_was_planned_with_is_there_however_many_follow() {
    let book = Arc::new(Book::default());
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], with(&book)).await;
    let (name, used) = (house.verb("demo.run").traits().name.clone(), house.verb("demo.run").plugin().digest.clone());
    book.waits("{}", &used);
    let mut second = String::new();
    for minor in 1..=6 {
        put(&house, &good(&format!("1.{minor}.0"))).await;
        if minor == 1 {
            second = house.verb("demo.run").plugin().digest.clone();
        }
    }
    let pinned = |digest: &str| house.handle.pinned(&name, digest).expect("some version").plugin().version.clone();
    assert_eq!((pinned(&used), pinned(&second)), ("1.0.0".into(), "1.6.0".into()));
    book.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    put(&house, &good("1.7.0")).await;
    assert_eq!(pinned(&used), "1.7.0", "nobody needs it any more");
}

/// What a host that stops now would leave to the next one.
fn leave(house: &House) -> Vec<Record> {
    house.handle.records()
}

async fn again(dir: &Path, kept: &Path, records: Vec<Record>, book: Option<Arc<dyn PluginBook>>) -> House {
    let bytes = fs::read(dir.join("demo.wasm")).ok();
    let files: Vec<(&str, &[u8])> = bytes.iter().map(|bytes| ("demo.wasm", bytes.as_slice())).collect();
    let kept = Some(kept.to_owned());
    House::open(&files, |options| Options { kept, records, book, ..options }).await
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let kept = tempfile::tempdir().expect("a folder");
    let here = Some(kept.path().to_owned());
    let house = House::open(&[("demo.wasm", &good("1.0.0"))], |options| Options { kept: here, ..options }).await;
    put(&house, &bad("1.1.0")).await;
    fail_until_sent_back(&house, "active").await;

    // The quarantined file lies in the folder; the version before comes from the host's own.
    let next = again(house.dir.path(), kept.path(), leave(&house), None).await;
    assert_stands(&next, "active", Some("1.0.0"), Some("quarantined"));
    assert!(history(&next).is_empty(), "nothing happened: {:#?}", history(&next));
    // So it is with a file that is no plugin at all, and with one that is gone.
    next.write("demo.wasm", b"garbage");
    let next = again(next.dir.path(), kept.path(), leave(&next), None).await;
    assert_stands(&next, "active", Some("1.0.0"), Some("not_wasm"));
    order(&next, Order::Disable).await.expect("off");
    put(&next, &good("1.2.0")).await;
    let next = again(next.dir.path(), kept.path(), leave(&next), None).await;
    assert_stands(&next, "disabled", None, None);
    order(&next, Order::Enable).await.expect("on");
    let used = next.verb("demo.run").plugin().digest.clone();
    fs::remove_file(next.dir.path().join("demo.wasm")).expect("removed");
    let book = Arc::new(Book::default());
    book.waits("{}", &used);
    let name = next.verb("demo.run").traits().name.clone();
    let next = again(next.dir.path(), kept.path(), leave(&next), Some(book)).await;
    assert_stands(&next, "removed", None, None);
    let gone = next.handle.resolve("demo.run").map(|verb| verb.plugin().clone());
    assert!(
        matches!(&gone, Err(ResolveError::Unavailable { why, .. }) if why.contains("was removed at 20")),
        "{gone:?}"
    );
    assert!(next.handle.grant("demo").is_some(), "what is queued of it may still run");
    assert!(next.handle.pinned(&name, &used).is_some(), "and what it prints can still be read");
}
