//! What a session hears and what it wants done.

use std::ops::Range;
use std::sync::Arc;

use domain::attempt::Event;
use domain::command::Command;
use domain::time::Timestamp;
use plan::id::AttemptKey;
use plan::outcome::{Outcome, Stream};
use ports::commands::{Due, Open};
use ports::link::Settle;
use services::progress::Kept;
use services::standing::Objection;
use wire::frame::{AgentFrame, Fault, HostFrame, NewKey};
use wire::sample::Sample;

/// What the session hears.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "an input lives for one call; a box for every frame would cost more")]
pub enum Input {
    /// The agent said something.
    Frame(AgentFrame),
    /// A freshly accepted invocation.
    Offer(Due),
    /// Offers were lost for want of room: the store knows them.
    Overflow,
    /// This is first of what waits in the store.
    Look(AttemptKey),
    /// The store may have lost notes, and may hold commands it seemed to refuse.
    Retell,
    /// The answer to [`Output::Load`].
    Loaded {
        /// In queue order.
        due: Vec<Due>,
        /// Whether the store may hold more.
        more: bool,
    },
    /// Attempts are to be ended; nothing is sent before all of these are heard.
    Settle(Vec<(Open, Settle)>),
    /// The agent is to make another key.
    AskKey,
    /// A certificate was made for the agent; PEM.
    Certificate(String),
    /// This key of the agent's is committed.
    KeyStored(String),
    /// The host may have a slot again.
    Freed,
    /// An attempt's end is committed (or was no attempt of this agent).
    Stored(AttemptKey),
}

/// What the session wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Say this to the agent.
    Send(HostFrame),
    /// Tell the store lazily what the agent said, and when it did.
    Note(AttemptKey, Event, Timestamp),
    /// Tell the store durably.
    Advance(AttemptKey, Vec<Event>),
    /// Tell the store that it was not sent because its submitter may no longer have it run, and why.
    Reject(AttemptKey, Objection),
    /// Store these bytes.
    Append {
        /// Which attempt.
        key: AttemptKey,
        /// Which stream.
        stream: Stream,
        /// Where the first byte stands.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The agent does not keep these bytes; neither needs the store.
    LetGo {
        /// Which attempt.
        key: AttemptKey,
        /// Which stream.
        stream: Stream,
        /// From, and up to.
        gone: Range<u64>,
    },
    /// Judge and store an attempt's end, then answer [`Input::Stored`].
    Finish {
        /// Which attempt.
        key: AttemptKey,
        /// The intent, if this session sent it.
        command: Option<Arc<Command>>,
        /// How it ended.
        outcome: Outcome,
        /// All its output, if this session saw it.
        kept: Option<Kept>,
        /// Notes and bytes of it that the store is told together with its end.
        before: Vec<Output>,
    },
    /// Read what waits from the store, then answer [`Input::Loaded`].
    Load,
    /// The agent made another key: put it in the place of the one it has, then answer [`Input::KeyStored`].
    NewKey(NewKey),
    /// Keep this sample.
    Sample(Sample),
    /// The agent missed a heartbeat.
    Missed,
    /// The conversation is over.
    Close(Fault),
}
