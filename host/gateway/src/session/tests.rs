//! The session alone: single rules as small stories, then seeded random walks against a model of
//! agent and store that repeat, lose and reorder whatever may be.

use std::collections::{BTreeMap, BTreeSet};

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::attempt::State;
use domain::priority::Priority;
use domain::verb::VerbName;
use plan::envelope::SignedEnvelope;
use plan::id::CommandId;
use plan::outcome::{End, Outcome};
use ports::commands::Open;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

mod gate;

use super::*;
use gate::{begun, ready};

mod ends;
mod locks;

fn now() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

fn command(number: u128, priority: Priority) -> Arc<Command> {
    Arc::new(Command {
        id: CommandId(Uuid::from_u128(number)),
        verb: VerbName::parse("exec.run").expect("a name"),
        plugin: "exec".into(),
        plugin_version: "1.0.0".into(),
        plugin_digest: String::new(),
        args: "{}".into(),
        target: "{}".into(),
        priority,
        submitter: "ada".into(),
        principal: None,
        created_at: now(),
        start_by: now() + Duration::from_secs(60),
        run_timeout_ms: 1000,
        terms: domain::terms::Terms::default(),
        parent: None,
        summary: String::new(),
        correlation_id: String::new(),
        traceparent: None,
    })
}

fn due(number: u128, priority: Priority) -> Due {
    wanting(number, priority, "")
}

/// One whose plan wants this lock, if it is not empty.
fn wanting(number: u128, priority: Priority, lock: &str) -> Due {
    let locks: Vec<&str> = [lock].into_iter().filter(|lock| !lock.is_empty()).collect();
    let signed = URL_SAFE_NO_PAD.encode(serde_json::json!({ "plan": { "locks": locks } }).to_string());
    let envelope = SignedEnvelope { signed, signature: String::new() };
    let agent = plan::id::AgentId(Uuid::from_u128(1));
    let command = command(number, priority);
    let start_by = command.start_by;
    Due { command, agent, attempt: 1, start_by, halted: false, envelope }
}

fn key(number: u128) -> AttemptKey {
    AttemptKey { command: CommandId(Uuid::from_u128(number)), number: 1 }
}

fn open(number: u128) -> Open {
    let agent = plan::id::AgentId(Uuid::from_u128(1));
    Open { key: key(number), agent, state: State::Queued, reason: None, cancel_requested: true }
}

fn drain(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn sent(outputs: &[Output]) -> Vec<AttemptKey> {
    let commands = outputs.iter().filter_map(|output| match output {
        Output::Send(HostFrame::Command(command)) => Some(command.attempt),
        _ => None,
    });
    commands.collect()
}

fn output(number: u128, data: &[u8]) -> Input {
    let (stream, data) = (Stream::Stdout, STANDARD.encode(data));
    Input::Frame(AgentFrame::Output(frame::Output { attempt: key(number), stream, offset: 0, data, gone: None }))
}

fn result(number: u128) -> Input {
    Input::Frame(AgentFrame::Result {
        attempt: key(number),
        outcome: Outcome::not_started(End::Exited),
        traceparent: None,
    })
}

#[test]
fn a_wish_that_is_heard_again_and_again_is_told_to_the_agent_once() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    drain(&mut session);
    for _ in 0..3 {
        session.handle(Input::Settle(vec![(open(1), Settle::Cancel)]), now());
    }
    let said = drain(&mut session);
    assert!(matches!(said.as_slice(), [Output::Send(HostFrame::Cancel(_))]), "{said:?}");
}

#[test]
fn urgent_work_goes_first_and_slots_are_never_overdrawn() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(1, Priority::Low)), now());
    session.handle(Input::Offer(due(2, Priority::Low)), now());
    session.handle(Input::Offer(due(3, Priority::Critical)), now());
    assert_eq!(sent(&drain(&mut session)), [key(1)]);
    session.handle(result(1), now());
    assert_eq!(sent(&drain(&mut session)), [key(3)]);
    session.handle(result(3), now());
    assert_eq!(sent(&drain(&mut session)), [key(2)]);
}

#[test]
fn a_result_is_acknowledged_only_after_it_is_stored() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    drain(&mut session);
    session.handle(result(1), now());
    let outputs = drain(&mut session);
    assert!(matches!(outputs[..], [Output::Finish { .. }]), "{outputs:?}");
    session.handle(result(1), now());
    assert!(drain(&mut session).is_empty(), "a repeated result is not stored twice at once");
    session.handle(Input::Stored(key(1)), now());
    assert!(matches!(drain(&mut session)[..], [Output::Send(HostFrame::ResultAck { .. })]));
}

#[test]
fn while_the_store_is_away_a_session_holds_a_bounded_number_of_results_and_takes_no_new_work() {
    let ended: Vec<AttemptKey> = (1..=MAX_HELLO_ATTEMPTS as u128 + STORING_MAX as u128).map(key).collect();
    let mut session = begun(4, &ended);
    session.handle(Input::Loaded { due: vec![], more: false }, now());
    drain(&mut session);
    for attempt in &ended {
        session.handle(output(attempt.command.0.as_u128(), b"kept"), now());
        session.handle(result(attempt.command.0.as_u128()), now());
    }
    let finishing = |outputs: &[Output]| {
        let finishes = outputs.iter().filter_map(|output| match output {
            Output::Finish { key, .. } => Some(*key),
            _ => None,
        });
        finishes.collect::<Vec<_>>()
    };
    let outputs = drain(&mut session);
    assert_eq!(finishing(&outputs), ended[..STORING_MAX]);
    session.handle(Input::Offer(due(90_000, Priority::Critical)), now());
    assert_eq!(sent(&drain(&mut session)), [], "no new work while so much waits");

    // The store is back: one by one, in the order they came, and none is forgotten.
    let mut waiting: VecDeque<AttemptKey> = ended[..STORING_MAX].iter().copied().collect();
    let mut acknowledged = Vec::new();
    while let Some(stored) = waiting.pop_front() {
        session.handle(Input::Stored(stored), now());
        let outputs = drain(&mut session);
        waiting.extend(finishing(&outputs));
        acknowledged.extend(outputs.iter().filter_map(|output| match output {
            Output::Send(HostFrame::ResultAck { attempt }) => Some(*attempt),
            _ => None,
        }));
    }
    assert_eq!(acknowledged, ended);

    // What no honest agent would hold ends the session instead of the host's memory.
    let mut session = ready(1);
    for number in 1..=(STORING_MAX + MAX_HELLO_ATTEMPTS + 1) as u128 {
        session.handle(result(number), now());
    }
    assert!(matches!(drain(&mut session).last(), Some(Output::Close(fault)) if fault.code == "too_many_results"));
}

#[test]
fn after_an_outage_a_session_says_again_where_its_attempts_stand_and_looks_for_more() {
    let mut session = ready(4);
    for number in 1..=4 {
        session.handle(Input::Offer(due(number, Priority::Normal)), now());
    }
    let said = |number, started: bool| {
        let attempt = key(number);
        let ack = AgentFrame::Ack { attempt };
        Input::Frame(if started { AgentFrame::Started { attempt, pid: 1, traceparent: None } } else { ack })
    };
    session.handle(said(1, false), now());
    session.handle(said(2, true), now());
    session.handle(result(3), now());
    drain(&mut session);
    let later = now() + Duration::from_secs(5);
    session.handle(Input::Retell, later);
    let outputs = drain(&mut session);
    let mut noted: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Note(key, event, at) => Some((key.command.0.as_u128(), *event, *at)),
            _ => None,
        })
        .collect();
    noted.sort_by_key(|(number, ..)| *number);
    assert_eq!(noted, [(1, Event::Acknowledge, now()), (2, Event::Start, now())], "with the time it was said");
    assert!(matches!(outputs.last(), Some(Output::Load)), "a command may be stored that was called refused");
}

#[test]
fn a_result_stored_during_a_read_of_the_store_is_not_undone_by_its_answer() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    session.handle(result(1), now());
    session.handle(Input::Overflow, now());
    assert!(drain(&mut session).iter().any(|output| matches!(output, Output::Load)));
    session.handle(Input::Stored(key(1)), now());
    // It was read before it was stored, when its row still said that it waits.
    session.handle(Input::Loaded { due: vec![due(1, Priority::Normal)], more: false }, now());
    assert_eq!(sent(&drain(&mut session)), []);
}

#[test]
fn a_cancel_before_sending_means_it_never_runs() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(9, Priority::Normal)), now());
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    assert_eq!(sent(&drain(&mut session)), [key(9)]);
    session.handle(Input::Settle(vec![(open(1), Settle::Cancel)]), now());
    let outputs = drain(&mut session);
    assert!(
        matches!(&outputs[..], [Output::Advance(k, events)] if *k == key(1) && events[..] == [Event::CancelUnsent])
    );
}

#[test]
fn what_a_halt_finds_unsent_is_not_sent_though_room_is_made_in_the_same_moment() {
    let mut session = ready(1);
    for number in [9, 1, 2] {
        session.handle(Input::Offer(due(number, Priority::Normal)), now());
    }
    assert_eq!(sent(&drain(&mut session)), [key(9)]);
    session.handle(Input::Settle([1, 2].map(|number| (open(number), Settle::Halt)).to_vec()), now());
    session.handle(
        Input::Frame(AgentFrame::Result {
            attempt: key(9),
            outcome: Outcome::not_started(End::Exited),
            traceparent: None,
        }),
        now(),
    );
    session.handle(Input::Stored(key(9)), now());
    let outputs = drain(&mut session);
    assert_eq!(sent(&outputs), []);
    let halted = |output: &&Output| matches!(output, Output::Advance(_, events) if events[..] == [Event::Halt]);
    assert_eq!(outputs.iter().filter(halted).count(), 2);
}

#[test]
fn a_cancel_during_a_read_of_the_store_is_not_undone_by_its_answer() {
    let mut session = begun(1, &[]);
    assert!(matches!(session.poll(), Some(Output::Load)));
    session.handle(Input::Settle(vec![(open(1), Settle::Cancel)]), now());
    session.handle(Input::Loaded { due: vec![due(1, Priority::Normal)], more: false }, now());
    assert_eq!(sent(&drain(&mut session)), []);
}

#[test]
fn an_offer_during_a_read_of_the_store_is_read_again() {
    let mut session = begun(1, &[]);
    assert!(matches!(session.poll(), Some(Output::Load)));
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    session.handle(Input::Loaded { due: vec![], more: false }, now());
    assert!(matches!(session.poll(), Some(Output::Load)));
}

#[test]
fn what_is_overdue_is_not_sent() {
    let mut session = ready(1);
    let late = now() + Duration::from_secs(61);
    session.handle(Input::Offer(due(1, Priority::Normal)), late);
    let outputs = drain(&mut session);
    assert!(matches!(&outputs[..], [Output::Advance(_, events)] if events[..] == [Event::StartDeadline]));
}

#[test]
fn silence_degrades_and_then_ends_the_session() {
    let mut session = ready(1);
    let missed = session.deadline();
    session.tick(missed - Duration::from_millis(1));
    assert!(drain(&mut session).is_empty());
    session.tick(missed);
    assert!(matches!(drain(&mut session)[..], [Output::Missed]));
    // A clock that is set back keeps nobody until it has caught up.
    session.tick(Timestamp(now().0 - 3_600_000_000));
    assert!(session.deadline() < now());
    session.tick(session.deadline());
    assert!(matches!(drain(&mut session)[..], [Output::Send(HostFrame::Error(_)), Output::Close(_)]));
}

#[test]
fn what_came_while_the_host_stood_still_is_read_before_its_agent_is_called_silent() {
    let mut session = ready(1);
    let later = now() + Duration::from_secs(3_600);
    session.tick(later);
    session.tick(later);
    assert!(matches!(drain(&mut session)[..], [Output::Missed]));
    session.handle(Input::Frame(AgentFrame::Heartbeat { attempts: 0 }), later);
    assert!(session.deadline() > later);
}

#[test]
fn output_that_breaks_the_rules_ends_the_session() {
    let output = |offset: u64, data: &str| {
        let data = data.to_owned();
        Input::Frame(AgentFrame::Output(frame::Output {
            attempt: key(1),
            stream: Stream::Stdout,
            offset,
            data,
            gone: None,
        }))
    };
    let long = STANDARD.encode(vec![0; MAX_OUTPUT_CHUNK_BYTES + 1]);
    for (offset, data) in [(0, "%%%"), (0, ""), (0, long.as_str()), (u64::MAX, "YQ==")] {
        let mut session = ready(1);
        session.handle(Input::Offer(due(1, Priority::Normal)), now());
        drain(&mut session);
        session.handle(output(offset, data), now());
        assert!(matches!(drain(&mut session).last(), Some(Output::Close(_))), "{offset} {data:.10}");
    }
}

#[test]
fn the_store_lets_go_of_what_the_agent_no_longer_keeps_in_large_pieces_and_at_the_end() {
    let mut session = ready(1);
    session.handle(Input::Offer(due(1, Priority::Normal)), now());
    drain(&mut session);
    let passing = |offset: u64, until: u64| {
        let (stream, data) = (Stream::Stdout, STANDARD.encode(b"x"));
        let gone = Some(frame::Gone { from: 1_000, until });
        Input::Frame(AgentFrame::Output(frame::Output { attempt: key(1), stream, offset, data, gone }))
    };
    let let_go = |outputs: Vec<Output>| {
        let gone = outputs.into_iter().find_map(|output| match output {
            Output::LetGo { gone, .. } => Some(gone),
            _ => None,
        });
        gone.unwrap_or_default()
    };
    let mut told = Vec::new();
    for (offset, until) in [(50_000, 40_000), (200_000, 190_000), (210_000, 200_000), (400_000, 390_000)] {
        session.handle(passing(offset, until), now());
        told.push(let_go(drain(&mut session)));
    }
    assert_eq!(told, [0..0, 1_000..190_000, 0..0, 1_000..390_000]);
    session.handle(passing(410_000, u64::MAX), now());
    assert_eq!(let_go(drain(&mut session)), 0..0, "nothing is gone that was not there yet");
    let stdout = plan::outcome::StreamEnd { bytes: 420_000, head: 1_000, tail: 10_000, sha256: String::new() };
    let outcome = Outcome { stdout, ..Outcome::not_started(End::Exited) };
    session.handle(Input::Frame(AgentFrame::Result { attempt: key(1), outcome, traceparent: None }), now());
    assert_eq!(let_go(drain(&mut session)), 1_000..410_000);
}

/// What the model knows of one attempt.
#[derive(Default)]
struct Model {
    sent: u32,
    proven_unsent: bool,
    acknowledged: bool,
    stored: bool,
}

#[test]
fn random_walks_never_send_twice_nor_contradict_themselves() {
    for seed in 0..2_000 {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut session = begun(rng.random_range(1..4), &[]);
    let mut store: BTreeMap<u128, Due> = BTreeMap::new();
    let mut settled: BTreeSet<u128> = BTreeSet::new();
    let mut models: BTreeMap<AttemptKey, Model> = BTreeMap::new();
    let mut loading: Option<Vec<Due>> = None;
    let mut storing: Vec<AttemptKey> = Vec::new();
    let mut at_agent: Vec<AttemptKey> = Vec::new();
    for number in 1..200u128 {
        match rng.random_range(0..8) {
            0..3 => {
                let offered = due(number, Priority::ALL[rng.random_range(0..4)]);
                store.insert(number, offered.clone());
                // Mail may be lost for want of room; then the session is told to read again.
                let input = match rng.random_range(0..10) {
                    0 => Input::Overflow,
                    // Stored although it was called refused: nobody offers it, and later it is looked for.
                    1 => Input::Retell,
                    _ => Input::Offer(offered),
                };
                session.handle(input, now());
            }
            3 => {
                let victim = rng.random_range(1..=number);
                if store.contains_key(&victim) && settled.insert(victim) {
                    session.handle(Input::Settle(vec![(open(victim), Settle::Cancel)]), now());
                }
            }
            4 if !at_agent.is_empty() => {
                let attempt = at_agent[rng.random_range(0..at_agent.len())];
                session.handle(Input::Frame(AgentFrame::Ack { attempt }), now());
            }
            5 if !at_agent.is_empty() => {
                let attempt = at_agent[rng.random_range(0..at_agent.len())];
                let outcome = Outcome::not_started(End::Exited);
                session.handle(Input::Frame(AgentFrame::Result { attempt, outcome, traceparent: None }), now());
            }
            6 if !storing.is_empty() => {
                let attempt = storing.swap_remove(rng.random_range(0..storing.len()));
                models.entry(attempt).or_default().stored = true;
                store.remove(&attempt.command.0.as_u128());
                session.handle(Input::Stored(attempt), now());
            }
            _ => {
                if let Some(due) = loading.take() {
                    session.handle(Input::Loaded { due, more: false }, now());
                }
            }
        }
        for output in drain(&mut session) {
            match output {
                Output::Send(HostFrame::Command(command)) => {
                    let model = models.entry(command.attempt).or_default();
                    model.sent += 1;
                    assert_eq!(model.sent, 1, "seed {seed}: {} sent twice", command.attempt);
                    assert!(!model.proven_unsent, "seed {seed}: {} sent after it was called unsent", command.attempt);
                    at_agent.push(command.attempt);
                }
                Output::Send(HostFrame::ResultAck { attempt }) => {
                    let model = models.entry(attempt).or_default();
                    assert!(model.stored, "seed {seed}: {attempt} acknowledged before it was stored");
                    model.acknowledged = true;
                    at_agent.retain(|key| *key != attempt);
                }
                Output::Advance(key, events) if events[..] == [Event::CancelUnsent] => {
                    let model = models.entry(key).or_default();
                    assert_eq!(model.sent, 0, "seed {seed}: {key} called unsent after it was sent");
                    model.proven_unsent = true;
                    store.remove(&key.command.0.as_u128());
                }
                Output::Finish { key, .. } => storing.push(key),
                Output::Load => {
                    assert!(loading.is_none(), "seed {seed}: two reads at once");
                    let unsent = |due: &&Due| models.get(&due.key()).is_none_or(|model| model.sent == 0);
                    let wanted =
                        store.values().filter(unsent).filter(|due| !settled.contains(&due.command.id.0.as_u128()));
                    loading = Some(wanted.cloned().collect());
                }
                _ => {}
            }
        }
    }
}
