//! The journal on a real disk: what was acknowledged is read back, whatever happens to the file.

use agent::journal::{Accepted, Clocks, Done, Job, Journal, Record, Recovered, Settled};
use agent::log::{Log, LogError};
use agent::writer::{Store as _, Writer};
use plan::envelope::seal;
use plan::outcome::{End, Outcome};

use crate::support::{attempt, cluster_key, envelope, plan, step};

const CLOCKS: Clocks = Clocks { wall_ms: 1_000, host_ms: Some(1_000) };

fn accepted(command: u128) -> Record {
    let key = attempt(command, 1);
    Record::Accepted(Accepted {
        attempt: key,
        received_mono_ms: 5,
        start_by_mono_ms: 10,
        start_by_host_ms: 1_010,
        kill_after_ms: None,
        finish_within_ms: None,
        boot_id: "boot".to_owned(),
        envelope: seal(&envelope(key, plan(vec![step("true", &[])]), 2_000), &cluster_key()),
        traceparent: None,
    })
}

fn result(command: u128, at_ms: i64, not_after_ms: i64) -> Record {
    Record::Result(Settled {
        attempt: attempt(command, 1),
        verb: "exec.run".to_owned(),
        submitter: "test".to_owned(),
        traceparent: None,
        not_after_ms,
        at_ms,
        outcome: Outcome::not_started(End::Expired),
    })
}

fn write(journal: &mut Journal, records: Vec<Record>, clocks: Clocks) -> Vec<Done> {
    journal.run(records.into_iter().map(|record| Job::Append(Box::new(record), clocks)).collect()).expect("writes")
}

fn life(command: u128) -> Vec<Record> {
    vec![
        accepted(command),
        Record::Starting { attempt: attempt(command, 1), supervisor: "s".to_owned() },
        Record::Started { attempt: attempt(command, 1), pid: 9, start_ticks: 4, boot_id: "boot".to_owned() },
        result(command, 1_000, 2_000),
        Record::Acked { attempt: attempt(command, 1) },
    ]
}

#[test]
fn every_stage_of_a_life_is_recovered() {
    for (count, expected) in [(1, "waiting"), (2, "starting"), (3, "started"), (4, "unacknowledged"), (5, "past")] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path()).expect("opens");
        write(&mut journal, life(1).into_iter().take(count).collect(), CLOCKS);
        drop(journal);
        let (_, recovered) = Journal::open(dir.path()).expect("opens again");
        let found = match (&recovered.unfinished[..], &recovered.unacknowledged[..], &recovered.past[..]) {
            ([one], [], []) if one.pid == Some(9) => "started",
            ([one], [], []) if one.supervisor.as_deref() == Some("s") => "starting",
            ([_], [], []) => "waiting",
            ([], [_], []) => "unacknowledged",
            ([], [], [(_, 2_000)]) => "past",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_file_cut_at_any_byte_gives_back_a_prefix() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Journal::open(dir.path()).expect("opens");
    let mut ends = Vec::new();
    for record in life(1) {
        write(&mut journal, vec![record], CLOCKS);
        ends.push(journal.size());
    }
    drop(journal);
    let path = dir.path().join("log");
    let whole = std::fs::read(&path).expect("reads");
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("writes");
        let records = ends.iter().filter(|end| **end <= cut as u64).count();
        let (journal, recovered) = Journal::open(dir.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let mut expected = agent::journal::Replay::default();
        life(1).into_iter().take(records).for_each(|record| expected.take(record));
        assert_eq!(Recovered { cut_bytes: 0, ..recovered }, expected.finish(), "cut at {cut}");
        assert_eq!(journal.size(), if records == 0 { 8 } else { ends[records - 1] }, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_before_the_last_write_is_refused_and_in_the_last_write_cuts_it_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Journal::open(dir.path()).expect("opens");
    write(&mut journal, life(1), CLOCKS);
    write(&mut journal, life(2), CLOCKS);
    let last = journal.size();
    write(&mut journal, vec![accepted(3), accepted(4)], CLOCKS);
    drop(journal);
    let path = dir.path().join("log");
    let whole = std::fs::read(&path).expect("reads");
    let (mut refused, mut cut) = (0, 0);
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1 << (index % 8);
        std::fs::write(&path, &flipped).expect("writes");
        match Journal::open(dir.path()) {
            Err(LogError::NotALog(_)) if index < 8 => refused += 1,
            Err(LogError::Damaged { .. }) if (index as u64) < last => refused += 1,
            Ok((_, recovered)) if index as u64 >= last => {
                assert!(recovered.cut_bytes > 0 && recovered.unfinished.len() <= 1, "byte {index}: {recovered:?}");
                cut += 1;
            }
            other => panic!("byte {index} of {}, last write at {last}: {other:?}", whole.len()),
        }
    }
    assert_eq!((refused, cut), (last as usize, whole.len() - last as usize));
}

#[test]
fn what_nothing_follows_from_is_in_the_file_at_once_and_on_disk_with_the_next_that_matters() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Journal::open(dir.path()).expect("opens");
    write(&mut journal, life(1).into_iter().take(2).collect(), CLOCKS);
    let (syncs, notes_from) = (journal.syncs(), journal.size());
    write(&mut journal, vec![life(1).remove(2)], CLOCKS);
    let second = journal.size();
    write(&mut journal, vec![life(1).remove(2)], CLOCKS);
    assert_eq!(journal.syncs(), syncs, "the disk was asked for a note");
    let path = dir.path().join("log");
    let whole = std::fs::read(&path).expect("reads");
    // As a power failure may leave it: the later page written, the earlier one not.
    let mut torn = whole.clone();
    torn[notes_from as usize..second as usize].fill(0);
    let copy = tempfile::tempdir().expect("a directory");
    std::fs::write(copy.path().join("log"), &torn).expect("writes");
    let (torn, recovered) = Journal::open(copy.path()).expect("cut off, not refused");
    assert_eq!((torn.size(), recovered.unfinished[0].pid), (notes_from, None));
    // Once something was fsynced behind it, it can only have been changed.
    write(&mut journal, vec![result(1, 1_000, 2_000)], CLOCKS);
    assert_eq!(journal.syncs(), syncs + 1);
    write(&mut journal, vec![accepted(2)], CLOCKS);
    drop(journal);
    let mut changed = std::fs::read(&path).expect("reads");
    changed[notes_from as usize + 30] ^= 1;
    std::fs::write(&path, &changed).expect("writes");
    assert!(matches!(Journal::open(dir.path()), Err(LogError::Damaged { offset, .. }) if offset == notes_from));
}

#[test]
fn what_is_torn_off_leaves_room_for_what_comes_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Journal::open(dir.path()).expect("opens");
    write(&mut journal, vec![accepted(1)], CLOCKS);
    write(&mut journal, vec![accepted(2)], CLOCKS);
    let path = dir.path().join("log");
    let whole = std::fs::read(&path).expect("reads");
    drop(journal);
    std::fs::write(&path, &whole[..whole.len() - 3]).expect("writes");
    let (mut journal, recovered) = Journal::open(dir.path()).expect("opens");
    assert_eq!((recovered.unfinished.len(), recovered.cut_bytes > 0), (1, true));
    write(&mut journal, vec![accepted(3)], CLOCKS);
    drop(journal);
    let (_, recovered) = Journal::open(dir.path()).expect("opens");
    let keys: Vec<_> = recovered.unfinished.iter().map(|entry| entry.accepted.attempt).collect();
    assert_eq!((keys, recovered.cut_bytes), (vec![attempt(1, 1), attempt(3, 1)], 0));
}

#[tokio::test]
async fn one_fsync_covers_all_records_that_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    struct Counted(Log);
    impl agent::writer::Store for Counted {
        type Job = Vec<u8>;
        type Done = u64;
        fn run(&mut self, jobs: Vec<Vec<u8>>) -> Result<Vec<u64>, LogError> {
            self.0.append(&jobs)?;
            Ok(vec![self.0.syncs(); jobs.len()])
        }
    }
    let (log, _) = Log::open(&path, &mut |_, _| Ok(())).expect("opens");
    let before = log.syncs();
    let mut writer = Writer::start("test", Counted(log)).expect("starts");
    const RECORDS: usize = 5_000;
    for index in 0..RECORDS {
        writer.push(index.to_le_bytes().to_vec());
        if index + 1 == RECORDS / 2 {
            writer.send();
        }
    }
    let (mut done, mut batches, mut syncs) = (0, 0, before);
    while done < RECORDS {
        let answers = writer.done().await.expect("writes");
        done += answers.len();
        batches += 1;
        syncs = *answers.last().expect("no empty batch");
        // What was answered is in the file already, in order.
        let mut seen = 0;
        let copy = dir.path().join("copy");
        std::fs::copy(&path, &copy).expect("copies");
        Log::open(&copy, &mut |_, payload| {
            assert_eq!(payload, usize::to_le_bytes(seen));
            seen += 1;
            Ok(())
        })
        .expect("reads");
        assert!(seen >= done, "{seen} records in the file, {done} answered");
    }
    assert_eq!((syncs - before, batches), (2, 2), "those that were sent, and all that gathered meanwhile");
}

#[test]
fn compaction_forgets_plans_then_details_then_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(dir.path()).expect("opens");
    let mut journal = journal.compact_at(1);
    const DAY: i64 = 24 * 3600 * 1000;
    let mut records = vec![accepted(1), Record::Epoch { highest: 9 }, result(2, 0, 0)];
    // Ten thousand fresh ones push the two old ones out of the number that is always kept.
    for (command, not_after_ms) in [(3, 0), (4, 1_000 * DAY)] {
        records.extend([result(command, 0, not_after_ms), Record::Acked { attempt: attempt(command, 1) }]);
    }
    for command in 100..100 + agent::journal::KEEP_FINISHED as u128 {
        records.extend([result(command, 29 * DAY, 29 * DAY), Record::Acked { attempt: attempt(command, 1) }]);
    }
    let wrong_host = Clocks { wall_ms: 30 * DAY, host_ms: None };
    assert!(!write(&mut journal, records, wrong_host).iter().any(|done| matches!(done, Done::Purged(_))));
    let purged = write(
        &mut journal,
        vec![Record::Epoch { highest: 9 }; 70_000],
        Clocks { host_ms: Some(30 * DAY), ..wrong_host },
    );
    assert_eq!(purged.last(), Some(&Done::Purged(vec![attempt(3, 1)])));
    let size = journal.size();
    let recall = |journal: &mut Journal, command| journal.run(vec![Job::Recall(attempt(command, 1))]).expect("reads");
    let expired = Some(Outcome::not_started(End::Expired));
    assert_eq!(recall(&mut journal, 4), [Done::Recalled(attempt(4, 1), expired.clone())]);
    assert_eq!(recall(&mut journal, 100), [Done::Recalled(attempt(100, 1), expired)]);
    assert_eq!(recall(&mut journal, 3), [Done::Recalled(attempt(3, 1), None)]);
    drop(journal);
    let (journal, recovered) = Journal::open(dir.path()).expect("opens");
    assert_eq!(journal.size(), size);
    assert_eq!(recovered.highest_epoch, 9);
    assert_eq!((recovered.unfinished.len(), recovered.unacknowledged.len()), (1, 1));
    assert_eq!(recovered.past.len(), agent::journal::KEEP_FINISHED + 1);
}
