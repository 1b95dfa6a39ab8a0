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
use crate::spool::{Keeper, Spool};
use crate::supervisor::process::{self, Exit, Reaper};
use crate::supervisor::protocol::{Launch, LaunchStep};
use crate::supervisor::step::{Bounds, Kill, StepOver, Totals, Why, follow};

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
    pub async fn run(self) -> (AttemptKey, Outcome) {
        let Attempt { launch, spool, work, reaper, kill, totals, tell } = self;
        let attempt = launch.attempt;
        let mut keepers = [Stream::Stdout, Stream::Stderr]
            .map(|stream| Keeper::new(spool.path(attempt, stream), launch.output_bytes));
        let mut steps = Vec::new();
        let begun = Instant::now();
        let run_limit = begun + Duration::from_millis(launch.run_timeout_ms);
        let mut end = End::Exited;
        for (index, step) in launch.steps.iter().enumerate() {
            let wanted = *kill.borrow();
            if let Some(wanted) = wanted {
                end = ended_by(wanted.why, index > 0);
                break;
            }
            if index == 0 && clock::now().mono_ms > launch.start_by_mono_ms {
                end = End::Expired;
                break;
            }
            let spawned = Instant::now();
            let leader = match reaper.spawn(step, &work) {
                Ok(leader) => leader,
                Err(error) if index == 0 => {
                    end = End::Rejected { cause: RejectCause::Spawn, message: spawn_message(step, &error) };
                    break;
                }
                Err(error) => {
                    let line = format!("viworks-agent: {}\n", spawn_message(step, &error));
                    keepers[1].write(line.as_bytes());
                    steps.push(StepEnd {
                        exit_code: Some(spawn_code(&error)),
                        stderr_bytes: line.len() as u64,
                        ..StepEnd::default()
                    });
                    break;
                }
            };
            let pid = leader.pid.as_raw().unsigned_abs();
            let start_ticks = process::start_ticks(pid).unwrap_or(0);
            let told = if index == 0 { Told::Spawned { pid, start_ticks } } else { Told::Next { pid, start_ticks } };
            // The supervisor listens for as long as any attempt runs.
            let _ = tell.send((attempt, told)).await;
            let before = [keepers[0].total(), keepers[1].total()];
            let step_limit = step.timeout_ms.map(|limit| spawned + Duration::from_millis(limit));
            let bounds = Bounds {
                limit: step_limit.map_or(run_limit, |limit| limit.min(run_limit)),
                grace: Duration::from_millis(launch.grace_ms),
                kill: kill.clone(),
            };
            let (exit, over) = follow(leader, step.stdin.as_deref(), bounds, &mut keepers, &totals, &reaper).await;
            let (exit_code, signal) = match exit {
                Some(Exit::Code(code)) => (Some(code), None),
                Some(Exit::Signal(signal)) => (None, Some(signal)),
                None => (None, None),
            };
            steps.push(StepEnd {
                exit_code,
                signal,
                duration_ms: millis(spawned.elapsed()),
                stdout_bytes: keepers[0].total() - before[0],
                stderr_bytes: keepers[1].total() - before[1],
            });
            end = match over {
                StepOver::Exited => End::Exited,
                StepOver::TimedOut => End::TimedOut,
                StepOver::Killed(why) => ended_by(why, true),
                StepOver::Unkillable => End::Interrupted { message: format!("process {pid} did not die of KILL") },
            };
            if end != End::Exited || exit_code != Some(0) {
                break;
            }
        }
        let duration_ms = if steps.is_empty() { 0 } else { millis(begun.elapsed()) };
        let [stdout, stderr] = keepers;
        let finished = tokio::task::spawn_blocking(move || (finish(stdout), finish(stderr))).await;
        let (stdout, stderr) = finished.unwrap_or_default();
        (attempt, Outcome { end, steps, stdout, stderr, duration_ms })
    }
}

fn finish(keeper: Keeper) -> StreamEnd {
    let total = keeper.total();
    keeper.finish().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot have the disk confirm output; none of it counts as kept");
        StreamEnd { bytes: total, ..StreamEnd::default() }
    })
}

fn ended_by(why: Why, started: bool) -> End {
    match (why, started) {
        (Why::Cancel, started) => End::Cancelled { started },
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
