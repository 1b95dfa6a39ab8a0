//! Live events inside one process. Each listener has a bounded mailbox; a listener that lets it fill
//! up is told once that it lagged and reads the event log again.
//!
//! When several hosts write the store, the numbers of the events say what is missing here: nothing is told
//! past a gap. Listeners lag instead, and read what others wrote from the log, see [`crate::gaps`].
//!
//! Invariant: `publish` never waits and, when nobody listens, costs one atomic load.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use domain::event::{Event, What};
use plan::id::CommandId;
use ports::live::{Heard, Live, Subscription};
use tokio::sync::Notify;

/// How many events wait for one listener before it lags.
pub const MAILBOX: usize = 1024;

/// The live events of one process. Cheap to clone; when the last clone is dropped every listener
/// hears [`Heard::Closed`].
#[derive(Clone)]
pub struct Local {
    board: Arc<Board>,
}

struct Board {
    /// Listeners of both kinds; read before the lock is taken.
    listeners: AtomicUsize,
    mailbox: usize,
    /// Present when others number events, too.
    order: Option<Order>,
    lists: Mutex<Lists>,
}

/// Up to where listeners were told, or told to read.
#[derive(Default)]
struct Order {
    told: Mutex<Told>,
    /// Rung when something was not told.
    gap: Notify,
}

#[derive(Default)]
struct Told {
    upto: u64,
    /// The last event that was published beyond a gap.
    beyond: u64,
}

#[derive(Default)]
struct Lists {
    everything: Vec<Arc<Mailbox>>,
    commands: HashMap<CommandId, Vec<Arc<Mailbox>>>,
}

/// What waits for one listener.
struct Mailbox {
    inner: Mutex<Inbox>,
    wake: Notify,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<Arc<Event>>,
    lagged: bool,
    closed: bool,
}

impl Default for Local {
    fn default() -> Self {
        Local::new(MAILBOX)
    }
}

impl Local {
    /// A board whose listeners may each fall `mailbox` events behind (at least 1).
    pub fn new(mailbox: usize) -> Local {
        Local::with(mailbox, None)
    }

    /// A board of a host whose store others write, too.
    pub fn shared() -> Local {
        Local::with(MAILBOX, Some(Order::default()))
    }

    fn with(mailbox: usize, order: Option<Order>) -> Local {
        let lists = Mutex::new(Lists::default());
        let board = Board { listeners: AtomicUsize::new(0), mailbox: mailbox.max(1), order, lists };
        Local { board: Arc::new(board) }
    }

    /// Everything up to `last` is in the log: whoever was not told of all of it reads it there.
    pub fn catch_up(&self, last: u64) {
        let Some(order) = &self.board.order else { return };
        let mut told = lock(&order.told);
        let last = last.max(told.beyond);
        if last <= told.upto {
            return;
        }
        *told = Told { upto: last, beyond: 0 };
        let lists = lock(&self.board.lists);
        for listener in lists.everything.iter().chain(lists.commands.values().flatten()) {
            lock(&listener.inner).lagged = true;
            listener.wake.notify_one();
        }
    }

    /// Waits until something was not told because of what others wrote before it. Cancel safe.
    pub async fn gap(&self) {
        match &self.board.order {
            Some(order) => order.gap.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether these follow on what was told. If not, listeners are to catch up.
    fn follows(&self, events: &[Arc<Event>]) -> bool {
        let Some(order) = &self.board.order else { return true };
        // What is in no log has no number, and is told as it comes.
        let numbered = |event: &&Arc<Event>| event.seq > 0;
        let (Some(first), Some(last)) = (events.iter().find(numbered), events.iter().rfind(numbered)) else {
            return true;
        };
        let mut told = lock(&order.told);
        if first.seq <= told.upto + 1 && told.beyond == 0 {
            told.upto = told.upto.max(last.seq);
            return true;
        }
        told.beyond = told.beyond.max(last.seq);
        order.gap.notify_one();
        false
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.board.listeners.load(Ordering::Acquire)
    }
}

/// A panic while the lock was held leaves lists that are still whole: every change is one push or pop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live for Local {
    fn publish(&self, events: &[Arc<Event>]) {
        if self.listeners() == 0 || !self.follows(events) {
            return;
        }
        let lists = lock(&self.board.lists);
        for listener in &lists.everything {
            let wanted = events.iter().filter(|event| !matches!(event.what, What::Output { .. }));
            listener.deliver(wanted, self.board.mailbox);
        }
        if lists.commands.is_empty() {
            return;
        }
        // Events of one command mostly come in a row; each run is delivered at once.
        for run in events.chunk_by(|a, b| a.what.command() == b.what.command()) {
            let command = run.first().and_then(|event| event.what.command());
            let Some(listeners) = command.and_then(|command| lists.commands.get(&command)) else { continue };
            for listener in listeners {
                listener.deliver(run.iter(), self.board.mailbox);
            }
        }
    }

    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription> {
        let mailbox = Arc::new(Mailbox { inner: Mutex::new(Inbox::default()), wake: Notify::new() });
        let mut lists = lock(&self.board.lists);
        match command {
            None => lists.everything.push(Arc::clone(&mailbox)),
            Some(command) => lists.commands.entry(command).or_default().push(Arc::clone(&mailbox)),
        }
        self.board.listeners.fetch_add(1, Ordering::AcqRel);
        Box::new(Listener { board: Arc::downgrade(&self.board), command, mailbox })
    }
}

impl Mailbox {
    fn deliver<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>, limit: usize) {
        let mut inbox = lock(&self.inner);
        let mut any = false;
        for event in events {
            any = true;
            if inbox.events.len() >= limit {
                // The listener will read all of these again; what comes after this point is kept.
                inbox.events.clear();
                inbox.lagged = true;
            }
            inbox.events.push_back(Arc::clone(event));
        }
        drop(inbox);
        if any {
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Option<Heard> {
        let mut inbox = lock(&self.inner);
        if std::mem::take(&mut inbox.lagged) {
            return Some(Heard::Lagged);
        }
        match inbox.events.pop_front() {
            Some(event) => Some(Heard::Event(event)),
            None if inbox.closed => Some(Heard::Closed),
            None => None,
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let lists = self.lists.get_mut().unwrap_or_else(PoisonError::into_inner);
        for mailbox in lists.everything.iter().chain(lists.commands.values().flatten()) {
            lock(&mailbox.inner).closed = true;
            mailbox.wake.notify_one();
        }
    }
}

struct Listener {
    board: Weak<Board>,
    command: Option<CommandId>,
    mailbox: Arc<Mailbox>,
}

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.mailbox.take() {
                return heard;
            }
            // A notification between the look and the wait is kept as a permit.
            self.mailbox.wake.notified().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(board) = self.board.upgrade() else { return };
        let mut lists = lock(&board.lists);
        let others = |mailbox: &Arc<Mailbox>| !Arc::ptr_eq(mailbox, &self.mailbox);
        match self.command {
            None => lists.everything.retain(others),
            Some(command) => {
                if let Some(listeners) = lists.commands.get_mut(&command) {
                    listeners.retain(others);
                    if listeners.is_empty() {
                        lists.commands.remove(&command);
                    }
                }
            }
        }
        board.listeners.fetch_sub(1, Ordering::AcqRel);
        // The board may be this listener's to drop, and its drop takes no lock that is held here.
        drop(lists);
    }
}
