//! Windows of rules under a clock that is turned by hand: the plugin, the store and the judging are real.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bus::local::Local;
use domain::alert::life::State;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use domain::time::Timestamp;
use ports::alerts::{Alerts as _, Kept};
use ports::clock::Clock;
use ports::rules::Rules as _;
use runtime::{DefaultGrants, Handle, Options};
use server::clock::RandomIds;
use services::alerting::{Alerting, Memory};
use services::directory::Directory;
use services::feed::Feed;
use storage::sqlite::{self, SqliteStore};
use tests::programs::plugin;
use tests::wait::until;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixtures;

/// A custom section called `x`, which changes a file's digest and nothing else.
const EMPTY_SECTION: &[u8] = &[0, 2, 1, b'x'];

/// Stands still until it is turned.
#[derive(Default)]
pub struct Hand(pub AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        fixtures::at(self.0.load(Ordering::SeqCst))
    }
}

/// A host's judging, and nothing else of it.
struct Ground {
    folder: tempfile::TempDir,
    clock: Arc<Hand>,
    store: SqliteStore,
    agent: fixtures::Machine,
    plugins: Handle,
    feed: Arc<Feed>,
    alerting: Alerting,
    _tasks: JoinSet<()>,
}

impl Ground {
    async fn with(config: &str) -> Ground {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = folder.path().join("plugins");
        std::fs::create_dir(&rules).expect("a folder");
        std::fs::write(rules.join("cpu.toml"), format!("[config]\n{config}\n")).expect("written");
        std::fs::write(rules.join("cpu.wasm"), plugin("cpu")).expect("written");
        let clock = Arc::new(Hand::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let options = sqlite::Options::new(folder.path().join("viworks.db"));
        let (store, writer) = sqlite::open(options, Arc::new(Local::default())).await.expect("opens");
        tasks.spawn(writer.run(stop.clone()));
        let agent = fixtures::enrol(&store, "web-1", "eu").await;
        let options = Options { default_grants: DefaultGrants::Requested, ..Options::new(&rules, clock.clone()) };
        let (service, plugins) = options.build().expect("builds");
        tasks.spawn(async move { service.run(stop).await.expect("the loader runs") });
        plugins.rescan().await.expect("it looks");
        let feed = Arc::new(Feed::default());
        let alerting = Alerting {
            rules: Arc::new(plugins.clone()),
            plugins: Arc::new(plugins.clone()),
            feed: feed.clone(),
            alerts: Arc::new(store.clone()),
            silences: Arc::new(store.clone()),
            directory: Arc::new(Directory::load(&store).await.expect("read")),
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
            grace: Duration::ZERO,
            word: None,
            memory: Memory::default(),
        };
        Ground { folder, clock, store, agent, plugins, feed, alerting, _tasks: tasks }
    }

    /// A sample that second. Answers the alert, if there is one.
    async fn sample(&mut self, second: i64, cpu: f64) -> Option<Kept> {
        self.clock.0.store(second, Ordering::SeqCst);
        let at = self.clock.now();
        let readings = vec![Reading::new(Metric::CpuTotal, cpu)];
        self.feed.give(vec![Report { agent: self.agent.id, at, received_at: at, readings: readings.into() }]);
        self.alerting.turn(false).await.expect("judged");
        self.store.alerts_of(&[self.agent.id]).await.expect("read").pop()
    }

    /// Puts other bytes in the rule's place and waits until they serve.
    async fn replace(&self, bytes: &[u8]) {
        let digest = || self.plugins.rules().first().map(|rule| rule.plugin().digest.clone());
        let before = digest();
        std::fs::write(self.folder.path().join("plugins/cpu.wasm"), bytes).expect("written");
        until("the other version serves", async || digest().filter(|now| Some(now) != before.as_ref())).await;
    }
}

#[tokio::test]
async fn a_window_of_five_minutes_goes_on_through_a_reload_and_fires_once_at_the_right_time() {
    let mut ground = Ground::with("for_s = 300").await;
    assert_eq!(ground.sample(0, 90.0).await, None, "what is only pending is not stored");
    assert_eq!(ground.sample(150, 90.0).await, None);
    ground.replace(&[plugin("cpu"), EMPTY_SECTION].concat()).await;
    assert_eq!(ground.sample(270, 90.0).await, None);
    // Another host, too, takes up where this one is: nothing is remembered but what is in the store.
    ground.alerting.memory = Memory::default();
    let fired = ground.sample(300, 90.0).await.expect("it lasted five minutes");
    assert!(matches!(fired.alert.state, State::Firing(_)), "{fired:?}");
    assert_eq!((fired.alert.since, fired.alert.began), (fixtures::at(300), fixtures::at(0)));
    let again = ground.sample(330, 91.0).await.expect("it still stands");
    assert_eq!((again.id, again.revision), (fired.id, fired.revision), "the same sight is told once");
    let over = ground.sample(360, 10.0).await.expect("it is kept");
    assert_eq!((over.id, over.alert.state), (fired.id, State::Resolved));
    let lines: Vec<&str> = ground
        .store
        .timeline(fired.id, None, 10)
        .await
        .expect("read")
        .iter()
        .map(|(_, line)| line.line.as_str())
        .collect();
    assert_eq!(lines, ["resolved", "fired"]);
}

#[tokio::test]
async fn a_rule_that_goes_on_failing_is_told_of_and_what_it_found_stands() {
    let mut ground = Ground::with("for_s = 0").await;
    let fired = ground.sample(0, 90.0).await.expect("it fires");
    ground.alerting.rules = Arc::new(Broken(ground.plugins.clone()));
    let still = ground.sample(30, 10.0).await.expect("it stands");
    assert_eq!(still.alert.state, fired.alert.state, "who is not heard silences nobody");
    let errors = ground.store.alerts_of(&[]).await.expect("read");
    let told: Vec<(&str, &str, State)> =
        errors.iter().map(|kept| (kept.rule.as_str(), kept.key.as_str(), kept.alert.state)).collect();
    assert_eq!(told, [("rule_error", "cpu", State::Firing(domain::alert::Severity::Warning))]);
    ground.alerting.rules = Arc::new(ground.plugins.clone());
    assert_eq!(ground.sample(60, 10.0).await.map(|kept| kept.alert.state), Some(State::Resolved));
    assert_eq!(ground.store.alerts_of(&[]).await.expect("read")[0].alert.state, State::Resolved);
}

/// The same rules, none of which answers.
pub struct Broken(pub Handle);

impl ports::rules::Rules for Broken {
    fn rules(&self) -> Vec<Arc<dyn ports::rules::Rule>> {
        self.0.rules().into_iter().map(|rule| Arc::new(Mute(rule)) as Arc<dyn ports::rules::Rule>).collect()
    }
}

struct Mute(Arc<dyn ports::rules::Rule>);

#[async_trait::async_trait]
impl ports::rules::Rule for Mute {
    fn plugin(&self) -> &ports::plugins::PluginIdentity {
        self.0.plugin()
    }

    fn summary(&self) -> &str {
        self.0.summary()
    }

    fn reads(&self) -> &[String] {
        self.0.reads()
    }

    fn config(&self) -> &serde_json::Value {
        self.0.config()
    }

    fn overrides(&self) -> &[ports::rules::Override] {
        self.0.overrides()
    }

    fn config_schema(&self) -> Option<&serde_json::Value> {
        self.0.config_schema()
    }

    fn validate(&self, config: &serde_json::Value) -> Result<(), Vec<ports::plugins::Violation>> {
        self.0.validate(config)
    }

    async fn evaluate(
        &self,
        _: Option<&serde_json::Value>,
        _: u64,
        _: ports::rules::Batch,
    ) -> Result<Vec<ports::rules::Answer>, ports::rules::RuleFault> {
        Err(ports::rules::RuleFault::Failed { plugin: "cpu".into(), message: "trapped".into() })
    }
}
