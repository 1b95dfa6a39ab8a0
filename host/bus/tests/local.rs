//! What listeners of the in-process bus hear.

use std::sync::Arc;

use bus::local::Local;
use domain::agent::AgentStatus;
use domain::attempt::State;
use domain::event::{Event, What};
use domain::time::Timestamp;
use plan::id::{AgentId, CommandId};
use plan::outcome::Stream;
use ports::live::{Heard, Live, Subscription};
use uuid::Uuid;

fn command(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

fn agent() -> AgentId {
    AgentId(Uuid::from_u128(7))
}

fn event(seq: u64, what: What) -> Arc<Event> {
    Arc::new(Event { seq, at: Timestamp(1), what })
}

fn state(seq: u64, of: u128) -> Arc<Event> {
    event(seq, What::State { command: command(of), agent: agent(), attempt: 1, state: State::Sent, reason: None })
}

fn output(seq: u64, of: u128) -> Arc<Event> {
    event(
        seq,
        What::Output {
            command: command(of),
            agent: agent(),
            attempt: 1,
            stream: Stream::Stdout,
            offset: 0,
            data: vec![1],
        },
    )
}

async fn heard(subscription: &mut Box<dyn Subscription>) -> String {
    match subscription.next().await {
        Heard::Event(event) => event.seq.to_string(),
        Heard::Lagged => "lagged".to_owned(),
        Heard::Closed => "closed".to_owned(),
    }
}

/// Everything that is there, up to the end of the board.
async fn rest(mut subscription: Box<dyn Subscription>, local: Local) -> Vec<String> {
    drop(local);
    let mut all = Vec::new();
    loop {
        let next = heard(&mut subscription).await;
        if next == "closed" {
            return all;
        }
        all.push(next);
    }
}

#[tokio::test]
async fn a_listener_of_one_command_hears_that_command_and_its_output() {
    let local = Local::default();
    let subscription = local.subscribe(Some(command(1)));
    local.publish(&[state(1, 1), output(2, 1), state(3, 2), output(4, 2), state(5, 1)]);
    assert_eq!(rest(subscription, local).await, ["1", "2", "5"]);
}

#[tokio::test]
async fn a_listener_to_everything_hears_all_but_output() {
    let local = Local::default();
    let subscription = local.subscribe(None);
    let came = event(4, What::Agent { agent: agent(), status: AgentStatus::Online });
    local.publish(&[state(1, 1), output(2, 1), state(3, 2), came]);
    assert_eq!(rest(subscription, local).await, ["1", "3", "4"]);
}

#[tokio::test]
async fn a_slow_listener_lags_once_and_hears_what_comes_after() {
    let local = Local::new(4);
    let mut subscription = local.subscribe(Some(command(1)));
    for seq in 1..=5 {
        local.publish(&[state(seq, 1)]);
    }
    local.publish(&[state(6, 1)]);
    assert_eq!(heard(&mut subscription).await, "lagged");
    assert_eq!(rest(subscription, local).await, ["5", "6"]);
}

#[tokio::test]
async fn a_slow_listener_does_not_disturb_a_quick_one() {
    let local = Local::new(2);
    let _slow = local.subscribe(None);
    let mut quick = local.subscribe(None);
    for seq in 1..=100 {
        local.publish(&[state(seq, 1)]);
        assert_eq!(heard(&mut quick).await, seq.to_string());
    }
}

#[tokio::test]
async fn a_waiting_listener_wakes_for_an_event() {
    let local = Local::default();
    let mut subscription = local.subscribe(Some(command(9)));
    let (first, ()) = tokio::join!(heard(&mut subscription), async { local.publish(&[state(1, 9)]) });
    assert_eq!(first, "1");
}

#[tokio::test]
async fn dropping_a_listener_ends_it() {
    let local = Local::default();
    let of_one = local.subscribe(Some(command(1)));
    let of_all = local.subscribe(None);
    assert_eq!(local.listeners(), 2);
    drop(of_one);
    assert_eq!(local.listeners(), 1);
    drop(of_all);
    assert_eq!(local.listeners(), 0);
    local.publish(&[state(1, 1)]);
}

#[tokio::test]
async fn what_another_host_wrote_in_between_is_read_from_the_log_and_nothing_is_told_past_it() {
    let local = Local::shared();
    let mut subscription = local.subscribe(Some(command(1)));
    local.catch_up(0);
    local.publish(&[state(1, 1), output(2, 1)]);
    assert_eq!([heard(&mut subscription).await, heard(&mut subscription).await], ["1", "2"]);
    // 3 was written elsewhere.
    local.publish(&[state(4, 1)]);
    local.gap().await;
    local.publish(&[state(5, 1)]);
    local.catch_up(4);
    assert_eq!(heard(&mut subscription).await, "lagged", "it reads 3 to 5");
    local.publish(&[state(6, 1)]);
    assert_eq!(heard(&mut subscription).await, "6");
    local.catch_up(6);
    local.catch_up(8);
    assert_eq!(heard(&mut subscription).await, "lagged");
    assert_eq!(rest(subscription, local).await, Vec::<String>::new());
}
