//! Commands on many machines: what a rollout holds and lets go, what they add up to, what is waiting; and
//! replies that are kept.

use std::time::Duration;

use domain::attempt::{Event, Reason, State};
use domain::command::Status;
use domain::priority::Priority;
use domain::retry::{Cause, Retry};
use domain::rollout::{Decision, HaltCause, Portion, Rollout};
use domain::terms::Terms;
use plan::id::AttemptKey;
use ports::commands::{Advance, Group, NewCommand};
use ports::error::StoreError;
use ports::replies::{Once, Reply};

use super::fixtures::*;
use super::{Ground, Store};

/// A command of which the first is let go at once and the rest is held.
fn one_by_one(machines: &[&Machine], max_errors: u32) -> NewCommand {
    let rollout = Rollout {
        max_concurrency: Some(Portion::Count(1)),
        max_errors: Some(Portion::Count(max_errors)),
        ..Rollout::default()
    };
    let mut new = with(command(machines), |command| command.terms = Terms { rollout, ..Terms::default() });
    for invocation in new.invocations.iter_mut().skip(1) {
        invocation.held = true;
    }
    new
}

async fn three<S: Store>(store: &S) -> [Machine; 3] {
    [enrol(store, "web-1", "eu").await, enrol(store, "web-2", "eu").await, enrol(store, "web-3", "us").await]
}

pub async fn what_a_rollout_holds_is_not_due_until_it_is_let_go<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let new = one_by_one(&[&a, &b, &c], 0);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.counts.of(State::Queued), view.counts.of(State::Held)), (1, 2));
    assert_eq!(store.due(a.id, 10).await.expect("read").len(), 1);
    assert!(store.due(b.id, 10).await.expect("read").is_empty());
    assert_eq!(store.rolling(None, 10).await, Ok(vec![id]));
    assert_eq!(store.rolling(Some(id), 10).await, Ok(vec![]));

    let rolled = store.roll(id, at(1)).await.expect("looked at");
    assert_eq!((rolled.decision, rolled.released.len()), (Decision::Wait(None), 0), "the slot is taken");
    store.advance(finish(id, a.id, 2, true)).await.expect("stored");
    let rolled = store.roll(id, at(3)).await.expect("looked at");
    assert_eq!(rolled.decision, Decision::Release(1));
    assert_eq!(rolled.released.iter().map(|due| due.agent).collect::<Vec<_>>(), [b.id]);
    let waiting = store.invocation(id, b.id).await.expect("read").expect("there");
    assert_eq!((waiting.state, waiting.reason), (State::Queued, None));
    store.advance(finish(id, b.id, 4, true)).await.expect("stored");
    store.roll(id, at(5)).await.expect("looked at");
    assert_eq!(store.rolling(None, 10).await, Ok(vec![]));
    store.advance(finish(id, c.id, 6, true)).await.expect("stored");
    assert_eq!(store.roll(id, at(7)).await.expect("looked at").decision, Decision::Done);
    assert_eq!(store.command(id).await.expect("read").expect("there").status, Status::Succeeded);
}

pub async fn a_rollout_that_halts_skips_the_rest_and_says_why<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let new = one_by_one(&[&a, &b, &c], 0);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.advance(finish(id, a.id, 2, false)).await.expect("stored");
    let rolled = store.roll(id, at(3)).await.expect("looked at");
    assert_eq!(rolled.decision, Decision::Halt(HaltCause::Errors { found: 1, allowed: 0 }));
    assert_eq!((rolled.released.len(), rolled.unsent, rolled.cancelled), (0, vec![], vec![]));
    let view = store.command(id).await.expect("read").expect("there");
    assert_eq!((view.status, view.counts.of(State::Skipped)), (Status::Halted, 2));
    assert_eq!(view.halted.as_deref(), Some("1 ended in error, at most 0 may"));
    let skipped = store.invocation(id, b.id).await.expect("read").expect("there");
    assert_eq!((skipped.state, skipped.reason), (State::Skipped, Some(Reason::Halted)));
    assert_eq!(store.rolling(None, 10).await, Ok(vec![]));
}

pub async fn a_halt_is_the_end_of_retries<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let held = enrol(&store, "web-4", "us").await;
    let (three, none) = (Some(Portion::Count(3)), Some(Portion::Count(0)));
    let rollout = Rollout { max_concurrency: three, max_errors: none, ..Rollout::default() };
    let retry = Retry { max_attempts: 2, on: vec![Cause::Failed], backoff: Duration::from_secs(1) };
    let terms = Terms { rollout, retry, ..Terms::default() };
    let mut new = with(command(&[&a, &b, &c, &held]), |command| command.terms = terms);
    new.invocations[3].held = true;
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let nth = |number, advance: Advance| Advance { key: AttemptKey { command: id, number }, ..advance };
    store.advance(advance(id, c.id, 1, &[Event::Send, Event::Start])).await.expect("stored");
    for machine in [&a, &b] {
        store.advance(finish(id, machine.id, 2, false)).await.expect("stored");
        let waits = store.invocation(id, machine.id).await.expect("read").expect("there");
        assert_eq!((waits.attempt, waits.state, waits.reason), (2, State::Held, Some(Reason::Retry)));
    }
    store.advance(nth(2, advance(id, a.id, 10, &[Event::Release]))).await.expect("stored");
    store.advance(nth(2, finish(id, a.id, 11, false))).await.expect("stored");
    let rolled = store.roll(id, at(12)).await.expect("looked at");
    assert_eq!(rolled.decision, Decision::Halt(HaltCause::Errors { found: 1, allowed: 0 }));

    // Between two attempts at the halt, and one that fails after it.
    store.advance(finish(id, c.id, 13, false)).await.expect("stored");
    let stands = async |machine: &Machine| {
        let one = store.invocation(id, machine.id).await.expect("read").expect("there");
        (one.attempt, one.state, one.reason)
    };
    assert_eq!(stands(&b).await, (2, State::Skipped, Some(Reason::Halted)));
    assert_eq!(stands(&c).await, (1, State::Failed, None));
    assert_eq!(stands(&held).await, (1, State::Skipped, Some(Reason::Halted)));
    assert!(store.retries(at(10_000), 10).await.expect("read").is_empty());
    assert_eq!(store.command(id).await.expect("read").expect("there").status, Status::Halted);
}

pub async fn a_rollup_counts_by_site_state_and_reason<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let new = command(&[&a, &b, &c]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.advance(finish(id, a.id, 2, true)).await.expect("stored");
    store.advance(finish(id, b.id, 5, true)).await.expect("stored");
    store.advance(advance(id, c.id, 9, &[Event::StartDeadline])).await.expect("stored");
    let shares = store.rollup(id).await.expect("read");
    let found: Vec<_> = shares
        .iter()
        .map(|share| (share.site.as_str(), share.state, share.reason, share.count, share.changed_at))
        .collect();
    assert_eq!(
        found,
        [("eu", State::Succeeded, None, 2, at(5)), ("us", State::Expired, Some(Reason::Deadline), 1, at(9)),]
    );
}

pub async fn results_are_grouped_whole_or_by_one_value<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let new = command(&[&a, &b, &c]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let results = [r#"{"os":{"name":"linux"},"list":[1,2]}"#, r#"{"os":{"name":"linux"},"list":[1,3]}"#];
    for (machine, result) in [&a, &b].into_iter().zip(results) {
        let mut end = finish(id, machine.id, 2, true);
        end.end.as_mut().expect("an end").result = Some(result.to_owned());
        store.advance(end).await.expect("stored");
    }
    let mut plain = finish(id, c.id, 2, false);
    plain.end.as_mut().expect("an end").result = None;
    store.advance(plain).await.expect("stored");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let failed = Group { state: State::Failed, value: None, count: 1, agents: names(&["web-3"]) };

    let linux = Some(r#""linux""#.to_owned());
    let both = Group { state: State::Succeeded, value: linux, count: 2, agents: names(&["web-1", "web-2"]) };
    let by = store.groups(id, &names(&["os", "name"]), 10).await.expect("read");
    assert_eq!(by, [both, failed.clone()]);
    let by = store.groups(id, &names(&["list", "1"]), 10).await.expect("read");
    let values: Vec<_> = by.iter().map(|group| (group.value.as_deref(), group.count)).collect();
    assert_eq!(values, [(None, 1), (Some("2"), 1), (Some("3"), 1)]);
    let whole = store.groups(id, &[], 10).await.expect("read");
    assert_eq!(whole.len(), 3);
    assert!(whole.contains(&failed));
    assert_eq!(store.groups(id, &[], 1).await.expect("read").len(), 1, "at most so many");
    let strange = store.groups(id, &names(&["a\"b", "'", ""]), 10).await.expect("no value is there");
    assert!(strange.iter().all(|group| group.value.is_none()));
}

pub async fn a_result_with_nul_takes_nobodys_results_away<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, c] = three(&store).await;
    let new = command(&[&a, &b, &c]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    // The last one has a backslash before plain letters, and no NUL.
    let results = [r#"{"stdout":"a\u0000b"}"#, r#"{"stdout":"ab"}"#, r#"{"stdout":"a\\u0000b"}"#];
    for (machine, result) in [&a, &b, &c].into_iter().zip(results) {
        let mut end = finish(id, machine.id, 2, true);
        end.end.as_mut().expect("an end").result = Some(result.to_owned());
        store.advance(end).await.expect("stored");
    }
    let whole = store.groups(id, &[], 10).await.expect("read");
    assert_eq!(whole.iter().map(|group| group.count).sum::<u32>(), 3);
    let by = store.groups(id, &["stdout".to_owned()], 10).await.expect("read");
    let of = |machine: &Machine| by.iter().find(|group| group.agents == [machine.name.clone()])?.value.clone();
    assert_eq!((of(&b).as_deref(), of(&c).as_deref()), (Some(r#""ab""#), Some(r#""a\\u0000b""#)));
    assert!(of(&a).is_some(), "{by:?}");
}

pub async fn the_backlog_is_what_is_not_over<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, _] = three(&store).await;
    let both = command(&[&a, &b]);
    let id = both.command.id;
    store.accept(both).await.expect("accepted");
    store.accept(command(&[&a])).await.expect("accepted");
    let mut backlog = store.backlog().await.expect("read");
    backlog.sort_unstable();
    let mut expected = [(a.id, 2), (b.id, 1)];
    expected.sort_unstable();
    assert_eq!(backlog, expected);
    store.advance(finish(id, b.id, 1, true)).await.expect("stored");
    assert_eq!(store.backlog().await, Ok(vec![(a.id, 2)]));
}

pub async fn what_is_open_is_counted_by_site_and_for_sites<S: Store>(Ground { store, .. }: Ground<S>) {
    let [a, b, _] = three(&store).await;
    let both = command(&[&a, &b]);
    let id = both.command.id;
    store.accept(both).await.expect("accepted");
    store.accept(command(&[&a])).await.expect("accepted");
    store.advance(finish(id, b.id, 1, true)).await.expect("stored");
    let open = store.open_shares().await.expect("read");
    let [share] = &open[..] else { panic!("{open:?}") };
    assert_eq!((share.state, share.priority, share.count), (State::Queued, Priority::Normal, 2));
    let mut all = store.open_commands(None).await.expect("read");
    all.sort_by_key(|(status, _)| status.as_str());
    assert_eq!(all, [(Status::Pending, 1), (Status::Running, 1)]);
    let here = store.open_commands(Some(std::slice::from_ref(&share.site))).await.expect("read");
    assert_eq!(here.iter().map(|(_, count)| count).sum::<u64>(), 2);
    assert_eq!(store.open_commands(Some(&["nowhere".to_owned()])).await, Ok(vec![]));
    assert_eq!(store.open_commands(Some(&[])).await, Ok(vec![]));
}

pub async fn a_kept_reply_is_found_until_it_expires_and_is_stored_with_its_command<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let web = enrol(&store, "web-1", "eu").await;
    let reply = Reply { status: 202, location: Some("/api/v1/commands/x".into()), body: r#"{"id":"x"}"#.into() };
    let once = |at, until| Once {
        principal: "ada".into(),
        key: "k-1".into(),
        request_sha256: "abc".into(),
        reply: reply.clone(),
        created_at: at,
        expires_at: until,
    };
    let first = NewCommand { once: Some(once(at(0), at(100))), ..command(&[&web]) };
    let second = NewCommand { once: Some(once(at(50), at(150))), ..command(&[&web]) };
    let refused = second.command.id;
    store.accept(first).await.expect("accepted");
    let found = store.reply("ada", "k-1", at(99)).await.expect("read").expect("kept");
    assert_eq!((found.request_sha256.as_str(), &found.reply), ("abc", &reply));
    assert_eq!(store.reply("bob", "k-1", at(1)).await, Ok(None), "keys belong to their callers");
    assert_eq!(store.reply("ada", "k-1", at(100)).await, Ok(None), "expired");

    let said = store.accept(second).await;
    assert!(matches!(&said, Err(StoreError::Conflict(what)) if what.contains("key")), "{said:?}");
    assert_eq!(store.command(refused).await, Ok(None), "neither is stored");
    let later = NewCommand { once: Some(once(at(100), at(200))), ..command(&[&web]) };
    store.accept(later).await.expect("an expired key is free again");
    assert_eq!(store.forget_replies(at(150), 10).await, Ok(0));
    assert_eq!(store.forget_replies(at(201), 10).await, Ok(1));
    assert_eq!(store.reply("ada", "k-1", at(150)).await, Ok(None));
}
