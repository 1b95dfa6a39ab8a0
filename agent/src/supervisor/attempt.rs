//! One attempt: its steps in order, its output, its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause, StepEnd, Stream, StreamEnd};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clock::{self, Alarm};
use crate::guard::Start;
use crate::spool::{Keeper, Spool};
use crate::supervisor::begin::{Begun, Cut, Patience, begin};
use crate::supervisor::blot::Blots;
use crate::supervisor::growth::Totals;
use crate::supervisor::process::{Exit, Reaper};
use crate::supervisor::protocol::{Launch, LaunchStep};
use crate::supervisor::sink::Sink;
use crate::supervisor::step::{Bounds, Kill, StepOver, Why, follow};

/// Exit codes that shells use for a program that cannot be started; a later step of a plan ends so.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// What an attempt tells the supervisor while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its first process was spawned.
    Spawned {
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// A later process was spawned; it leads the attempt's group from now on.
    Next {
        /// The process.
        pid: u32,
        /// When it started, in clock ticks since boot.
        start_ticks: u64,
    },
}

/// Everything an attempt needs.
#[derive(Debug)]
pub struct Attempt {
    /// What to run.
    pub launch: Launch,
    /// Where output goes.
    pub spool: Spool,
    /// Working directory of steps that name none.
    pub work: PathBuf,
    /// Spawns and reaps.
    pub reaper: Reaper,
    /// Set when somebody wants the attempt ended.
    pub kill: watch::Receiver<Option<Kill>>,
    /// Readable output.
    pub totals: Arc<Totals>,
    /// Where to tell. Full: the attempt waits, so nothing told is lost.
    pub tell: mpsc::Sender<(AttemptKey, Told)>,
}

impl Attempt {
    /// Runs to the end. The output is on disk when this returns.
    pub async fn run(mut self) -> (AttemptKey, Outcome) {
        let attempt = self.launch.attempt;
        let mut sinks = [(0, Stream::Stdout), (1, Stream::Stderr)].map(|(index, stream)| {
            let keeper = Keeper::new(self.spool.path(attempt, stream), self.launch.output_bytes);
            let blots = Blots::of(self.launch.secrets.iter().map(String::as_str));
            Sink::new(index, keeper, blots, self.totals.clone())
        });
        let mut steps = Vec::new();
        let begun = Instant::now();
        let end = self.steps(&mut sinks, &mut steps).await;
        let duration_ms = if steps.is_empty() { 0 } else { millis(begun.elapsed()) };
        let [stdout, stderr] = sinks;
        let (stdout, stderr) = if stdout.is_on_disk() || stderr.is_on_disk() {
            let finished = tokio::task::spawn_blocking(move || (finish(stdout), finish(stderr))).await;
            finished.unwrap_or_default()
        } else {
            (finish(stdout), finish(stderr))
        };
        (attempt, Outcome { end, steps, stdout, stderr, duration_ms })
    }

    async fn steps(&mut self, sinks: &mut [Sink; 2], steps: &mut Vec<StepEnd>) -> End {
        let mut alarm = Alarm::default();
        let run_limit_ms = clock::now().mono_ms.saturating_add(self.launch.run_timeout_ms);
        for index in 0..self.launch.steps.len() {
            let wanted = *self.kill.borrow();
            if let Some(wanted) = wanted {
                return ended_by(wanted.why, index > 0);
            }
            let spawned = Instant::now();
            let step = &self.launch.steps[index];
            let (guarded, pid, start_ticks) = match self.start(step, index == 0, run_limit_ms, &mut alarm).await {
                Begun::Started { guarded, pid, start_ticks } => (guarded, pid, start_ticks),
                Begun::Late => return End::Expired,
                Begun::Unheard(cut) => return cut_off(cut, index > 0),
                // Between the order and the word nothing is known; a start must not be denied.
                Begun::Unsaid { cut, is_left } => {
                    return End::Interrupted { message: unsaid_message(cut, is_left) };
                }
                Begun::Refused(error) if index == 0 => {
                    return End::Rejected { cause: RejectCause::Spawn, message: spawn_message(step, &error) };
                }
                Begun::Refused(error) => {
                    let line = format!("viworks-agent: {}\n", spawn_message(step, &error));
                    sinks[1].take(line.as_bytes());
                    sinks[1].settle();
                    let exit_code = Some(spawn_code(&error));
                    steps.push(StepEnd { exit_code, stderr_bytes: line.len() as u64, ..StepEnd::default() });
                    return End::Exited;
                }
            };
            let told = if index == 0 { Told::Spawned { pid, start_ticks } } else { Told::Next { pid, start_ticks } };
            // The supervisor listens for as long as any attempt runs.
            let _ = self.tell.send((self.launch.attempt, told)).await;
            let before = [sinks[0].total(), sinks[1].total()];
            let now_ms = clock::now().mono_ms;
            let limit_ms = step.timeout_ms.map_or(run_limit_ms, |limit| run_limit_ms.min(now_ms.saturating_add(limit)));
            let bounds =
                Bounds { limit_ms, grace: Duration::from_millis(self.launch.grace_ms), kill: self.kill.clone() };
            let (exit, over) = follow(guarded, step.stdin.as_deref(), bounds, &mut alarm, sinks, &self.reaper).await;
            sinks.iter_mut().for_each(Sink::settle);
            let (exit_code, signal) = match exit {
                Some(Exit::Code(code)) => (Some(code), None),
                Some(Exit::Signal(signal)) => (None, Some(signal)),
                None => (None, None),
            };
            steps.push(StepEnd {
                exit_code,
                signal,
                duration_ms: millis(spawned.elapsed()),
                stdout_bytes: sinks[0].total() - before[0],
                stderr_bytes: sinks[1].total() - before[1],
            });
            let end = match over {
                StepOver::Exited => End::Exited,
                StepOver::TimedOut => End::TimedOut,
                StepOver::Killed(why) => ended_by(why, true),
                StepOver::Unkillable => End::Interrupted { message: format!("process {pid} did not die of KILL") },
                StepOver::Unguarded => End::Interrupted {
                    message: format!("the guard of process {pid} was killed, and the process with it"),
                },
            };
            if end != End::Exited || exit_code != Some(0) {
                return end;
            }
        }
        End::Exited
    }

    /// Starts one step.
    async fn start(&self, step: &LaunchStep, first: bool, run_limit_ms: u64, alarm: &mut Alarm) -> Begun {
        let start_by_ms = first.then_some(self.launch.start_by_mono_ms);
        let start = Start {
            program: step.program.clone(),
            name: step.name.clone(),
            args: step.args.clone(),
            env: step.env.clone(),
            cwd: step.cwd.as_deref().map_or_else(|| self.work.clone(), PathBuf::from),
            start_by_mono_ms: start_by_ms,
        };
        match self.reaper.start(&start, step.stdin.is_some()) {
            Ok(guarded) => {
                // A receiver of its own: what it sees has yet to be seen by those that follow the process.
                let patience = Patience { limit_ms: run_limit_ms, start_by_ms, kill: self.kill.clone() };
                begin(guarded, patience, alarm, &self.reaper).await
            }
            Err(error) => Begun::Refused(error),
        }
    }
}

fn finish(sink: Sink) -> StreamEnd {
    let total = sink.total();
    sink.finish().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot have the disk confirm output; none of it counts as kept");
        StreamEnd { bytes: total, ..StreamEnd::default() }
    })
}

fn ended_by(why: Why, started: bool) -> End {
    match (why, started) {
        (Why::Cancel, started) => End::Cancelled { started },
        (Why::HostGone, true) => End::TimedOut,
        (Why::HostGone, false) => End::Expired,
        (Why::Shutdown, true) => End::Interrupted { message: "the agent's supervisor was told to stop".to_owned() },
        (Why::Shutdown, false) => {
            let message = "the agent's supervisor was told to stop before the first process started".to_owned();
            End::Rejected { cause: RejectCause::Busy, message }
        }
    }
}

/// The end of an attempt whose next process was not started and will not be.
fn cut_off(cut: Cut, started: bool) -> End {
    match cut {
        Cut::Killed(why) => ended_by(why, started),
        Cut::TimedOut if started => End::TimedOut,
        Cut::TimedOut | Cut::Late => End::Expired,
    }
}

fn unsaid_message(cut: Option<Cut>, is_left: bool) -> String {
    let why = match cut {
        None => "its guard was killed",
        Some(Cut::Killed(Why::Cancel)) => "its end was asked for",
        Some(Cut::Killed(Why::HostGone)) => "its time without a host was over",
        Some(Cut::Killed(Why::Shutdown)) => "the agent's supervisor was told to stop",
        Some(Cut::TimedOut) => "its run timeout was over",
        Some(Cut::Late) => "its time to start was over",
    };
    let left = if is_left { "; something that may be of it did not die of KILL" } else { "" };
    format!("{why} before a process was known to have started; whether it began is not known{left}")
}

fn spawn_message(step: &LaunchStep, error: &io::Error) -> String {
    let place = step.cwd.as_deref().map(|cwd| format!(" in `{cwd}`")).unwrap_or_default();
    format!("cannot start `{}`{place}: {error}", step.name)
}

fn spawn_code(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
