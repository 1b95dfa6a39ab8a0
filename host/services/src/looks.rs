//! Looks at what agents said to other hosts, for those who listen: one a second for all of them together.
//!
//! Whoever listens says each second of whom it wants to hear. The first one in a second asks, after all whom any
//! listener has wanted of late; the others find it asked. Where an answer takes longer than a second, the next look is
//! for all who came meanwhile: nobody waits for more than the look under way and one more. Without a listener nobody
//! asks.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use plan::id::AgentId;
use ports::clock::Clock;
use ports::latest::{Board, Latest};

/// Microseconds between two looks.
const SECOND: i64 = 1_000_000;
/// Seconds after which whoever wanted an agent, and has not said so again, listens no more.
const WANTED_FOR: u64 = 2;

/// The looks of one host.
#[derive(Default)]
pub struct Looks {
    /// Held by who looks.
    turn: tokio::sync::Mutex<()>,
    wishes: Mutex<Wishes>,
}

/// Whom listeners want to hear of.
#[derive(Default)]
struct Wishes {
    /// Looks that have begun.
    begun: u64,
    by_agent: HashMap<AgentId, Wish>,
}

/// A moment: how many looks had begun, and in which second of the clock that was.
#[derive(Clone, Copy, Debug)]
struct Moment {
    begun: u64,
    second: i64,
}

/// One agent that is wanted.
struct Wish {
    /// When it was wanted last.
    wanted: Moment,
    /// When the last look began that was answered of it.
    asked: Option<Moment>,
}

impl Wish {
    /// Whether a listener that came then knows what there is: the look began after it, or in its second. Only the same
    /// second counts and no later one, so a clock that was set back keeps nobody from looking.
    fn serves(&self, came: Moment) -> bool {
        self.asked.is_some_and(|asked| asked.begun > came.begun || asked.second == came.second)
    }

    /// Whether somebody may still listen. Whoever came after the last look began waits for the next one, however long
    /// the last one takes.
    fn is_open(&self, now: Moment) -> bool {
        self.wanted.begun == now.begun || self.wanted.second.abs_diff(now.second) <= WANTED_FOR
    }
}

impl Wishes {
    fn now(&self, clock: &dyn Clock) -> Moment {
        Moment { begun: self.begun, second: clock.now().0.div_euclid(SECOND) }
    }

    /// Somebody comes who wants to hear of these.
    fn come(&mut self, agents: &[AgentId], clock: &dyn Clock) -> Moment {
        let now = self.now(clock);
        for agent in agents {
            self.by_agent.entry(*agent).or_insert(Wish { wanted: now, asked: None }).wanted = now;
        }
        now
    }

    /// Begins a look for who came then, and for all who wait: when that is, and whom to ask after. None when there is
    /// nothing left to ask.
    fn begin(&mut self, agents: &[AgentId], came: Moment, clock: &dyn Clock) -> Option<(Moment, HashSet<AgentId>)> {
        let is_served = |agent: &AgentId| self.by_agent.get(agent).is_some_and(|wish| wish.serves(came));
        // A set has another order each time: who is last when the board has no more time is not so in each look.
        let mut open: HashSet<AgentId> = agents.iter().filter(|agent| !is_served(agent)).copied().collect();
        if open.is_empty() {
            return None;
        }
        let now = self.now(clock);
        self.by_agent.retain(|_, wish| wish.is_open(now));
        let is_due = |wish: &Wish| wish.asked.is_none_or(|asked| asked.second != now.second);
        open.extend(self.by_agent.iter().filter(|(_, wish)| is_due(wish)).map(|(agent, _)| *agent));
        self.begun += 1;
        Some((self.now(clock), open))
    }

    /// That look was answered.
    fn answered(&mut self, look: Moment, agents: &HashSet<AgentId>) {
        for agent in agents {
            self.by_agent.entry(*agent).or_insert(Wish { wanted: look, asked: None }).asked = Some(look);
        }
    }
}

impl Looks {
    /// Asks the board after these agents, and after those whom others listen to, unless that was done since this
    /// listener came or in the same second of the clock. What it answers is `learned` before anybody else goes on who
    /// came meanwhile.
    ///
    /// # Cancel safety
    /// What is dropped before it was answered counts as not asked.
    pub async fn look(
        &self,
        agents: &[AgentId],
        clock: &dyn Clock,
        board: &dyn Board,
        learned: impl FnOnce(Vec<(AgentId, Latest)>),
    ) {
        let came = self.wishes().come(agents, clock);
        let _turn = self.turn.lock().await;
        let Some((look, open)) = self.wishes().begin(agents, came, clock) else { return };
        let asked: Vec<AgentId> = open.iter().copied().collect();
        learned(board.of(&asked).await);
        self.wishes().answered(look, &open);
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use domain::time::Timestamp;
    use futures_util::future::{join, join_all};
    use plan::id::AgentId;
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::{Board, Clock, Latest, Looks, SECOND};

    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    fn agent(number: u128) -> AgentId {
        AgentId(Uuid::from_u128(number))
    }

    /// Knows nothing, and counts after how many agents each look asked.
    #[derive(Default)]
    struct Asked(Mutex<Vec<usize>>);

    impl Asked {
        fn so_far(&self) -> Vec<usize> {
            self.0.lock().expect("no test has panicked").clone()
        }
    }

    #[async_trait]
    impl Board for Asked {
        fn put(&self, _: AgentId, _: Arc<Latest>) {}

        async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)> {
            // Others come while the answer is on its way.
            tokio::task::yield_now().await;
            self.0.lock().expect("no test has panicked").push(agents.len());
            Vec::new()
        }
    }

    /// Takes more than two seconds of the clock for each answer, and counts the looks.
    #[derive(Default)]
    struct Slow {
        clock: Hand,
        looks: AtomicUsize,
    }

    /// How long that is.
    const SLOW: Duration = Duration::from_millis(2_500);

    #[async_trait]
    impl Board for Slow {
        fn put(&self, _: AgentId, _: Arc<Latest>) {}

        async fn of(&self, _: &[AgentId]) -> Vec<(AgentId, Latest)> {
            self.looks.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(SLOW).await;
            self.clock.0.fetch_add(5 * SECOND / 2, Ordering::SeqCst);
            Vec::new()
        }
    }

    /// Never answers.
    struct Stuck;

    #[async_trait]
    impl Board for Stuck {
        fn put(&self, _: AgentId, _: Arc<Latest>) {}

        async fn of(&self, _: &[AgentId]) -> Vec<(AgentId, Latest)> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn however_many_listen_others_are_asked_once_a_second_and_not_at_all_when_nobody_does() {
        let (looks, clock, asked) = (Looks::default(), Hand::default(), Asked::default());
        let fleet: Vec<AgentId> = (0..10).map(agent).collect();
        let listener = |agents| looks.look(agents, &clock, &asked, drop);
        for _ in 0..3 {
            join_all((0..50).map(|_| listener(&fleet[..]))).await;
            clock.0.fetch_add(SECOND, Ordering::SeqCst);
        }
        assert_eq!(asked.so_far(), [10, 10, 10]);

        // Each listens to others: the first to come asks for all of them.
        let (left, right) = fleet.split_at(4);
        for _ in 0..3 {
            join_all([listener(left), listener(right), listener(&fleet[3..5])]).await;
            clock.0.fetch_add(SECOND, Ordering::SeqCst);
        }
        assert_eq!(asked.so_far()[3..], [10, 10, 10]);

        // One has left: soon nobody asks for what it wanted.
        for _ in 0..4 {
            listener(left).await;
            clock.0.fetch_add(SECOND, Ordering::SeqCst);
        }
        assert_eq!(asked.so_far()[6..], [10, 10, 4, 4]);
        clock.0.fetch_add(60 * SECOND, Ordering::SeqCst);
        assert_eq!(asked.so_far().len(), 10, "nobody has listened for a minute");
        // A new one is not kept waiting, whoever was asked after in this second.
        listener(left).await;
        listener(right).await;
        assert_eq!(asked.so_far()[10..], [4, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_an_answer_takes_long_nobody_waits_for_more_than_the_look_under_way_and_one_more() {
        let (looks, board) = (Looks::default(), Slow::default());
        let fleet: Vec<AgentId> = (0..20).map(agent).collect();
        let listener = async |agents: &[AgentId]| {
            let came = Instant::now();
            looks.look(agents, &board.clock, &board, drop).await;
            came.elapsed()
        };
        // One looks; twenty come meanwhile, each for an agent of its own and in a second of its own.
        let late = async |n: usize| {
            let after = Duration::from_millis(100) * u32::try_from(n).expect("few");
            tokio::time::sleep(after).await;
            board.clock.0.fetch_add(SECOND, Ordering::SeqCst);
            listener(&fleet[n..=n]).await
        };
        let (first, others) = join(listener(&fleet[..1]), join_all((1..20).map(late))).await;
        assert_eq!(first, SLOW);
        assert!(others.iter().all(|waited| *waited <= SLOW * 2), "{others:?}");
        assert_eq!(board.looks.load(Ordering::SeqCst), 2, "one for all who came meanwhile");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_keeps_nobody_from_looking() {
        let (looks, clock, asked) = (Looks::default(), Hand(AtomicI64::new(3_600 * SECOND)), Asked::default());
        let fleet = [agent(1), agent(2)];
        looks.look(&fleet, &clock, &asked, drop).await;
        for second in [0, 1, 2, 3] {
            clock.0.store(second * SECOND, Ordering::SeqCst);
            looks.look(&fleet, &clock, &asked, drop).await;
            looks.look(&fleet, &clock, &asked, drop).await;
        }
        assert_eq!(asked.so_far(), [2; 5]);
    }

    #[tokio::test]
    async fn a_listener_that_leaves_in_the_middle_of_a_look_has_not_looked_for_others() {
        let (looks, clock, asked) = (Looks::default(), Hand::default(), Asked::default());
        let fleet = [agent(1), agent(2)];
        tokio::select! {
            biased;
            () = looks.look(&fleet, &clock, &Stuck, drop) => panic!("nobody answers"),
            () = std::future::ready(()) => {}
        }
        looks.look(&fleet, &clock, &asked, drop).await;
        assert_eq!(asked.so_far(), [2]);
    }
}
