//! From the order to a guard to its word of what became of that. The word has no time of its own: a guard may be
//! stopped, and what it starts may lie where the system waits for a disk that does not answer.
//!
//! ```text
//!   ordered ──word──▶ started, refused, late
//!      │                 ▲
//!      └─kill, timeout, time to start─▶ 0.5 s ──▶ guard and all below it killed ──▶ not started, or not known
//! ```
//!
//! Invariant: once the wait is over without a word, nothing of the order runs later.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::Alarm;
use crate::guard::{Word, order};
use crate::supervisor::process::{Guard, Guarded, Reaper};
use crate::supervisor::step::{Kill, Why, wanted};

/// From what ends the wait to force: most words are on their way then, and a start that is known of ends as any other.
const WORD_WITHIN: Duration = Duration::from_millis(500);

/// What ends the wait for a guard's word.
#[derive(Debug)]
pub struct Patience {
    /// The run timeout, milliseconds since boot.
    pub limit_ms: u64,
    /// The time to start by, milliseconds since boot.
    pub start_by_ms: Option<u64>,
    /// Set when somebody wants the attempt ended.
    pub kill: watch::Receiver<Option<Kill>>,
}

/// What ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Somebody wanted the attempt ended.
    Killed(Why),
    /// Its run timeout.
    TimedOut,
    /// Its time to start by.
    Late,
}

/// What became of an order.
#[derive(Debug)]
pub enum Begun {
    /// Its process was started.
    Started {
        /// The guard, and the process's streams.
        guarded: Guarded,
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// Nothing was started: its time was over.
    Late,
    /// Nothing was started: the system refused.
    Refused(io::Error),
    /// Nothing was started and nothing will be: its guard had not heard of it when this ended the wait.
    Unheard(Cut),
    /// Its guard is dead and has not said: killed by us when this ended the wait, or by somebody else.
    Unsaid {
        /// What ended the wait.
        cut: Option<Cut>,
        /// Something, perhaps of it, did not die of KILL; it will when the system lets it go on.
        is_left: bool,
    },
}

/// Waits for what becomes of an order.
pub async fn begin(mut guarded: Guarded, patience: Patience, alarm: &mut Alarm, reaper: &Reaper) -> Begun {
    let guard = &mut guarded.guard;
    let (mut word, cut) = first(guard, patience, alarm).await;
    let mut is_left = false;
    if word.is_none() {
        if let Some(cut) = cut {
            tracing::error!(
                guard = guard.pid.as_raw(),
                ?cut,
                "a guard has not said what became of a start; killing it"
            );
        }
        is_left = !reaper.put_down(guard).await;
        // It may have said it in between.
        word = guard.words.said();
    }
    match (word, cut) {
        (Some(Word::Started { pid, start_ticks }), _) => Begun::Started { guarded, pid, start_ticks },
        (Some(Word::Refused { errno }), _) => Begun::Refused(io::Error::from_raw_os_error(errno)),
        (Some(Word::Late), _) => Begun::Late,
        (None, Some(cut)) if order::is_untaken(&guarded.guard.orders) => Begun::Unheard(cut),
        (Some(Word::Exited { .. } | Word::Killed { .. } | Word::Asking | Word::Clear) | None, cut) => {
            Begun::Unsaid { cut, is_left }
        }
    }
}

/// The guard's first word, unless it has died or something has ended the wait for it, and what that was.
async fn first(guard: &mut Guard, mut patience: Patience, alarm: &mut Alarm) -> (Option<Word>, Option<Cut>) {
    let (instant_ms, at_instant) = match patience.start_by_ms {
        Some(start_by_ms) if start_by_ms < patience.limit_ms => (start_by_ms, Cut::Late),
        _ => (patience.limit_ms, Cut::TimedOut),
    };
    let cut = tokio::select! {
        word = word(guard) => return (word, None),
        kill = wanted(&mut patience.kill) => Cut::Killed(kill.why),
        () = alarm.at(Some(instant_ms)) => at_instant,
    };
    let word = timeout(WORD_WITHIN, word(guard)).await;
    (word.unwrap_or_else(|_| guard.words.said()), Some(cut))
}

/// The guard's word of a start; `None` when it is dead.
async fn word(guard: &mut Guard) -> Option<Word> {
    tokio::select! {
        word = guard.words.next() => word,
        // Of a start that hangs, the process to be holds the way that its guard tells by.
        () = guard.gone.wait() => guard.words.said(),
    }
}
