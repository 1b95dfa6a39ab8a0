//! Accepting commands.

use domain::attempt::State;
use domain::command::Status;
use domain::event::What;
use plan::id::AgentId;
use ports::commands::Page;
use ports::error::StoreError;

use super::fixtures::*;
use super::{Ground, Store};

pub async fn a_command_reads_back_as_accepted<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    store.accept(new.clone()).await.expect("accepted");
    let view = store.command(new.command.id).await.expect("read").expect("there");
    assert_eq!(view.command, *new.command);
    assert_eq!((view.status, view.counts.of(State::Queued), view.counts.total()), (Status::Pending, 1, 1));
    assert_eq!(view.completed_at, None);

    let invocation = store.invocation(new.command.id, web.id).await.expect("read").expect("there");
    assert_eq!((invocation.agent_name.as_str(), invocation.site.as_str()), ("web-1", "eu"));
    assert_eq!((invocation.attempt, invocation.state, invocation.reason), (1, State::Queued, None));
    assert_eq!((invocation.created_at, invocation.changed_at, invocation.started_at), (NOON, NOON, None));
    assert_eq!((invocation.outcome, invocation.result, invocation.cancel_requested_at), (None, None, None));

    let due = store.due(web.id, 10).await.expect("read");
    assert_eq!(due.len(), 1);
    assert_eq!(*due[0].command, *new.command);
    assert_eq!((due[0].attempt, &due[0].envelope), (1, &new.invocations[0].envelope));
    assert_eq!(store.command(command(&[&web]).command.id).await.expect("read"), None);
}

pub async fn accepting_tells_the_status_and_records_who_asked<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    store.accept(new.clone()).await.expect("accepted");
    let events = store.events(Some(new.command.id), 0, 10).await.expect("read");
    assert_eq!(events.len(), 1);
    assert!(
        matches!(&events[0].what, What::Status { status: Status::Pending, counts, .. } if counts.of(State::Queued) == 1)
    );
    let (_, last) = store.audits(None, 1).await.expect("read").remove(0);
    assert_eq!(last, new.audit);
}

pub async fn a_taken_command_id_is_a_conflict_and_its_neighbours_are_stored<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let first = command(&[&web]);
    store.accept(first.clone()).await.expect("accepted");
    let same = with(command(&[&web]), |command| command.id = first.command.id);
    let (before, after) = (command(&[&web]), command(&[&web]));
    let (one, two, three) =
        tokio::join!(store.accept(before.clone()), store.accept(same.clone()), store.accept(after.clone()));
    assert_eq!((one, three), (Ok(()), Ok(())));
    let said = two.expect_err("taken");
    assert!(matches!(&said, StoreError::Conflict(what) if what.contains(&first.command.id.to_string())), "{said}");
    for id in [before.command.id, after.command.id] {
        assert!(store.command(id).await.expect("read").is_some());
        assert!(!store.events(Some(id), 0, 10).await.expect("read").is_empty());
    }
    let again = store.command(same.command.id).await.expect("read").expect("the first stays");
    assert_eq!(again.command, *first.command);
}

pub async fn a_command_is_stored_once<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    store.accept(new.clone()).await.expect("accepted");
    assert!(matches!(store.accept(new.clone()).await, Err(StoreError::Conflict(_))));
    let again = with(new.clone(), |command| command.correlation_id = "another".into());
    assert!(matches!(store.accept(again).await, Err(StoreError::Conflict(_))));
    let all = store.commands(&Default::default(), &Page { before: None, limit: 10 }).await.expect("read");
    assert_eq!(all.len(), 1);
}

pub async fn an_agent_nobody_enrolled_is_a_conflict<S: Store>(Ground { store, .. }: Ground<S>) {
    let stranger = Machine { id: AgentId(uuid()), name: "stranger".into(), site: "eu".into() };
    let new = command(&[&stranger]);
    assert!(matches!(store.accept(new.clone()).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.command(new.command.id).await.expect("read"), None);
    let nobody = command(&[]);
    assert!(matches!(store.accept(nobody).await, Err(StoreError::Conflict(_))));
}

pub async fn a_command_for_many_agents_is_whole<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut machines = Vec::new();
    for n in 0..201 {
        machines.push(enrol(&store, &format!("web-{n}"), if n % 2 == 0 { "eu" } else { "us" }).await);
    }
    let new = command(&machines.iter().collect::<Vec<_>>());
    store.accept(new.clone()).await.expect("accepted");
    let view = store.command(new.command.id).await.expect("read").expect("there");
    assert_eq!(view.counts.of(State::Queued), 201);
    let stored = store.invocations(new.command.id, None, None, 500).await.expect("read");
    let agents: Vec<AgentId> = stored.iter().map(|invocation| invocation.agent).collect();
    assert_eq!(agents, machines.iter().map(|machine| machine.id).collect::<Vec<_>>());
}
