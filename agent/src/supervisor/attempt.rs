//! One attempt: its steps in order, its output, its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause, StepEnd, Stream, StreamEnd};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clock;
use crate::guard::{Start, Word};
use crate::spool::{Keeper, Spool};
use crate::supervisor::blot::Blots;
use crate::supervisor::growth::Totals;
use crate::supervisor::process::{Exit, Guarded, Reaper};
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

/// The only two ways in which nothing was started.
enum NotStarted {
    Late,
    Refused(io::Error),
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
        let run_limit_ms = clock::now().mono_ms.saturating_add(self.launch.run_timeout_ms);
        for index in 0..self.launch.steps.len() {
            let wanted = *self.kill.borrow();
            if let Some(wanted) = wanted {
                return ended_by(wanted.why, index > 0);
            }
            let spawned = Instant::now();
            let step = &self.launch.steps[index];
            let (guarded, pid, start_ticks) = match self.start(step, index == 0).await {
                Ok(Some(started)) => started,
                // Between the wish and the word nothing is known; a start must not be denied.
                Ok(None) => return End::Interrupted { message: "the process's guard was killed".to_owned() },
                Err(NotStarted::Late) => return End::Expired,
                Err(NotStarted::Refused(error)) if index == 0 => {
                    return End::Rejected { cause: RejectCause::Spawn, message: spawn_message(step, &error) };
                }
                Err(NotStarted::Refused(error)) => {
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
            let (exit, over) = follow(guarded, step.stdin.as_deref(), bounds, sinks, &self.reaper).await;
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

    /// Starts one step. `None`: its guard died before it said what became of it.
    async fn start(&self, step: &LaunchStep, first: bool) -> Result<Option<(Guarded, u32, u64)>, NotStarted> {
        let start = Start {
            program: step.program.clone(),
            name: step.name.clone(),
            args: step.args.clone(),
            env: step.env.clone(),
            cwd: step.cwd.as_deref().map_or_else(|| self.work.clone(), PathBuf::from),
            start_by_mono_ms: first.then_some(self.launch.start_by_mono_ms),
        };
        let mut guarded = self.reaper.start(&start, step.stdin.is_some()).map_err(NotStarted::Refused)?;
        match guarded.guard.words.next().await {
            Some(Word::Started { pid, start_ticks }) => Ok(Some((guarded, pid, start_ticks))),
            Some(Word::Refused { errno }) => Err(NotStarted::Refused(io::Error::from_raw_os_error(errno))),
            Some(Word::Late) => Err(NotStarted::Late),
            Some(Word::Exited { .. } | Word::Killed { .. } | Word::Asking | Word::Clear) | None => {
                self.reaper.reap();
                self.reaper.kill_orphans();
                Ok(None)
            }
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
