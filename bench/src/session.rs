//! One simulated agent: a real socket, the real handshake, and the answers of a process that ends at
//! once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use plan::envelope::{SignedEnvelope, hello_parts, sign};
use plan::id::{AttemptKey, CommandId};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;
use wire::codec::{decode, encode};
use wire::facts::Facts;
use wire::frame::{AgentFrame, Goodbye, Hello, HostFrame, Welcome};
use wire::limits::{MAX_FRAME_BYTES, PROTOCOL_VERSION};
use wire::sample::{Disk, Sample, Usage};

use crate::behaviour::Shared;
use crate::frames::{Answers, Heard};
use crate::http::Origin;
use crate::identity::Identity;
use crate::schedule::now_ns;

/// Socket buffers. The library's defaults cost 138 KiB a connection.
const BUFFER_BYTES: usize = 4 * 1024;
/// Agents that share one source address; there are about 28,000 ephemeral ports behind each.
const AGENTS_PER_ADDRESS: usize = 20_000;

/// A WebSocket as agents use it.
pub type Socket = WebSocketStream<TcpStream>;

/// Opens a WebSocket with small buffers and without Nagle's delay. `index` is the agent's number.
///
/// # Errors
/// When the host cannot be reached or does not take the upgrade.
pub async fn open(origin: &Origin, path: &str, index: usize) -> Result<Socket> {
    let socket = TcpSocket::new_v4()?;
    if let block @ 1.. = index / AGENTS_PER_ADDRESS {
        let third = u8::try_from(block + 1).context("more agents than source addresses")?;
        socket.bind(SocketAddr::from(([127, 0, third, 1], 0)))?;
    }
    let stream = socket.connect(origin.address).await.with_context(|| format!("connect to {}", origin.address))?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let url = format!("ws://{}{path}", origin.authority);
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.context("upgrade")?;
    Ok(socket)
}

/// CHALLENGE, HELLO, WELCOME.
///
/// # Errors
/// When the host is another installation, refuses, or says something else.
pub async fn greet(socket: &mut Socket, shared: &Shared, identity: &Identity) -> Result<Welcome> {
    let HostFrame::Challenge(challenge) = next_frame(socket).await? else { bail!("the first frame was no CHALLENGE") };
    if challenge.cluster_id != shared.cluster {
        bail!("the host is installation {}, the agents joined {}", challenge.cluster_id, shared.cluster);
    }
    if !challenge.versions.contains(&PROTOCOL_VERSION) {
        bail!("the host speaks versions {:?}, not {PROTOCOL_VERSION}", challenge.versions);
    }
    let nonce = URL_SAFE_NO_PAD.decode(&challenge.nonce).context("nonce")?;
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        agent_id: identity.id,
        signature: sign(&identity.key, &[&hello_parts(shared.cluster, identity.id, &nonce)]),
        facts: Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            os: "linux".to_owned(),
            kernel: "6.1.0".to_owned(),
            arch: "x86_64".to_owned(),
            hostname: identity.name.clone(),
            capabilities: vec!["exec".to_owned()],
            boot_id: "bench".to_owned(),
            ..Facts::default()
        },
        next_key: None,
        unfinished: Vec::new(),
        unacknowledged: Vec::new(),
    };
    socket.send(Message::text(encode(&AgentFrame::Hello(hello)))).await?;
    match next_frame(socket).await? {
        HostFrame::Welcome(welcome) => Ok(welcome),
        HostFrame::Error(fault) => bail!("the host refused: {}: {}", fault.code, fault.message),
        other => bail!("expected WELCOME, not {other:?}"),
    }
}

async fn next_frame(socket: &mut Socket) -> Result<HostFrame> {
    loop {
        match socket.next().await.context("the host closed the socket")?? {
            Message::Text(text) => return Ok(decode(&text)?),
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("expected a frame, not {other:?}"),
        }
    }
}

/// Samples that leave in one write where they come more often than heartbeats.
pub const AT_ONCE: u32 = 4;

/// When an agent speaks of itself next.
struct Due {
    beat: Instant,
    sample: Instant,
}

impl Due {
    /// When there is something to say; samples that come in lumps wait for the last of each.
    fn next(&self, speaks: bool, lump: Option<Duration>) -> Instant {
        match lump {
            _ if !speaks => self.beat,
            Some(lump) => self.beat.min(self.sample + lump),
            None => self.beat.min(self.sample),
        }
    }
}

/// Holds one session until told to stop.
pub struct Conversation {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
    socket: Socket,
    welcome: Welcome,
    opened: Instant,
    /// Attempts answered and not acknowledged.
    under_way: Vec<String>,
    heard: u64,
}

impl Conversation {
    /// A session just opened.
    pub fn new(shared: Arc<Shared>, identity: Arc<Identity>, socket: Socket, welcome: Welcome) -> Conversation {
        Conversation { shared, identity, socket, welcome, opened: Instant::now(), under_way: Vec::new(), heard: 0 }
    }

    /// Answers until `stop`; `index` spreads the heartbeats of many agents over their interval.
    ///
    /// # Errors
    /// When the host ends the session first.
    pub async fn run(mut self, index: usize, stop: CancellationToken) -> Result<()> {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        let every = Duration::from_millis(self.welcome.heartbeat_ms.max(1));
        let asked = Duration::from_millis(self.welcome.telemetry_ms);
        let sampled = self.shared.behaviour.sample_every.unwrap_or(asked);
        let phase = |index: usize| (index % 1000) as f64 / 1000.0;
        // What an agent says of its machine has its own moment, as a real one's has, not that of its heartbeat.
        let first = self.opened + sampled.mul_f64(phase(index * 617));
        let mut due = Due { beat: self.opened + every.mul_f64(phase(index)), sample: first };
        // Samples that come more often than heartbeats leave a few at a time, as the bare door's do.
        let lump = self.shared.behaviour.sample_every.map(|sampled| every.min(sampled * AT_ONCE));
        let speaks = !sampled.is_zero() && self.shared.behaviour.telemetry;
        let mut beat = Box::pin(sleep_until(due.next(speaks, lump)));
        loop {
            tokio::select! {
                biased;
                message = self.socket.next() => {
                    let message = message.context("the host closed the socket")??;
                    let mut wrote = self.hear(message).await?;
                    // What has arrived with it is answered with it.
                    while let Some(message) = self.socket.next().now_or_never() {
                        wrote |= self.hear(message.context("the host closed the socket")??).await?;
                    }
                    if wrote {
                        self.socket.flush().await?;
                    }
                }
                () = beat.as_mut() => {
                    self.beat(&mut due, every, sampled).await?;
                    beat.as_mut().reset(due.next(speaks, lump));
                }
                () = &mut stopped => {
                    let bye = Goodbye { reason: "the run is over".to_owned(), retry_after_ms: None };
                    _ = self.socket.send(Message::text(encode(&AgentFrame::Goodbye(bye)))).await;
                    _ = tokio::time::timeout(Duration::from_secs(2), self.socket.close(None)).await;
                    return Ok(());
                }
            }
        }
    }

    /// Says that it lives, and how its machine is and was, as often as either is due.
    async fn beat(&mut self, due: &mut Due, every: Duration, sampled: Duration) -> Result<()> {
        let now = Instant::now();
        if now >= due.beat {
            due.beat = now + every;
            let attempts = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX);
            self.socket.feed(Message::text(encode(&AgentFrame::Heartbeat { attempts }))).await?;
        }
        if self.shared.behaviour.telemetry && !sampled.is_zero() {
            for _ in 0..2 * AT_ONCE {
                if now < due.sample {
                    break;
                }
                let after = i64::try_from((due.sample - self.opened).as_millis()).unwrap_or(i64::MAX);
                let sample = sample(self.welcome.now_ms + after);
                self.socket.feed(Message::text(encode(&AgentFrame::Telemetry { sample }))).await?;
                due.sample += sampled;
            }
        }
        self.socket.flush().await?;
        Ok(())
    }

    /// Takes one message in; says whether something waits to be flushed.
    async fn hear(&mut self, message: Message) -> Result<bool> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(true),
            other => bail!("the host ended the session: {other:?}"),
        };
        let heard = Heard::read(&text).with_context(|| format!("no frame: {text}"))?;
        match heard.kind {
            "COMMAND" => self.command(&heard).await,
            "RESULT_ACK" => {
                let attempt = heard.attempt.context("RESULT_ACK names no attempt")?;
                let key: AttemptKey = attempt.parse()?;
                if let Some(place) = self.under_way.iter().position(|held| held == attempt) {
                    self.under_way.swap_remove(place);
                    let acks = self.shared.acks.read().expect("no holder panics").clone();
                    acks.acked(key.command.0.as_u128(), now_ns());
                }
                Ok(false)
            }
            // Every attempt has its RESULT on the way already; there is nothing to end.
            "CANCEL" => Ok(false),
            other => bail!("the host said {other}: {text}"),
        }
    }

    async fn command(&mut self, heard: &Heard<'_>) -> Result<bool> {
        let attempt = heard.attempt.context("COMMAND names no attempt")?;
        let tally = &self.shared.tally;
        tally.commands.fetch_add(1, Ordering::Relaxed);
        if self.under_way.iter().any(|held| held == attempt) {
            tally.repeated.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        self.heard += 1;
        let every = u64::from(self.shared.behaviour.verify_every);
        if every > 0 && (self.heard - 1).is_multiple_of(every) {
            tally.verified.fetch_add(1, Ordering::Relaxed);
            if !self.genuine(heard, attempt.parse::<AttemptKey>()?.command) {
                tally.forged.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
        }
        self.under_way.push(attempt.to_owned());
        let shared = self.shared.clone();
        let answers = &shared.behaviour.answers;
        self.say(Answers::ack(attempt)).await?;
        self.say(Answers::started(attempt)).await?;
        for output in answers.output(attempt) {
            self.say(output).await?;
        }
        self.say(answers.result(attempt)).await?;
        Ok(true)
    }

    fn genuine(&self, heard: &Heard<'_>, command: CommandId) -> bool {
        let (Some(signed), Some(signature)) = (heard.signed, heard.signature) else { return false };
        let sealed = SignedEnvelope { signed: signed.to_owned(), signature: signature.to_owned() };
        sealed
            .open(&self.shared.cluster_key)
            .is_ok_and(|envelope| envelope.agent_id == self.identity.id && envelope.command_id == command)
    }

    async fn say(&mut self, frame: String) -> Result<()> {
        self.socket.feed(Message::text(frame)).await?;
        if self.shared.behaviour.flush_each {
            self.socket.flush().await?;
        }
        Ok(())
    }
}

/// A sample of the usual size.
pub fn sample(at_ms: i64) -> Sample {
    let usage = |used_bytes, total_bytes| Usage { used_bytes, total_bytes };
    Sample {
        at_ms,
        cpu_percent: Some(12.5),
        load: Some([0.42, 0.37, 0.31]),
        memory: Some(usage(1_503_238_553, 8_589_934_592)),
        swap: Some(usage(0, 1_073_741_824)),
        disks: vec![Disk { mount: "/".to_owned(), usage: usage(21_474_836_480, 107_374_182_400) }],
        ..Sample::default()
    }
}
