//! What the host keeps beside one running guest: its limits, its deadline and what it logged.
//!
//! Invariant: one guest serves one request and is thrown away, whatever happened.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use wasmtime::{Engine, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use crate::fault::Fault;
use crate::ticker::TICK;
use crate::tier::{Budget, Tier};

/// Most log lines kept of one call.
const LOG_LINES: usize = 100;
/// Most bytes of log text kept of one call.
const LOG_BYTES: usize = 64 * 1024;

/// One line a guest logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// `error`, `warn`, `info`, `debug`, or whatever the guest wrote there.
    pub level: String,
    /// The text, control characters escaped.
    pub message: String,
    /// JSON text of its fields, as the guest wrote it.
    pub fields: String,
}

/// Everything logged in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// At most 100 lines or 64 KiB.
    pub lines: Vec<LogLine>,
    /// Lines that did not fit.
    pub dropped: u64,
    bytes: usize,
}

impl Log {
    /// `cause`, and the last error the guest logged: a panic says there where it happened.
    pub(crate) fn explain(&self, cause: String) -> String {
        match self.lines.iter().rev().find(|line| matches!(line.level.as_str(), "error" | "panic")) {
            Some(line) => format!("{cause}; it logged: {}", line.message),
            None => cause,
        }
    }
}

/// The host's side of one instance.
pub(crate) struct Guest {
    log: Log,
    deadline: Deadline,
    tier: Tier,
    /// Most bytes of linear memory.
    memory: usize,
    /// Set when the host ended the guest; the trap itself no longer says why.
    ended: Option<Fault>,
    /// Most bytes of one linear memory.
    peak: usize,
}

#[derive(Clone, Copy)]
struct Deadline {
    budget: Budget,
    armed: Instant,
    /// Processor time of this thread at which it is over; not known before the first tick, as most calls see none,
    /// and asking the kernel twice a call would cost them a microsecond.
    cpu_end: Option<Duration>,
}

impl Guest {
    /// A store for one request: limited, not yet armed.
    pub(crate) fn store(engine: &Engine, tier: Tier) -> Store<Guest> {
        let deadline = Deadline { budget: tier.instantiate(), armed: Instant::now(), cpu_end: None };
        let guest = Guest { log: Log::default(), deadline, tier, memory: tier.memory_bytes(), peak: 0, ended: None };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| guest);
        store.epoch_deadline_callback(on_tick);
        store
    }

    /// Starts the clock of the next guest call. Called right before it, so that neither waiting in a
    /// queue nor an earlier call is charged to it.
    pub(crate) fn arm(store: &mut Store<Guest>, budget: Budget) {
        store.set_hostcall_fuel(budget.transfer);
        store.set_epoch_deadline(1);
        store.data_mut().deadline = Deadline { budget, armed: Instant::now(), cpu_end: None };
    }

    /// Gives it less memory than every guest has.
    pub(crate) fn confine(store: &mut Store<Guest>, memory: Option<usize>) {
        let most = store.data().tier.memory_bytes();
        store.data_mut().memory = memory.map_or(most, |bytes| bytes.min(most));
    }

    /// Why the host ended the guest, if it did.
    pub(crate) fn ended(&self) -> Option<&Fault> {
        self.ended.as_ref()
    }

    /// Most bytes of memory it had.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// What it logged.
    pub(crate) fn into_log(self) -> Log {
        self.log
    }

    /// Keeps one line, or counts it when there is no room.
    pub(crate) fn write(&mut self, level: String, message: String, fields: String) {
        let bytes = level.len() + message.len() + fields.len();
        if self.log.lines.len() >= LOG_LINES || self.log.bytes + bytes > LOG_BYTES {
            self.log.dropped += 1;
            return;
        }
        self.log.bytes += bytes;
        let printable = |text: String| match text.chars().any(char::is_control) {
            true => text.escape_debug().to_string(),
            false => text,
        };
        self.log.lines.push(LogLine {
            level: printable(level),
            message: printable(message),
            fields: printable(fields),
        });
    }

    fn end<T>(&mut self, fault: Fault) -> wasmtime::Result<T> {
        let text = fault.to_string();
        self.ended = Some(fault);
        Err(wasmtime::Error::msg(text))
    }
}

/// Runs at every tick inside the guest: lets it go on while it is within its limits.
fn on_tick(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let guest = store.data_mut();
    let Deadline { budget, armed, cpu_end } = guest.deadline;
    let (spent, passed) = (thread_cpu(), armed.elapsed());
    // Until the first tick it used no more than passed on the wall, and no more than a tick.
    let end = cpu_end.unwrap_or_else(|| (spent + budget.cpu).saturating_sub(passed.min(TICK)));
    guest.deadline.cpu_end = Some(end);
    if spent >= end {
        return guest.end(Fault::CpuTime { limit: budget.cpu });
    }
    if passed >= budget.wall {
        return guest.end(Fault::WallTime { limit: budget.wall });
    }
    Ok(UpdateDeadline::Continue(1))
}

/// Processor time this thread has used.
fn thread_cpu() -> Duration {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has a clock of its own");
    Duration::from(spent)
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        match desired > self.memory {
            true => self.end(Fault::Memory { limit: self.memory }),
            false => {
                self.peak = self.peak.max(desired);
                Ok(true)
            }
        }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.tier.table_elements();
        match desired > limit {
            true => self.end(Fault::Table { limit }),
            false => Ok(true),
        }
    }

    fn instances(&self) -> usize {
        self.tier.instances()
    }

    fn tables(&self) -> usize {
        self.tier.instances()
    }

    fn memories(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sandbox;

    #[test]
    fn a_log_keeps_its_first_lines_and_counts_the_rest() {
        let sandbox = Sandbox::new(2).expect("engine");
        let mut store = Guest::store(sandbox.native().engine(), Tier::Native);
        for number in 0..150 {
            store.data_mut().write("info".into(), format!("line {number}"), "{}".into());
        }
        let log = store.into_data().into_log();
        assert_eq!((log.lines.len(), log.dropped, log.lines[99].message.as_str()), (100, 50, "line 99"));
    }

    #[test]
    fn a_logged_line_cannot_forge_another() {
        let sandbox = Sandbox::new(2).expect("engine");
        let mut store = Guest::store(sandbox.native().engine(), Tier::Native);
        store.data_mut().write("info".into(), "a\nERROR \u{1b}[31m".into(), "{}".into());
        store.data_mut().write("info".into(), "x".repeat(64 * 1024), "{}".into());
        let log = store.into_data().into_log();
        assert_eq!(log.lines[0].message, "a\\nERROR \\u{1b}[31m");
        assert_eq!((log.lines.len(), log.dropped), (1, 1));
    }
}
