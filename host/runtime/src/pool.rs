//! The threads guests run on, and the bounded, fair queue in front of them.
//!
//! Invariant: no plugin holds more than half of the queue or all of the threads, and one that used up its time
//! runs on a thread of its kind, which the machine runs last, until it answers in time again: who loops at full
//! tilt leaves room for the others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Jobs that may wait, of all plugins together.
pub(crate) const QUEUE: usize = 1024;
/// Stack of a thread that runs guests: eight guests' worth, because overrunning it ends the process.
const STACK: usize = 4 * 1024 * 1024;

/// What the thread for plugins that overran asks of the machine: everything else first.
const LAST: i32 = 19;

type Job = Box<dyn FnOnce() -> Pace + Send>;

/// How a job went by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Within its time, whatever came of it.
    InTime,
    /// It was ended because its time was used up.
    Overran,
}

/// There is no room for another job of this plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overloaded;

/// The threads. They end when the last owner drops this and the queue is empty.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the threads for those that answer in time.
    wake: Condvar,
    /// Wakes the thread for those that did not.
    wake_last: Condvar,
    queue: usize,
    /// Most jobs of one plugin that run at once.
    running: usize,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Arc<str>, Lane>,
    /// Plugins with waiting jobs, next one first.
    turns: VecDeque<Arc<str>>,
    /// Plugins whose last job overran.
    late: HashSet<Arc<str>>,
    waiting: usize,
    /// Threads that wait for a bell: those for who answers in time, and the other.
    asleep: [usize; 2],
    closed: bool,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Job>,
    running: usize,
}

/// Threads that run guests on this machine: one more than it has cores, at least three, besides the one for who
/// overran. Any one plugin gets all but one of them, so a single busy plugin still uses every core.
pub(crate) fn default_threads() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 64) + 1
}

impl Pool {
    /// Starts `threads` threads (at least 2), and the one for who overran, with room for `queue` waiting jobs.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(threads: usize, queue: usize) -> io::Result<Pool> {
        let threads = threads.max(2);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            wake_last: Condvar::new(),
            queue: queue.max(2),
            running: threads - 1,
        });
        let pool = Pool { shared };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("plugin-{number}")).stack_size(STACK);
            thread.spawn(move || shared.work(false))?;
        }
        let shared = Arc::clone(&pool.shared);
        let thread = thread::Builder::new().name("plugin-last".to_owned()).stack_size(STACK);
        thread.spawn(move || {
            // On Linux this is about the thread that asks.
            if let Err(error) = rustix::process::setpriority_process(None, LAST) {
                tracing::warn!(%error, "plugins that overrun their time run as urgently as the others");
            }
            shared.work(true);
        })?;
        Ok(pool)
    }

    /// Queues `job` for `plugin`.
    ///
    /// # Errors
    /// When the queue is full, or the plugin's half of it.
    pub(crate) fn submit(&self, plugin: &Arc<str>, job: Job) -> Result<(), Overloaded> {
        let mut state = self.shared.lock();
        let queued = state.lanes.get(plugin).map_or(0, |lane| lane.jobs.len());
        if state.waiting >= self.shared.queue || queued >= self.shared.queue / 2 {
            return Err(Overloaded);
        }
        state.waiting += 1;
        if queued == 0 {
            state.turns.push_back(Arc::clone(plugin));
        }
        state.lanes.entry(Arc::clone(plugin)).or_default().jobs.push_back(job);
        let late = state.late.contains(plugin);
        let asleep = state.asleep[usize::from(late)];
        drop(state);
        // Who is awake looks again before it sleeps.
        if asleep > 0 {
            self.shared.bell(late).notify_one();
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        self.shared.wake_last.notify_all();
    }
}

impl Shared {
    /// A panic under the lock is impossible to provoke from outside; the state is whole either way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, late: bool) -> &Condvar {
        if late { &self.wake_last } else { &self.wake }
    }

    /// Runs jobs of those that overran, or of the others.
    fn work(&self, late: bool) {
        let mut state = self.lock();
        loop {
            if let Some((plugin, job)) = state.next(self.running, late) {
                drop(state);
                let pace = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| {
                    tracing::error!(plugin = %plugin, "a plugin call panicked in the host");
                    Pace::InTime
                });
                state = self.lock();
                if state.done(&plugin, pace) {
                    // Its waiting jobs are others' now.
                    self.bell(pace == Pace::Overran).notify_all();
                } else if state.late.contains(&plugin) != late {
                    // They have been for a while, and one more of them may run now.
                    self.bell(!late).notify_one();
                }
            } else if state.closed && state.waiting == 0 {
                // Whoever ran the last job may have been waited for.
                self.wake.notify_all();
                self.wake_last.notify_all();
                return;
            } else {
                state.asleep[usize::from(late)] += 1;
                state = self.bell(late).wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep[usize::from(late)] -= 1;
            }
        }
    }
}

impl State {
    /// The next job whose plugin may run one more, round robin: of those that overran, or of the others.
    fn next(&mut self, most: usize, late: bool) -> Option<(Arc<str>, Job)> {
        let is_next = |plugin: &Arc<str>| {
            self.late.contains(plugin) == late && self.lanes.get(plugin).is_some_and(|lane| lane.running < most)
        };
        let turn = self.turns.iter().position(is_next)?;
        let plugin = self.turns.remove(turn)?;
        let lane = self.lanes.get_mut(&plugin)?;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        if !lane.jobs.is_empty() {
            self.turns.push_back(Arc::clone(&plugin));
        }
        self.waiting -= 1;
        Some((plugin, job))
    }

    /// Notes the end of a job; whether its plugin's next ones are for other threads than before.
    fn done(&mut self, plugin: &Arc<str>, pace: Pace) -> bool {
        if let Some(lane) = self.lanes.get_mut(plugin) {
            lane.running -= 1;
            if lane.running == 0 && lane.jobs.is_empty() {
                self.lanes.remove(plugin);
            }
        }
        match pace {
            Pace::Overran => self.late.insert(Arc::clone(plugin)),
            Pace::InTime => self.late.remove(plugin),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const CEILING: Duration = Duration::from_secs(120);

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_plugin_gets_half_of_the_queue_and_the_rest_stays_for_others() {
        let pool = Pool::start(2, 8).expect("pool");
        let (release, gate) = mpsc::channel::<()>();
        let (began, started) = mpsc::channel();
        let hog = name("hog");
        let block = move || {
            began.send(()).expect("test waits");
            _ = gate.recv_timeout(CEILING);
            Pace::InTime
        };
        pool.submit(&hog, Box::new(block)).expect("room");
        started.recv_timeout(CEILING).expect("the job starts");
        let accepted = (0..8).filter(|_| pool.submit(&hog, Box::new(|| Pace::InTime)).is_ok()).count();
        assert_eq!(accepted, 4);
        let (done, ended) = mpsc::channel();
        pool.submit(
            &name("other"),
            Box::new(move || {
                _ = done.send(());
                Pace::InTime
            }),
        )
        .expect("room for another plugin");
        ended.recv_timeout(CEILING).expect("another plugin is served while the first blocks");
        drop(release);
    }

    #[test]
    fn a_panicking_job_takes_no_thread_with_it() {
        let pool = Pool::start(2, 64).expect("pool");
        for _ in 0..8 {
            pool.submit(&name("bad"), Box::new(|| panic!("on purpose"))).expect("room");
        }
        let (done, ended) = mpsc::channel();
        pool.submit(
            &name("bad"),
            Box::new(move || {
                _ = done.send(());
                Pace::InTime
            }),
        )
        .expect("room");
        ended.recv_timeout(CEILING).expect("jobs after the panics still run");
    }

    /// Jobs that say who ran, behind a gate that holds every thread until all of them wait.
    fn order_of(threads: usize, jobs: &[(&str, usize)]) -> Vec<String> {
        let pool = Pool::start(threads, 1024).expect("pool");
        let (began, started) = mpsc::channel();
        let mut gates: Vec<mpsc::Sender<()>> = (0..threads)
            .map(|number| {
                let (release, gate) = mpsc::channel::<()>();
                let began = began.clone();
                let hold = move || {
                    began.send(()).expect("test waits");
                    _ = gate.recv_timeout(CEILING);
                    Pace::InTime
                };
                pool.submit(&name(&format!("gate{number}")), Box::new(hold)).expect("room");
                started.recv_timeout(CEILING).expect("a thread is held");
                release
            })
            .collect();
        let (ran, order) = mpsc::channel();
        for (plugin, count) in jobs {
            for _ in 0..*count {
                let (ran, plugin) = (ran.clone(), (*plugin).to_owned());
                pool.submit(
                    &name(&plugin.clone()),
                    Box::new(move || {
                        _ = ran.send(plugin);
                        Pace::InTime
                    }),
                )
                .expect("room");
            }
        }
        drop(ran);
        // One thread alone goes on, so that the order is the queue's and not the scheduler's.
        drop(gates.remove(0));
        order.iter().collect()
    }

    #[test]
    fn whoever_asks_once_waits_for_one_job_of_each_other_plugin_and_not_for_their_queues() {
        let order = order_of(2, &[("hog", 400), ("eater", 300), ("modest", 1), ("late", 2)]);
        let place = |plugin: &str| order.iter().position(|ran| ran == plugin).expect("it ran");
        assert_eq!(order.len(), 703);
        assert!(place("modest") < 4 && place("late") < 5, "{:?}", &order[..8]);
        let shares = |plugin: &str| order[..100].iter().filter(|ran| *ran == plugin).count();
        assert!(shares("hog").abs_diff(shares("eater")) <= 2, "two that never stop get the same");
    }

    #[test]
    fn the_queue_takes_its_last_job_and_refuses_the_next() {
        let pool = Pool::start(2, 8).expect("pool");
        let (began, started) = mpsc::channel();
        let holds: Vec<mpsc::Sender<()>> = ["x", "y"]
            .iter()
            .map(|plugin| {
                let (release, gate) = mpsc::channel::<()>();
                let began = began.clone();
                let hold = move || {
                    began.send(()).expect("test waits");
                    _ = gate.recv_timeout(CEILING);
                    Pace::InTime
                };
                pool.submit(&name(plugin), Box::new(hold)).expect("room");
                started.recv_timeout(CEILING).expect("a thread is held");
                release
            })
            .collect();
        let submit = |plugin: &str| pool.submit(&name(plugin), Box::new(|| Pace::InTime));
        // Half of the queue for one, the other half for whoever comes, and not one more.
        for plugin in ["a", "a", "a", "a"] {
            assert_eq!(submit(plugin), Ok(()));
        }
        assert_eq!(submit("a"), Err(Overloaded), "its half is full");
        for plugin in ["b", "c", "d", "e"] {
            assert_eq!(submit(plugin), Ok(()));
        }
        assert_eq!(submit("f"), Err(Overloaded), "the queue is full for everybody");
        drop(holds);
    }

    #[test]
    fn who_overran_runs_apart_until_it_answers_in_time() {
        let pool = Pool::start(2, 64).expect("pool");
        let (hog, other) = (name("hog"), name("other"));
        let (ran, order) = mpsc::channel();
        let job = |pace| {
            let ran = ran.clone();
            Box::new(move || {
                ran.send(thread::current().name().unwrap_or_default().to_owned()).expect("test waits");
                pace
            })
        };
        let place = |plugin, pace| {
            pool.submit(plugin, job(pace)).expect("room");
            order.recv_timeout(CEILING).expect("it runs") == "plugin-last"
        };
        assert!(!place(&hog, Pace::Overran));
        // It is noted right after the job; whichever of these is first to come after that is set apart.
        while !place(&hog, Pace::Overran) {}
        assert!(!place(&other, Pace::InTime), "others do not mind");
        while place(&hog, Pace::InTime) {}
    }

    #[test]
    fn jobs_that_wait_go_with_their_plugin_from_the_ones_threads_to_the_others() {
        let mut state = State::default();
        let hog = name("hog");
        state.turns.push_back(Arc::clone(&hog));
        state.lanes.entry(Arc::clone(&hog)).or_default().jobs =
            (0..3).map(|_| Box::new(|| Pace::InTime) as Job).collect();
        state.waiting = 3;
        assert!(state.next(2, true).is_none() && state.next(2, false).is_some());
        assert!(state.done(&hog, Pace::Overran));
        assert!(state.next(2, false).is_none() && state.next(2, true).is_some());
        assert!(!state.done(&hog, Pace::Overran), "it stays where it is");
        assert!(state.next(2, true).is_some() && state.done(&hog, Pace::InTime));
        assert!(state.late.is_empty());
    }

    #[test]
    fn turns_go_round() {
        let mut state = State::default();
        for plugin in ["a", "a", "a", "b", "c"] {
            let plugin = name(plugin);
            if state.lanes.get(&plugin).is_none_or(|lane| lane.jobs.is_empty()) {
                state.turns.push_back(Arc::clone(&plugin));
            }
            state.lanes.entry(plugin).or_default().jobs.push_back(Box::new(|| Pace::InTime));
            state.waiting += 1;
        }
        let order: Vec<String> =
            std::iter::from_fn(|| state.next(2, false)).map(|(plugin, _)| plugin.to_string()).collect();
        assert_eq!(order, ["a", "b", "c", "a"], "the third job of `a` waits: two already run");
        state.done(&name("a"), Pace::InTime);
        assert!(state.next(2, false).is_some());
    }
}
