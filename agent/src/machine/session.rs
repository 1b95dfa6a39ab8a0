//! One session with the host: handshake, frames, heartbeat.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plan::envelope::{epoch_parts, hello_parts, sign, verify};
use plan::id::AttemptKey;
use plan::keyring::TurnError;
use rand::RngExt as _;
use wire::codec::decode;
use wire::facts::Facts;
use wire::frame::{AgentFrame, Challenge, Fault, Goodbye, Hello, HostFrame, Unfinished, Welcome};
use wire::limits::{HELLO_WITHIN_MS, MAX_HELLO_ATTEMPTS, MISSED_HEARTBEATS, NONCE_BYTES, PROTOCOL_VERSION};
use wire::sample::Sample;

use crate::clock::Now;
use crate::journal::Record;
use crate::machine::entry::Active;
use crate::machine::{After, Machine, Output};
use crate::supervisor::protocol::Request;

/// A host that admits a whole fleet at a bounded rate may let a HELLO wait this long.
const WELCOME_WITHIN_MS: u64 = 6 * HELLO_WITHIN_MS;
/// Bounds on the intervals a host may ask for.
const BEAT_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
const TELEMETRY_MS: std::ops::RangeInclusive<u64> = 200..=86_400_000;
/// The first sample of a session is sent within this time, spread so that a fleet does not send at once.
const FIRST_SAMPLE_WITHIN_MS: u64 = 2_000;

/// The host's code for "somebody else opened a session with this key".
const REPLACED: &str = "replaced";
/// What to wait then, doubled each time it happens again.
const REPLACED_WAIT_MS: u64 = 60_000;
const REPLACED_MAX_WAIT_MS: u64 = 600_000;
/// A session that lasted this long shows that nobody else uses the key any more.
const UNDISPUTED_MS: u64 = 3 * REPLACED_MAX_WAIT_MS;

/// Where the session stands.
#[derive(Clone, Debug)]
pub(super) enum Session {
    Closed,
    /// The socket is open; the host speaks first.
    Opened {
        facts: Box<Facts>,
        /// Heard, and to be answered when the disk has confirmed what came before.
        challenge: Option<Box<Challenge>>,
        until_ms: u64,
    },
    /// HELLO was sent.
    Greeted {
        hello_ms: u64,
        until_ms: u64,
    },
    Open(Box<Beat>),
}

/// The clocks of an open session, milliseconds since boot.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    every_ms: u64,
    next_ms: u64,
    heard_ms: u64,
    sample_every_ms: u64,
    sample_jitter_ms: u64,
    sample_at_ms: Option<u64>,
    undisputed_at_ms: u64,
}

/// The host's clock, as told in a WELCOME, advanced by our own since our HELLO: never behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostTime {
    host_ms: i64,
    mono_ms: u64,
}

impl HostTime {
    pub fn at(self, now: Now) -> i64 {
        let passed = now.mono_ms.saturating_sub(self.mono_ms);
        self.host_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

impl Machine {
    /// Whether frames about attempts may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.session, Session::Open(_))
    }

    pub(super) fn on_opened(&mut self, facts: Box<Facts>, now: Now) {
        self.on_closed();
        self.session = Session::Opened { facts, challenge: None, until_ms: now.mono_ms + HELLO_WITHIN_MS };
    }

    pub(super) fn on_closed(&mut self) {
        let was_open = self.is_open();
        self.session = Session::Closed;
        if was_open {
            self.tell_host_is_here();
        }
        self.lane.clear();
        self.active.values_mut().for_each(|active| active.output.rewind());
        for kept in self.kept.values_mut() {
            kept.output.rewind();
            kept.told = false;
        }
    }

    /// Some attempts may not go on for long without a host. The supervisor, which outlives us, sees to that.
    pub(super) fn tell_host_is_here(&mut self) {
        if self.supervisor.is_some() {
            self.ask(Request::Host { here: self.is_open() });
        }
    }

    pub(super) fn on_heard(&mut self, now: Now) {
        if let Session::Open(beat) = &mut self.session {
            beat.heard_ms = now.mono_ms;
        }
    }

    /// Ends the session because the host said something wrong.
    pub(super) fn fail(&mut self, fault: Fault) {
        if matches!(self.session, Session::Closed) {
            return;
        }
        tracing::warn!(code = fault.code, message = fault.message, "protocol error by the host; closing");
        self.frame(AgentFrame::Error(fault));
        self.close(None);
    }

    fn close(&mut self, retry_after_ms: Option<u64>) {
        self.out.push_back(Output::Close { retry_after_ms });
        self.on_closed();
    }

    pub(super) fn on_stop(&mut self) {
        self.stopping = true;
        if !matches!(self.session, Session::Closed) {
            let goodbye = Goodbye { reason: "the agent is stopping".to_owned(), retry_after_ms: None };
            self.frame(AgentFrame::Goodbye(goodbye));
            self.close(None);
        }
    }

    pub(super) fn on_text(&mut self, text: &str, now: Now) {
        if matches!(self.session, Session::Closed) {
            return;
        }
        self.on_heard(now);
        let frame = match decode::<HostFrame>(text) {
            Ok(frame) => frame,
            Err(error) => {
                return self.fail(Fault { code: error.code().to_owned(), message: error.to_string() });
            }
        };
        match (frame, &self.session) {
            (HostFrame::Error(fault), Session::Open(_)) if fault.code == REPLACED => self.on_replaced(&fault),
            (HostFrame::Error(fault), _) => {
                tracing::error!(code = fault.code, message = fault.message, "the host reports an error and will close");
            }
            (HostFrame::Goodbye(goodbye), _) => {
                tracing::info!(reason = goodbye.reason, "the host is leaving");
                self.close(goodbye.retry_after_ms);
            }
            (HostFrame::Challenge(challenge), Session::Opened { facts, challenge: None, until_ms }) => {
                let challenge = Some(Box::new(challenge));
                self.session = Session::Opened { facts: facts.clone(), challenge, until_ms: *until_ms };
                self.answer_challenge(now);
            }
            (HostFrame::Pending { message }, Session::Greeted { hello_ms, .. }) => {
                self.on_pending(&message, *hello_ms, now)
            }
            (HostFrame::Welcome(welcome), Session::Greeted { hello_ms, .. }) => {
                let hello_ms = *hello_ms;
                self.on_welcome(welcome, hello_ms, now);
            }
            (HostFrame::Command(command), Session::Open(_)) => self.on_command(command, now),
            (HostFrame::ResultAck { attempt }, Session::Open(_)) => self.on_result_ack(attempt),
            (HostFrame::RotateKey, Session::Open(_)) => self.on_rotate_key(),
            (HostFrame::Certificate { certificate }, Session::Open(_)) => {
                self.out.push_back(Output::KeepCertificate(certificate));
            }
            (HostFrame::KeyAck { public_key }, Session::Open(_)) => self.on_key_ack(&public_key),
            (HostFrame::Cancel(cancel), Session::Open(_)) => self.on_cancel(cancel, now),
            (
                HostFrame::Challenge(_)
                | HostFrame::Pending { .. }
                | HostFrame::Welcome(_)
                | HostFrame::Command(_)
                | HostFrame::ResultAck { .. }
                | HostFrame::RotateKey
                | HostFrame::Certificate { .. }
                | HostFrame::KeyAck { .. }
                | HostFrame::Cancel(_),
                _,
            ) => {
                let message = "this frame is not expected now; the order is CHALLENGE, WELCOME, then the others";
                self.fail(Fault { code: "unexpected_frame".to_owned(), message: message.to_owned() });
            }
        }
    }

    /// Somebody else opened a session with our key while ours was well: another machine has a copy of it.
    /// Coming back at once would only take the session away from the other, so we come back later and later.
    fn on_replaced(&mut self, fault: &Fault) {
        let wait_ms = (REPLACED_WAIT_MS << self.replaced.min(8)).min(REPLACED_MAX_WAIT_MS);
        self.replaced = self.replaced.saturating_add(1);
        tracing::error!(
            message = fault.message,
            wait_s = wait_ms / 1000,
            "another machine runs with a copy of this agent's key: end one of them, and join it again under its own name"
        );
        self.close(Some(wait_ms));
    }

    /// Says HELLO once everything that was received is on disk. What HELLO does not name the host takes as
    /// never arrived, and may call it never sent: nothing of that kind may be on its way to its start.
    pub(super) fn answer_challenge(&mut self, now: Now) {
        if let Session::Opened { facts, challenge: Some(challenge), .. } = &self.session
            && !self.after.iter().any(|after| matches!(after, After::Ack(_)))
        {
            let (facts, challenge) = (facts.clone(), Challenge::clone(challenge));
            self.on_challenge(challenge, facts, now);
        }
    }

    fn on_challenge(&mut self, challenge: Challenge, facts: Box<Facts>, now: Now) {
        let fail = |code: &str, message: String| Fault { code: code.to_owned(), message };
        if challenge.cluster_id != self.setup.cluster_id {
            let message =
                format!("cluster {} is not {}, which was joined", challenge.cluster_id, self.setup.cluster_id);
            return self.fail(fail("other_cluster", message));
        }
        match self.ring.after(self.setup.cluster_id, &challenge.keys) {
            Ok(ring) if ring == self.ring => {}
            Ok(ring) => {
                tracing::info!(
                    version = ring.version(),
                    "the cluster's key is another now, signed by the one before it"
                );
                self.ring = ring.clone();
                self.write(Record::Keys { ring }, After::Nothing);
            }
            Err(error @ TurnError::Older { .. }) => return self.fail(fail("stale_key", error.to_string())),
            Err(error) => return self.fail(fail("key_chain", error.to_string())),
        }
        if challenge.cluster_epoch < self.highest_epoch {
            let message =
                format!("epoch {} is older than {}, seen before", challenge.cluster_epoch, self.highest_epoch);
            return self.fail(fail("stale_epoch", message));
        }
        if let Some(proof) = &challenge.epoch_signature
            && challenge.cluster_epoch > self.highest_epoch
        {
            let said = epoch_parts(challenge.cluster_id, challenge.cluster_epoch);
            if let Err(error) = verify(self.ring.current(), &[&said], proof) {
                return self.fail(fail("epoch_signature", format!("the epoch is not proven: {error}")));
            }
            self.highest_epoch = challenge.cluster_epoch;
            self.write(Record::Epoch { highest: challenge.cluster_epoch }, After::Nothing);
        }
        if !challenge.versions.contains(&PROTOCOL_VERSION) {
            let message = format!("this agent speaks version {PROTOCOL_VERSION}, the host {:?}", challenge.versions);
            return self.fail(fail("protocol_version", message));
        }
        let nonce = URL_SAFE_NO_PAD.decode(&challenge.nonce).unwrap_or_default();
        if nonce.len() != NONCE_BYTES {
            return self.fail(fail("malformed_frame", format!("a nonce is {NONCE_BYTES} bytes as base64url")));
        }
        let agent_id = self.setup.agent_id;
        let signature = sign(&self.setup.key, &[&hello_parts(self.setup.cluster_id, agent_id, &nonce)]);
        let held = |(attempt, active): (&AttemptKey, &Active)| Unfinished {
            attempt: *attempt,
            started: active.phase.may_have_started(),
        };
        let unfinished: Vec<Unfinished> = self.active.iter().take(MAX_HELLO_ATTEMPTS).map(held).collect();
        // The limit is on both lists together; a result left out here is still sent after WELCOME.
        let room = MAX_HELLO_ATTEMPTS - unfinished.len();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            agent_id,
            signature,
            next_key: self.next_key(&nonce),
            facts: *facts,
            unfinished,
            unacknowledged: self.kept.keys().copied().take(room).collect(),
        };
        self.frame(AgentFrame::Hello(hello));
        self.session = Session::Greeted { hello_ms: now.mono_ms, until_ms: now.mono_ms + WELCOME_WITHIN_MS };
    }

    /// Nobody has approved this machine yet: WELCOME comes on this socket when somebody does.
    fn on_pending(&mut self, message: &str, hello_ms: u64, now: Now) {
        if !std::mem::replace(&mut self.told_pending, true) {
            tracing::warn!(message, "the host keeps this machine waiting");
        }
        self.session = Session::Greeted { hello_ms, until_ms: now.mono_ms + WELCOME_WITHIN_MS };
    }

    fn on_welcome(&mut self, welcome: Welcome, hello_ms: u64, now: Now) {
        self.told_pending = false;
        // The host read its clock after our HELLO, so by now it shows this much at most. A WELCOME that
        // was long on its way makes validity end early, never late.
        self.host_time = Some(HostTime { host_ms: welcome.now_ms, mono_ms: hello_ms });
        self.host_concurrency = Some(welcome.max_concurrency);
        let every_ms = welcome.heartbeat_ms.clamp(*BEAT_MS.start(), *BEAT_MS.end());
        let sample_every_ms = match welcome.telemetry_ms {
            0 => 0,
            wanted => wanted.clamp(*TELEMETRY_MS.start(), *TELEMETRY_MS.end()),
        };
        let first = self.rng.random_range(0..=FIRST_SAMPLE_WITHIN_MS.min(sample_every_ms));
        self.session = Session::Open(Box::new(Beat {
            every_ms,
            next_ms: now.mono_ms + every_ms,
            heard_ms: now.mono_ms,
            sample_every_ms,
            sample_jitter_ms: welcome.telemetry_jitter_ms.unwrap_or(sample_every_ms / 10).min(sample_every_ms / 2),
            sample_at_ms: (sample_every_ms > 0).then(|| now.mono_ms + first),
            undisputed_at_ms: now.mono_ms + UNDISPUTED_MS,
        }));
        tracing::info!(session = welcome.session_epoch, "session open");
        self.tell_host_is_here();
        for have in welcome.have {
            if let Some(output) = self.output(have.attempt) {
                output.had(have);
            }
        }
        for cancel in welcome.cancel {
            self.on_cancel(cancel, now);
        }
        for attempt in welcome.forget {
            self.on_forget(attempt, now);
        }
        for attempt in welcome.send {
            if self.past.contains_key(&attempt) {
                self.out.push_back(Output::Recall(attempt));
            }
        }
        self.welcomed = true;
        self.place_after_reboot(now);
        let states: Vec<AttemptKey> = self.active.keys().copied().collect();
        for attempt in states {
            self.say_state(attempt);
        }
        let results: Vec<AttemptKey> = self.kept.keys().copied().collect();
        for attempt in results {
            self.enter_lane(attempt);
        }
    }

    pub(super) fn on_sampled(&mut self, mut sample: Sample) {
        if self.is_open() {
            sample.agent.attempts = u32::try_from(self.active.len()).unwrap_or(u32::MAX);
            sample.agent.spool_bytes = self.spool_bytes();
            self.frame(AgentFrame::Telemetry { sample });
        }
    }

    /// Does what the session's clocks ask for.
    pub(super) fn keep_time(&mut self, now: Now) {
        let attempts = u32::try_from(self.active.len()).unwrap_or(u32::MAX);
        match &mut self.session {
            Session::Closed => {}
            Session::Opened { until_ms, .. } | Session::Greeted { until_ms, .. } => {
                if now.mono_ms >= *until_ms {
                    tracing::warn!("the host did not finish the handshake in time");
                    self.close(None);
                }
            }
            Session::Open(beat) => {
                if now.mono_ms >= beat.heard_ms + beat.every_ms * u64::from(MISSED_HEARTBEATS) {
                    tracing::warn!("nothing heard from the host for {MISSED_HEARTBEATS} heartbeats");
                    return self.close(None);
                }
                if now.mono_ms >= beat.undisputed_at_ms {
                    self.replaced = 0;
                }
                if now.mono_ms >= beat.next_ms {
                    beat.next_ms = now.mono_ms + beat.every_ms;
                    self.out.push_back(Output::Frame(AgentFrame::Heartbeat { attempts }));
                    self.out.push_back(Output::Ping);
                }
                if beat.sample_at_ms.is_some_and(|at_ms| now.mono_ms >= at_ms) {
                    let (every, jitter) = (beat.sample_every_ms, beat.sample_jitter_ms);
                    let wait = self.rng.random_range(every - jitter..=every + jitter);
                    beat.sample_at_ms = Some(now.mono_ms + wait);
                    self.out.push_back(Output::Sample);
                }
            }
        }
    }

    pub(super) fn next_beat(&self) -> Option<u64> {
        match &self.session {
            Session::Closed => None,
            Session::Opened { until_ms, .. } | Session::Greeted { until_ms, .. } => Some(*until_ms),
            Session::Open(beat) => {
                let silent_ms = beat.heard_ms + beat.every_ms * u64::from(MISSED_HEARTBEATS);
                Some(beat.next_ms.min(silent_ms).min(beat.sample_at_ms.unwrap_or(u64::MAX)))
            }
        }
    }
}
