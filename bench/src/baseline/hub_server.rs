//! The bare hub's process: a WebSocket door, JSON COMMAND out, JSON RESULT in, nothing stored, nobody
//! asked who he is. It times itself, so that a round trip has no third party in it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::child::Hail;
use crate::frames::Heard;
use crate::latency::{Quantiles, Recorder};
use crate::schedule::{Schedule, Window, now_ns, sleep_until};

/// Socket buffers, as small as the product's.
const BUFFER_BYTES: usize = 4 * 1024;
/// Frames waiting for one agent.
const OUTBOX: usize = 1024;
/// Longest wait for agents to be there, and for the last results of a phase.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the parent asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Order {
    /// Keeps `in_flight` commands under way.
    Closed { agents: usize, in_flight: usize, warmup_ms: u64, duration_ms: u64 },
    /// Sends at fixed times.
    Open { agents: usize, rate: f64, warmup_ms: u64, duration_ms: u64 },
    /// Says nothing and counts the samples that come.
    Receive { agents: usize, warmup_ms: u64, duration_ms: u64 },
    /// One command to all agents, `repeat` times; the first is warm-up.
    Fanout { agents: usize, repeat: usize },
}

/// What the hub answers: [`Word::Begun`] when the measured part begins, then [`Word::Done`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// The warm-up is over.
    Begun,
    /// The phase is over.
    Done { operations: u64, rate: f64, achieved_share: f64, latency: Quantiles },
}

struct Phase {
    closed: bool,
    window: Window,
    recorder: Recorder,
    inside: AtomicU64,
    on_time: AtomicU64,
    outstanding: AtomicUsize,
    quiet: Notify,
}

impl Phase {
    fn new(closed: bool, window: Window) -> Arc<Phase> {
        Arc::new(Phase {
            closed,
            window,
            recorder: Recorder::default(),
            inside: AtomicU64::new(0),
            on_time: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            quiet: Notify::new(),
        })
    }

    async fn drained(&self) -> Result<()> {
        let all = async {
            loop {
                let quiet = self.quiet.notified();
                tokio::pin!(quiet);
                quiet.as_mut().enable();
                if self.outstanding.load(Ordering::Acquire) == 0 {
                    return;
                }
                quiet.await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.context("results are missing")
    }
}

struct Hub {
    agents: RwLock<Vec<mpsc::Sender<Utf8Bytes>>>,
    joined: Notify,
    next: AtomicUsize,
    phase: RwLock<Arc<Phase>>,
}

#[derive(Serialize)]
struct Command<'a> {
    r#type: &'static str,
    attempt: &'a str,
    start_within_ms: u64,
    program: &'static str,
    args: [&'static str; 2],
    run_timeout_ms: u64,
}

/// A COMMAND whose attempt carries its due time, so that the RESULT brings it back.
fn command(due: u64) -> Utf8Bytes {
    let attempt = format!("{due}/1");
    let command = Command {
        r#type: "COMMAND",
        attempt: &attempt,
        start_within_ms: 3_600_000,
        program: "true",
        args: ["--with", "some-arguments"],
        run_timeout_ms: 60_000,
    };
    serde_json::to_string(&command).expect("a command holds nothing that JSON cannot").into()
}

impl Hub {
    /// Sends one command, which was due at `due`, to the next agent.
    fn dispatch(&self, phase: &Phase, due: u64) {
        let agents = self.agents.read().expect("no holder panics");
        let agent = &agents[self.next.fetch_add(1, Ordering::Relaxed) % agents.len()];
        phase.outstanding.fetch_add(1, Ordering::AcqRel);
        // A full outbox leaves its command outstanding, and the phase fails: it is not to be hidden.
        _ = agent.try_send(command(due));
    }

    fn heard(&self, text: &str) {
        let Some(heard) = Heard::read(text) else { return };
        if heard.kind == "TELEMETRY" {
            let phase = self.phase.read().expect("no holder panics");
            phase.inside.fetch_add(u64::from(phase.window.holds(now_ns())), Ordering::Relaxed);
            return;
        }
        if heard.kind != "RESULT" {
            return;
        }
        let due = heard.attempt.and_then(|attempt| attempt.split('/').next()).and_then(|due| due.parse::<u64>().ok());
        let Some(due) = due else { return };
        let phase = self.phase.read().expect("no holder panics").clone();
        let now = now_ns();
        if phase.window.holds(now) {
            phase.inside.fetch_add(1, Ordering::Relaxed);
        }
        if phase.window.holds(due) {
            phase.recorder.record(due as usize, now - due);
            if now < phase.window.to + 1_000_000_000 {
                phase.on_time.fetch_add(1, Ordering::Relaxed);
            }
        }
        if phase.closed && now < phase.window.to {
            self.dispatch(&phase, now);
        }
        if phase.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            phase.quiet.notify_waiters();
        }
    }

    async fn obey(self: &Arc<Hub>, order: Order) -> Result<Word> {
        let (wanted, warmup, duration) = match &order {
            Order::Closed { agents, warmup_ms, duration_ms, .. }
            | Order::Open { agents, warmup_ms, duration_ms, .. }
            | Order::Receive { agents, warmup_ms, duration_ms } => {
                (*agents, Duration::from_millis(*warmup_ms), Duration::from_millis(*duration_ms))
            }
            Order::Fanout { agents, .. } => (*agents, Duration::ZERO, PATIENCE * 10),
        };
        tokio::time::timeout(PATIENCE, self.assembled(wanted)).await.context("agents are missing")?;
        let window = Window::after(warmup, duration);
        let phase = Phase::new(matches!(order, Order::Closed { .. }), window);
        *self.phase.write().expect("no holder panics") = phase.clone();
        let mut offered = 0;
        let mut driver = None;
        match order {
            Order::Fanout { repeat, .. } => return self.fan_out(&phase, repeat).await,
            Order::Receive { .. } => {}
            Order::Closed { in_flight, .. } => (0..in_flight).for_each(|_| self.dispatch(&phase, now_ns())),
            Order::Open { rate, .. } => {
                let schedule = Schedule::constant(rate, warmup + duration);
                let start = window.from - u64::try_from(warmup.as_nanos()).unwrap_or(0);
                offered = schedule.due(start).filter(|due| window.holds(*due)).count();
                let (hub, phase) = (self.clone(), phase.clone());
                driver = Some(std::thread::spawn(move || {
                    for due in schedule.due(start) {
                        sleep_until(due);
                        hub.dispatch(&phase, due);
                    }
                }));
            }
        }
        tokio::time::sleep(Duration::from_nanos(window.from.saturating_sub(now_ns()))).await;
        say(&Word::Begun);
        tokio::time::sleep(Duration::from_nanos(window.to.saturating_sub(now_ns()))).await;
        let operations = phase.inside.load(Ordering::Relaxed);
        if let Some(driver) = driver {
            driver.join().ok().context("the schedule's thread panicked")?;
        }
        phase.drained().await?;
        let on_time = phase.on_time.load(Ordering::Relaxed) as f64;
        let achieved_share = if offered > 0 { on_time / offered as f64 } else { 1.0 };
        Ok(Word::Done {
            operations,
            rate: operations as f64 / window.seconds(),
            achieved_share,
            latency: phase.recorder.quantiles(),
        })
    }

    async fn fan_out(&self, phase: &Phase, repeat: usize) -> Result<Word> {
        let whole = Recorder::default();
        let mut began = now_ns();
        let mut operations = 0;
        for round in 0..repeat {
            if round == 1 || repeat == 1 {
                began = now_ns();
                say(&Word::Begun);
            }
            let due = now_ns();
            {
                let agents = self.agents.read().expect("no holder panics");
                phase.outstanding.store(agents.len(), Ordering::Release);
                let text = command(due);
                for agent in agents.iter() {
                    _ = agent.try_send(text.clone());
                }
                operations += if round == 0 && repeat > 1 { 0 } else { agents.len() as u64 };
            }
            phase.drained().await?;
            if round > 0 || repeat == 1 {
                whole.record(0, now_ns() - due);
            }
        }
        let seconds = (now_ns() - began) as f64 / 1e9;
        Ok(Word::Done {
            operations,
            rate: operations as f64 / seconds,
            achieved_share: 1.0,
            latency: whole.quantiles(),
        })
    }

    async fn assembled(&self, wanted: usize) {
        loop {
            let joined = self.joined.notified();
            tokio::pin!(joined);
            joined.as_mut().enable();
            if self.agents.read().expect("no holder panics").len() >= wanted {
                return;
            }
            joined.await;
        }
    }
}

fn say(word: &impl Serialize) {
    println!("{}", serde_json::to_string(word).expect("a word holds nothing that JSON cannot"));
}

async fn upgrade(State(hub): State<Arc<Hub>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .on_upgrade(move |socket| converse(hub, socket))
}

async fn converse(hub: Arc<Hub>, mut socket: WebSocket) {
    let (outbox, mut waiting) = mpsc::channel(OUTBOX);
    hub.agents.write().expect("no holder panics").push(outbox);
    hub.joined.notify_waiters();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => hub.heard(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
            },
            Some(text) = waiting.recv() => {
                let mut fed = socket.feed(Message::Text(text)).await;
                while let Ok(text) = waiting.try_recv() {
                    fed = fed.and(socket.feed(Message::Text(text)).await);
                }
                if fed.is_err() || socket.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Runs the hub until standard input ends.
///
/// # Errors
/// When it cannot listen, or an order cannot be carried out.
pub async fn serve() -> Result<()> {
    let hub = Arc::new(Hub {
        agents: RwLock::default(),
        joined: Notify::new(),
        next: AtomicUsize::new(0),
        phase: RwLock::new(Phase::new(false, Window { from: 0, to: 0 })),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&Hail { listening: listener.local_addr()?, token: None });
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let router = Router::new().route(wire::limits::PATH, get(upgrade)).with_state(hub.clone());
    let mut door = JoinSet::new();
    door.spawn(async move { axum::serve(listener, router).await });
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            order = orders.next_line() => match order? {
                None => return Ok(()),
                Some(line) => {
                    let order = serde_json::from_str(&line).context("order")?;
                    say(&hub.obey(order).await?);
                }
            },
            Some(ended) = door.join_next() => bail!("the door closed: {ended:?}"),
        }
    }
}
