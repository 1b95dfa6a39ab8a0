//! Two hosts on one database at once.

use std::sync::Arc;
use std::time::Duration;

use domain::agent::Facts;
use domain::attempt::{Event as Happening, State};
use domain::event::{Event, What};
use domain::rollout::{Decision, Portion, Rollout};
use domain::terms::Terms;
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};
use ports::agents::Agents as _;
use ports::commands::{Advance, Commands as _, Word};
use ports::delivery::Delivery as _;
use ports::hosts::Hosts as _;
use ports::journal::Journal as _;
use storage::postgres::PostgresStore;
use tokio::task::JoinSet;

use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, CEILING, Place as _, Running};
use crate::behaviours::{Ground, audit};
use crate::lab::{Database, breathe};

async fn two(database: &Database) -> ([PostgresStore; 2], [Running; 2]) {
    let (Ground { store: one, .. }, running) = place::open(database).await;
    let (Ground { store: other, .. }, beside) = place::open(database).await;
    ([one, other], [running, beside])
}

/// Follows by cursor, a small page at a time, until `number` events have been seen.
async fn follow(store: PostgresStore, begun: u64, number: usize) -> Vec<Arc<Event>> {
    let (mut seen, mut after) = (Vec::new(), begun);
    while seen.len() < number {
        let page = store.events(None, after, 20).await.expect("read");
        after = page.last().map_or(after, |event| event.seq);
        seen.extend(page);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_either_host_miss_nothing_while_both_write() {
    const EACH: usize = 400;
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let web = enrol(&stores[0], "web-1", "eu").await;
    let begun = stores[0].last_seq().await.expect("read");
    let mut followers = JoinSet::new();
    for store in &stores {
        // Each command makes three events.
        followers.spawn(follow(store.clone(), begun, 2 * EACH * 3));
    }
    let mut writers = JoinSet::new();
    for store in &stores {
        for _ in 0..8 {
            let (store, web) = (store.clone(), web.clone());
            writers.spawn(async move {
                for _ in 0..EACH / 8 {
                    let new = command(&[&web]);
                    let id = new.command.id;
                    store.accept(new).await.expect("accepted");
                    store.append(chunk(id, web.id, 0, "some output"));
                    store.advance(finish(id, web.id, 1, true)).await.expect("advanced");
                }
            });
        }
    }
    writers.join_all().await;
    let seen = tokio::time::timeout(CEILING, followers.join_all()).await.expect("the followers catch up");
    let stored = stores[1].events(None, begun, 100_000).await.expect("read");
    assert_eq!(stored.len(), 2 * EACH * 3);
    for seen in seen {
        assert!(seen.is_sorted_by(|a, b| a.seq < b.seq), "strictly ascending");
        assert_eq!(seen, stored, "nothing missed, nothing twice");
    }
    assert_eq!(stores[0].last_seq().await, stores[1].last_seq().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_writes_an_audit_chain_of_its_own_and_numbers_are_shared() {
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let web = enrol(&stores[0], "web-1", "eu").await;
    let mut writers = JoinSet::new();
    for store in &stores {
        for _ in 0..8 {
            let (store, web) = (store.clone(), web.clone());
            writers.spawn(async move {
                for _ in 0..20 {
                    store.accept(command(&[&web])).await.expect("accepted");
                }
            });
        }
    }
    writers.join_all().await;
    let report = audit::check(&stores[1], &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.heads.len()), (&[][..], 322, 2));
    let audits = stores[0].audits(None, 500).await.expect("read");
    assert!(audits.is_sorted_by(|(a, _), (b, _)| a == &(b + 1)), "numbered without gaps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_both_hosts_move_at_once_moves_once_and_both_are_told_the_truth() {
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let web = enrol(&stores[0], "web-1", "eu").await;
    for round in 0..50 {
        let ids: Vec<CommandId> = accept_some(&stores[round % 2], &web).await;
        let mut racers = JoinSet::new();
        for (n, store) in (0..).zip(&stores) {
            // In the opposite order, so that locks taken as they come would wait for each other.
            let ids: Vec<CommandId> = if n == 0 { ids.clone() } else { ids.iter().rev().copied().collect() };
            for id in ids {
                let (store, agent) = (store.clone(), web.id);
                racers.spawn(async move {
                    let event = if n == 0 { Happening::CancelUnsent } else { Happening::StartDeadline };
                    let answer = store.advance(advance(id, agent, n, &[event])).await;
                    (id, answer.expect("advanced").expect("there"))
                });
            }
        }
        let answers = racers.join_all().await;
        for id in ids {
            let ended = stores[0].invocation(id, web.id).await.expect("read").expect("there");
            let told: Vec<_> = answers.iter().filter(|(of, _)| *of == id).map(|(_, answer)| *answer).collect();
            assert_eq!(told.iter().filter(|answer| answer.moved).count(), 1, "{told:?}");
            assert!(told.iter().all(|answer| answer.state == ended.state), "{told:?}, but it is {}", ended.state);
            let events = stores[1].events(Some(id), 0, 100).await.expect("read");
            let states = events.iter().filter(|event| matches!(event.what, What::State { .. })).count();
            assert_eq!(states, 1, "one move was told");
        }
    }
}

async fn accept_some(store: &PostgresStore, web: &Machine) -> Vec<CommandId> {
    let mut ids = Vec::new();
    for _ in 0..5 {
        let new = command(&[web]);
        ids.push(new.command.id);
        store.accept(new).await.expect("accepted");
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_both_hosts_are_handed_is_stored_once() {
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let web = enrol(&stores[0], "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    stores[0].accept(new).await.expect("accepted");
    for n in 0..50 {
        for store in &stores {
            store.append(chunk(id, web.id, n * 10, "0123456789"));
        }
        let (one, other) = tokio::join!(
            stores[0].advance(advance(id, web.id, 1, &[Happening::Send])),
            stores[1].advance(advance(id, web.id, 1, &[Happening::Start]))
        );
        assert!(one.expect("advanced").is_some() && other.expect("advanced").is_some());
    }
    let stored = database.sql("select sum(length(data))::text || ' in ' || count(*) from outputs").await;
    assert_eq!(stored.expect("read").as_deref(), Some("500 in 50"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_both_hosts_let_go_never_passes_its_slots_and_lets_nothing_go_twice() {
    const TARGETS: usize = 40;
    const SLOTS: u32 = 3;
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let mut machines = Vec::new();
    for number in 0..TARGETS {
        machines.push(enrol(&stores[number % 2], &format!("web-{number}"), "eu").await);
    }
    let machines: Vec<&Machine> = machines.iter().collect();
    let rollout = Rollout { max_concurrency: Some(Portion::Count(SLOTS)), ..Rollout::default() };
    let mut new = with(command(&machines), |command| command.terms = Terms { rollout, ..Terms::default() });
    for invocation in new.invocations.iter_mut().skip(SLOTS as usize) {
        invocation.held = true;
    }
    let (id, first): (_, Vec<AgentId>) =
        (new.command.id, machines[..SLOTS as usize].iter().map(|one| one.id).collect());
    stores[0].accept(new).await.expect("accepted");
    // Both look at it all the time; whatever one of them lets go ends at either.
    let mut racers = JoinSet::new();
    for (number, store) in stores.iter().enumerate() {
        let (store, beside) = (store.clone(), stores[1 - number].clone());
        let mut mine = if number == 0 { first.clone() } else { Vec::new() };
        racers.spawn(async move {
            let mut released: Vec<AgentId> = Vec::new();
            loop {
                for (at, agent) in mine.drain(..).enumerate() {
                    let at_which = if at % 2 == 0 { &store } else { &beside };
                    at_which.advance(finish(id, agent, 1, true)).await.expect("stored");
                }
                let rolled = store.roll(id, at(2)).await.expect("looked at");
                if rolled.decision == Decision::Done {
                    return released;
                }
                mine.extend(rolled.released.iter().map(|due| due.agent));
                released.extend(&mine);
            }
        });
    }
    let mut released = tokio::time::timeout(CEILING, racers.join_all()).await.expect("both are done").concat();
    let number = released.len();
    released.sort_unstable();
    released.dedup();
    assert_eq!((number, released.len()), (TARGETS - SLOTS as usize, number), "each once");

    // The events stand in the order of their commits: whoever follows them sees every slot taken and given back.
    let events = stores[0].events(Some(id), 0, 10_000).await.expect("read");
    let (mut held, mut most) = (SLOTS, SLOTS);
    for event in &events {
        match &event.what {
            What::State { state: State::Queued, .. } => held += 1,
            What::State { state, .. } if state.is_terminal() => held -= 1,
            _ => {}
        }
        most = most.max(held);
    }
    // What is still running was not drained by its own host when the other said that nothing is held.
    assert!(most == SLOTS && held <= SLOTS, "{most} slots were held at once, {held} at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_session_sent_is_written_down_before_a_newer_one_looks_or_never() {
    const ROUNDS: usize = 100;
    let Some(database) = Database::fresh() else { return };
    let ([one, other], _running) = two(&database).await;
    let web = enrol(&one, "web-1", "eu").await;
    let (mut before, mut never) = (0, 0);
    for _ in 0..ROUNDS {
        let epoch = one.open_session(web.id, &Facts::default(), at(1)).await.expect("stored").expect("known");
        let new = command(&[&web]);
        let id = new.command.id;
        one.accept(new).await.expect("accepted");
        // The older session ends at one host while the agent comes back at the other.
        let word = Word::Session(epoch);
        let sent = Advance { word, ..advance(id, web.id, 2, &[Happening::Send]) };
        let ends = one.advance(sent);
        let comes = async {
            other.open_session(web.id, &Facts::default(), at(2)).await.expect("stored").expect("known");
            other.open(web.id).await.expect("read").iter().find(|open| open.key.command == id).expect("open").state
        };
        let (said, seen) = tokio::join!(ends, comes);
        let said = said.expect("stored").expect("there");
        assert_eq!(seen, said.state, "who came back saw what the older one had written, and nothing came after");
        if said.moved {
            before += 1
        } else {
            never += 1
        }
        one.advance(finish(id, web.id, 3, true)).await.expect("stored");
    }
    assert_eq!(before + never, ROUNDS);
}

/// Agents whose session is open in the rows.
async fn open_sessions(database: &Database) -> Option<String> {
    let sql = "select coalesce(string_agg(agent_id, ' ' order by agent_id), '') from agents where session_open";
    database.sql(sql).await.expect("read")
}

async fn last_seen(store: &PostgresStore, id: AgentId) -> Option<Timestamp> {
    let all = store.agents().await.expect("read");
    all.into_iter().find(|agent| agent.id == id).expect("there").last_seen
}

/// When the host that an agent is or was at said last that it lived.
async fn last_alive(database: &Database, agent: &str) -> Option<Timestamp> {
    let sql = "select string_agg(a.agent_id || '=' || (extract(epoch from n.seen_at) * 1000000)::bigint, ' ') \
               from agents a join nodes n on n.id = a.node_id";
    let all = database.sql(sql).await.expect("read")?;
    let micros = all.split(' ').find_map(|one| one.strip_prefix(agent)?.strip_prefix('='))?;
    Some(Timestamp(micros.parse().expect("a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_closes_the_sessions_of_hosts_that_are_gone_and_no_others() {
    let Some(database) = Database::fresh() else { return };
    let ([one, other], [dying, living]) = two(&database).await;
    let (web, db) = (enrol(&one, "web-1", "eu").await, enrol(&other, "db-1", "eu").await);
    one.open_session(web.id, &Facts::default(), at(1)).await.expect("stored").expect("known");
    other.open_session(db.id, &Facts::default(), at(1)).await.expect("stored").expect("known");
    let (_third, _running) = place::open(&database).await;
    assert_eq!(open_sessions(&database).await.as_deref(), Some("db-1 web-1"), "both live");
    assert_eq!(one.sessions_here().await, Ok(vec![(web.id, 1)]), "each its own");
    assert_eq!(other.sessions_here().await, Ok(vec![(db.id, 1)]));
    let seen_by_one = one.agents_anywhere().await.expect("read").into_iter().map(|found| found.agent.last_seen);
    assert!(seen_by_one.eq([last_alive(&database, "db-1").await, last_alive(&database, "web-1").await]));

    // Cut off like a process that is killed: the server learns of it when the connection breaks.
    drop((dying, one));
    let noticed = async {
        let writers = "select count(*)::text from pg_locks where locktype = 'advisory' and database = \
                       (select oid from pg_database where datname = current_database())";
        while database.sql(writers).await.expect("read").as_deref() != Some("2") {
            breathe().await;
        }
    };
    tokio::time::timeout(CEILING, noticed).await.expect("the server notices");
    assert_eq!(open_sessions(&database).await.as_deref(), Some("db-1 web-1"), "nobody has looked yet");
    let (Ground { store: fourth, .. }, _running) = place::open(&database).await;
    assert_eq!(open_sessions(&database).await.as_deref(), Some("db-1"), "the dead host's are closed");
    let until = last_alive(&database, "web-1").await;
    assert_eq!(last_seen(&fourth, web.id).await, until, "its agent was seen until it died");
    let agents = fourth.agents().await.expect("read");
    assert!(agents.iter().all(|agent| agent.maybe_sent), "what they may have sent stays marked");
    // The living host's session is as good as before.
    other.close_session(db.id, 1, at(9), false).await.expect("stored");
    assert_eq!(open_sessions(&database).await.as_deref(), Some(""));
    living.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_of_a_silent_host_had_is_abandoned_though_their_sessions_are_open() {
    let Some(database) = Database::fresh() else { return };
    let ([one, other], [_dying, _living]) = two(&database).await;
    let (web, db) = (enrol(&one, "web-1", "eu").await, enrol(&other, "db-1", "eu").await);
    let mut had = Vec::new();
    for (store, machine) in [(&one, &web), (&other, &db)] {
        store.open_session(machine.id, &Facts::default(), at(1)).await.expect("stored").expect("known");
        let new = command(&[machine]);
        had.push(new.command.id);
        store.accept(new).await.expect("accepted");
        store.advance(advance(had[had.len() - 1], machine.id, 2, &[Happening::Send])).await.expect("advanced");
    }
    let abandoned = async || -> Vec<CommandId> {
        let found = other.abandoned(at(100), 10).await.expect("read");
        found.iter().map(|open| open.key.command).collect()
    };
    assert_eq!(abandoned().await, []);
    assert_eq!(at(40).0, 1_700_000_040_000_000);
    let silence = "update nodes set seen_at = to_timestamp(1700000040) \
                   where id = (select node_id from agents where agent_id = 'web-1')";
    database.sql(silence).await.expect("silenced");
    assert_eq!(abandoned().await, [had[0]]);
    assert_eq!(other.bury(Duration::from_secs(60), at(200)).await, Ok(1));
    assert_eq!(open_sessions(&database).await.as_deref(), Some("db-1"));
    assert_eq!(last_seen(&other, web.id).await, Some(at(40)), "when its host said last that it lived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_first_for_each_agent_here_is_found_among_more_and_among_fewer_that_are_elsewhere() {
    let Some(database) = Database::fresh() else { return };
    let (stores, _running) = two(&database).await;
    let [here, other] = &stores;
    let web = enrol(here, "web-1", "eu").await;
    let (idle, elsewhere) = (enrol(here, "web-2", "eu").await, enrol(here, "web-3", "eu").await);
    for (store, machine) in [(here, &web), (here, &idle), (other, &elsewhere)] {
        store.open_session(machine.id, &Facts::default(), at(1)).await.expect("stored");
    }
    assert_eq!(here.waiting().await, Ok(Vec::new()));
    let (first, second) = (command(&[&web, &elsewhere]), command(&[&web]));
    let wanted = key(first.command.id);
    for new in [first, second] {
        other.accept(new).await.expect("accepted");
    }
    // Two agents are here, and something waits for two.
    assert_eq!(here.waiting().await, Ok(vec![(web.id, wanted)]));
    // And now for five more, who are away.
    for number in 4..9 {
        let away = enrol(here, &format!("web-{number}"), "eu").await;
        other.accept(command(&[&away])).await.expect("accepted");
    }
    assert_eq!(here.waiting().await, Ok(vec![(web.id, wanted)]));
    assert_eq!(other.waiting().await, Ok(vec![(elsewhere.id, wanted)]));
}
