//! What waits, what is late, what is lost, and asking to cancel.

use domain::agent::Facts;
use domain::attempt::{Event, State};
use domain::command::Status;
use domain::priority::Priority;
use plan::id::{AgentId, CommandId};
use ports::commands::Open;

use super::fixtures::*;
use super::{Ground, Store};

async fn accept<S: Store>(store: &S, machine: &Machine, priority: Priority) -> CommandId {
    let new = with(command(&[machine]), |command| command.priority = priority);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    id
}

async fn due<S: Store>(store: &S, agent: AgentId, limit: u32) -> Vec<CommandId> {
    let found = store.due(agent, limit).await.expect("read");
    assert!(found.is_sorted_by_key(|due| due.order()));
    found.into_iter().map(|due| due.command.id).collect()
}

fn commands(open: &[Open]) -> Vec<CommandId> {
    open.iter().map(|open| open.key.command).collect()
}

pub async fn what_is_due_comes_by_priority_then_by_acceptance<S: Store>(Ground { store, .. }: Ground<S>) {
    let (web, other) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "eu").await);
    let low = accept(&store, &web, Priority::Low).await;
    let normal = accept(&store, &web, Priority::Normal).await;
    let critical = accept(&store, &web, Priority::Critical).await;
    let second_normal = accept(&store, &web, Priority::Normal).await;
    let high = accept(&store, &web, Priority::High).await;
    accept(&store, &other, Priority::Critical).await;
    assert_eq!(due(&store, web.id, 10).await, [critical, high, normal, second_normal, low]);
    assert_eq!(due(&store, web.id, 2).await, [critical, high]);
    store.advance(advance(critical, web.id, 1, &[Event::Send])).await.expect("advanced");
    store.advance(finish(high, web.id, 1, true)).await.expect("advanced");
    assert_eq!(due(&store, web.id, 10).await, [normal, second_normal, low]);
    // An agent that never got it hands it back to the queue, in its old place.
    store.advance(advance(critical, web.id, 2, &[Event::NotKnown])).await.expect("advanced");
    assert_eq!(due(&store, web.id, 1).await, [critical]);
}

pub async fn asking_to_cancel_takes_it_out_of_the_queue_and_changes_no_state<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = accept(&store, &web, Priority::Normal).await;
    let asked = store.request_cancel(id, None, at(2), entry("command.cancel")).await.expect("stored");
    let open = Open { key: key(id), agent: web.id, state: State::Queued, reason: None, cancel_requested: true };
    assert_eq!(asked, [open]);
    assert!(due(&store, web.id, 10).await.is_empty());
    assert_eq!(store.open(web.id).await, Ok(vec![open]));
    let invocation = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((invocation.state, invocation.cancel_requested_at), (State::Queued, Some(at(2))));
    assert_eq!(store.command(id).await.expect("read").expect("there").status, Status::Pending);
    assert_eq!(store.audits(None, 1).await.expect("read")[0].1.action, "command.cancel");

    // Asking again keeps the first time.
    store.request_cancel(id, None, at(3), entry("command.cancel")).await.expect("stored");
    let again = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!(again.cancel_requested_at, Some(at(2)));
    store.advance(advance(id, web.id, 4, &[Event::CancelUnsent])).await.expect("advanced");
    assert_eq!(store.request_cancel(id, None, at(5), entry("command.cancel")).await, Ok(vec![]));
}

pub async fn cancelling_at_some_sites_leaves_the_others<S: Store>(Ground { store, .. }: Ground<S>) {
    let (one, two) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "us").await);
    let new = command(&[&one, &two]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let cancel = async |sites: &[&str]| {
        let sites = sites.iter().map(|site| (*site).to_owned()).collect();
        let asked = store.request_cancel(id, Some(sites), at(1), entry("command.cancel")).await.expect("stored");
        asked.iter().map(|open| open.agent).collect::<Vec<_>>()
    };
    assert_eq!(cancel(&[]).await, []);
    assert_eq!(cancel(&["asia", "us"]).await, [two.id]);
    assert_eq!(due(&store, one.id, 10).await, [id]);
    assert!(due(&store, two.id, 10).await.is_empty());
}

pub async fn open_is_everything_that_is_not_over<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let (queued, sent) = (accept(&store, &web, Priority::Low).await, accept(&store, &web, Priority::Normal).await);
    let (running, over) = (accept(&store, &web, Priority::High).await, accept(&store, &web, Priority::High).await);
    store.advance(advance(sent, web.id, 1, &[Event::Send])).await.expect("advanced");
    store.advance(advance(running, web.id, 1, &[Event::Start])).await.expect("advanced");
    store.advance(finish(over, web.id, 1, true)).await.expect("advanced");
    let open = store.open(web.id).await.expect("read");
    let found: Vec<(CommandId, State)> = open.iter().map(|open| (open.key.command, open.state)).collect();
    assert_eq!(found, [(running, State::Running), (sent, State::Sent), (queued, State::Queued)]);
}

pub async fn overdue_is_what_has_not_started_in_time<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let mut ids = Vec::new();
    for start_by in [30, 10, 20, 40, 15] {
        let new = with(command(&[&web]), |command| command.start_by = at(start_by));
        ids.push(new.command.id);
        store.accept(new).await.expect("accepted");
    }
    store.advance(advance(ids[2], web.id, 1, &[Event::Send])).await.expect("advanced");
    store.advance(advance(ids[4], web.id, 1, &[Event::Acknowledge])).await.expect("advanced");
    let page = async |now, after, limit| store.overdue(at(now), after, limit).await.expect("read");
    let overdue = async |now, limit| -> Vec<CommandId> {
        page(now, None, limit).await.iter().map(|late| late.open.key.command).collect()
    };
    assert_eq!(overdue(31, 10).await, [ids[1], ids[2], ids[0]]);
    assert_eq!(overdue(31, 1).await, [ids[1]]);
    assert_eq!(overdue(10, 10).await, []);
    store.advance(advance(ids[1], web.id, 32, &[Event::StartDeadline])).await.expect("advanced");
    assert_eq!(overdue(31, 10).await, [ids[2], ids[0]]);
}

pub async fn what_is_overdue_is_paged_though_none_of_it_moves<S: Store>(Ground { store, .. }: Ground<S>) {
    let (one, two) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "eu").await);
    // Many are to start at one instant.
    for start_by in [10, 30, 10, 20, 10] {
        let new = with(command(&[&one, &two]), |command| command.start_by = at(start_by));
        store.accept(new).await.expect("accepted");
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.overdue(at(31), after, 3).await.expect("read");
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        found.extend(page);
    }
    let whole = store.overdue(at(31), None, 100).await.expect("read");
    assert_eq!((whole.len(), &whole), (10, &found));
    assert!(found.is_sorted_by_key(|late| late.place()));
    assert_eq!((found[0].start_by, found[9].start_by), (at(10), at(30)));
}

pub async fn abandoned_is_what_an_absent_agent_had<S: Store>(Ground { store, .. }: Ground<S>) {
    let (here, away) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "eu").await);
    let mut had = Vec::new();
    for machine in [&here, &away] {
        let epoch = store.open_session(machine.id, &Facts::default(), at(1)).await.expect("stored").expect("known");
        assert_eq!(epoch, 1);
        had.push(accept(&store, machine, Priority::Normal).await);
        accept(&store, machine, Priority::Normal).await;
        store.advance(advance(had[had.len() - 1], machine.id, 2, &[Event::Send])).await.expect("advanced");
    }
    let abandoned = async |before| commands(&store.abandoned(at(before), 10).await.expect("read"));
    assert_eq!(abandoned(1000).await, [], "both have a session");
    store.close_session(away.id, 1, at(10), false).await.expect("stored");
    assert_eq!(abandoned(10).await, [], "it was last seen at 10");
    assert_eq!(abandoned(11).await, [had[1]], "what is queued is not lost");
    store.advance(advance(had[1], away.id, 12, &[Event::AgentGone])).await.expect("advanced");
    assert_eq!(abandoned(11).await, []);
}
