//! Looks at what agents said to other hosts, for those who listen: one a second for all of them together.
//!
//! Whoever listens says each second of whom it wants to hear. The first one in a second asks, after all whom any
//! listener has wanted of late; the others find it asked. Without a listener nobody asks.

use std::collections::{HashMap, HashSet};

use plan::id::AgentId;
use ports::clock::Clock;
use ports::latest::{Board, Latest};
use tokio::sync::Mutex;

/// Microseconds between two looks.
const SECOND: i64 = 1_000_000;
/// Seconds after which whoever wanted an agent, and has not said so again, listens no more.
const WANTED_FOR: u64 = 2;

/// The looks of one host.
#[derive(Default)]
pub struct Looks(Mutex<Turn>);

/// One second.
#[derive(Default)]
struct Turn {
    /// Which; `None` before the first.
    second: Option<i64>,
    /// Who was asked after in it.
    asked: HashSet<AgentId>,
    /// In which second each was wanted last.
    wanted: HashMap<AgentId, i64>,
}

impl Looks {
    /// Asks the board after these agents, and after those whom others listen to, unless that was done in this second
    /// of the clock. What it answers is `learned` before anybody else goes on who came meanwhile.
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
        let mut turn = self.0.lock().await;
        let second = clock.now().0.div_euclid(SECOND);
        if turn.second != Some(second) {
            turn.second = Some(second);
            turn.asked.clear();
            turn.wanted.retain(|_, wanted| wanted.abs_diff(second) <= WANTED_FOR);
        }
        turn.wanted.extend(agents.iter().map(|agent| (*agent, second)));
        if agents.iter().all(|agent| turn.asked.contains(agent)) {
            return;
        }
        let open: Vec<AgentId> = turn.wanted.keys().filter(|agent| !turn.asked.contains(agent)).copied().collect();
        learned(board.of(&open).await);
        turn.asked.extend(open);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use domain::time::Timestamp;
    use futures_util::future::join_all;
    use plan::id::AgentId;
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
