//! Output.

use domain::attempt::State;
use domain::event::What;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::Chunk;

use super::fixtures::*;
use super::{Ground, Store};

async fn one_command<S: Store>(store: &S) -> (CommandId, AgentId) {
    let web = enrol(store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    (id, web.id)
}

/// What is stored of standard output from `offset` on, with its offsets.
async fn read<S: Store>(store: &S, of: (CommandId, AgentId), offset: u64) -> Vec<(u64, String)> {
    let found = store.output(key(of.0), of.1, Stream::Stdout, offset, 1 << 20).await.expect("read");
    found.into_iter().map(|chunk| (chunk.offset, String::from_utf8(chunk.data).expect("text"))).collect()
}

fn joined(chunks: &[(u64, String)]) -> String {
    chunks.iter().map(|(_, text)| text.as_str()).collect()
}

pub async fn output_reads_back_from_any_offset<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    for (offset, text) in [(0, "hello "), (6, "wide "), (11, "world")] {
        store.append(chunk(of.0, of.1, offset, text));
    }
    let stderr = Chunk { stream: Stream::Stderr, ..chunk(of.0, of.1, 0, "oh no") };
    store.append(stderr.clone());
    store.flush().await.expect("flushed");
    let whole = "hello wide world";
    for offset in 0..=whole.len() {
        let found = read(&store, of, offset as u64).await;
        assert_eq!(joined(&found), whole[offset..], "from {offset}");
        assert!(found.first().is_none_or(|(start, _)| *start == offset as u64));
    }
    assert_eq!(store.output(key(of.0), of.1, Stream::Stderr, 0, 100).await, Ok(vec![stderr]));
}

pub async fn the_same_bytes_twice_are_kept_once<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    for _ in 0..2 {
        // Twice in one batch, and again in a later one.
        store.append(chunk(of.0, of.1, 0, "abc"));
        store.append(chunk(of.0, of.1, 0, "abc"));
        store.append(chunk(of.0, of.1, 3, "def"));
        store.flush().await.expect("flushed");
    }
    assert_eq!(read(&store, of, 0).await, [(0, "abc".to_owned()), (3, "def".to_owned())]);
    let events = store.events(Some(of.0), 0, 100).await.expect("read");
    assert_eq!(events.iter().filter(|event| matches!(event.what, What::Output { .. })).count(), 2);
}

pub async fn overlapping_chunks_are_cut_to_what_is_new<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    let whole = "abcdefghijklmnop";
    for (start, end) in [(4, 8), (6, 10), (12, 14), (0, 16), (3, 5)] {
        store.append(chunk(of.0, of.1, start as u64, &whole[start..end]));
        store.flush().await.expect("flushed");
    }
    let found = read(&store, of, 0).await;
    assert_eq!(joined(&found), whole);
    assert_eq!(found.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 4, 8, 10, 12, 14]);
    assert_eq!(joined(&read(&store, of, 9).await), whole[9..]);
}

pub async fn what_is_stored_is_known_without_its_bytes<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    let stored = async |stream| store.stored(key(of.0), of.1, stream).await.expect("read");
    assert_eq!(stored(Stream::Stdout).await, []);
    for (offset, text) in [(0, "hello "), (6, "wide "), (20, "world")] {
        store.append(chunk(of.0, of.1, offset, text));
    }
    store.flush().await.expect("flushed");
    assert_eq!(stored(Stream::Stdout).await, [0..6, 6..11, 20..25]);
    assert_eq!(stored(Stream::Stderr).await, []);
}

pub async fn output_of_an_attempt_nobody_made_is_left_out<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    let stranger = command(&[]).command.id;
    store.append(chunk(stranger, of.1, 0, "lost"));
    store.append(Chunk { key: AttemptKey { command: of.0, number: 2 }, ..chunk(of.0, of.1, 0, "early") });
    store.append(chunk(of.0, of.1, u64::MAX, "far"));
    store.append(chunk(of.0, of.1, 0, "kept"));
    store.flush().await.expect("flushed");
    assert_eq!(joined(&read(&store, of, 0).await), "kept");
    assert_eq!(store.counters().chunks_dropped, 3);
    assert!(store.events(Some(stranger), 0, 10).await.expect("read").is_empty());
}

pub async fn an_advance_commits_after_the_output_before_it<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    store.append(chunk(of.0, of.1, 0, "last words"));
    store.advance(finish(of.0, of.1, 9, true)).await.expect("advanced");
    assert_eq!(joined(&read(&store, of, 0).await), "last words");
    let events = store.events(Some(of.0), 0, 100).await.expect("read");
    let spoke = events.iter().position(|event| matches!(event.what, What::Output { .. })).expect("told");
    let ended = |what: &What| matches!(what, What::State { state: State::Succeeded, .. });
    assert!(events.iter().position(|event| ended(&event.what)).expect("told") > spoke);
}

pub async fn a_page_of_output_stops_at_its_limit<S: Store>(Ground { store, .. }: Ground<S>) {
    let of = one_command(&store).await;
    for n in 0..10 {
        store.append(chunk(of.0, of.1, n * 4, "abcd"));
    }
    store.flush().await.expect("flushed");
    let page = async |offset, limit| {
        let found = store.output(key(of.0), of.1, Stream::Stdout, offset, limit).await.expect("read");
        found.iter().map(|chunk| chunk.data.len()).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 8).await, [4, 4]);
    assert_eq!(page(0, 11).await, [4, 4]);
    assert_eq!(page(2, 6).await, [2, 4]);
    // At least one chunk, or a reader would never get past a long one.
    assert_eq!(page(0, 1).await, [4]);
    assert_eq!(page(40, 100).await, [0_usize; 0]);
}

/// Most rows that one step of forgetting may take: whoever writes waits for one step at most.
const STEP_MAX: usize = 200;

pub async fn old_output_goes_in_small_steps_between_which_others_write<S: Store>(Ground { store, .. }: Ground<S>) {
    const OLD: u64 = 501;
    let of = one_command(&store).await;
    for n in 0..OLD {
        store.append(chunk(of.0, of.1, 2 * n, "x\n"));
    }
    store.append(Chunk { at: at(3_600), ..chunk(of.0, of.1, 2 * OLD, "young") });
    store.flush().await.expect("written");
    let web = enrol(&store, "web-2", "eu").await;
    let (mut left, mut largest, mut steps) = (read(&store, of, 0).await.len(), 0, 0);
    while store.forget_output(at(60)).await.expect("a step") {
        let now = read(&store, of, 0).await.len();
        (largest, left, steps) = (largest.max(left - now), now, steps + 1);
        assert!(steps < 100, "it comes to an end");
        store.accept(command(&[&web])).await.expect("accepted between two steps");
    }
    assert!(largest <= STEP_MAX && steps >= 2, "{largest} rows in one of {steps} steps");
    assert_eq!(read(&store, of, 0).await, [(2 * OLD, "young".to_owned())]);
    assert_eq!(store.forget_output(at(60)).await, Ok(false));
    // Bytes that come after all are kept as if they had never been there, or are not missed.
    store.append(Chunk { at: at(3_601), ..chunk(of.0, of.1, 2 * OLD, "young") });
    store.flush().await.expect("written");
    assert_eq!(read(&store, of, 0).await.len(), 1, "no byte twice");
}
