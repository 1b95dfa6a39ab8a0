//! Connections for reading. The pool makes them and looks after them; between two reads they rest here, because the
//! pool asks the server after each one that it gets back whether it is still good, and waits for the answer: as many
//! trips as the reads themselves take.
//!
//! Invariant: only a connection whose answer was taken to its end rests here. One that somebody left in the middle of a
//! read goes to the pool, which finds out what it is good for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::is_lost;
use super::read::Statement;

/// How long a connection is used before it goes to the pool once, which tests it and ends old ones and those too many.
const KEPT: Duration = Duration::from_secs(60);

/// The connections.
pub(super) struct Readers {
    pool: PgPool,
    /// One for each connection there may be: whoever has one is never kept waiting by a connection that rests here.
    turns: Semaphore,
    /// Used last, last.
    resting: Mutex<Vec<Resting>>,
    /// Longest wait for a connection.
    within: Duration,
}

struct Resting {
    connection: PoolConnection<Postgres>,
    /// When the pool gave it.
    given: Instant,
}

impl Resting {
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.given) >= KEPT
    }
}

impl Readers {
    /// Opens one of `most` connections; the others are opened when they are needed, and none is held open for ever: the
    /// pool would need a task each time that one of them is dropped, and the last are dropped where there may be none.
    pub async fn open(connecting: PgConnectOptions, most: u32, within: Duration) -> Result<Readers, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(within)
            .test_before_acquire(false)
            .connect_with(connecting)
            .await?;
        let turns = Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS));
        Ok(Readers { pool, turns, resting: Mutex::default(), within })
    }

    /// The rows a statement answers.
    pub async fn fetch(&self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut reader = self.take().await?;
        let answer = statement.query().fetch_all(reader.connection()).await;
        reader.done(answer)
    }

    /// Runs a statement and answers how many rows were changed.
    pub async fn execute(&self, statement: &Statement) -> Result<u64, sqlx::Error> {
        let mut reader = self.take().await?;
        let answer = statement.query().execute(reader.connection()).await;
        Ok(reader.done(answer)?.rows_affected())
    }

    /// What a statement that is not prepared answers.
    #[cfg(test)]
    pub async fn unprepared(&self, text: String) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut reader = self.take().await?;
        let answer = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).fetch_all(reader.connection()).await;
        reader.done(answer)
    }

    /// Whether there is no connection that was used before.
    pub fn are_fresh(&self) -> bool {
        self.resting().is_empty() && self.pool.num_idle() == 0
    }

    /// A connection, the one that was used last first: what it has prepared is still in memory.
    async fn take(&self) -> Result<Reader<'_>, sqlx::Error> {
        if let Ok(turn) = self.turns.try_acquire()
            && let Some(resting) = self.rested()
        {
            return Ok(Reader { resting, readers: self, _turn: turn });
        }
        let taken = async {
            let turn = self.turns.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let resting = match self.rested() {
                Some(resting) => resting,
                None => Resting { connection: self.pool.acquire().await?, given: Instant::now() },
            };
            Ok(Reader { resting, readers: self, _turn: turn })
        };
        tokio::time::timeout(self.within, taken).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    fn rested(&self) -> Option<Resting> {
        self.resting().pop()
    }

    /// Every change of the list is whole before anything can panic, so a poisoned lock is still good.
    fn resting(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let resting = self.resting.get_mut().unwrap_or_else(PoisonError::into_inner);
        resting.drain(..).for_each(|resting| drop(resting.connection.detach()));
    }
}

/// A connection in use. Dropped before it is [`done`](Self::done) it goes to the pool.
struct Reader<'a> {
    resting: Resting,
    readers: &'a Readers,
    /// Given back last.
    _turn: SemaphorePermit<'a>,
}

impl Reader<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.resting.connection
    }

    /// Lets it rest, if this answer says that it may be used again.
    fn done<T>(self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let Reader { resting, readers, _turn } = self;
        match &answer {
            Ok(_) => readers.rest(resting),
            // Nothing comes of asking the server about it, and the next one has its place at once.
            Err(error) if is_lost(error) => drop(resting.connection.detach()),
            Err(_) => drop(resting),
        }
        answer
    }
}

impl Readers {
    fn rest(&self, used: Resting) {
        let now = Instant::now();
        let mut resting = self.resting();
        // The first one has rested the longest, and may not be needed any more.
        let first = resting.first().is_some_and(|first| first.is_due(now)).then(|| resting.remove(0));
        let used = if used.is_due(now) {
            Some(used)
        } else {
            resting.push(used);
            None
        };
        drop(resting);
        drop((first, used));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::str::FromStr as _;

    use futures_util::future::join_all;
    use servers::shared;
    use sqlx::Row as _;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    async fn readers(most: u32) -> Option<(Readers, String)> {
        let url = shared::database()?;
        let connecting = PgConnectOptions::from_str(&url).expect("a URL");
        Some((Readers::open(connecting, most, WITHIN).await.expect("opens"), url))
    }

    /// Which of the server's processes answers.
    async fn who(readers: &Readers) -> Result<i32, sqlx::Error> {
        let rows = readers.fetch(&Statement::new("select pg_backend_pid()")).await?;
        rows[0].try_get(0)
    }

    #[tokio::test]
    async fn a_connection_that_has_answered_rests_and_is_used_again() {
        let Some((readers, _)) = readers(4).await else { return };
        let first = who(&readers).await.expect("answered");
        for _ in 0..20 {
            assert_eq!(who(&readers).await.expect("answered"), first);
        }
        // What the server refuses is no fault of the connection, which the pool looks at all the same.
        readers.fetch(&Statement::new("select 1 / 0")).await.map(drop).expect_err("refused");
        assert!(readers.resting().is_empty());
        who(&readers).await.expect("answered");
    }

    #[tokio::test]
    async fn there_are_never_more_than_allowed_and_who_waits_gets_one_that_rests() {
        let Some((readers, _)) = readers(2).await else { return };
        let asked = join_all((0..50).map(|_| who(&readers))).await;
        let answered: HashSet<i32> = asked.into_iter().map(|answer| answer.expect("answered")).collect();
        assert!(answered.len() <= 2, "{answered:?}");
    }

    #[tokio::test]
    async fn a_read_left_in_the_middle_spoils_no_other() {
        let Some((readers, _)) = readers(1).await else { return };
        let pid = who(&readers).await.expect("answered");
        let slow = Statement::new("select 7, pg_sleep(0.2)");
        let left = tokio::time::timeout(Duration::from_millis(50), readers.fetch(&slow)).await;
        assert!(left.is_err(), "it takes longer");
        assert!(readers.resting().is_empty(), "nobody knows yet what it is good for");
        // The same one, when its server is done with what nobody waits for.
        assert_eq!(who(&readers).await.expect("answered"), pid);
    }

    #[tokio::test]
    async fn a_broken_connection_gives_up_its_place() {
        let Some((readers, url)) = readers(1).await else { return };
        let pid = who(&readers).await.expect("answered");
        let mut other = <PgConnection as sqlx::Connection>::connect(&url).await.expect("connects");
        sqlx::query("select pg_terminate_backend($1, 60000)").bind(pid).execute(&mut other).await.expect("ended");
        let error = who(&readers).await.expect_err("it is broken");
        assert!(is_lost(&error), "{error}");
        assert_ne!(who(&readers).await.expect("another"), pid);
    }

    #[tokio::test]
    async fn the_pool_looks_after_those_it_has_not_seen_for_long() {
        let Some((readers, _)) = readers(2).await else { return };
        who(&readers).await.expect("answered");
        let long_ago = Instant::now().checked_sub(KEPT).expect("the machine has run for longer");
        readers.resting()[0].given = long_ago;
        let pid = who(&readers).await.expect("answered");
        assert!(readers.resting().is_empty());
        let back = async {
            while readers.pool.num_idle() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN, back).await.expect("it is good");
        assert_eq!(who(&readers).await.expect("answered"), pid);
    }

    #[test]
    fn they_may_be_dropped_where_no_runtime_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let Some((readers, _)) = runtime.block_on(readers(2)) else { return };
        runtime.block_on(who(&readers)).expect("answered");
        drop(runtime);
        drop(readers);
    }
}
