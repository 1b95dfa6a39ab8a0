//! Whose word counts on what was sent: the store refuses what somebody else knows better.

use domain::agent::Facts;
use domain::attempt::{Event, State};
use domain::rollout::{Decision, Portion, Rollout};
use domain::terms::Terms;
use plan::id::{AgentId, CommandId};
use ports::commands::{Advance, Advanced, Open, Word};

use super::fixtures::*;
use super::{Ground, Store};

async fn session<S: Store>(store: &S, agent: AgentId) -> u64 {
    store.open_session(agent, &Facts::default(), at(1)).await.expect("opened").expect("there")
}

async fn queued<S: Store>(store: &S, machine: &Machine) -> CommandId {
    let new = command(&[machine]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    id
}

async fn say<S: Store>(store: &S, id: CommandId, agent: AgentId, word: Word, events: &[Event]) -> Advanced {
    let advance = Advance { word, ..advance(id, agent, 5, events) };
    store.advance(advance).await.expect("answered").expect("there")
}

fn stays(state: State) -> Advanced {
    Advanced { state, moved: false }
}

pub async fn an_older_session_has_no_word_on_what_was_sent<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = queued(&store, &web).await;
    let older = session(&store, web.id).await;
    let newer = session(&store, web.id).await;
    for event in [Event::Send, Event::CancelUnsent, Event::StartDeadline, Event::Halt, Event::NotKnown] {
        let said = say(&store, id, web.id, Word::Session(older), &[event]).await;
        assert_eq!(said, stays(State::Queued), "{event:?} of session {older}, when {newer} is open");
    }
    let said = say(&store, id, web.id, Word::Session(newer), &[Event::Send]).await;
    assert_eq!(said, Advanced { state: State::Sent, moved: true });
    // What the agent itself reported is true whichever socket it came by.
    let said = say(&store, id, web.id, Word::Anyone, &[Event::Acknowledge, Event::Start]).await;
    assert_eq!(said, Advanced { state: State::Running, moved: true });
}

pub async fn what_a_session_may_have_sent_is_nobodys_to_call_unsent<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = queued(&store, &web).await;
    let epoch = session(&store, web.id).await;
    for event in [Event::CancelUnsent, Event::StartDeadline, Event::Halt, Event::Offline] {
        assert_eq!(say(&store, id, web.id, Word::NeverSent, &[event]).await, stays(State::Queued), "{event:?}");
    }
    let lost = [Event::Send, Event::StartDeadline];
    assert_eq!(say(&store, id, web.id, Word::NoSession, &lost).await, stays(State::Queued), "its owner lives");
    store.close_session(web.id, epoch, at(6), true).await.expect("closed");
    assert_eq!(say(&store, id, web.id, Word::NeverSent, &[Event::CancelUnsent]).await, stays(State::Queued));
    let said = say(&store, id, web.id, Word::NoSession, &lost).await;
    assert_eq!(said, Advanced { state: State::Lost, moved: true }, "nobody is left who could know");

    let id = queued(&store, &web).await;
    let epoch = session(&store, web.id).await;
    store.close_session(web.id, epoch, at(7), false).await.expect("closed");
    let said = say(&store, id, web.id, Word::NeverSent, &[Event::CancelUnsent]).await;
    assert_eq!(said, Advanced { state: State::Cancelled, moved: true }, "it left in order and sent nothing");
}

pub async fn what_an_agent_had_is_not_lost_when_it_has_come_again_since_that_was_read<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let web = enrol(&store, "web-1", "eu").await;
    let id = queued(&store, &web).await;
    let epoch = session(&store, web.id).await;
    say(&store, id, web.id, Word::Anyone, &[Event::Send, Event::Acknowledge, Event::Start]).await;
    store.close_session(web.id, epoch, at(6), true).await.expect("closed");
    let abandoned = store.abandoned(at(100), 10).await.expect("read");
    assert_eq!(abandoned.iter().map(|open| open.key).collect::<Vec<_>>(), [key(id)]);
    session(&store, web.id).await;
    let said = say(&store, id, web.id, Word::NoSession, &[Event::AgentGone]).await;
    assert_eq!(said, stays(State::Running), "its session asked the agent, which has it");
}

pub async fn what_is_held_was_not_sent_whoever_has_a_session<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    session(&store, web.id).await;
    let mut new = command(&[&web]);
    new.invocations[0].held = true;
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    let said = say(&store, id, web.id, Word::NeverSent, &[Event::CancelUnsent]).await;
    assert_eq!(said, Advanced { state: State::Cancelled, moved: true });
}

async fn wished<S: Store>(store: &S) -> Vec<Open> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.wished(after, 1).await.expect("read");
        let Some(open) = page.last() else { return all };
        after = Some((open.key.command, open.agent));
        all.extend(page);
    }
}

pub async fn a_wish_is_found_until_it_is_fulfilled_by_whoever_can<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let db = enrol(&store, "db-1", "us").await;
    let crashed = enrol(&store, "old-1", "us").await;
    let new = command(&[&web, &db, &crashed]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    queued(&store, &web).await;
    session(&store, web.id).await;
    let epoch = session(&store, crashed.id).await;
    store.close_session(crashed.id, epoch, at(2), true).await.expect("closed");
    assert_eq!(wished(&store).await, []);
    store.request_cancel(id, None, at(3), entry("command.cancel")).await.expect("recorded");
    let mut found: Vec<_> = wished(&store).await.iter().map(|open| (open.key, open.agent)).collect();
    found.sort_unstable_by_key(|(_, agent)| *agent);
    let mut expected = [(key(id), web.id), (key(id), db.id)];
    expected.sort_unstable_by_key(|(_, agent)| *agent);
    assert_eq!(found, expected, "what the third may have been sent only its agent can tell");
    say(&store, id, db.id, Word::NeverSent, &[Event::CancelUnsent]).await;
    say(&store, id, web.id, Word::Anyone, &[Event::AgentCancelled { started: true }]).await;
    assert_eq!(wished(&store).await, []);
}

pub async fn a_halt_is_found_by_whoever_may_have_sent_the_rest<S: Store>(Ground { store, .. }: Ground<S>) {
    let a = enrol(&store, "web-1", "eu").await;
    let b = enrol(&store, "web-2", "eu").await;
    let c = enrol(&store, "web-3", "eu").await;
    for machine in [&a, &b] {
        session(&store, machine.id).await;
    }
    let rollout = Rollout { max_errors: Some(Portion::Count(0)), ..Rollout::default() };
    let mut new = with(command(&[&a, &b, &c]), |command| command.terms = Terms { rollout, ..Terms::default() });
    new.invocations[2].held = true;
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.advance(finish(id, a.id, 4, false)).await.expect("stored");
    let rolled = store.roll(id, at(5)).await.expect("looked at");
    assert!(matches!(rolled.decision, Decision::Halt(_)), "{:?}", rolled.decision);
    let found = wished(&store).await;
    assert_eq!(found.iter().map(|open| (open.agent, open.cancel_requested)).collect::<Vec<_>>(), [(b.id, false)]);
    // It was sent after all, and goes on.
    say(&store, id, b.id, Word::Anyone, &[Event::Acknowledge]).await;
    assert_eq!(wished(&store).await, []);
}
