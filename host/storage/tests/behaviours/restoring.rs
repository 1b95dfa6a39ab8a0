//! A store that came out of a backup: what was not over waits, and nothing that was used up is good again.

use domain::access::Role;
use domain::attempt::{Event, Reason, State};
use domain::command::Status;
use domain::event::What;
use plan::id::{AgentId, ClusterId, CommandId};
use ports::agents::{Agents as _, Joined};
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::{Installation as _, Journal as _};
use ports::restore::{Adopt, EVENTS_SINCE, Held};
use ports::users::{NewRefresh, RefreshToken, Rotated, Users as _};

use super::fixtures::*;
use super::place::{self, Place};
use super::{Ground, Store};

fn adopt(epoch: u64) -> Adopt {
    Adopt { epoch, at: at(500), audit: entry("store.restore") }
}

async fn accept<S: Store>(store: &S, machines: &[&Machine]) -> CommandId {
    let new = command(machines);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    id
}

async fn stands<S: Store>(store: &S, command: CommandId, agent: AgentId) -> (State, Option<Reason>) {
    let found = store.invocation(command, agent).await.expect("read").expect("there");
    (found.state, found.reason)
}

/// The way from `queued` into each state that is not over.
const OPEN: [&[Event]; 4] =
    [&[], &[Event::Send], &[Event::Send, Event::Acknowledge], &[Event::Send, Event::Acknowledge, Event::Start]];

pub async fn what_was_not_over_is_held_and_what_was_over_stays<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    let (one, two) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "eu").await);
    store.cluster(ClusterId(uuid())).await.expect("a cluster");
    let mut open = Vec::new();
    for events in OPEN {
        let id = accept(&store, &[&one]).await;
        if !events.is_empty() {
            store.advance(advance(id, one.id, 1, events)).await.expect("advanced");
        }
        open.push(id);
    }
    let half = accept(&store, &[&one, &two]).await;
    store.advance(finish(half, two.id, 2, true)).await.expect("advanced");
    let over = accept(&store, &[&one]).await;
    store.advance(finish(over, one.id, 2, false)).await.expect("advanced");
    let wanted_gone = accept(&store, &[&two]).await;
    store.request_cancel(wanted_gone, None, at(3), entry("command.cancel")).await.expect("stored");
    let before = store.command(over).await.expect("read").expect("there");
    let last = store.last_seq().await.expect("read");
    running.finish().await;
    drop(store);

    let mut restored = place.restored().await;
    assert_eq!(restored.cluster().await.expect("read").epoch, 1);
    let held = restored.adopt(adopt(9)).await.expect("adopted");
    assert_eq!(held, Held { commands: 6, invocations: 6 });
    // Again, as after a crash: nothing moves twice.
    let again = restored.adopt(adopt(10)).await.expect("adopted");
    assert_eq!(again, Held { commands: 6, invocations: 0 });
    restored.close().await.expect("closed");

    let (Ground { store, .. }, running) = place::open(&place).await;
    for id in &open {
        assert_eq!(stands(&store, *id, one.id).await, (State::Held, Some(Reason::Restored)));
        let view = store.command(*id).await.expect("read").expect("there");
        assert_eq!((view.status, view.counts), (Status::Pending, [State::Held].into_iter().collect()));
        assert_eq!(store.held(*id, Reason::Restored, None, 10).await.expect("read").len(), 1);
    }
    assert_eq!(stands(&store, half, one.id).await, (State::Held, Some(Reason::Restored)));
    assert_eq!(stands(&store, half, two.id).await, (State::Succeeded, None));
    let view = store.command(half).await.expect("read").expect("there");
    assert_eq!((view.status, view.counts), (Status::Running, [State::Held, State::Succeeded].into_iter().collect()));
    assert_eq!(store.command(over).await.expect("read").expect("there"), before);
    assert!(store.due(one.id, 10).await.expect("read").is_empty(), "nothing is sent");
    let cancelled = store.invocation(wanted_gone, two.id).await.expect("read").expect("there");
    assert_eq!((cancelled.state, cancelled.cancel_requested_at), (State::Held, Some(at(3))));

    // Readers who had followed the host that went on find what happened here after their cursor.
    let events = store.events(None, last + EVENTS_SINCE, 100).await.expect("read");
    let states = events
        .iter()
        .filter(|event| matches!(event.what, What::State { state: State::Held, reason: Some(Reason::Restored), .. }));
    assert_eq!((states.count(), events.is_sorted_by_key(|event| event.seq)), (6, true));
    let seq = store.last_seq().await.expect("read");
    accept(&store, &[&one]).await;
    assert!(store.last_seq().await.expect("read") > seq && seq > last + EVENTS_SINCE);
    // The agent's word about what it had settles it.
    store.advance(finish(open[1], one.id, 600, true)).await.expect("advanced");
    assert_eq!(stands(&store, open[1], one.id).await, (State::Succeeded, None));
    assert_eq!(store.command(open[1]).await.expect("read").expect("there").status, Status::Succeeded);
    running.finish().await;
}

pub async fn the_epoch_rises_and_is_recorded<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    let cluster = store.cluster(ClusterId(uuid())).await.expect("a cluster");
    running.finish().await;
    drop(store);

    let mut restored = place.restored().await;
    restored.adopt(adopt(7)).await.expect("adopted");
    for stale in [6, 7] {
        let refused = restored.adopt(adopt(stale)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    restored.close().await.expect("closed");

    let (Ground { store, .. }, running) = place::open(&place).await;
    let now = store.cluster(ClusterId(uuid())).await.expect("a cluster");
    assert_eq!((now.id, now.epoch), (cluster.id, 7));
    let audits = store.audits(None, 10).await.expect("read");
    assert_eq!(audits.iter().map(|(_, entry)| entry.action).collect::<Vec<_>>(), ["store.restore"]);
    running.finish().await;
}

pub async fn nothing_that_may_be_used_up_is_good_again<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    store.cluster(ClusterId(uuid())).await.expect("a cluster");
    let web = enrol(&store, "web-1", "eu").await;
    let (unused, person) = (token("eu"), user("ada", Role::Admin));
    store.create_token(unused.clone(), entry("token.create"), None).await.expect("stored");
    store.create(person.clone(), entry("user.create"), None).await.expect("stored");
    let login = RefreshToken { sha256: "aa".into(), user: person.id, family: "f1".into(), expires_at: at(9_000) };
    store.add_refresh(login, entry("auth.login")).await.expect("stored");
    running.finish().await;
    drop(store);

    let mut restored = place.restored().await;
    restored.adopt(adopt(2)).await.expect("adopted");
    restored.close().await.expect("closed");

    let (Ground { store, .. }, running) = place::open(&place).await;
    let joined = store.join(newcomer(unused.id, "web-2")).await.expect("answered");
    assert!(matches!(joined, Joined::TokenRefused(_)), "{joined:?}");
    let next = NewRefresh {
        sha256: "bb".into(),
        expires_at: at(9_000),
        audit: entry("auth.refresh"),
        alarm: entry("auth.refresh_reused"),
    };
    assert_eq!(store.rotate("aa", next, at(600)).await, Ok(Rotated::Refused));
    let agents = store.agents().await.expect("read");
    let agent = agents.iter().find(|agent| agent.id == web.id).expect("still enrolled");
    assert!(agent.maybe_sent, "it may have been sent something since");
    running.finish().await;
}
