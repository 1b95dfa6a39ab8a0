//! What is ended by its clocks, over a real store.

#[expect(dead_code, reason = "what the store's own tests need besides")]
#[path = "../../storage/tests/behaviours/fixtures.rs"]
mod fixtures;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::agent::Facts;
use domain::attempt::{Event as Step, Reason, State};
use domain::event::Event;
use domain::time::Timestamp;
use futures_util::future::try_join_all;
use plan::id::{AgentId, CommandId};
use ports::agents::Agents as _;
use ports::clock::Clock;
use ports::commands::{Commands as _, Due, Open};
use ports::link::{Link, Settle};
use ports::live::{Heard, Live, Subscription};
use services::backlog::{Backlog, Bounds};
use services::cancel::SettleUnowned;
use services::directory::Directory;
use services::doubt::Doubts;
use services::reap::Reap;
use storage::sqlite::{Options, SqliteStore, open};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use fixtures::{Machine, advance, at, command, enrol, with};

/// More than are read at once.
const MANY: usize = 501;
const LOST_AFTER: Duration = Duration::from_secs(60);

/// Seconds after noon, as the test turns them.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::Relaxed))
    }
}

/// No session here hears of anything.
struct Nobody;

impl Link for Nobody {
    fn offer(&self, _: Vec<Due>) {}

    fn settle(&self, _: Open, _: Settle) -> bool {
        false
    }

    fn cut(&self, _: AgentId, _: &str) {}
}

struct Deaf;

impl Live for Deaf {
    fn publish(&self, _: &[Arc<Event>]) {}

    fn subscribe(&self, _: Option<CommandId>) -> Box<dyn Subscription> {
        Box::new(Deaf)
    }
}

#[async_trait]
impl Subscription for Deaf {
    async fn next(&mut self) -> Heard {
        Heard::Closed
    }
}

/// A reaper and its store.
struct Ground {
    reap: Reap,
    store: SqliteStore,
    directory: Arc<Directory>,
    hand: Arc<Hand>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Ground {
    async fn new() -> Ground {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options::new(folder.path().join("viworks.db"));
        let (store, writer) = open(options, Arc::new(Deaf)).await.expect("opens");
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(CancellationToken::new()));
        let (rows, hand, directory) =
            (Arc::new(store.clone()), Arc::new(Hand::default()), Arc::new(Directory::default()));
        let reap = Reap {
            commands: rows.clone(),
            agents: rows.clone(),
            whole: rows.clone(),
            directory: directory.clone(),
            link: Arc::new(Nobody),
            doubts: Arc::new(Doubts::default()),
            settle: Arc::new(SettleUnowned { commands: rows.clone(), clock: hand.clone() }),
            replies: rows.clone(),
            backlog: Arc::new(Backlog::new(Bounds { per_agent: 1_000, in_all: 1_000 })),
            delivery: rows,
            clock: hand.clone(),
            lost_after: LOST_AFTER,
            since: at(0),
        };
        Ground { reap, store, directory, hand, _tasks: tasks, _folder: folder }
    }

    /// An agent with a session that the store has for open.
    async fn with_session(&self, name: &str) -> Machine {
        let machine = enrol(&self.store, name, "eu").await;
        let epoch = self.store.open_session(machine.id, &Facts::default(), at(1)).await;
        assert_eq!(epoch, Ok(Some(1)));
        self.directory.put(self.store.agent(machine.id).await.expect("read").expect("there"));
        machine
    }

    /// Commands that are to start by then.
    async fn waiting(&self, machine: &Machine, number: usize, start_by: i64) -> Vec<CommandId> {
        let new = || with(command(&[machine]), |command| command.start_by = at(start_by));
        let new: Vec<_> = std::iter::repeat_with(new).take(number).collect();
        let ids = new.iter().map(|new| new.command.id).collect();
        try_join_all(new.into_iter().map(|new| self.store.accept(new))).await.expect("accepted");
        ids
    }

    async fn stands(&self, id: CommandId, machine: &Machine) -> (State, Option<Reason>) {
        let invocation = self.store.invocation(id, machine.id).await.expect("read").expect("there");
        (invocation.state, invocation.reason)
    }

    async fn step_at(&self, seconds: i64) {
        self.hand.0.store(seconds, Ordering::Relaxed);
        self.reap.step().await.expect("looked");
    }
}

#[tokio::test]
async fn more_that_does_not_move_than_is_read_at_once_hides_nothing_that_does() {
    let ground = Ground::new().await;
    let elsewhere = ground.with_session("web-1").await;
    let absent = enrol(&ground.store, "web-2", "eu").await;
    let stuck = ground.waiting(&elsewhere, MANY, 10).await;
    let late = ground.waiting(&absent, 1, 20).await;
    ground.step_at(30).await;
    assert_eq!(ground.stands(stuck[0], &elsewhere).await, (State::Queued, None), "its session knows");
    assert_eq!(ground.stands(late[0], &absent).await, (State::Expired, Some(Reason::Deadline)));
}

#[tokio::test]
async fn a_session_that_nobody_has_is_closed_and_what_it_kept_ends() {
    let ground = Ground::new().await;
    let (gone, here, coming) =
        (ground.with_session("web-1").await, ground.with_session("web-2").await, ground.with_session("web-3").await);
    ground.directory.opened(here.id, 1, at(1));
    let _attended = ground.directory.attend(coming.id);
    let (had, waits) = (ground.waiting(&gone, 1, 10).await[0], ground.waiting(&gone, 1, 10).await[0]);
    ground.store.advance(advance(had, gone.id, 2, &[Step::Send, Step::Start])).await.expect("stored");
    ground.step_at(20).await;
    assert_eq!(ground.stands(waits, &gone).await, (State::Queued, None), "its session has it");

    ground.reap.close_left_behind().await.expect("closed");
    let mut open = vec![(here.id, 1), (coming.id, 1)];
    open.sort_unstable();
    let mut found = ground.store.sessions_here().await.expect("read");
    found.sort_unstable();
    assert_eq!(found, open);
    ground.step_at(21).await;
    assert_eq!(ground.stands(waits, &gone).await, (State::Lost, Some(Reason::Unacknowledged)), "it may have been sent");
    assert_eq!(ground.stands(had, &gone).await, (State::Running, None), "its agent may come back");
    ground.step_at(20 + 61).await;
    assert_eq!(ground.stands(had, &gone).await, (State::Lost, Some(Reason::AgentGone)));
}
