//! What the host keeps beside one running guest: its limits, its deadline and what it logged.
//!
//! Invariant: one guest serves one request and is thrown away, whatever happened.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use wasmtime::{Engine, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use crate::fault::Fault;

/// Most bytes of linear memory.
pub(crate) const MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// Most elements of one table.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;
/// Most log lines kept of one call.
const LOG_LINES: usize = 100;
/// Most bytes of log text kept of one call.
const LOG_BYTES: usize = 64 * 1024;

/// How long a guest may run. Processor time is the guest's own; wall time also counts the machine being
/// busy, so it is only the last resort.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Most bytes the guest may hand to the host in one call.
    pub(crate) transfer: usize,
}

impl Budget {
    /// For start functions.
    pub(crate) const INSTANTIATE: Budget = Budget::new(50, 2_000, 64 * 1024);
    /// For `describe`.
    pub(crate) const DESCRIBE: Budget = Budget::new(250, 30_000, 2 * 1024 * 1024);
    /// For `plan`.
    pub(crate) const PLAN: Budget = Budget::new(10, 250, 1024 * 1024);

    const fn new(cpu_ms: u64, wall_ms: u64, transfer: usize) -> Budget {
        Budget { cpu: Duration::from_millis(cpu_ms), wall: Duration::from_millis(wall_ms), transfer }
    }

    /// The same on a machine that may be busy with other things for a while.
    pub(crate) const fn unhurried(self) -> Budget {
        Budget { wall: Duration::from_secs(30), ..self }
    }

    /// The same with less processor time.
    pub(crate) fn at_most(self, cpu: Option<Duration>) -> Budget {
        Budget { cpu: cpu.map_or(self.cpu, |cpu| cpu.min(self.cpu)), ..self }
    }

    /// For `interpret` of `bytes` of output: 50 ms and 20 ms more for each MiB begun.
    pub(crate) fn interpret(bytes: usize) -> Budget {
        let cpu = 50 + 20 * u64::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u64::MAX / 1000);
        Budget::new(cpu, cpu.saturating_mul(8).max(1_000), 10 * 1024 * 1024)
    }
}

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
    /// Most bytes of linear memory.
    memory: usize,
    /// Set when the host ended the guest; the trap itself no longer says why.
    ended: Option<Fault>,
}

struct Deadline {
    budget: Budget,
    cpu_end: Duration,
    wall_end: Instant,
}

impl Guest {
    /// A store for one request: limited, not yet armed.
    pub(crate) fn store(engine: &Engine) -> Store<Guest> {
        let deadline = Deadline { budget: Budget::INSTANTIATE, cpu_end: Duration::ZERO, wall_end: Instant::now() };
        let guest = Guest { log: Log::default(), deadline, memory: MEMORY_BYTES, ended: None };
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
        store.data_mut().deadline =
            Deadline { budget, cpu_end: thread_cpu() + budget.cpu, wall_end: Instant::now() + budget.wall };
    }

    /// Gives it less memory than every guest has.
    pub(crate) fn confine(store: &mut Store<Guest>, memory: Option<usize>) {
        store.data_mut().memory = memory.map_or(MEMORY_BYTES, |bytes| bytes.min(MEMORY_BYTES));
    }

    /// Why the host ended the guest, if it did.
    pub(crate) fn ended(&self) -> Option<&Fault> {
        self.ended.as_ref()
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
    let budget = guest.deadline.budget;
    if thread_cpu() >= guest.deadline.cpu_end {
        return guest.end(Fault::CpuTime { limit: budget.cpu });
    }
    if Instant::now() >= guest.deadline.wall_end {
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
            false => Ok(true),
        }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        match desired > TABLE_ELEMENTS {
            true => self.end(Fault::Table { limit: TABLE_ELEMENTS }),
            false => Ok(true),
        }
    }

    fn instances(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        8
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
        let mut store = Guest::store(sandbox.engine());
        for number in 0..150 {
            store.data_mut().write("info".into(), format!("line {number}"), "{}".into());
        }
        let log = store.into_data().into_log();
        assert_eq!((log.lines.len(), log.dropped, log.lines[99].message.as_str()), (100, 50, "line 99"));
    }

    #[test]
    fn a_logged_line_cannot_forge_another() {
        let sandbox = Sandbox::new(2).expect("engine");
        let mut store = Guest::store(sandbox.engine());
        store.data_mut().write("info".into(), "a\nERROR \u{1b}[31m".into(), "{}".into());
        store.data_mut().write("info".into(), "x".repeat(64 * 1024), "{}".into());
        let log = store.into_data().into_log();
        assert_eq!(log.lines[0].message, "a\\nERROR \\u{1b}[31m");
        assert_eq!((log.lines.len(), log.dropped), (1, 1));
    }

    #[test]
    fn time_to_interpret_grows_with_the_output() {
        let ms = |bytes| Budget::interpret(bytes).cpu.as_millis();
        assert_eq!((ms(0), ms(1), ms(1 << 20), ms((1 << 20) + 1), ms(8 << 20)), (50, 70, 70, 90, 210));
    }
}
