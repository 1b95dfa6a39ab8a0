//! Everything either side may say.
//!
//! ```text
//!   host                                agent
//!   CHALLENGE  ───────────────────────▶          nonce
//!              ◀───────────────────────  HELLO   signed nonce, facts, unfinished attempts
//!   WELCOME    ───────────────────────▶          session epoch, intervals, what to do with each
//!   COMMAND    ───────────────────────▶
//!              ◀───────────────────────  ACK      after its own fsync
//!              ◀───────────────────────  STARTED, OUTPUT…, RESULT
//!   RESULT_ACK ───────────────────────▶          after the host's commit
//! ```

use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, ClusterId};
use plan::keyring::Turn;
use plan::outcome::{Outcome, Stream};
use plan::secret::KeyText;
use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::sample::Sample;

/// What a host may say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HostFrame {
    /// First frame on every socket.
    Challenge(Challenge),
    /// The agent is who it says, but nobody has approved it yet. Said again and again until WELCOME.
    Pending {
        /// What it waits for, for its log.
        message: String,
    },
    /// The session is open.
    Welcome(Welcome),
    /// Run this.
    Command(Command),
    /// The host has committed this attempt's result; the agent may forget its output.
    ResultAck {
        /// Which attempt.
        attempt: AttemptKey,
    },
    /// End this attempt: TERM to everything it started, then KILL after the grace.
    Cancel(Cancel),
    /// Make another key and prove it with NEW_KEY.
    RotateKey,
    /// The host has committed the agent's other key; the one before it is refused from now on.
    KeyAck {
        /// The key that counts, base64url without padding.
        public_key: String,
    },
    /// What the agent is to show when it connects from now on.
    Certificate {
        /// A certificate of the key it has, or of the one that takes its place next; PEM.
        certificate: String,
    },
    /// Something was wrong with what the agent said; the host closes the socket after it.
    Error(Fault),
    /// The host is leaving.
    Goodbye(Goodbye),
}

/// What an agent may say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AgentFrame {
    /// Answer to CHALLENGE; first frame an agent sends.
    Hello(Hello),
    /// The attempt is in the agent's journal, fsynced. Nothing was started yet.
    Ack {
        /// Which attempt.
        attempt: AttemptKey,
    },
    /// The first process of the attempt was spawned.
    Started {
        /// Which attempt.
        attempt: AttemptKey,
        /// Its process id on the agent's machine.
        pid: u32,
        /// The COMMAND's own, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    },
    /// Bytes that a process wrote.
    Output(Output),
    /// The attempt is over. Repeated until RESULT_ACK.
    Result {
        /// Which attempt.
        attempt: AttemptKey,
        /// How it ended.
        outcome: Outcome,
        /// The COMMAND's own, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    },
    /// One telemetry sample.
    Telemetry {
        /// The sample.
        sample: Sample,
    },
    /// Answer to ROTATE_KEY. Repeated whenever it is asked for, with the same key, until KEY_ACK.
    NewKey(NewKey),
    /// Liveness.
    Heartbeat {
        /// Attempts running or waiting on this agent.
        attempts: u32,
    },
    /// Something was wrong with what the host said; the agent closes the socket after it.
    Error(Fault),
    /// The agent is leaving.
    Goodbye(Goodbye),
}

/// The host's side of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 32 random bytes, base64url without padding; used once.
    pub nonce: String,
    /// The installation; an agent that joined another one closes the socket.
    pub cluster_id: ClusterId,
    /// Must not be below the highest the agent has seen.
    pub cluster_epoch: u64,
    /// The cluster's signature over both: from then on the agent refuses a lower epoch. base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_signature: Option<String>,
    /// How the cluster's key came to be the one it is, from its first on: whoever pinned an older one follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Turn>,
    /// Protocol versions the host speaks, ascending.
    pub versions: Vec<u32>,
}

/// The agent's side of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version the agent chose from CHALLENGE.
    pub protocol: u32,
    /// Who this is.
    pub agent_id: AgentId,
    /// Ed25519 over `viworks-hello-v1\0`, cluster id, agent id (hyphenated text) and the nonce's bytes;
    /// base64url without padding.
    pub signature: String,
    /// A key the agent made, of which it does not know whether the host has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<NextKey>,
    /// The machine.
    pub facts: Facts,
    /// Attempts in the journal that have no result yet.
    #[serde(default)]
    pub unfinished: Vec<Unfinished>,
    /// Attempts whose result has not been acknowledged.
    #[serde(default)]
    pub unacknowledged: Vec<AttemptKey>,
}

/// A key that may count already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextKey {
    /// The key, base64url without padding.
    pub public_key: String,
    /// Over the same bytes as HELLO's own signature, with this key.
    pub signature: String,
}

/// One key in the place of another. Both signatures are over `viworks-rotate-v1\0`, cluster id, agent id, the
/// key that counts, a NUL and the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// The new key, base64url without padding.
    pub public_key: String,
    /// With the key that counts until now; base64url without padding.
    pub signature: String,
    /// With the new key; base64url without padding.
    pub new_signature: String,
}

/// An attempt the agent holds without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Whether its first process was started.
    pub started: bool,
}

/// The session is open. Cancels are to be obeyed before anything is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Rises with every session of this agent; the newest wins.
    pub session_epoch: u64,
    /// Host's clock now, milliseconds since 1970-01-01 UTC. The agent compares validity against this
    /// instant advanced by its own monotonic clock.
    pub now_ms: i64,
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Between telemetry samples; 0 = none wanted.
    pub telemetry_ms: u64,
    /// Most by which the wait between two samples is shorter or longer than that, at random each time, so that machines
    /// which were started together do not speak together. A tenth of it when absent, and half of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry_jitter_ms: Option<u64>,
    /// Attempts the agent may run at once.
    pub max_concurrency: u32,
    /// Send RESULT again for these.
    pub send: Vec<AttemptKey>,
    /// End these.
    pub cancel: Vec<Cancel>,
    /// The host wants no more word of these; their result, if any, counts as acknowledged.
    pub forget: Vec<AttemptKey>,
    /// Run these, or go on running them.
    pub run: Vec<AttemptKey>,
    /// Output of attempts in `send` and `run` that need not be sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub have: Vec<Have>,
}

/// Output that the host has stored already: every byte below these offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Of standard output.
    #[serde(default)]
    pub stdout: u64,
    /// Of standard error.
    #[serde(default)]
    pub stderr: u64,
}

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Not to be started when more than this has passed since the frame was received. Milliseconds.
    pub start_within_ms: u64,
    /// The attempt is ended when the agent has had no session for this long. Milliseconds; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after_ms: Option<u64>,
    /// The attempt is ended when more than this has passed since the frame was received. Milliseconds; never
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within_ms: Option<u64>,
    /// The signed envelope and its signature.
    #[serde(flatten)]
    pub envelope: SignedEnvelope,
    /// The key of the envelope's secrets, 32 bytes in base64url. Never to be written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<KeyText>,
    /// W3C trace context of the request that submitted the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// End one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// From TERM to KILL; the envelope's own grace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Bytes of one stream. Chunks may be repeated, and may leave gaps; the host keeps each offset once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Which stream.
    pub stream: Stream,
    /// Where in the stream the first byte stands, from 0.
    pub offset: u64,
    /// The bytes, standard base64 with padding.
    pub data: String,
    /// Bytes of the stream that the agent has let go of, for want of room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
}

/// A part of a stream that is no longer kept: nothing more of it will come, and what came may be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Where it begins.
    pub from: u64,
    /// Where what is kept begins again.
    pub until: u64,
}

/// A protocol error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable code, see `docs/protocol.md`.
    pub code: String,
    /// What was wrong and what would be right.
    pub message: String,
}

/// A polite end of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why, for logs.
    pub reason: String,
    /// Not to reconnect sooner. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
