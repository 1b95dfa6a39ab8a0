//! Events, audit, and the installation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::access::Role;
use domain::attempt::Event as Happening;
use domain::audit::{Entry, Level};
use domain::event::{Event, What};
use plan::id::{ClusterId, CommandId};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

async fn all<S: Store>(store: &S, command: Option<CommandId>) -> Vec<Arc<Event>> {
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = store.events(command, after, 7).await.expect("read");
        let Some(last) = page.last() else { return seen };
        after = last.seq;
        seen.extend(page);
    }
}

pub async fn the_cursor_is_complete_and_ascending_across_a_thousand_writes<S: Store>(Ground { store, .. }: Ground<S>) {
    const COMMANDS: usize = 500;
    let mut machines = Vec::new();
    for n in 0..10 {
        machines.push(enrol(&store, &format!("web-{n}"), "eu").await);
    }
    let begun = store.last_seq().await.expect("read");
    let mut writers = JoinSet::new();
    for n in 0..COMMANDS {
        let (store, machine) = (store.clone(), machines[n % 10].clone());
        writers.spawn(async move {
            let new = command(&[&machine]);
            let id = new.command.id;
            store.accept(new).await.expect("accepted");
            store.append(chunk(id, machine.id, 0, "some output"));
            store.advance(finish(id, machine.id, 1, true)).await.expect("advanced");
        });
    }
    // A reader follows by cursor while all this is written. Each command makes three events.
    let reader = async {
        let (mut seen, mut after) = (Vec::new(), begun);
        while seen.len() < COMMANDS * 3 {
            let page = store.events(None, after, 50).await.expect("read");
            after = page.last().map_or(after, |event| event.seq);
            seen.extend(page);
            tokio::task::yield_now().await;
        }
        seen
    };
    let seen = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("the reader catches up");
    writers.join_all().await;
    assert!(seen.is_sorted_by(|a, b| a.seq < b.seq), "strictly ascending");
    let stored = store.events(None, begun, 10_000).await.expect("read");
    assert_eq!(seen, stored, "nothing missed, nothing twice");
    assert!(!stored.iter().any(|event| matches!(event.what, What::Output { .. })));
    assert!(store.last_seq().await.expect("read") >= stored[stored.len() - 1].seq);
}

pub async fn events_of_a_command_come_with_its_output<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let (new, other) = (command(&[&web]), command(&[&web]));
    let id = new.command.id;
    for new in [new, other.clone()] {
        store.accept(new).await.expect("accepted");
    }
    for n in 0..10 {
        store.append(chunk(id, web.id, n * 3, "abc"));
        store.append(chunk(other.command.id, web.id, n * 3, "xyz"));
        store.note(advance(id, web.id, 1, &[Happening::Send]));
        store.flush().await.expect("flushed");
    }
    store.advance(finish(id, web.id, 2, true)).await.expect("advanced");
    let events = all(&store, Some(id)).await;
    assert!(events.is_sorted_by(|a, b| a.seq < b.seq));
    assert!(events.iter().all(|event| event.what.command() == Some(id)));
    let kinds: Vec<&str> = events.iter().map(|event| event.what.kind()).collect();
    let mut expected = vec!["status", "state", "status"];
    expected.extend(["output"; 10]);
    expected.extend(["state", "status"]);
    assert_eq!(kinds, expected);
    let output = |what: &What| if let What::Output { data, .. } = what { data.clone() } else { vec![] };
    let bytes: Vec<u8> = events.iter().flat_map(|event| output(&event.what)).collect();
    assert_eq!(bytes, "abc".repeat(10).as_bytes());
}

pub async fn what_is_told_is_what_is_stored<S: Store>(Ground { store, told }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.append(chunk(id, web.id, 0, "abc"));
    store.append(chunk(id, web.id, 2, "cde"));
    store.advance(finish(id, web.id, 2, true)).await.expect("advanced");
    let told = told.all();
    assert!(told.is_sorted_by(|a, b| a.seq < b.seq));
    let of_it: Vec<_> = told.iter().filter(|event| event.what.command() == Some(id)).cloned().collect();
    assert_eq!(of_it, all(&store, Some(id)).await);
    let no_output: Vec<_> = told.iter().filter(|event| !matches!(event.what, What::Output { .. })).cloned().collect();
    assert_eq!(no_output, all(&store, None).await);
    assert_eq!(store.last_seq().await, Ok(told[told.len() - 1].seq));
}

pub async fn an_action_that_fails_leaves_no_audit<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = user("ada", Role::Admin);
    store.create(ada.clone(), entry("user.create"), None).await.expect("stored");
    store.create(ada.clone(), entry("user.create"), None).await.expect_err("taken");
    store.delete(ada.id, None, entry("user.delete")).await.expect_err("the last admin");
    let nobody = command(&[]);
    store.accept(nobody).await.expect_err("no invocation");
    let audits = store.audits(None, 10).await.expect("read");
    let actions: Vec<&str> = audits.iter().map(|(_, entry)| entry.action).collect();
    assert_eq!(actions, ["user.create"]);
}

pub async fn audit_entries_read_back_newest_first<S: Store>(Ground { store, .. }: Ground<S>) {
    let plain = Entry {
        level: Level::Warn,
        category: "auth",
        actor: None,
        resource: None,
        ip_address: None,
        user_agent: Some("curl/8".into()),
        correlation_id: None,
        ..entry("auth.login")
    };
    for entry in [entry("a.one"), plain.clone(), entry("a.three")] {
        store.audit(entry).await.expect("stored");
    }
    let found = store.audits(None, 2).await.expect("read");
    assert_eq!(found.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), [entry("a.three"), plain]);
    let older = store.audits(Some(found[1].0), 10).await.expect("read");
    assert_eq!(older.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), [entry("a.one")]);
    let numbers: BTreeSet<u64> = found.iter().chain(&older).map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), 3);
}

pub async fn the_installation_keeps_its_name<S: Store>(Ground { store, .. }: Ground<S>) {
    let first = ClusterId(uuid());
    let cluster = store.cluster(first).await.expect("stored");
    assert_eq!((cluster.id, cluster.epoch), (first, 1));
    assert_eq!(store.cluster(ClusterId(uuid())).await, Ok(cluster));
}

pub async fn a_store_that_works_says_so<S: Store>(Ground { store, .. }: Ground<S>) {
    assert_eq!(store.ready().await, Ok(()));
    assert_eq!(store.flush().await, Ok(()));
    assert_eq!(store.last_seq().await, Ok(0));
}
