//! What survives an end of any kind, and what is said of a store that cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::agent::Facts;
use domain::attempt::{Event, State};
use domain::command::Status;
use plan::id::{AgentId, ClusterId, CommandId};
use plan::outcome::Stream;
use ports::agents::Agents as _;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::{Installation as _, Journal as _};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::place::{CEILING, Place, child, given, open, tell, tell_parent};
use super::{Ground, Store as _, Told};

pub async fn everything_is_there_again_after_reopening<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = open(&place).await;
    let web = enrol(&store, "web-1", "eu").await;
    store.open_session(web.id, &Facts::default(), at(1)).await.expect("stored");
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.append(chunk(id, web.id, 0, "abc"));
    store.advance(advance(id, web.id, 2, &[Event::Send])).await.expect("advanced");
    let view = store.command(id).await.expect("read");
    let (events, last) = (store.events(Some(id), 0, 100).await.expect("read"), store.last_seq().await.expect("read"));
    let cluster = store.cluster(ClusterId(uuid())).await.expect("stored");
    // A note still in the queue at an orderly end is written.
    store.note(advance(id, web.id, 3, &[Event::Acknowledge]));
    running.finish().await;
    let refused = store.flush().await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(store);

    let (Ground { store, .. }, _running) = open(&place).await;
    let now = store.command(id).await.expect("read").expect("there");
    assert_eq!(Some(&now.command), view.as_ref().map(|view| &view.command));
    assert_eq!(now.counts.of(State::Accepted), 1);
    let again = store.events(Some(id), 0, 100).await.expect("read");
    assert_eq!(again[..events.len()], events);
    assert_eq!(again.len(), events.len() + 1);
    assert_eq!(store.last_seq().await, Ok(last + 1));
    assert_eq!(store.cluster(ClusterId(uuid())).await, Ok(cluster));
    // Bytes stored by the last host are known to this one.
    store.append(chunk(id, web.id, 1, "bcd"));
    store.flush().await.expect("flushed");
    let output = store.output(key(id), web.id, Stream::Stdout, 0, 100).await.expect("read");
    assert_eq!(output.iter().map(|chunk| chunk.data.clone()).collect::<Vec<_>>().concat(), b"abcd");
    // A session that was open when the host ended is closed, and what it may have sent stays marked.
    let agent = store.agents().await.expect("read").remove(0);
    assert!(agent.maybe_sent);
    let lost: Vec<CommandId> =
        store.abandoned(at(2_000_000_000), 10).await.expect("read").iter().map(|open| open.key.command).collect();
    assert_eq!(lost, [id]);
}

/// Plays both parts: the parent starts this same test again as a child, which accepts and prints until
/// it is killed.
pub async fn no_accept_that_returned_is_lost_to_kill_nine<P: Place>() {
    if let Some(place) = given::<P>() {
        accept_until_killed(&place).await;
    }
    let Some(place) = P::fresh() else { return };
    let mut printed = BTreeSet::new();
    for round in 1..=3 {
        let (mut child, mut lines) = child("no_accept_that_returned_is_lost_to_kill_nine", &place);
        let enough = printed.len() + 300;
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, id)) = line.split_once("accepted ") {
                    printed.insert(id.parse::<CommandId>().expect("an id"));
                }
                if printed.len() == enough {
                    child.start_kill().expect("killed");
                }
            }
        };
        tokio::time::timeout(CEILING, reading).await.expect("the child accepts");
        child.wait().await.expect("ended");
        assert!(printed.len() >= enough, "round {round}: {} printed", printed.len());
    }
    let (Ground { store, .. }, _running) = open(&place).await;
    for id in &printed {
        let view = store.command(*id).await.expect("read").expect("an accepted command is there");
        assert_eq!(view.counts.total(), 1);
        assert_eq!(store.invocations(*id, None, None, 10).await.expect("read").len(), 1);
        assert_eq!(store.events(Some(*id), 0, 10).await.expect("read").len(), 1);
    }
}

async fn accept_until_killed<P: Place>(place: &P) -> ! {
    let (Ground { store, .. }, _running) = open(place).await;
    // Ids of an earlier child are not to be met again.
    let last = store.last_seq().await.expect("read");
    for _ in 0..last * 4 {
        uuid();
    }
    let web = enrol(&store, &format!("web-{last}"), "eu").await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (store, web) = (store.clone(), web.clone());
        callers.spawn(async move {
            loop {
                let new = command(&[&web]);
                let id = new.command.id;
                store.accept(new).await.expect("accepted");
                tell_parent(&format!("accepted {id}"));
            }
        });
    }
    callers.join_next().await;
    panic!("nobody killed this process");
}

/// Openings that are killed before they are through.
const KILLED: usize = 20;
/// Killed or not, after so many it is no longer believed that one will be.
const TRIES: usize = 400;

/// Plays both parts: the parent starts this same test again as a child, which opens an empty store and
/// is killed after a delay that is drawn anew each time, up to the length of a whole opening.
pub async fn an_opening_that_is_killed_at_any_point_is_finished_by_the_next<P: Place>() {
    const NAME: &str = "an_opening_that_is_killed_at_any_point_is_finished_by_the_next";
    if let Some(place) = given::<P>() {
        tell_parent("opening");
        open(&place).await;
        tell_parent("opened");
        std::future::pending::<()>().await;
    }
    let Some(place) = P::fresh() else { return };
    let whole = length_of_an_opening(NAME, &place).await;
    let seed = u64::from(std::process::id());
    let mut chance = seed;
    let (mut killed, mut through, mut left) = (0, 0, BTreeMap::new());
    while killed < KILLED {
        assert!(killed + through < TRIES, "only {killed} of {TRIES} openings were killed in time");
        let place = P::fresh().expect("there was one a moment ago");
        let (mut child, mut lines) = child(NAME, &place);
        until_line(&mut lines, "opening").await;
        // The delay is the point of it: nothing says where in its opening the child is.
        tokio::time::sleep(whole.mul_f64(next(&mut chance))).await;
        child.start_kill().expect("killed");
        let mut opened = false;
        while let Ok(Some(line)) = lines.next_line().await {
            opened |= line.contains("opened");
        }
        child.wait().await.expect("ended");
        if opened {
            through += 1;
        } else {
            killed += 1;
            *left.entry(what_was_left(&place).await).or_insert(0) += 1;
        }
        live_a_small_life(&place).await;
    }
    let database = std::any::type_name::<P>().rsplit("::").next().unwrap_or_default();
    tell(&format!(
        "{database}: of {} openings, killed at random within {} µs (seed {seed}), {killed} were not through; left behind: \
         {left:?}; all were finished by the next, which took a command to its end",
        killed + through,
        whole.as_micros(),
    ));
}

async fn until_line(lines: &mut tokio::io::Lines<impl tokio::io::AsyncBufRead + Unpin>, word: &str) {
    let reading = async {
        while let Some(line) = lines.next_line().await.expect("the child speaks") {
            if line.contains(word) {
                return;
            }
        }
        panic!("the child ended before it said `{word}`");
    };
    tokio::time::timeout(CEILING, reading).await.expect("the child gets there");
}

async fn length_of_an_opening<P: Place>(name: &str, place: &P) -> Duration {
    let (mut child, mut lines) = child(name, place);
    until_line(&mut lines, "opening").await;
    let begun = Instant::now();
    until_line(&mut lines, "opened").await;
    let whole = begun.elapsed();
    child.kill().await.expect("killed");
    whole
}

/// A number from 0 to 1: the next of splitmix64.
fn next(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    f64::from(u32::try_from(mixed >> 32).expect("half of it")) / f64::from(u32::MAX)
}

/// How far the schema is, in words that add up.
async fn what_was_left<P: Place>(place: &P) -> &'static str {
    match place.sql("select cast(count(*) as text) from _sqlx_migrations").await {
        Err(_) => "nothing",
        Ok(count) if count.as_deref() == Some("0") => "an empty list of migrations",
        Ok(_) => "the whole schema",
    }
}

async fn live_a_small_life<P: Place>(place: &P) {
    let (Ground { store, .. }, running) = open(place).await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    assert_eq!(store.due(web.id, 10).await.expect("read").len(), 1);
    store.append(chunk(id, web.id, 0, "abc"));
    store.advance(finish(id, web.id, 1, true)).await.expect("advanced");
    assert_eq!(store.command(id).await.expect("read").expect("there").status, Status::Succeeded);
    assert_eq!(store.output(key(id), web.id, Stream::Stdout, 0, 100).await.expect("read").len(), 1);
    running.finish().await;
}

pub async fn a_newer_schema_is_refused_with_the_cure<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = open(&place).await;
    running.finish().await;
    drop(store);
    place
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             select 9999, 'from the future', true, checksum, 1 from _sqlx_migrations limit 1",
        )
        .await
        .expect("tampered");
    let refused = place.try_open(Arc::new(Told::default())).await.err().expect("refused");
    assert!(refused.contains("has schema 9999") && refused.contains("run the newer program"), "{refused}");
}

pub async fn a_row_that_cannot_be_read_is_named<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, _running) = open(&place).await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    place.sql("update commands set status = 'asleep'").await.expect("tampered");
    place.sql(r#"update invocations set outcome = '{"end": "asleep"}'"#).await.expect("tampered");
    let said = store.command(id).await.expect_err("unreadable");
    let what = "`asleep` is not a status".to_owned();
    assert_eq!(said, StoreError::Corrupt { table: "commands", key: id.to_string(), what });
    let said = store.invocation(id, web.id).await.expect_err("unreadable");
    let named = format!("{id}/{}", web.id);
    assert!(matches!(&said, StoreError::Corrupt { table: "invocations", key, .. } if *key == named), "{said}");
}

pub async fn a_writer_that_is_cut_off_leaves_nobody_waiting<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = open(&place).await;
    enrol(&store, "web-1", "eu").await;
    drop(running);
    let answer = tokio::time::timeout(CEILING, store.flush()).await.expect("answered");
    assert!(matches!(&answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

pub async fn a_note_without_room_is_told_of_as_a_commit_that_failed<P: Place>() {
    let Some(place) = P::fresh() else { return };
    // Nobody writes, so that the queue fills.
    let (store, _writing) = place.try_open(Arc::new(Told::default())).await.expect("opens");
    let (id, web) = (CommandId(uuid()), AgentId(uuid()));
    let noted = (0..1_000_000).take_while(|_| {
        store.note(advance(id, web, 1, &[Event::Start]));
        store.failed_commits() == 0
    });
    assert!(noted.count() < 1_000_000, "it is bounded");
    assert_eq!((store.failed_commits(), store.counters().notes_dropped), (1, 1));
}
