//! What is asked all the time, and how both databases go about it: no plan may walk a table that grows with
//! history, and `docs/storage.md` shows the plans as they are. `VIWORKS_BLESS=1` rewrites the page.

#[expect(dead_code, reason = "what the behaviours need besides")]
#[path = "../tests/behaviours/fixtures.rs"]
mod fixtures;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::Event as Step;
use domain::command::Status;
use domain::event::Event;
use domain::priority::Priority;
use domain::retry::{Cause, Retry};
use domain::terms::Terms;
use domain::time::Timestamp;
use plan::id::{AttemptKey, CommandId};
use ports::agents::Agents;
use ports::commands::{Advance, CommandFilter, Commands, NewCommand, Page};
use ports::delivery::Delivery;
use ports::journal::{AuditFilter, Installation};
use ports::live::{Heard, Live, Subscription};

use fixtures::{Machine, advance, at, chunk, command, enrol, finish, with};

/// Tables with rows of all that ever happened.
pub(crate) const GROWING: [&str; 7] =
    ["commands", "command_sites", "invocations", "attempts", "outputs", "events", "audit_logs"];
/// Finished commands in the history, each on three agents.
pub(crate) const HISTORY: u32 = 20_000;

/// A statement and how a database goes about it.
pub(crate) struct Plan {
    /// What it is called here.
    pub name: &'static str,
    /// As the database is asked.
    pub text: String,
    /// What the database says, line by line.
    pub steps: Vec<String>,
}

/// What can be asked of a store here.
pub(crate) trait Store: Commands + Delivery + Agents + Installation {}

impl<S: Commands + Delivery + Agents + Installation> Store for S {}

/// Nobody listens.
pub(crate) struct Deaf;

struct Silence;

impl Live for Deaf {
    fn publish(&self, _: &[Arc<Event>]) {}

    fn subscribe(&self, _: Option<CommandId>) -> Box<dyn Subscription> {
        Box::new(Silence)
    }
}

#[async_trait]
impl Subscription for Silence {
    async fn next(&mut self) -> Heard {
        Heard::Closed
    }
}

/// Three agents, and a command that has ended on all of them: on one after a second attempt.
pub(crate) async fn past(store: &impl Store) -> (Vec<Machine>, CommandId) {
    let mut machines = Vec::new();
    for (name, site) in [("web-1", "eu"), ("web-2", "eu"), ("db-1", "us")] {
        machines.push(enrol(store, name, site).await);
    }
    let new = stubborn(&machines);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    for machine in &machines {
        let started = advance(id, machine.id, 5, &[Step::Send, Step::Acknowledge, Step::Start]);
        store.advance(started).await.expect("stored");
        store.append(chunk(id, machine.id, 0, "first\n"));
        store.append(chunk(id, machine.id, 6, "second\n"));
    }
    let [again, rest @ ..] = machines.as_slice() else { panic!("three machines") };
    store.advance(finish(id, again.id, 9, false)).await.expect("stored");
    let second = |advance: Advance| Advance { key: AttemptKey { number: 2, ..advance.key }, ..advance };
    let released = advance(id, again.id, 20, &[Step::Release, Step::Send, Step::Acknowledge, Step::Start]);
    store.advance(second(released)).await.expect("stored");
    store.advance(second(finish(id, again.id, 25, true))).await.expect("stored");
    for machine in rest {
        store.advance(finish(id, machine.id, 9, true)).await.expect("stored");
    }
    store.flush().await.expect("written");
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!(view.status, Status::Succeeded, "all of it is over");
    (machines, id)
}

/// One of each thing that is not over: what waits, what runs, what is tried again, what a rollout holds.
pub(crate) async fn present(store: &impl Store, machines: &[Machine]) {
    let all: Vec<&Machine> = machines.iter().collect();
    for n in 0..4 {
        let mut new = if n == 0 { stubborn(machines) } else { command(&all) };
        if n == 3 {
            new.invocations.iter_mut().for_each(|invocation| invocation.held = true);
        }
        let id = new.command.id;
        store.accept(new).await.expect("accepted");
        if n < 2 {
            let started = advance(id, machines[0].id, 5, &[Step::Send, Step::Acknowledge, Step::Start]);
            store.advance(started).await.expect("stored");
        }
        if n == 0 {
            store.advance(finish(id, machines[0].id, 9, false)).await.expect("stored");
        }
    }
    store.flush().await.expect("written");
}

/// An instant after all that is stored.
pub(crate) fn now() -> Timestamp {
    at(86_400)
}

/// A command whose failures are tried again.
fn stubborn(machines: &[Machine]) -> NewCommand {
    let retry = Retry { max_attempts: 2, on: vec![Cause::Failed], backoff: Duration::from_secs(1) };
    let all: Vec<&Machine> = machines.iter().collect();
    with(command(&all), |command| command.terms = Terms { retry, ..Terms::default() })
}

/// A list by each filter: the second and later pages, which seek.
pub(crate) fn lists(machine: &Machine, before: CommandId) -> Vec<(&'static str, CommandFilter, Page)> {
    let any = CommandFilter::default;
    let filters = [
        ("list", any()),
        ("list by agent", CommandFilter { agent: Some(machine.id), ..any() }),
        ("list by site", CommandFilter { sites: Some(vec!["eu".into(), "us".into()]), ..any() }),
        ("list by status", CommandFilter { statuses: vec![Status::Failed], ..any() }),
        ("list by verb", CommandFilter { verb: Some("docker.ps".into()), ..any() }),
        ("list by priority", CommandFilter { priority: Some(Priority::Critical), ..any() }),
        ("list by time", CommandFilter { since: Some(at(0)), until: Some(at(60)), ..any() }),
    ];
    filters.map(|(name, filter)| (name, filter, Page { before: Some(before), limit: 50 })).into()
}

/// Pages of the audit log, by each filter.
pub(crate) fn audits() -> [(&'static str, AuditFilter); 3] {
    let any = AuditFilter::default;
    [
        ("audit entries by actor", AuditFilter { actor: Some("ada".into()), ..any() }),
        ("audit entries by action", AuditFilter { action: Some("command.submit".into()), ..any() }),
        ("audit entries by time", AuditFilter { since: Some(at(0)), until: Some(at(60)), ..any() }),
    ]
}

/// What a copied row has where it may not be as in the original; `None` = the column is copied.
pub(crate) fn replaced(table: &str, column: &str, id: &str) -> Option<String> {
    match (table, column) {
        ("commands", "id") | (_, "command_id") => Some(id.to_owned()),
        // A copy hangs on no chain: no two entries have one place.
        ("audit_logs", "chain") => Some("null".to_owned()),
        ("audit_logs", "id") => Some("t.id + n.n * 1000".to_owned()),
        ("outputs" | "events", "seq") => Some("t.seq + n.n * 1000".to_owned()),
        _ => None,
    }
}
