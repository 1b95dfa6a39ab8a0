//! Moving attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::attempt::{Event, Reason, State};
use domain::command::Status;
use domain::counts::Counts;
use domain::event::What;
use plan::id::{AttemptKey, CommandId};
use ports::commands::{Advance, Advanced};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

/// States and statuses that were told of a command, in order.
async fn told<S: Store>(store: &S, command: CommandId) -> Vec<String> {
    let events = store.events(Some(command), 0, 1000).await.expect("read");
    let word = |what: &What| match what {
        What::State { state, .. } => Some(state.to_string()),
        What::Status { status, .. } => Some(format!("={status}")),
        What::Output { .. } => Some("output".to_owned()),
        What::Agent { .. } | What::Alert { .. } | What::Plugins { .. } => None,
    };
    events.iter().filter_map(|event| word(&event.what)).collect()
}

pub async fn a_result_that_comes_first_swallows_what_it_overtook<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let answer = store.advance(finish(id, web.id, 3, true)).await.expect("advanced");
    assert_eq!(answer, Some(Advanced { state: State::Succeeded, moved: true }));
    // What was overtaken comes late and changes nothing.
    for event in [Event::Send, Event::Acknowledge, Event::Start] {
        let late = store.advance(advance(id, web.id, 4, &[event])).await.expect("advanced");
        assert_eq!(late, Some(Advanced { state: State::Succeeded, moved: false }));
    }
    let invocation = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((invocation.state, invocation.changed_at, invocation.started_at), (State::Succeeded, at(3), None));
    assert_eq!(invocation.outcome.expect("stored").duration_ms, 12);
    assert_eq!((invocation.result.as_deref(), invocation.summary.as_deref()), (Some(r#"{"ok":1}"#), Some("1 ok")));
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.completed_at), (Status::Succeeded, Some(at(3))));
    assert_eq!(told(&store, id).await, ["=pending", "succeeded", "=succeeded"]);
}

pub async fn a_whole_life_noted_step_by_step_is_kept<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    for (seconds, event) in [(1, Event::Send), (2, Event::Acknowledge), (3, Event::Start)] {
        store.note(advance(id, web.id, seconds, &[event]));
        store.flush().await.expect("flushed");
    }
    let running = store.command(id).await.expect("read").expect("there");
    assert_eq!((running.status, running.counts.of(State::Running)), (Status::Running, 1));
    store.advance(finish(id, web.id, 9, false)).await.expect("advanced");
    let invocation = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((invocation.state, invocation.started_at, invocation.changed_at), (State::Failed, Some(at(3)), at(9)));
    let all = ["=pending", "sent", "=running", "accepted", "running", "failed", "=failed"];
    assert_eq!(told(&store, id).await, all);
}

pub async fn a_terminal_state_is_never_left_but_lost_is_amended<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let (kept, amended) = (command(&[&web]), command(&[&web]));
    let (kept_id, id) = (kept.command.id, amended.command.id);
    store.accept(kept).await.expect("accepted");
    store.accept(amended).await.expect("accepted");

    store.advance(finish(kept_id, web.id, 1, false)).await.expect("advanced");
    let second = store.advance(finish(kept_id, web.id, 2, true)).await.expect("advanced");
    assert_eq!(second, Some(Advanced { state: State::Failed, moved: false }));

    store.advance(advance(id, web.id, 1, &[Event::Send])).await.expect("advanced");
    let gone = Advance { message: Some("away for 15 min".into()), ..advance(id, web.id, 2, &[Event::AgentGone]) };
    store.advance(gone).await.expect("advanced");
    let lost = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((lost.state, lost.reason), (State::Lost, Some(Reason::AgentGone)));
    assert_eq!(lost.message.as_deref(), Some("away for 15 min"));
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.completed_at), (Status::Unknown, Some(at(2))));

    let late = store.advance(finish(id, web.id, 7, true)).await.expect("advanced");
    assert_eq!(late, Some(Advanced { state: State::Succeeded, moved: true }));
    let amended = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((amended.state, amended.reason, amended.message), (State::Succeeded, None, None));
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.completed_at), (Status::Succeeded, Some(at(7))));
    let all = ["=pending", "sent", "=running", "lost", "=unknown", "succeeded", "=succeeded"];
    assert_eq!(told(&store, id).await, all);
}

pub async fn advances_that_race_are_each_told_the_truth<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    for _ in 0..20 {
        let new = command(&[&web]);
        let id = new.command.id;
        store.accept(new).await.expect("accepted");
        let mut racers = JoinSet::new();
        for n in 0..8 {
            let (store, agent) = (store.clone(), web.id);
            racers.spawn(async move {
                let events = if n % 2 == 0 { [Event::CancelUnsent] } else { [Event::StartDeadline] };
                store.advance(advance(id, agent, n, &events)).await.expect("advanced").expect("there")
            });
        }
        let answers = racers.join_all().await;
        let ended = store.invocation(id, web.id).await.expect("read").expect("there");
        assert_eq!(answers.iter().filter(|answer| answer.moved).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.state == ended.state), "{answers:?}");
    }
}

pub async fn an_attempt_nobody_made_answers_none<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let other = command(&[&web]).command.id;
    assert_eq!(store.advance(advance(other, web.id, 1, &[Event::Send])).await, Ok(None));
    let second = AttemptKey { command: id, number: 2 };
    let of_second = Advance { key: second, ..advance(id, web.id, 1, &[Event::Send]) };
    assert_eq!(store.advance(of_second).await, Ok(None));
    assert_eq!(store.invocation(id, web.id).await.expect("read").expect("there").state, State::Queued);
}

pub async fn the_status_of_many_adds_up_as_they_end<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut machines = Vec::new();
    for n in 0..3 {
        machines.push(enrol(&store, &format!("web-{n}"), "eu").await);
    }
    let new = command(&machines.iter().collect::<Vec<_>>());
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let mut statuses = Vec::new();
    for (seconds, machine, succeeded) in [(1, 0, true), (2, 1, false), (3, 2, true)] {
        let machine: &Machine = &machines[machine];
        store.advance(finish(id, machine.id, seconds, succeeded)).await.expect("advanced");
        statuses.push(store.command(id).await.expect("read").expect("there").status);
    }
    assert_eq!(statuses, [Status::Running, Status::Running, Status::Partial]);
    let view = store.command(id).await.expect("read").expect("there");
    let counts: Counts = [State::Succeeded, State::Failed, State::Succeeded].into_iter().collect();
    assert_eq!((view.counts, view.completed_at), (counts, Some(at(3))));
    let told = told(&store, id).await;
    assert_eq!(told, ["=pending", "succeeded", "=running", "failed", "succeeded", "=partial"]);
}

pub async fn counts_agree_with_the_invocations_after_a_storm<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut machines = Vec::new();
    for n in 0..40 {
        machines.push(enrol(&store, &format!("web-{n}"), "eu").await);
    }
    let new = command(&machines.iter().collect::<Vec<_>>());
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let mut storm = JoinSet::new();
    for (n, machine) in (0_i64..).zip(&machines) {
        let (store, agent) = (store.clone(), machine.id);
        storm.spawn(async move {
            store.note(advance(id, agent, n, &[Event::Send, Event::Acknowledge]));
            store.note(advance(id, agent, n, &[Event::Start]));
            if n % 3 == 0 {
                store.advance(advance(id, agent, n, &[Event::AgentGone])).await.expect("advanced");
            }
            if n % 4 != 0 {
                store.advance(finish(id, agent, n, n % 2 == 0)).await.expect("advanced");
            }
        });
    }
    storm.join_all().await;
    store.flush().await.expect("flushed");
    let view = store.command(id).await.expect("read").expect("there");
    let stored = store.invocations(id, None, None, 500).await.expect("read");
    let counted: Counts = stored.iter().map(|invocation| invocation.state).collect();
    assert_eq!(view.counts, counted);
    assert_eq!(view.status, Status::of(&counted));

    // The last state told of each agent is the one it has.
    let mut last = BTreeMap::new();
    for event in store.events(Some(id), 0, 1000).await.expect("read") {
        if let What::State { agent, state, .. } = event.what {
            last.insert(agent, state);
        }
    }
    let stored: BTreeMap<_, _> = stored.iter().map(|invocation| (invocation.agent, invocation.state)).collect();
    assert_eq!(last, stored);
}

pub async fn a_note_is_stored_though_nobody_waits<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.note(advance(id, web.id, 1, &[Event::Send]));
    let stored = async {
        while store.invocation(id, web.id).await.expect("read").expect("there").state != State::Sent {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stored).await.expect("stored by itself");
}
