//! What the writer is asked to do. Hot writes are data, so that many can be written by one statement;
//! rare ones are closures, each in a savepoint of its own inside the batch's transaction.

use std::future::Future;
use std::pin::Pin;

use ports::commands::{Advance, Advanced, Chunk, NewCommand};
use ports::error::StoreError;
use tokio::sync::oneshot;

use crate::intake::Entry;
use crate::staged::Staged;

/// A future that a trait object can return.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// Where an answer goes. A caller that has gone away loses nothing but its answer.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to write; `C` is the database's connection.
pub(crate) enum Job<C> {
    /// Store a command.
    Accept(NewCommand, Reply<()>),
    /// Move an attempt.
    Advance(Advance, Option<Reply<Option<Advanced>>>),
    /// Store output.
    Append(Chunk),
    /// Anything rare.
    Cold(Box<dyn Cold<C>>),
    /// Nothing: answered when all that came before is on disk.
    Flush(Reply<()>),
}

/// How much a failure undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// This write alone; the rest of the transaction stands.
    Part,
    /// The whole transaction, which may then be tried again.
    Whole,
}

/// A rare write: run inside the transaction, and again when that is tried again; answered once after the commit.
pub(crate) trait Cold<C>: Send {
    /// Writes. On an error says how much of the transaction is to be undone.
    fn run<'a>(&'a mut self, connection: &'a mut C, staged: &'a mut Staged) -> BoxFuture<'a, Result<(), Undo>>;

    /// Answers with what came of it, or with the error that kept the transaction from the disk.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);

    /// Whether it has to have a transaction of its own.
    fn is_lone(&self) -> bool {
        false
    }
}

/// A rare write made of a closure.
pub(crate) struct ColdOp<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: Reply<T>,
}

impl<F, T> ColdOp<F, T> {
    /// `work` is run at most once.
    pub fn new(work: F, reply: Reply<T>) -> ColdOp<F, T> {
        ColdOp { work: Some(work), outcome: None, reply }
    }
}

impl<C, F, T, E> Cold<C> for ColdOp<F, T>
where
    C: Send,
    F: for<'a> FnOnce(&'a mut C, &'a mut Staged) -> BoxFuture<'a, Result<T, E>> + Send,
    T: Send,
    E: Into<StoreError> + Send,
{
    fn run<'a>(&'a mut self, connection: &'a mut C, staged: &'a mut Staged) -> BoxFuture<'a, Result<(), Undo>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return Ok(()) };
            let outcome = work(connection, staged).await.map_err(Into::into);
            let done = if outcome.is_ok() { Ok(()) } else { Err(Undo::Part) };
            self.outcome = Some(outcome);
            done
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Unavailable("the write was not run".to_owned())),
            (Err(error), _) => Err(error),
        };
        let _ = self.reply.send(answer);
    }
}

/// The jobs of one transaction, by kind, each kind in the order it came.
pub(crate) struct Batch<C> {
    /// Commands to store.
    pub accepts: Vec<(NewCommand, Reply<()>)>,
    /// Attempts to move.
    pub advances: Vec<(Advance, Option<Reply<Option<Advanced>>>)>,
    /// Output to store.
    pub chunks: Vec<Entry<Chunk>>,
    /// Rare writes.
    pub cold: Vec<Box<dyn Cold<C>>>,
    /// Those who wait for the rest.
    pub flushes: Vec<Reply<()>>,
}

impl<C> Batch<C> {
    /// Sorts entries by kind. Permits are given back here: what is under way is bounded by the batch.
    pub fn sort(entries: Vec<Entry<Job<C>>>) -> Batch<C> {
        let mut batch = Batch::of(Vec::new());
        for entry in entries {
            let (job, rest) = entry.split();
            match job {
                Job::Accept(command, reply) => batch.accepts.push((command, reply)),
                Job::Advance(advance, reply) => batch.advances.push((advance, reply)),
                Job::Append(chunk) => batch.chunks.push(rest.join(chunk)),
                Job::Cold(cold) => batch.cold.push(cold),
                Job::Flush(reply) => batch.flushes.push(reply),
            }
        }
        batch
    }

    fn of(cold: Vec<Box<dyn Cold<C>>>) -> Batch<C> {
        Batch { accepts: Vec::new(), advances: Vec::new(), chunks: Vec::new(), cold, flushes: Vec::new() }
    }

    /// Takes out what has to have a transaction of its own: a batch each. To be written before the rest, for there may
    /// be somebody in it who waits for all that came before.
    pub fn take_lone(&mut self) -> Vec<Batch<C>> {
        let cold = std::mem::take(&mut self.cold).into_iter();
        let (lone, rest): (Vec<_>, Vec<_>) = cold.partition(|cold| cold.is_lone());
        self.cold = rest;
        lone.into_iter().map(|cold| Batch::of(vec![cold])).collect()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many writes it is.
    pub fn len(&self) -> u64 {
        let n = self.accepts.len() + self.advances.len() + self.chunks.len() + self.cold.len();
        n as u64
    }

    /// How many of the advances nobody waits for.
    pub fn notes(&self) -> u64 {
        self.advances.iter().filter(|(_, reply)| reply.is_none()).count() as u64
    }

    /// Answers those who wait for what came before, when nothing did.
    pub fn answer_flushes(self) {
        for reply in self.flushes {
            let _ = reply.send(Ok(()));
        }
    }

    /// Answers everybody with what kept the transaction from the disk, and hands the output back.
    pub fn fail(self, error: &StoreError) -> Vec<Entry<Chunk>> {
        self.refuse(error).chunks
    }

    /// Answers everybody with what kept the transaction from the disk, and hands back what nobody waits
    /// for, oldest first within its kind, to be tried again.
    pub fn fail_and_keep(self, error: &StoreError) -> Vec<Entry<Job<C>>> {
        let Unwaited { chunks, notes } = self.refuse(error);
        let mut kept: Vec<Entry<Job<C>>> = chunks.into_iter().map(|entry| entry.map(Job::Append)).collect();
        kept.extend(notes.into_iter().map(|advance| Entry::note(Job::Advance(advance, None), 1)));
        kept
    }

    fn refuse(self, error: &StoreError) -> Unwaited {
        let Batch { accepts, advances, chunks, cold, flushes } = self;
        for (_, reply) in accepts {
            let _ = reply.send(Err(error.clone()));
        }
        let mut notes = Vec::new();
        for (advance, reply) in advances {
            match reply {
                Some(reply) => _ = reply.send(Err(error.clone())),
                None => notes.push(advance),
            }
        }
        for cold in cold {
            cold.answer(Err(error.clone()));
        }
        for reply in flushes {
            let _ = reply.send(Err(error.clone()));
        }
        Unwaited { chunks, notes }
    }
}

/// The part of a batch that nobody waits for.
struct Unwaited {
    chunks: Vec<Entry<Chunk>>,
    notes: Vec<Advance>,
}
