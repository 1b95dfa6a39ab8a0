//! How simulated agents behave, and what all agents of a fleet share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use plan::id::ClusterId;

use crate::frames::Answers;
use crate::ledger::Acks;

/// How the agents behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Each agent checks the signature of its first COMMAND and of every so many after it; 0 = of none.
    pub verify_every: u32,
    /// Whether every frame is a write of its own; else the answers to a COMMAND leave together.
    pub flush_each: bool,
    /// Whether samples are sent at the interval the host asks for.
    pub telemetry: bool,
    /// Between samples instead of that interval.
    pub sample_every: Option<Duration>,
    /// What a COMMAND is answered with.
    pub answers: Answers,
}

/// What all agents of a fleet share.
pub struct Shared {
    /// The installation they joined.
    pub cluster: ClusterId,
    /// Its key.
    pub cluster_key: VerifyingKey,
    /// How they behave.
    pub behaviour: Behaviour,
    /// Who hears of acknowledgements now.
    pub acks: RwLock<Arc<dyn Acks>>,
    /// What they have done.
    pub tally: Tally,
    /// Why sessions ended that should not have.
    pub ended: Mutex<Vec<String>>,
}

/// What an open session has done, over all agents.
#[derive(Debug, Default)]
pub struct Tally {
    /// COMMAND frames answered.
    pub commands: AtomicU64,
    /// Envelopes whose signature was checked.
    pub verified: AtomicU64,
    /// Envelopes that were not the cluster's, or not for this agent and command.
    pub forged: AtomicU64,
    /// COMMAND frames for an attempt that was already under way on the agent.
    pub repeated: AtomicU64,
}
