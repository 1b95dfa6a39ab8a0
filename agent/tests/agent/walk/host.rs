//! The host of a random walk: gives commands, remembers what it was told, and believes nothing that
//! contradicts it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::envelope::{Envelope, seal};
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, RejectCause, Stream};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use wire::frame::{AgentFrame, Cancel, Command, Have, Hello, HostFrame, Welcome};

use crate::support::{attempt, challenge, cluster_key, envelope, plan, step};

/// Sent output of one session, as ranges of bytes.
pub type Covered = BTreeMap<(AttemptKey, Stream), Vec<(u64, u64)>>;

#[derive(Default)]
pub struct Host {
    pub commands: BTreeMap<AttemptKey, (Command, Envelope)>,
    pub results: BTreeMap<AttemptKey, Outcome>,
    pub cancelled: BTreeSet<AttemptKey>,
    pub forgotten: BTreeSet<AttemptKey>,
    pub covered: Covered,
    /// Output of all sessions.
    pub stored: Covered,
    next: u128,
}

impl Host {
    /// Makes a command; some are forged, some of an old epoch, some too late, some with locks.
    pub fn command(&mut self, rng: &mut SmallRng, host_ms: i64) -> AttemptKey {
        self.next += 1;
        let key = attempt(self.next, rng.random_range(1..=3));
        let mut plan = plan(vec![step("true", &["x"]); rng.random_range(1..=2)]);
        if rng.random_bool(0.3) {
            plan.locks = vec![format!("lock-{}", rng.random_range(0..2))];
        }
        if rng.random_bool(0.05) {
            plan.steps[0].program = "forbidden".to_owned();
        }
        let mut envelope = envelope(key, plan, host_ms + rng.random_range(0..20_000));
        if rng.random_bool(0.05) {
            envelope.max_attempts = 0;
        }
        let mut signed = seal(&envelope, &cluster_key());
        if rng.random_bool(0.05) {
            signed.signature = seal(&envelope, &ed25519_dalek::SigningKey::from_bytes(&[9; 32])).signature;
        }
        let command = Command {
            attempt: key,
            start_within_ms: rng.random_range(0..15_000),
            finish_within_ms: rng.random_bool(0.2).then(|| rng.random_range(1..20_000)),
            kill_after_ms: rng.random_bool(0.3).then(|| rng.random_range(0..3_000)),
            envelope: signed,
            secret_key: None,
            traceparent: None,
        };
        self.commands.insert(key, (command, envelope));
        key
    }

    pub fn challenge(&self) -> HostFrame {
        HostFrame::Challenge(challenge())
    }

    pub fn welcome(&mut self, hello: &Hello, host_ms: i64, epoch: u64, says_what_it_has: bool) -> HostFrame {
        let have: Vec<Have> = match says_what_it_has {
            true => {
                let listed =
                    hello.unfinished.iter().map(|held| held.attempt).chain(hello.unacknowledged.iter().copied());
                listed.map(|attempt| self.have(attempt)).collect()
            }
            false => Vec::new(),
        };
        for have in &have {
            for (stream, offset) in [(Stream::Stdout, have.stdout), (Stream::Stderr, have.stderr)] {
                self.covered.insert((have.attempt, stream), vec![(0, offset)]);
            }
        }
        let open = |attempt: &AttemptKey| !self.results.contains_key(attempt);
        let listed: Vec<AttemptKey> = hello.unfinished.iter().map(|unfinished| unfinished.attempt).collect();
        HostFrame::Welcome(Welcome {
            session_epoch: epoch,
            now_ms: host_ms,
            heartbeat_ms: 1_000,
            telemetry_ms: 0,
            telemetry_jitter_ms: None,
            max_concurrency: 3,
            send: hello.unacknowledged.iter().copied().filter(open).collect(),
            cancel: self
                .cancelled
                .iter()
                .copied()
                .filter(open)
                .map(|attempt| Cancel { attempt, grace_ms: None })
                .collect(),
            forget: self.forgotten.iter().copied().filter(|attempt| listed.contains(attempt)).collect(),
            run: listed.into_iter().filter(open).collect(),
            have,
        })
    }

    /// Takes a frame; answers what to say to it.
    pub fn hear(&mut self, frame: AgentFrame) -> Option<HostFrame> {
        match frame {
            AgentFrame::Output(output) => {
                let bytes = STANDARD.decode(&output.data).expect("base64").len() as u64;
                let range = (output.offset, output.offset + bytes);
                for sent in [&mut self.covered, &mut self.stored] {
                    sent.entry((output.attempt, output.stream)).or_default().push(range);
                }
                None
            }
            AgentFrame::Result { attempt, outcome, .. } => {
                let forged = matches!(outcome.end, End::Rejected { cause: RejectCause::Signature, .. });
                // What is not signed for the agent is answered and not remembered, so a CANCEL for it later
                // has its own answer; neither says that anything was started.
                let refused = End::Rejected { cause: RejectCause::Signature, message: String::new() };
                let kind = |end: &End| std::mem::discriminant(end);
                match self.results.insert(attempt, outcome.clone()) {
                    Some(known) if kind(&known.end) == kind(&refused) || forged => {
                        assert!(
                            outcome.steps.is_empty() && known.steps.is_empty(),
                            "{attempt}: {known:?}, {outcome:?}"
                        );
                    }
                    Some(known) => assert_eq!(known, outcome, "{attempt} ended in two ways"),
                    None => {}
                }
                (!forged).then_some(HostFrame::ResultAck { attempt })
            }
            AgentFrame::Error(fault) => panic!("the agent complains: {fault:?}"),
            AgentFrame::Hello(_)
            | AgentFrame::Ack { .. }
            | AgentFrame::Started { .. }
            | AgentFrame::Telemetry { .. }
            | AgentFrame::NewKey(_)
            | AgentFrame::Heartbeat { .. }
            | AgentFrame::Goodbye(_) => None,
        }
    }

    /// Whether every kept byte of `outcome` was sent in this session.
    pub fn has_output(&self, attempt: AttemptKey, outcome: &Outcome) -> bool {
        [(Stream::Stdout, &outcome.stdout), (Stream::Stderr, &outcome.stderr)].into_iter().all(|(stream, end)| {
            let sent = |from: u64| reach(&self.covered, (attempt, stream), from);
            sent(0) >= end.head && sent(end.bytes - end.tail) >= end.bytes
        })
    }

    /// What it has of an attempt from the start on, without a gap.
    fn have(&self, attempt: AttemptKey) -> Have {
        let stored = |stream| reach(&self.stored, (attempt, stream), 0);
        Have { attempt, stdout: stored(Stream::Stdout), stderr: stored(Stream::Stderr) }
    }
}

/// How far the ranges of a stream reach without a gap.
fn reach(sent: &Covered, stream: (AttemptKey, Stream), from: u64) -> u64 {
    let mut ranges = sent.get(&stream).cloned().unwrap_or_default();
    ranges.sort_unstable();
    ranges.iter().fold(from, |reached, (start, stop)| if *start <= reached { reached.max(*stop) } else { reached })
}
