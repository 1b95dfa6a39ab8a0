//! Whoever writes into the store: rows are changed at random, and the agents are sent whatever the store then
//! says is due, unchecked, as a host would that never looked. What starts is what the cluster signed, for
//! that agent, in its time, and each attempt of it once.
//!
//! `VIWORKS_FORGERIES` is the number of changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use agent::clock::Now;
use agent::config::SpoolLimits;
use agent::journal::Recovered;
use agent::machine::{Input, Machine, Output, Setup};
use agent::policy::Policy;
use agent::supervisor::protocol::{Event, Request};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::local::Local;
use ed25519_dalek::SigningKey;
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, SignedEnvelope, epoch_parts, seal, sign};
use plan::id::{AgentId, AttemptKey, ClusterId, CommandId};
use plan::outcome::{End, Outcome};
use plan::step::{Plan, Step};
use ports::commands::{Commands as _, Due};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use storage::sqlite::{Options, SqliteStore, open};
use tests::load::times;
use tests::oracle::tell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wire::codec::encode;
use wire::frame::{AgentFrame, Challenge, Command, HostFrame, Welcome};

use crate::fixtures::{self, Machine as Row};

const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(1));
/// The cluster's epoch; there is a backup of the one before.
const EPOCH: u64 = 2;
const NOW: Now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
const HOUR_MS: i64 = 3_600_000;
const COMMANDS: usize = 60;
const MAX_ATTEMPTS: u32 = 3;
/// Changes between two looks at what is due.
const STEP: usize = 10;

fn cluster_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A word that an envelope has its agent say, and until when.
fn envelope(command: CommandId, agent: AgentId, word: &str, change: impl FnOnce(&mut Envelope)) -> Envelope {
    let step = Step { args: vec![word.to_owned()], ..Step::new("true") };
    let mut envelope = Envelope {
        cluster_id: CLUSTER,
        epoch: EPOCH,
        command_id: command,
        agent_id: agent,
        verb: "docker.ps".to_owned(),
        plugin_digest: "d1".repeat(32),
        plan: Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: "x".to_owned() },
        limits: RunLimits { run_timeout_ms: 1_000, output_bytes: 1_024, grace_ms: 10 },
        not_after_ms: NOW.wall_ms + HOUR_MS,
        max_attempts: MAX_ATTEMPTS,
        submitter: "ada".to_owned(),
        secrets: None,
    };
    change(&mut envelope);
    envelope
}

/// An agent's protocol core between a host that believes its store and a supervisor that runs all it is asked to.
struct Played {
    id: AgentId,
    machine: Machine,
    /// What was started, with the words it was given.
    started: Vec<(AttemptKey, Vec<String>)>,
    refused: usize,
}

impl Played {
    fn new(id: AgentId) -> Played {
        let setup = Setup {
            agent_id: id,
            cluster_id: CLUSTER,
            cluster_key: cluster_key().verifying_key(),
            key: SigningKey::from_bytes(&[5; 32]),
            next_key: None,
            boot_id: "boot".to_owned(),
            policy: Policy::of(&Effect::ALL, &[("true", "/bin/true")]).expect("every machine has it"),
            spool: SpoolLimits::default(),
            seed: 1,
        };
        let machine = Machine::new(setup, Recovered::default(), NOW);
        let mut played = Played { id, machine, started: Vec::new(), refused: 0 };
        let hello = Event::Hello { instance: "s".to_owned(), pid: 1, attempts: Vec::new() };
        played.tell(Input::Supervisor(hello));
        played.open();
        played
    }

    fn open(&mut self) {
        self.tell(Input::Opened { facts: Box::default() });
        self.say(&HostFrame::Challenge(Challenge {
            nonce: URL_SAFE_NO_PAD.encode([3; 32]),
            cluster_id: CLUSTER,
            cluster_epoch: EPOCH,
            epoch_signature: Some(sign(&cluster_key(), &[&epoch_parts(CLUSTER, EPOCH)])),
            keys: Vec::new(),
            versions: vec![1],
        }));
        self.say(&HostFrame::Welcome(Welcome {
            session_epoch: 1,
            now_ms: NOW.wall_ms,
            heartbeat_ms: 60_000,
            telemetry_ms: 0,
            telemetry_jitter_ms: None,
            max_concurrency: 100,
            send: Vec::new(),
            cancel: Vec::new(),
            forget: Vec::new(),
            run: Vec::new(),
            have: Vec::new(),
        }));
        assert!(self.machine.in_session(), "the handshake is as it should be");
    }

    fn send(&mut self, attempt: AttemptKey, envelope: SignedEnvelope) {
        let (kill_after_ms, finish_within_ms, traceparent) = (None, None, None);
        let start_within_ms = 60_000;
        self.say(&HostFrame::Command(Command {
            attempt,
            start_within_ms,
            kill_after_ms,
            finish_within_ms,
            envelope,
            secret_key: None,
            traceparent,
        }));
    }

    fn say(&mut self, frame: &HostFrame) {
        self.tell(Input::Text(encode(frame)));
    }

    /// Has it take this in, and does all it wants done at once.
    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.machine.handle(input, NOW);
            let mut written = 0;
            while let Some(output) = self.machine.poll() {
                match output {
                    Output::Journal(_) => written += 1,
                    Output::Supervise(Request::Start { launch }) => {
                        let words = launch.steps.iter().flat_map(|step| step.args.clone()).collect();
                        self.started.push((launch.attempt, words));
                        let outcome = Outcome::not_started(End::Exited);
                        inputs.push(Input::Supervisor(Event::Ended { attempt: launch.attempt, outcome }));
                    }
                    Output::Frame(AgentFrame::Result { attempt, outcome, .. }) => {
                        self.refused += usize::from(matches!(outcome.end, End::Rejected { .. }));
                        inputs.push(Input::Text(encode(&HostFrame::ResultAck { attempt })));
                    }
                    Output::Recall(attempt) => inputs.push(Input::Recalled(attempt, None)),
                    Output::Salvage { attempt, .. } => inputs.push(Input::Salvaged(attempt, Default::default())),
                    Output::Close { .. } => inputs.push(Input::Closed),
                    Output::Supervise(_) | Output::Frame(_) | Output::Ping | Output::Sample | Output::Discard(_) => {}
                    Output::MakeKey | Output::KeepCertificate(_) | Output::AdoptKey => {}
                }
            }
            if written > 0 {
                inputs.push(Input::Durable(written));
            }
        }
    }
}

/// What the schema refused.
const REFUSED: &str = "refused by the schema";

/// How a row is changed.
enum Change {
    /// It gets this envelope and this signature.
    Envelope(String, String),
    /// This is done to it.
    Row(&'static str),
}

/// What the cluster signed, and what somebody who read everything has put by.
struct Signed {
    /// What may start: the words, by command and agent.
    good: HashMap<(CommandId, AgentId), String>,
    /// Genuine envelopes that must not start any more: of the epoch before, past their time, of another cluster.
    stale: Vec<SignedEnvelope>,
}

async fn fill(store: &SqliteStore, agents: &[Row]) -> Signed {
    let mut signed = Signed { good: HashMap::new(), stale: Vec::new() };
    for number in 0..COMMANDS {
        let row = &agents[number % agents.len()];
        let mut new = fixtures::command(&[row]);
        let (id, word) = (new.command.id, format!("w{number}"));
        new.invocations[0].envelope = seal(&envelope(id, row.id, &word, |_| {}), &cluster_key());
        store.accept(new).await.expect("accepted");
        signed.good.insert((id, row.id), word);
        let changes: [fn(&mut Envelope); 3] = [
            |envelope| envelope.epoch = EPOCH - 1,
            |envelope| envelope.not_after_ms = NOW.wall_ms - 1,
            |envelope| envelope.cluster_id = ClusterId(Uuid::from_u128(2)),
        ];
        for change in changes {
            signed.stale.push(seal(&envelope(id, row.id, "stale", change), &cluster_key()));
        }
    }
    signed
}

/// Changes one row as whoever can write the store may; says how.
async fn forge(rng: &mut StdRng, store: &mut SqliteConnection, signed: &Signed, agents: &[Row]) -> &'static str {
    let any = "select id, command_id, agent_id, signed, signature from invocations order by random() limit 2";
    let two: Vec<(i64, Uuid, Uuid, String, String)> = sqlx::query_as(any).fetch_all(&mut *store).await.expect("read");
    let [(row, command, agent, _, _), (_, _, _, theirs, their_signature)] = <[_; 2]>::try_from(two).expect("two rows");
    let invented = envelope(CommandId(command), AgentId(agent), "evil", |envelope| {
        if rng.random_bool(0.5) {
            (envelope.max_attempts, envelope.not_after_ms) = (99, i64::MAX);
        }
    });
    // Only its bytes are used: a signature over what was invented is what an intruder does not have.
    let invented_bytes = seal(&invented, &cluster_key()).signed;
    let (what, change) = match rng.random_range(0..12) {
        0 => ("swapped", Change::Envelope(theirs, their_signature)),
        1 => {
            let another = &signed.stale[rng.random_range(0..signed.stale.len())];
            ("mixed", Change::Envelope(theirs, another.signature.clone()))
        }
        2 => {
            let mut bytes = URL_SAFE_NO_PAD.decode(&theirs).unwrap_or_default();
            let at = rng.random_range(0..bytes.len().max(1));
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8));
            ("flipped", Change::Envelope(URL_SAFE_NO_PAD.encode(bytes), their_signature))
        }
        3 => {
            let SignedEnvelope { signed, signature } = seal(&invented, &SigningKey::from_bytes(&[9; 32]));
            ("signed by a stranger", Change::Envelope(signed, signature))
        }
        4 => ("rewritten", Change::Envelope(invented_bytes, their_signature)),
        5 => {
            let SignedEnvelope { signed, signature } = signed.stale[rng.random_range(0..signed.stale.len())].clone();
            ("an old one put back", Change::Envelope(signed, signature))
        }
        6 => ("moved to another agent", Change::Row("update or ignore invocations set agent_id = ?2 where id = ?1")),
        7 => ("renumbered", Change::Row("update invocations set attempt = 1 + abs(random() % 6) where id = ?1")),
        8 => ("its end undone", Change::Row("update invocations set state = 'queued', reason = null where id = ?1")),
        9 => {
            ("its time stretched", Change::Row("update invocations set start_by = start_by + 1000000000 where id = ?1"))
        }
        10 => (
            "another intent",
            Change::Row(
                "update commands set verb = 'exec.run', args = '{\"evil\":1}', plugin_digest = 'ff', max_retries = 99 \
                 where id = (select command_id from invocations where id = ?1)",
            ),
        ),
        _ => (
            "taken up by another command",
            Change::Row(
                "update or ignore invocations set command_id = (select id from commands order by random() limit 1) \
                 where id = ?1",
            ),
        ),
    };
    let done = match change {
        Change::Envelope(signed, signature) => {
            let text = "update invocations set signed = ?, signature = ?, state = 'queued' where id = ?";
            sqlx::query(text).bind(signed).bind(signature).bind(row).execute(&mut *store).await
        }
        Change::Row(text) if text.contains("?2") => {
            let elsewhere = agents[rng.random_range(0..agents.len())].id;
            sqlx::query(text).bind(row).bind(elsewhere.0).execute(&mut *store).await
        }
        Change::Row(text) => sqlx::query(text).bind(row).execute(&mut *store).await,
    };
    // What the schema itself refuses is no change.
    if done.is_ok_and(|done| done.rows_affected() > 0) { what } else { REFUSED }
}

#[tokio::test]
async fn nothing_starts_that_was_not_signed_for_it_whatever_is_written_into_the_store() {
    let (changes, seed) = (times("VIWORKS_FORGERIES", 10_000), rand::random::<u64>());
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("viworks.db");
    let (store, writer) = open(Options::new(&path), Arc::new(Local::default())).await.expect("opens");
    let stop = CancellationToken::new();
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(writer.run(stop.clone()));
    let mut rows = Vec::new();
    for name in ["web-1", "web-2", "db-1"] {
        rows.push(fixtures::enrol(&store, name, "eu").await);
    }
    let signed = fill(&store, &rows).await;
    let mut agents: Vec<Played> = rows.iter().map(|row| Played::new(row.id)).collect();
    let mut intruder = SqliteConnectOptions::new().filename(&path).connect().await.expect("opens");

    let (mut kinds, mut sent) = (BTreeMap::new(), 0);
    for number in 0..changes {
        let what = loop {
            match forge(&mut rng, &mut intruder, &signed, &rows).await {
                REFUSED => {}
                what => break what,
            }
        };
        *kinds.entry(what).or_insert(0) += 1;
        if number % STEP > 0 && number + 1 < changes {
            continue;
        }
        for agent in &mut agents {
            let due = store.due(agent.id, 500).await.expect("read");
            sent += due.len();
            for Due { command, attempt, envelope, .. } in due {
                let key = AttemptKey { command: command.id, number: attempt };
                agent.send(key, envelope);
            }
        }
    }
    stop.cancel();
    writing.join_all().await;

    let mut starts = HashSet::new();
    for agent in &agents {
        for (attempt, words) in &agent.started {
            let good = signed.good.get(&(attempt.command, agent.id));
            assert_eq!(good, words.first(), "seed {seed}: {attempt} started on {}", agent.id);
            assert!((1..=MAX_ATTEMPTS).contains(&attempt.number), "seed {seed}: {attempt} was never agreed to");
            assert!(starts.insert((agent.id, *attempt)), "seed {seed}: {attempt} started twice");
        }
    }
    let refused: usize = agents.iter().map(|agent| agent.refused).sum();
    tell(&format!(
        "{changes} changes of the store (seed {seed}): {kinds:?}; {sent} commands sent, {refused} refused, {} attempts started of {} signed commands, unsigned 0",
        starts.len(),
        signed.good.len()
    ));
    assert!(starts.len() >= COMMANDS / 2 && refused > changes / 10, "the store was changed and work was done");
}
