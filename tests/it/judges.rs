//! Two hosts that judge by one PostgreSQL, under a clock that is turned by hand: what one of them says of a rule, the
//! other does not take back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::local::Local;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use ports::alerts::Alerts as _;
use ports::clock::Clock as _;
use runtime::{DefaultGrants, Handle, Options};
use server::clock::RandomIds;
use services::alerting::{Alerting, Memory};
use services::directory::Directory;
use services::failing::Word;
use services::feed::Feed;
use storage::postgres::{self, PostgresStore};
use tests::programs::plugin;
use tests::store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixtures;
use crate::windows::{Broken, Hand};

/// What a host says counts for so long.
const LASTS: Duration = Duration::from_secs(60);

/// A host's judging, and nothing else of it.
struct Judge {
    store: PostgresStore,
    agent: fixtures::Machine,
    plugins: Handle,
    feed: Arc<Feed>,
    clock: Arc<Hand>,
    alerting: Alerting,
    _tasks: JoinSet<()>,
}

impl Judge {
    async fn start(url: &str, name: &str, plugins: &Handle, clock: &Arc<Hand>) -> Judge {
        let mut tasks = JoinSet::new();
        let opened = postgres::open(postgres::Options::new(url), Arc::new(Local::default())).await;
        let (store, writer) = opened.expect("opens");
        tasks.spawn(writer.run(CancellationToken::new()));
        let agent = fixtures::enrol(&store, name, "eu").await;
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
            word: Some(Word::new(name, LASTS)),
            memory: Memory::default(),
        };
        Judge { store, agent, plugins: plugins.clone(), feed, clock: clock.clone(), alerting, _tasks: tasks }
    }

    fn fails(&mut self, fails: bool) {
        self.alerting.rules =
            if fails { Arc::new(Broken(self.plugins.clone())) } else { Arc::new(self.plugins.clone()) };
    }

    /// A sample of its agent that second, and a look at everything else.
    async fn judges(&mut self, second: i64) {
        self.clock.0.store(second, Ordering::SeqCst);
        let at = self.clock.now();
        let readings = vec![Reading::new(Metric::CpuTotal, 1.0)];
        self.feed.give(vec![Report { agent: self.agent.id, at, received_at: at, readings: readings.into() }]);
        self.alerting.turn(true).await.expect("judged");
    }

    /// What became of the one alert that is of no agent, oldest first.
    async fn told(&self) -> Vec<&'static str> {
        let kept = self.store.alerts_of(&[]).await.expect("read");
        assert!(kept.len() == 1 && kept[0].key == "cpu", "one for the rule, on however many hosts: {kept:?}");
        let lines = self.store.timeline(kept[0].id, None, 100).await.expect("read");
        lines.iter().rev().map(|(_, moment)| moment.line.as_str()).collect()
    }
}

#[tokio::test]
async fn a_rule_that_fails_on_one_of_two_hosts_is_told_of_once_until_it_answers_there_or_that_host_is_gone() {
    let Some(Store::Postgres(url)) = Store::postgres() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cpu.wasm"), plugin("cpu")).expect("written");
    let clock = Arc::new(Hand::default());
    let options = Options { default_grants: DefaultGrants::Requested, ..Options::new(folder.path(), clock.clone()) };
    let (service, plugins) = options.build().expect("builds");
    let mut loading = JoinSet::new();
    loading.spawn(async move { service.run(CancellationToken::new()).await.expect("the loader runs") });
    plugins.rescan().await.expect("it looks");
    let mut well = Judge::start(&url, "web-1", &plugins, &clock).await;
    let mut ill = Judge::start(&url, "db-1", &plugins, &clock).await;

    ill.fails(true);
    for second in (0..300).step_by(15) {
        ill.judges(second).await;
        well.judges(second + 7).await;
    }
    assert_eq!(well.told().await, ["fired"], "it answers elsewhere all the while, and that changes nothing");

    ill.fails(false);
    ill.judges(300).await;
    well.judges(307).await;
    assert_eq!(well.told().await, ["fired", "resolved"]);

    ill.fails(true);
    ill.judges(320).await;
    well.judges(327).await;
    drop(ill);
    well.judges(375).await;
    assert_eq!(well.told().await, ["fired", "resolved", "fired"], "it may come back");
    well.judges(381).await;
    assert_eq!(well.told().await, ["fired", "resolved", "fired", "resolved"], "nobody says so any more");
    well.judges(440).await;
    assert!(well.store.remembered(&[plan::id::AgentId(uuid::Uuid::nil())]).await.expect("read").is_empty());
}
