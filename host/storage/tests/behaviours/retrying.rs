//! Attempts that are followed by others.

use std::time::Duration;

use domain::attempt::{Event, Reason, State};
use domain::command::Status;
use domain::event::What;
use domain::retry::{Cause, Retry};
use domain::terms::Terms;
use plan::id::{AttemptKey, CommandId};
use plan::outcome::{End, Outcome};
use ports::commands::{Advance, Advanced, AttemptEnd};

use super::fixtures::*;
use super::{Ground, Store};

/// A command on one machine whose failures and losses are tried again, so many times in all.
async fn stubborn<S: Store>(store: &S, machine: &Machine, max_attempts: u32) -> CommandId {
    let retry = Retry { max_attempts, on: vec![Cause::Failed, Cause::Lost], backoff: Duration::from_secs(10) };
    let new = with(command(&[machine]), |command| command.terms = Terms { retry, ..Terms::default() });
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    id
}

fn nth(command: CommandId, number: u32) -> AttemptKey {
    AttemptKey { command, number }
}

fn of(key: AttemptKey, machine: &Machine, seconds: i64, events: &[Event]) -> Advance {
    Advance { key, ..advance(key.command, machine.id, seconds, events) }
}

fn fails(key: AttemptKey, machine: &Machine, seconds: i64) -> Advance {
    Advance { key, ..finish(key.command, machine.id, seconds, false) }
}

pub async fn an_attempt_that_is_tried_again_goes_into_history_and_the_command_stays_open<S: Store>(
    Ground { store, told }: Ground<S>,
) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 2).await;
    store.advance(of(nth(id, 1), &web, 5, &[Event::Send, Event::Acknowledge, Event::Start])).await.expect("stored");
    let answer = store.advance(fails(nth(id, 1), &web, 9)).await.expect("stored");
    assert_eq!(answer, Some(Advanced { state: State::Failed, moved: true }));

    let now = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((now.attempt, now.state, now.reason), (2, State::Held, Some(Reason::Retry)));
    assert_eq!((now.started_at, now.outcome, now.result), (None, None, None));
    let due = now.due_at.expect("a time");
    assert!((at(9)..at(19)).contains(&due), "{due:?} is within the back-off");
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.counts.of(State::Held), view.completed_at), (Status::Pending, 1, None));

    let before = store.attempts(id, web.id).await.expect("read");
    assert_eq!(before.len(), 1);
    let first = &before[0];
    assert_eq!((first.number, first.state, first.started_at), (1, State::Failed, Some(at(5))));
    assert_eq!((first.changed_at, first.result.as_deref()), (at(9), Some(r#"{"ok":1}"#)));
    assert_eq!(first.outcome.as_ref().map(|outcome| outcome.duration_ms), Some(12));

    let states: Vec<(u32, State)> = told
        .all()
        .iter()
        .filter_map(|event| match event.what {
            What::State { attempt, state, .. } => Some((attempt, state)),
            _ => None,
        })
        .collect();
    assert_eq!(states, [(1, State::Running), (1, State::Failed), (2, State::Held)]);
    assert!(told.all().iter().all(|event| !matches!(event.what, What::Status { status, .. } if status.is_terminal())));
}

pub async fn what_is_due_again_comes_when_it_is_due_and_keeps_its_envelope<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 3).await;
    let envelope = store.due(web.id, 1).await.expect("read").remove(0).envelope;
    store.advance(fails(nth(id, 1), &web, 9)).await.expect("stored");
    assert!(store.retries(at(8), 10).await.expect("read").is_empty(), "not before it failed");
    let due = store.retries(at(19), 10).await.expect("read");
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].key(), due[0].agent, &due[0].envelope), (nth(id, 2), web.id, &envelope));
    let when = store.invocation(id, web.id).await.expect("read").expect("there").due_at.expect("a time");
    assert_eq!(due[0].start_by, when + Duration::from_secs(3600), "it may wait as long as the first");
    assert!(store.due(web.id, 10).await.expect("read").is_empty(), "what is held is not sent");
    store.advance(of(nth(id, 2), &web, 20, &[Event::Release])).await.expect("stored");
    let sent = store.due(web.id, 10).await.expect("read");
    assert_eq!(sent.iter().map(|due| due.key()).collect::<Vec<_>>(), [nth(id, 2)]);
    assert!(store.retries(at(100), 10).await.expect("read").is_empty());
}

pub async fn the_last_attempt_settles_the_invocation<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 2).await;
    store.advance(fails(nth(id, 1), &web, 1)).await.expect("stored");
    store.advance(of(nth(id, 2), &web, 20, &[Event::Release])).await.expect("stored");
    store.advance(fails(nth(id, 2), &web, 30)).await.expect("stored");
    let now = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((now.attempt, now.state), (2, State::Failed));
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.completed_at), (Status::Failed, Some(at(30))));
    assert_eq!(view.counts.total(), 1);
}

pub async fn a_late_report_amends_its_own_attempt_only<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 2).await;
    store.advance(of(nth(id, 1), &web, 1, &[Event::Send, Event::Acknowledge])).await.expect("stored");
    store.advance(of(nth(id, 1), &web, 2, &[Event::AgentGone])).await.expect("stored");
    let held = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((held.attempt, held.state), (2, State::Held));

    let late = Outcome { duration_ms: 77, ..Outcome::not_started(End::Exited) };
    let end = AttemptEnd { outcome: late, result: None, summary: None, parse_fault: Some("gone".into()) };
    let report = Advance { end: Some(end), ..of(nth(id, 1), &web, 8, &[Event::Finish { succeeded: true }]) };
    let answer = store.advance(report.clone()).await.expect("stored");
    assert_eq!(answer, Some(Advanced { state: State::Succeeded, moved: true }));
    let again = store.advance(report).await.expect("stored");
    assert_eq!(again, Some(Advanced { state: State::Succeeded, moved: false }), "told twice, stored once");

    let first = store.attempts(id, web.id).await.expect("read").remove(0);
    assert_eq!((first.state, first.parse_fault.as_deref()), (State::Succeeded, Some("gone")));
    assert_eq!(store.invocation(id, web.id).await.expect("read"), Some(held), "the later attempt stands");
    let unknown = store.advance(of(nth(id, 3), &web, 9, &[Event::Start])).await.expect("stored");
    assert_eq!(unknown, None, "there is no third attempt yet");
}

pub async fn what_could_not_start_any_more_is_not_tried_again<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 5).await;
    let command = store.command(id).await.expect("read").expect("there").command;
    let end = command.terms.not_after(command.created_at, Duration::from_millis(command.run_timeout_ms));
    store.advance(of(nth(id, 1), &web, 1, &[Event::Send, Event::Start])).await.expect("stored");
    let mut late = fails(nth(id, 1), &web, 2);
    late.at = end;
    store.advance(late).await.expect("stored");
    let now = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((now.attempt, now.state), (1, State::Failed), "and not an attempt that expired behind it");
}

pub async fn what_was_asked_to_end_is_not_tried_again<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = stubborn(&store, &web, 5).await;
    store.advance(of(nth(id, 1), &web, 1, &[Event::Send, Event::Start])).await.expect("stored");
    store.request_cancel(id, None, at(2), entry("command.cancel")).await.expect("stored");
    store.advance(fails(nth(id, 1), &web, 3)).await.expect("stored");
    let now = store.invocation(id, web.id).await.expect("read").expect("there");
    assert_eq!((now.attempt, now.state), (1, State::Failed));
}
