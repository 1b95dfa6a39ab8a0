//! The one writer: takes a batch, writes it as one transaction, tells listeners, answers callers.
//!
//! Order inside a transaction: commands, then output and advances, then what is rare. A rare write thus
//! sees the latest state, and an advance of a command accepted beside it finds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ports::commands::Advanced;
use ports::error::StoreError;
use ports::live::Live;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bulk::{Savepoint, Script};
use super::connection::{Opening, Sqlite};
use super::failure::Failure;
use super::output::Streams;
use super::readers::Readers;
use super::{Shared, advance, audit, commands, copier, journal, open};
use crate::intake::Entry;
use crate::job::{Batch, Job, Undo};
use crate::staged::Staged;
use crate::trail::Trail;

/// Takes the lock on the file at once: a transaction that begins by reading could not get it later.
const BEGIN: &str = "begin immediate";
const COMMIT: &str = "commit";

/// Owns the connection that writes. Until it runs, writes queue; when it has ended, they are refused.
pub struct Writer {
    /// For the copier; dropped before its file is closed.
    readers: Readers,
    shared: Arc<Shared>,
    live: Arc<dyn Live>,
    /// `None` after a failed transaction: a connection is cheap, and a fresh one has no half of one.
    connection: Option<Sqlite>,
    writing: Opening,
    last: u64,
    streams: Streams,
    trail: Trail,
}

/// What callers are told after the commit.
struct Answers {
    accepted: Vec<Result<(), StoreError>>,
    advanced: Vec<Option<Advanced>>,
    chunks_refused: u64,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        live: Arc<dyn Live>,
        (connection, readers): (Sqlite, Readers),
        writing: Opening,
        last: u64,
        trail: Trail,
    ) -> Writer {
        Writer {
            shared,
            live,
            connection: Some(connection),
            readers,
            writing,
            last,
            streams: Streams::default(),
            trail,
        }
    }

    /// Writes until `stop` is cancelled and everything queued before that is on disk. SQLite is called where this is
    /// polled, and waits for the disk there: give it a thread of its own.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut beside = JoinSet::new();
        let (shared, readers) = (self.shared.clone(), self.readers.clone());
        beside.spawn(async move { shared.copier.run(&readers).await });
        while let Some(entries) = self.shared.intake.take(&stop).await {
            self.write(Batch::sort(entries)).await;
        }
        beside.shutdown().await;
        self.trail.close();
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close()
        {
            tracing::warn!(%error, "the writer's connection did not close cleanly; the log is replayed at the next start");
        }
    }

    async fn write(&mut self, mut batch: Batch<Sqlite>) {
        if batch.is_empty() {
            batch.answer_flushes();
            return;
        }
        let mut staged = Staged::after(self.last);
        let outcome = self.transact(&mut batch, &mut staged).await;
        // Numbers of a failed transaction are left out: whether it reached the disk is not known.
        self.last = staged.last();
        match outcome {
            Ok(answers) => {
                self.shared.last_seq.store(self.last, Ordering::Release);
                let tally = &self.shared.tally;
                tally.commits.fetch_add(1, Ordering::Relaxed);
                tally.writes.fetch_add(batch.len(), Ordering::Relaxed);
                tally.audits.fetch_add(staged.audits().len() as u64, Ordering::Relaxed);
                tally.chunks_dropped.fetch_add(answers.chunks_refused, Ordering::Relaxed);
                self.live.publish(staged.events());
                answer(batch, answers);
                self.copy_the_rest().await;
            }
            Err(failure) => self.give_up(batch, failure),
        }
    }

    /// Between two commits, when the copier has left little.
    async fn copy_the_rest(&mut self) {
        if self.shared.copier.committed()
            && let Some(connection) = &mut self.connection
            && let Err(error) = copier::finish(connection).await
        {
            tracing::warn!(%error, "the end of the log could not be copied; it is with a later commit");
        }
    }

    async fn transact(&mut self, batch: &mut Batch<Sqlite>, staged: &mut Staged) -> Result<Answers, Failure> {
        if self.connection.is_none() {
            self.connection = Some(open::reconnect(&self.writing).await?);
        }
        let tx = self.connection.as_mut().expect("set just above");
        // A transaction that fails ends with its connection.
        let mut script = Script::default();
        script.say(BEGIN);
        let accepted = match commands::insert(tx, &mut script, &batch.accepts).await {
            Ok(()) => vec![Ok(()); batch.accepts.len()],
            Err(failure) if failure.constraint().is_some() => {
                // Nothing else is written yet, so starting over is cheaper than a savepoint every time.
                script = Script::default();
                script.say("rollback").say(BEGIN).run(tx)?;
                commands::insert_apart(tx, &batch.accepts).await?
            }
            Err(failure) => return Err(failure),
        };
        commands::stage(&batch.accepts, &accepted, staged);
        let (advanced, chunks_refused) =
            advance::apply(tx, &mut script, &mut batch.advances, &batch.chunks, &mut self.streams, staged).await?;
        if !batch.cold.is_empty() {
            script.run(tx)?;
        }
        for cold in &mut batch.cold {
            let mark = staged.mark();
            Savepoint::BEGIN.run(tx)?;
            match cold.run(tx, staged).await {
                Ok(()) => Savepoint::KEEP.run(tx)?,
                // Nobody else writes here, so nothing is worth another try.
                Err(Undo::Part | Undo::Whole) => {
                    Savepoint::UNDO.run(tx)?;
                    staged.rewind(mark);
                }
            }
        }
        journal::insert(&mut script, staged);
        let end = audit::insert(tx, &mut script, staged.audits(), &self.trail).await?;
        script.say(COMMIT).run(tx)?;
        self.trail.committed(end);
        Ok(Answers { accepted, advanced, chunks_refused })
    }

    /// Nothing of the batch is on disk, as far as is known. Whoever waits is told, and sessions say again what was
    /// only noted when they hear that a commit has failed; output goes back to the front of the queue, for nobody
    /// would send it again.
    fn give_up(&mut self, batch: Batch<Sqlite>, failure: Failure) {
        self.connection = None;
        self.streams = Streams::default();
        self.trail.forget();
        let poisoned = failure.constraint().is_some();
        let error = StoreError::from(failure);
        tracing::error!(%error, writes = batch.len(), "a batch of writes failed and was rolled back");
        let tally = &self.shared.tally;
        tally.failures.fetch_add(1, Ordering::Relaxed);
        tally.notes_dropped.fetch_add(batch.notes(), Ordering::Relaxed);
        let chunks = batch.fail(&error);
        let n = chunks.len() as u64;
        let back: Vec<Entry<Job<Sqlite>>> = chunks.into_iter().map(|entry| entry.map(Job::Append)).collect();
        // A chunk the schema refuses would be refused for ever, and everything else with it.
        if poisoned || !self.shared.intake.put_back(back) {
            tally.chunks_dropped.fetch_add(n, Ordering::Relaxed);
        }
    }
}

fn answer(batch: Batch<Sqlite>, answers: Answers) {
    for ((_, reply), answer) in batch.accepts.into_iter().zip(answers.accepted) {
        let _ = reply.send(answer);
    }
    for ((_, reply), answer) in batch.advances.into_iter().zip(answers.advanced) {
        if let Some(reply) = reply {
            let _ = reply.send(Ok(answer));
        }
    }
    for cold in batch.cold {
        cold.answer(Ok(()));
    }
    for reply in batch.flushes {
        let _ = reply.send(Ok(()));
    }
}

impl Drop for Writer {
    /// Whoever still waits must not wait for ever.
    fn drop(&mut self) {
        self.shared.intake.close();
    }
}
