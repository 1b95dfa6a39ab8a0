//! An attempt as the machine holds it.

use std::collections::BTreeMap;

use plan::envelope::{Envelope, RunLimits};
use plan::id::AttemptKey;
use plan::outcome::End;
use plan::step::Plan;

use crate::journal::Settled;
use crate::machine::output::Output;

/// An attempt that has no durable result yet.
///
/// ```text
///            slot, locks, time        fsync, start sent         spawned
///   Waiting ───────────────▶ Starting ──────────▶ Launched ───────────▶ Running
///      │ expired, cancelled     │ cancelled          │ ended               │ ended
///      └────────────────────────┴────────▶ Settling ◀┴─────────────────────┘
///                                             │ fsync
///                                             ▼ Kept (until RESULT_ACK)
/// ```
///
/// `Launched` also stands for "may have been asked for before the agent restarted"; the supervisor's
/// greeting decides.
#[derive(Clone, Debug)]
pub(super) struct Active {
    /// Arrival order.
    pub order: u64,
    pub about: About,
    /// What to run. Absent only when the envelope read from the journal no longer checks.
    pub task: Option<Task>,
    /// When it was received; absent when the machine was rebooted since.
    pub received_mono_ms: Option<u64>,
    pub phase: Phase,
    /// Grace of a CANCEL that has not taken effect yet.
    pub cancel: Option<u64>,
    /// The host wants no word of it.
    pub forgotten: bool,
    /// Accepted by an earlier process: started only after a WELCOME, whose cancels come first.
    pub restored: bool,
    pub output: Output,
}

/// What is remembered of an envelope when its plan is no longer needed.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub verb: String,
    pub submitter: String,
    pub not_after_ms: i64,
    /// The trace it belongs to, said again with everything that is told of it.
    pub traceparent: Option<String>,
}

/// What to run and when at the latest to begin.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub plan: Plan,
    /// Values of the placeholders in it, in memory only; `None` when this agent was restarted since.
    pub secrets: Option<BTreeMap<String, String>>,
    pub limits: RunLimits,
    pub start_by: StartBy,
    pub kill_after_ms: Option<u64>,
    /// When it must be over, milliseconds since boot.
    pub finish_by_mono_ms: Option<u64>,
}

/// The last instant at which an attempt may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartBy {
    /// Milliseconds since boot.
    Mono(u64),
    /// The machine was rebooted since acceptance: the host's clock, to be turned into ours at WELCOME.
    Host(i64),
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Waiting,
    /// `starting` is on its way to disk; nothing was sent to the supervisor.
    Starting {
        supervisor: String,
    },
    /// The supervisor was asked, or may have been.
    Launched {
        supervisor: String,
    },
    Running {
        pid: u32,
    },
    /// The result is on its way to disk.
    Settling(Box<Settled>),
}

impl Phase {
    /// Whether it counts against the number of attempts at once, and holds its locks.
    pub fn holds_slot(&self) -> bool {
        match self {
            Phase::Starting { .. } | Phase::Launched { .. } | Phase::Running { .. } => true,
            Phase::Waiting | Phase::Settling(_) => false,
        }
    }

    /// Whether a process of it may have been started.
    pub fn may_have_started(&self) -> bool {
        match self {
            Phase::Launched { .. } | Phase::Running { .. } => true,
            Phase::Settling(settled) => match settled.outcome.end {
                End::Exited | End::TimedOut | End::Interrupted { .. } => true,
                End::Cancelled { started } => started,
                End::Expired | End::Rejected { .. } => false,
            },
            Phase::Waiting | Phase::Starting { .. } => false,
        }
    }
}

/// A finished attempt whose result the host has not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub settled: Settled,
    pub output: Output,
    /// RESULT was sent in this session.
    pub told: bool,
}

impl About {
    pub fn of(envelope: &Envelope, traceparent: Option<String>) -> About {
        About {
            verb: envelope.verb.clone(),
            submitter: envelope.submitter.clone(),
            not_after_ms: envelope.not_after_ms,
            traceparent,
        }
    }
}

/// Active attempts by key.
pub(super) type Actives = BTreeMap<AttemptKey, Active>;
