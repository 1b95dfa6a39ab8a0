//! The bare hub's other half: its agents live in the generator, as the product's do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use wire::codec::encode;
use wire::frame::AgentFrame;

use crate::baseline::hub_server::{Order, Word};
use crate::child::Server;
use crate::frames::{Answers, Heard};
use crate::http::Origin;
use crate::report::{Measured, round};
use crate::schedule::now_ns;
use crate::session::{AT_ONCE, Socket, open, sample};
use crate::usage::{Memory, Meter, memory_of};

/// Connects under way at once.
const CONNECTING: usize = 128;
/// Longest wait for one phase beyond its own length.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running hub with its agents.
pub struct Hub {
    server: Server,
    agents: JoinSet<Result<()>>,
    count: usize,
    flood: watch::Sender<bool>,
    stop: CancellationToken,
    /// The hub's memory before the first agent.
    pub before: Memory,
    /// From the first connect to the last.
    pub connected_in: Duration,
}

impl Hub {
    /// What its process is called on the command line.
    pub const ROLE: &str = "hub-server";

    /// Starts a hub and connects `count` agents that answer each COMMAND with a RESULT.
    ///
    /// # Errors
    /// When the hub does not start or an agent cannot connect.
    pub async fn start(count: usize) -> Result<Hub> {
        let server = Server::start(Hub::ROLE).await?;
        let origin = Origin::parse(&server.hail.listening.to_string())?;
        let before = memory_of(server.pid)?;
        let (stop, room) = (CancellationToken::new(), Arc::new(Semaphore::new(CONNECTING)));
        let answers = Arc::new(Answers::new(b"ok\n"));
        let (ready, mut connected) = mpsc::channel::<Result<()>>(CONNECTING);
        let mut agents = JoinSet::new();
        let (flood, flooding) = watch::channel(false);
        let began = now_ns();
        for index in 0..count {
            let (origin, room, ready) = (origin.clone(), room.clone(), ready.clone());
            let (stop, answers, flooding) = (stop.clone(), answers.clone(), flooding.clone());
            agents.spawn(async move {
                let opened = {
                    let _place = room.acquire().await.expect("never closed");
                    open(&origin, wire::limits::PATH, index).await
                };
                match opened {
                    Err(error) => {
                        _ = ready.send(Err(error)).await;
                        Ok(())
                    }
                    Ok(socket) => {
                        _ = ready.send(Ok(())).await;
                        drop(ready);
                        answer(socket, &answers, flooding, stop).await
                    }
                }
            });
        }
        drop(ready);
        while let Some(result) = connected.recv().await {
            result?;
        }
        let connected_in = Duration::from_nanos(now_ns() - began);
        Ok(Hub { server, agents, count, flood, stop, before, connected_in })
    }

    /// The hub's process.
    pub fn pid(&self) -> u32 {
        self.server.pid
    }

    /// Keeps `in_flight` commands under way for `duration`.
    ///
    /// # Errors
    /// When the hub fails.
    pub async fn closed(&mut self, in_flight: usize, warmup: Duration, duration: Duration) -> Result<Measured> {
        let order = Order::Closed { agents: self.count, in_flight, warmup_ms: ms(warmup), duration_ms: ms(duration) };
        self.phase("hub", order).await
    }

    /// Sends `rate` commands per second at fixed times.
    ///
    /// # Errors
    /// When the hub fails.
    pub async fn open(&mut self, rate: f64, warmup: Duration, duration: Duration) -> Result<Measured> {
        let order = Order::Open { agents: self.count, rate, warmup_ms: ms(warmup), duration_ms: ms(duration) };
        self.phase("hub", order).await
    }

    /// One command to all, `repeat` times; the first is warm-up.
    ///
    /// # Errors
    /// When the hub fails.
    pub async fn fan_out(&mut self, repeat: usize) -> Result<Measured> {
        let order = Order::Fanout { agents: self.count, repeat };
        self.phase("hub-fanout", order).await
    }

    /// Has every agent send samples as fast as they are taken, for `duration`.
    ///
    /// # Errors
    /// When the hub fails.
    pub async fn receive(&mut self, warmup: Duration, duration: Duration) -> Result<Measured> {
        let order = Order::Receive { agents: self.count, warmup_ms: ms(warmup), duration_ms: ms(duration) };
        self.flood.send_replace(true);
        let found = self.phase("telemetry-bare-receive", order).await;
        self.flood.send_replace(false);
        found
    }

    async fn phase(&mut self, scenario: &str, order: Order) -> Result<Measured> {
        let order = json!(order);
        let length = ["warmup_ms", "duration_ms"].iter().filter_map(|name| order.get(*name)?.as_u64()).sum();
        let within = PATIENCE + Duration::from_millis(length);
        self.server.order(&order).await?;
        let Word::Begun = self.server.hear(within).await? else { bail!("the hub ended a phase before it began") };
        let meter = Meter::start(Some(self.server.pid));
        let Word::Done { operations, rate, achieved_share, latency } = self.server.hear(within).await? else {
            bail!("the hub began a phase twice")
        };
        let cost = meter.stop();
        let mut found = Measured { operations, rate, latency, cost, ..Measured::new(scenario, order) };
        if achieved_share < 0.99 {
            found.faults.push(format!(
                "achieved {:.1} % of the offered rate: its latencies say nothing",
                achieved_share * 100.0
            ));
        }
        found.note("achieved_share", round(achieved_share));
        Ok(found)
    }

    /// Closes the agents' sockets, then the hub.
    ///
    /// # Errors
    /// When an agent lost its hub before, or the hub does not end.
    pub async fn end(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(agent) = self.agents.join_next().await {
            agent.context("an agent panicked")??;
        }
        self.server.end().await
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn answer(
    mut socket: Socket,
    answers: &Answers,
    mut flooding: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<()> {
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            message = socket.next() => {
                reply(&mut socket, answers, message.context("the hub closed the socket")??).await?;
                while let Some(message) = socket.next().now_or_never() {
                    reply(&mut socket, answers, message.context("the hub closed the socket")??).await?;
                }
                socket.flush().await?;
            }
            Ok(()) = flooding.changed() => {
                let frame = Message::text(encode(&AgentFrame::Telemetry { sample: sample(0) }));
                while *flooding.borrow_and_update() {
                    for _ in 0..AT_ONCE {
                        socket.feed(frame.clone()).await?;
                    }
                    socket.flush().await?;
                }
            }
            () = &mut stopped => return Ok(()),
        }
    }
}

async fn reply(socket: &mut Socket, answers: &Answers, message: Message) -> Result<()> {
    let Message::Text(text) = message else { return Ok(()) };
    let heard = Heard::read(&text).with_context(|| format!("no frame: {text}"))?;
    let attempt = heard.attempt.context("COMMAND names no attempt")?;
    socket.feed(Message::text(answers.result(attempt))).await?;
    Ok(())
}
