//! Rows by their keys that are asked for together: while some questions are under way those who come wait, and the next
//! question asks for all of them. Whoever comes alone goes at once, and nobody waits on a timer.
//!
//! A question is asked by a task that no caller owns: who leaves takes nothing from the others.
//!
//! Invariant: an answer is of a question that began after its caller came, so who has written something finds it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ports::error::StoreError;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Questions under way. With more of them each would be for fewer, and cost both sides more for each.
const UNDER_WAY: usize = 2;
/// Most keys of one question: how much of an answer is in memory at once, and how long others wait for it.
const MOST: usize = 64;
/// Who has waited for so long when a question fails, because the store is away, is told so, and not asked for any more.
const LONG: Duration = Duration::from_secs(2);

/// Whoever knows the rows.
pub(super) trait Ask<K>: Clone + Send + Sync + 'static {
    /// A row.
    type Row: Send + 'static;

    /// What there is for each of these, in their order. The same key may stand there twice.
    fn ask(&self, keys: Vec<K>) -> impl Future<Output = Result<Vec<Option<Self::Row>>, StoreError>> + Send;
}

/// Those who wait, and the tasks that ask for them. Cheap to clone.
pub(super) struct Together<K, R> {
    waiting: Arc<Mutex<Waiting<K, R>>>,
    tasks: TaskTracker,
}

impl<K, R> Clone for Together<K, R> {
    fn clone(&self) -> Together<K, R> {
        Together { waiting: Arc::clone(&self.waiting), tasks: self.tasks.clone() }
    }
}

impl<K, R> Default for Together<K, R> {
    fn default() -> Together<K, R> {
        let waiting = Waiting { callers: VecDeque::new(), under_way: 0 };
        Together { waiting: Arc::new(Mutex::new(waiting)), tasks: TaskTracker::new() }
    }
}

struct Waiting<K, R> {
    /// In the order they came.
    callers: VecDeque<Caller<K, R>>,
    /// Questions, or tasks that are about to ask one.
    under_way: usize,
}

struct Caller<K, R> {
    key: K,
    came: Instant,
    reply: oneshot::Sender<Result<Option<R>, StoreError>>,
}

impl<K, R> Together<K, R>
where
    K: Copy + Send + Sync + 'static,
    R: Send + 'static,
{
    /// The row of this key, if there is one.
    ///
    /// # Errors
    /// The store's: a question that failed has failed for all it asked for.
    ///
    /// # Cancel safety
    /// Whoever leaves before it was asked for is not asked for.
    pub async fn get(&self, asker: &impl Ask<K, Row = R>, key: K) -> Result<Option<R>, StoreError> {
        let (reply, answer) = oneshot::channel();
        if let Some(turn) = self.come(Caller { key, came: Instant::now(), reply }) {
            self.tasks.spawn(turn.ask_for_all(asker.clone()));
        }
        let lost = || StoreError::Unavailable("the question ended before it was answered".to_owned());
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Somebody waits from now on. Whose turn it is to ask, when one more may.
    fn come(&self, caller: Caller<K, R>) -> Option<Turn<K, R>> {
        let mut waiting = lock(&self.waiting);
        waiting.callers.push_back(caller);
        (waiting.under_way < UNDER_WAY).then(|| {
            waiting.under_way += 1;
            Turn { waiting: Arc::clone(&self.waiting), is_over: false }
        })
    }
}

/// Every change of the list is whole before anything can panic, so a poisoned lock is still good.
fn lock<K, R>(waiting: &Mutex<Waiting<K, R>>) -> MutexGuard<'_, Waiting<K, R>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the questions that may be under way at once.
struct Turn<K, R> {
    waiting: Arc<Mutex<Waiting<K, R>>>,
    is_over: bool,
}

impl<K: Copy + Send + Sync, R: Send> Turn<K, R> {
    /// Asks until nobody waits.
    async fn ask_for_all(mut self, asker: impl Ask<K, Row = R>) {
        while let Some(callers) = self.next() {
            let keys = callers.iter().map(|caller| caller.key).collect();
            match asker.ask(keys).await {
                Ok(rows) => callers.into_iter().zip(rows).for_each(|(caller, row)| caller.told(Ok(row))),
                // One of them cannot be read: that is nothing to the others.
                Err(StoreError::Corrupt { .. }) if callers.len() > 1 => {
                    for caller in callers.into_iter().filter(|caller| !caller.reply.is_closed()) {
                        let row = asker.ask(vec![caller.key]).await;
                        caller.told(row.map(|mut rows| rows.pop().flatten()));
                    }
                }
                Err(error) => {
                    // Each question would take as long to find out what is known by now. Who has just come may find the
                    // store there again.
                    let is_away = matches!(error, StoreError::Unavailable(_));
                    let others = if is_away { self.impatient(Instant::now()) } else { Vec::new() };
                    callers.into_iter().chain(others).for_each(|caller| caller.told(Err(error.clone())));
                }
            }
        }
    }

    /// Those to ask for next. The turn is over when there are none.
    fn next(&mut self) -> Option<Vec<Caller<K, R>>> {
        let mut waiting = lock(&self.waiting);
        let mut next = Vec::with_capacity(waiting.callers.len().min(MOST));
        while next.len() < MOST
            && let Some(caller) = waiting.callers.pop_front()
        {
            if !caller.reply.is_closed() {
                next.push(caller);
            }
        }
        if next.is_empty() {
            waiting.under_way -= 1;
            self.is_over = true;
            return None;
        }
        Some(next)
    }

    /// All who have waited for long, be they never so many.
    fn impatient(&self, now: Instant) -> Vec<Caller<K, R>> {
        let mut waiting = lock(&self.waiting);
        let long = waiting.callers.iter().take_while(|caller| now.duration_since(caller.came) >= LONG).count();
        waiting.callers.drain(..long).collect()
    }
}

impl<K, R> Caller<K, R> {
    /// Tells whoever waits, if anybody still does.
    fn told(self, answer: Result<Option<R>, StoreError>) {
        _ = self.reply.send(answer);
    }
}

impl<K, R> Drop for Turn<K, R> {
    /// A turn that ends in the middle is over all the same; without another nobody would ask for those who wait.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut waiting = lock(&self.waiting);
        waiting.under_way -= 1;
        let stranded = if waiting.under_way == 0 { std::mem::take(&mut waiting.callers) } else { VecDeque::new() };
        drop(waiting);
        drop(stranded);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{join_all, poll_immediate};
    use tokio::sync::Semaphore;

    use super::*;

    /// Knows the square of each number below a thousand, and keeps what it was asked.
    #[derive(Clone)]
    struct Squares(Arc<Shelf>);

    struct Shelf {
        asked: Mutex<Vec<Vec<u64>>>,
        /// One for each question that may be answered.
        answers: Semaphore,
        failing: AtomicUsize,
    }

    const AWAY: &str = "away";
    const TORN: u64 = 13;

    impl Squares {
        /// So many questions are answered at once, the others when they are let.
        fn answering(answers: usize) -> Squares {
            let answers = Semaphore::new(answers);
            Squares(Arc::new(Shelf { asked: Mutex::default(), answers, failing: AtomicUsize::new(0) }))
        }

        fn asked(&self) -> Vec<Vec<u64>> {
            self.0.asked.lock().expect("no test has panicked").clone()
        }

        async fn was_asked(&self, times: usize) {
            let asked = async {
                while self.asked().len() < times {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), asked).await.expect("asked");
        }
    }

    impl Ask<u64> for Squares {
        type Row = u64;

        async fn ask(&self, keys: Vec<u64>) -> Result<Vec<Option<u64>>, StoreError> {
            self.0.asked.lock().expect("no test has panicked").push(keys.clone());
            self.0.answers.acquire().await.expect("open").forget();
            let failing = |left: usize| left.checked_sub(1);
            if self.0.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing).is_ok() {
                return Err(StoreError::Unavailable(AWAY.to_owned()));
            }
            if keys.contains(&TORN) {
                return Err(StoreError::Corrupt { table: "squares", key: TORN.to_string(), what: "torn".to_owned() });
            }
            Ok(keys.into_iter().map(|key| (key < 1_000).then_some(key * key)).collect())
        }
    }

    /// As many who ask for 1, one after the other, as questions may be under way.
    async fn all_under_way<'a>(
        squares: &'a Squares,
        together: &'a Together<u64, u64>,
    ) -> Vec<Pin<Box<impl Future<Output = Result<Option<u64>, StoreError>> + 'a>>> {
        let mut callers = Vec::new();
        for number in 1..=UNDER_WAY {
            let mut caller = Box::pin(together.get(squares, 1));
            assert_eq!(poll_immediate(&mut caller).await, None);
            squares.was_asked(number).await;
            callers.push(caller);
        }
        callers
    }

    #[tokio::test]
    async fn who_comes_alone_goes_at_once_and_who_comes_meanwhile_is_asked_for_together() {
        let (squares, together) = (Squares::answering(0), Together::default());
        let get = |key| together.get(&squares, key);
        let read = async {
            let all = [1, 2, 3, 4, 4, 1_000].map(get);
            join_all(all).await
        };
        let answer = async {
            squares.was_asked(1).await;
            squares.0.answers.add_permits(100);
        };
        let (read, ()) = tokio::join!(read, answer);
        assert_eq!(read, [Some(1), Some(4), Some(9), Some(16), Some(16), None].map(Ok));
        // All six came before the first task ran: two questions may be under way, and one was enough.
        assert_eq!(squares.asked(), [[1, 2, 3, 4, 4, 1_000]]);
        assert_eq!(get(5).await, Ok(Some(25)));
        assert_eq!(squares.asked()[1..], [[5]]);
    }

    #[tokio::test]
    async fn nobody_is_answered_by_a_question_that_was_asked_before_it_came() {
        let (squares, together) = (Squares::answering(0), Together::default());
        let get = |key| together.get(&squares, key);
        let late = async {
            squares.was_asked(2).await;
            let late = join_all([get(7), get(7), get(8)]);
            let answer = async {
                tokio::task::yield_now().await;
                assert_eq!(squares.asked(), [[7], [7]], "no more are under way at once");
                squares.0.answers.add_permits(1);
                squares.was_asked(3).await;
                squares.0.answers.add_permits(2);
            };
            tokio::join!(late, answer).0
        };
        let second = async {
            squares.was_asked(1).await;
            get(7).await
        };
        let (first, second, late) = tokio::join!(get(7), second, late);
        assert_eq!((first, second), (Ok(Some(49)), Ok(Some(49))));
        assert_eq!(late, [Some(49), Some(49), Some(64)].map(Ok));
        assert_eq!(squares.asked()[2..], [[7, 7, 8]]);
    }

    #[tokio::test]
    async fn who_leaves_takes_nothing_from_the_others() {
        let (squares, together) = (Squares::answering(0), Together::default());
        let get = |key| together.get(&squares, key);
        // Two leave in the middle of their questions, one before it was asked for.
        let leavers = all_under_way(&squares, &together).await;
        let (mut stays, mut waits) = (Box::pin(get(2)), Box::pin(get(3)));
        assert_eq!((poll_immediate(&mut waits).await, poll_immediate(&mut stays).await), (None, None));
        drop((leavers, waits));
        squares.0.answers.add_permits(100);
        assert_eq!(stays.await, Ok(Some(4)));
        assert_eq!(squares.asked(), [[1], [1], [2]]);
    }

    #[tokio::test]
    async fn a_question_is_for_so_many_at_most() {
        let (squares, together) = (Squares::answering(100), Together::default());
        let keys = TORN + 1..TORN + 2 + 3 * u64::try_from(MOST).expect("few");
        let read = join_all(keys.clone().map(|key| together.get(&squares, key))).await;
        assert!(read.into_iter().zip(keys).all(|(read, key)| read == Ok(Some(key * key))));
        let mut lengths: Vec<usize> = squares.asked().iter().map(Vec::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [1, MOST, MOST, MOST]);
    }

    #[tokio::test]
    async fn whom_a_question_failed_for_is_told_and_the_next_are_asked_for() {
        let (squares, together) = (Squares::answering(100), Together::default());
        squares.0.failing.store(1, Ordering::SeqCst);
        let number = u64::try_from(MOST).expect("few") + 9;
        let told = join_all((0..number).map(|key| together.get(&squares, key))).await;
        let (failed, answered) = told.split_at(MOST);
        assert!(failed.iter().all(|told| *told == Err(StoreError::Unavailable(AWAY.to_owned()))), "{failed:?}");
        assert!(answered.iter().all(Result::is_ok), "they have just come: {answered:?}");
        assert_eq!(together.get(&squares, 6).await, Ok(Some(36)));
    }

    #[tokio::test]
    async fn who_has_waited_for_long_is_told_with_those_whom_a_question_failed_for() {
        let (squares, together) = (Squares::answering(0), Together::default());
        let get = |key| together.get(&squares, key);
        let asked = all_under_way(&squares, &together).await;
        let mut waits = Box::pin(get(2));
        assert_eq!(poll_immediate(&mut waits).await, None);
        for caller in &mut lock(&together.waiting).callers {
            caller.came = caller.came.checked_sub(LONG).expect("the machine has run for longer");
        }
        squares.0.failing.store(1, Ordering::SeqCst);
        squares.0.answers.add_permits(1);
        assert_eq!(waits.await, Err(StoreError::Unavailable(AWAY.to_owned())));
        squares.0.answers.add_permits(100);
        let told = join_all(asked).await;
        assert_eq!(told.iter().filter(|told| **told == Ok(Some(1))).count(), UNDER_WAY - 1);
        assert!(squares.asked().iter().all(|keys| *keys == [1]), "nobody asked for it");
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_is_nothing_to_the_others() {
        let (squares, together) = (Squares::answering(100), Together::default());
        let read = join_all([12, TORN, 14].map(|key| together.get(&squares, key))).await;
        assert_eq!((&read[0], &read[2]), (&Ok(Some(144)), &Ok(Some(196))));
        assert!(matches!(read[1], Err(StoreError::Corrupt { .. })), "{read:?}");
    }

    /// Panics when it is asked.
    #[derive(Clone)]
    struct Broken;

    impl Ask<u64> for Broken {
        type Row = u64;

        async fn ask(&self, _: Vec<u64>) -> Result<Vec<Option<u64>>, StoreError> {
            panic!("as it was made to");
        }
    }

    #[tokio::test]
    async fn a_question_that_ends_in_the_middle_leaves_nobody_waiting() {
        let (squares, together) = (Squares::answering(100), Together::default());
        let number = 3 * u64::try_from(MOST).expect("few");
        let told = join_all((0..number).map(|key| together.get(&Broken, key))).await;
        assert!(told.iter().all(|told| matches!(told, Err(StoreError::Unavailable(_)))), "{told:?}");
        assert_eq!(together.get(&squares, 6).await, Ok(Some(36)));
    }
}
