//! Connections for reading. The pool makes them and looks after them; between two reads they rest here, because the
//! pool asks the server after each one that it gets back whether it is still good, and waits for the answer: as many
//! trips as the reads themselves take.
//!
//! Invariant: only a connection whose answer was taken to its end rests here. One that somebody left in the middle of a
//! read is asked first, and keeps its turn until it has answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::failure::{Failure, is_lost};
use super::read::Statement;

/// How long a connection is used before it goes to the pool once, which tests it and ends old ones and those too many.
const KEPT: Duration = Duration::from_secs(60);

/// The connections.
pub(super) struct Readers {
    pool: PgPool,
    /// One for each connection there may be, held while it is used or found out about: whoever has one is never kept
    /// waiting by a connection that rests here.
    turns: Arc<Semaphore>,
    /// Used last, last.
    resting: Mutex<Vec<Resting>>,
    /// Longest wait for a connection.
    within: Duration,
    /// Longest wait for an answer. A server that is there says before that how long its statements may take.
    answer_within: Duration,
    /// Find out what connections are good for.
    askers: TaskTracker,
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
    pub async fn open(
        connecting: PgConnectOptions,
        most: u32,
        within: Duration,
        answer_within: Duration,
    ) -> Result<Readers, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(within)
            .test_before_acquire(false)
            .connect_with(connecting)
            .await?;
        let turns = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)));
        Ok(Readers { pool, turns, resting: Mutex::default(), within, answer_within, askers: TaskTracker::new() })
    }

    /// The rows a statement answers.
    pub async fn fetch(self: &Arc<Self>, statement: &Statement) -> Result<Vec<PgRow>, Failure> {
        let mut reader = self.take().await?;
        let answer =
            tokio::time::timeout(self.answer_within, statement.clone().query().fetch_all(reader.connection())).await;
        match answer {
            Ok(answer) => Ok(reader.done(answer)?),
            Err(_) => Err(reader.silent()),
        }
    }

    /// Runs a statement and answers how many rows were changed.
    pub async fn execute(self: &Arc<Self>, statement: Statement) -> Result<u64, Failure> {
        let mut reader = self.take().await?;
        let answer = tokio::time::timeout(self.answer_within, statement.query().execute(reader.connection())).await;
        match answer {
            Ok(answer) => Ok(reader.done(answer)?.rows_affected()),
            Err(_) => Err(reader.silent()),
        }
    }

    /// What a statement that is not prepared answers.
    #[cfg(test)]
    pub async fn unprepared(self: &Arc<Self>, text: String) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut reader = self.take().await?;
        let answer = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).fetch_all(reader.connection()).await;
        reader.done(answer)
    }

    /// Whether there is no connection that was used before.
    pub fn are_fresh(&self) -> bool {
        self.resting().is_empty() && self.pool.num_idle() == 0
    }

    /// A connection, the one that was used last first: what it has prepared is still in memory.
    async fn take(self: &Arc<Self>) -> Result<Reader, sqlx::Error> {
        let reader = |resting, turn| Reader { taken: Some((resting, turn)), readers: Arc::clone(self) };
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned()
            && let Some(resting) = self.rested()
        {
            return Ok(reader(resting, turn));
        }
        let taken = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let resting = match self.rested() {
                Some(resting) => resting,
                None => Resting { connection: self.pool.acquire().await?, given: Instant::now() },
            };
            Ok(reader(resting, turn))
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

/// A connection in use. Of one that is dropped before it is [`done`](Self::done) nobody knows what it is good for: it is
/// asked, and rests or gives up its place when it has answered.
struct Reader {
    /// Until it is known what becomes of it.
    taken: Option<(Resting, OwnedSemaphorePermit)>,
    readers: Arc<Readers>,
}

impl Reader {
    fn connection(&mut self) -> &mut PgConnection {
        let (resting, _) = self.taken.as_mut().expect("it is taken until it is done with");
        &mut resting.connection
    }

    /// Lets it rest, if this answer says that it may be used again.
    fn done<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match &answer {
            Ok(_) => {
                if let Some((resting, turn)) = self.taken.take() {
                    self.readers.rest(resting);
                    drop(turn);
                }
            }
            // Nothing comes of asking the server about it, and the next one has its place at once.
            Err(error) if is_lost(error) => self.give_up(),
            Err(_) => {}
        }
        answer
    }

    /// The server does not answer: nor would it whoever asked about this connection.
    fn silent(mut self) -> Failure {
        self.give_up();
        Failure::Silence(self.readers.answer_within)
    }

    fn give_up(&mut self) {
        if let Some((resting, turn)) = self.taken.take() {
            drop(resting.connection.detach());
            drop(turn);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            return self.give_up();
        }
        let Some((mut resting, turn)) = self.taken.take() else { return };
        let readers = Arc::clone(&self.readers);
        self.readers.askers.spawn(async move {
            // It answers when the server is done with what nobody waits for.
            match tokio::time::timeout(readers.answer_within, resting.connection.ping()).await {
                Ok(Ok(())) => readers.rest(resting),
                Ok(Err(_)) | Err(_) => drop(resting.connection.detach()),
            }
            drop(turn);
        });
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

    async fn readers(most: u32) -> Option<(Arc<Readers>, String)> {
        patient(most, WITHIN).await
    }

    async fn patient(most: u32, answer_within: Duration) -> Option<(Arc<Readers>, String)> {
        let url = shared::database()?;
        let connecting = PgConnectOptions::from_str(&url).expect("a URL");
        let readers = Readers::open(connecting, most, WITHIN, answer_within).await.expect("opens");
        Some((Arc::new(readers), url))
    }

    /// Which of the server's processes answers.
    async fn who(readers: &Arc<Readers>) -> Result<i32, Failure> {
        let rows = readers.fetch(&Statement::new("select pg_backend_pid()")).await?;
        Ok(rows[0].try_get(0)?)
    }

    /// Begins a read, and leaves it when the server waits in the middle of it: until who is answered lets go of a lock.
    async fn leave(readers: &Arc<Readers>, url: &str) -> PgConnection {
        let mut holder = PgConnection::connect(url).await.expect("connects");
        sqlx::query("select pg_advisory_lock(7)").execute(&mut holder).await.expect("locked");
        let statement = Statement::new("select 7, pg_advisory_lock(7)");
        let mut read = std::pin::pin!(readers.fetch(&statement));
        loop {
            let waiting = "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory')";
            tokio::select! {
                answer = &mut read => panic!("answered without the lock: {:?}", answer.map(|rows| rows.len())),
                waits = sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut holder) => {
                    if waits.expect("answered") {
                        return holder;
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_answered_rests_and_is_used_again() {
        let Some((readers, _)) = readers(4).await else { return };
        let first = who(&readers).await.expect("answered");
        for _ in 0..20 {
            assert_eq!(who(&readers).await.expect("answered"), first);
        }
    }

    #[tokio::test]
    async fn what_the_server_refuses_is_no_fault_of_the_connection() {
        let Some((readers, _)) = readers(1).await else { return };
        let pid = who(&readers).await.expect("answered");
        readers.fetch(&Statement::new("select 1 / 0")).await.map(drop).expect_err("refused");
        assert!(readers.resting().is_empty(), "it is asked first");
        assert_eq!(who(&readers).await.expect("answered"), pid);
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
        let Some((readers, url)) = readers(1).await else { return };
        let pid = who(&readers).await.expect("answered");
        let mut holder = leave(&readers, &url).await;
        assert!(readers.resting().is_empty(), "nobody knows yet what it is good for");
        // The same one, when its server is done with what nobody waits for.
        sqlx::query("select pg_advisory_unlock(7)").execute(&mut holder).await.expect("unlocked");
        assert_eq!(who(&readers).await.expect("answered"), pid);
    }

    #[tokio::test]
    async fn who_waits_beside_a_read_that_was_left_has_the_next_connection_that_rests() {
        let Some((readers, url)) = readers(2).await else { return };
        let _holder = leave(&readers, &url).await;
        let short = Statement::new("select pg_sleep(0.2)");
        let (short, waiting) = tokio::join!(readers.fetch(&short), who(&readers));
        short.map(drop).expect("answered");
        waiting.expect("answered, while the other one is at what nobody waits for");
        assert_eq!(readers.turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_keeps_no_place() {
        let Some((readers, _)) = patient(1, Duration::from_secs(3)).await else { return };
        let failure = readers.fetch(&Statement::new("select pg_sleep(60)")).await.map(drop).expect_err("too long");
        assert!(matches!(failure, Failure::Silence(_)), "{failure:?}");
        assert_eq!((readers.turns.available_permits(), readers.pool.size()), (1, 0));
        who(&readers).await.expect("another one is made");
    }

    #[tokio::test]
    async fn a_broken_connection_gives_up_its_place() {
        let Some((readers, url)) = readers(1).await else { return };
        let pid = who(&readers).await.expect("answered");
        let mut other = <PgConnection as sqlx::Connection>::connect(&url).await.expect("connects");
        sqlx::query("select pg_terminate_backend($1, 60000)").bind(pid).execute(&mut other).await.expect("ended");
        let error = who(&readers).await.expect_err("it is broken");
        assert!(error.is_lost(), "{error:?}");
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
