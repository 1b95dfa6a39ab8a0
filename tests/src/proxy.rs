//! A bad line between agents and their host. It reads WebSocket frames as they pass, and cuts in the
//! middle of one, holds one back, says one twice, or lets the next one go first.
//!
//! Only frames that may come twice or out of turn do: a RESULT never passes its output.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wait::whenever;

/// Frames that may be said twice.
const TWICE: [&str; 8] = ["ACK", "STARTED", "OUTPUT", "RESULT", "HEARTBEAT", "COMMAND", "RESULT_ACK", "CANCEL"];
/// Frames of which one may pass the other, in each direction.
const OUT_OF_TURN: [&[&str]; 2] = [&["ACK", "STARTED", "OUTPUT", "HEARTBEAT"], &["COMMAND", "RESULT_ACK"]];
/// Longest time a frame is held back.
const HELD_BACK: Duration = Duration::from_millis(300);
/// For this long a frame waits for the one that is to pass it.
const PASSED_WITHIN: Duration = Duration::from_millis(150);

/// The line. Dropped, everything on it is cut.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    _lines: JoinSet<()>,
}

/// How often each thing went wrong.
#[derive(Debug, Default)]
pub struct Faults {
    good: AtomicBool,
    /// Cut in the middle of a frame.
    pub cut_inside: AtomicUsize,
    /// Cut between two frames.
    pub cut_between: AtomicUsize,
    /// Held back.
    pub delayed: AtomicUsize,
    /// Said twice.
    pub twice: AtomicUsize,
    /// Passed by the next.
    pub out_of_turn: AtomicUsize,
}

impl Faults {
    /// All of them.
    pub fn all(&self) -> usize {
        let kinds = [&self.cut_inside, &self.cut_between, &self.delayed, &self.twice, &self.out_of_turn];
        kinds.into_iter().map(|kind| kind.load(Ordering::Relaxed)).sum()
    }

    /// In words.
    pub fn describe(&self) -> String {
        let count = |kind: &AtomicUsize| kind.load(Ordering::Relaxed);
        format!(
            "cut inside a frame {} times and between two {} times, {} frames held back, {} said twice, {} passed by the next",
            count(&self.cut_inside),
            count(&self.cut_between),
            count(&self.delayed),
            count(&self.twice),
            count(&self.out_of_turn),
        )
    }
}

impl Proxy {
    /// A bad line to the host that listens at `to`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let faults = Arc::new(Faults::default());
        let mut lines = JoinSet::new();
        let seen = faults.clone();
        lines.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((agent, _)) = listener.accept().await {
                open.spawn(carry(agent, to, seen.clone()));
            }
        });
        Proxy { address, faults, _lines: lines }
    }

    /// Where agents are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went wrong so far.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.faults.good.store(true, Ordering::Relaxed);
    }
}

/// Carries one connection until either side ends it or the line is cut.
async fn carry(agent: TcpStream, to: SocketAddr, faults: Arc<Faults>) {
    // A host that is away: the agent hears that at once.
    let Ok(host) = TcpStream::connect(to).await else { return };
    let (from_agent, to_agent) = agent.into_split();
    let (from_host, to_host) = host.into_split();
    // Dropped together, whichever ends first.
    tokio::select! {
        _ = pass(from_agent, to_host, OUT_OF_TURN[0], &faults) => {}
        _ = pass(from_host, to_agent, OUT_OF_TURN[1], &faults) => {}
    }
}

/// One direction. `None` when it has ended.
async fn pass(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    out_of_turn: &[&str],
    faults: &Faults,
) -> Option<()> {
    let mut from = Reader { from, buffer: Vec::new() };
    let head = from.head().await?;
    to.write_all(&head).await.ok()?;
    let mut held: Option<Frame> = None;
    let once = |kind: &AtomicUsize| kind.fetch_add(1, Ordering::Relaxed);
    loop {
        let next = match held.is_some() {
            true => match tokio::time::timeout(PASSED_WITHIN, from.frame()).await {
                Ok(frame) => frame?,
                Err(_) => {
                    let frame = held.take()?;
                    to.write_all(&frame.bytes).await.ok()?;
                    continue;
                }
            },
            false => from.frame().await?,
        };
        if let Some(held) = held.take() {
            if out_of_turn.contains(&next.kind.as_str()) {
                once(&faults.out_of_turn);
                to.write_all(&next.bytes).await.ok()?;
                to.write_all(&held.bytes).await.ok()?;
                continue;
            }
            to.write_all(&held.bytes).await.ok()?;
        }
        let luck = if faults.good.load(Ordering::Relaxed) { 99 } else { rand::random_range(0..100) };
        match luck {
            0 => {
                once(&faults.cut_inside);
                let some = rand::random_range(1..next.bytes.len());
                to.write_all(&next.bytes[..some]).await.ok()?;
                let _ = to.flush().await;
                return None;
            }
            1 => {
                once(&faults.cut_between);
                to.write_all(&next.bytes).await.ok()?;
                return None;
            }
            2..10 => {
                once(&faults.delayed);
                whenever(HELD_BACK).await;
            }
            10..25 if TWICE.contains(&next.kind.as_str()) => {
                once(&faults.twice);
                to.write_all(&next.bytes).await.ok()?;
            }
            25..40 if out_of_turn.contains(&next.kind.as_str()) => {
                held = Some(next);
                continue;
            }
            _ => {}
        }
        to.write_all(&next.bytes).await.ok()?;
    }
}

/// One WebSocket frame as it came, and what it says it is; empty when it is no text.
struct Frame {
    bytes: Vec<u8>,
    kind: String,
}

struct Reader<R> {
    from: R,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Everything up to the end of the HTTP head.
    async fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(self.buffer.drain(..end + 4).collect());
            }
            self.more().await?;
        }
    }

    /// The next frame. Nothing is lost when the future is dropped: what was read stays in the buffer.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(length) = length(&self.buffer).filter(|length| self.buffer.len() >= *length) {
                let bytes: Vec<u8> = self.buffer.drain(..length).collect();
                return Some(Frame { kind: kind(&bytes), bytes });
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let count = self.from.read_buf(&mut self.buffer).await.ok()?;
        (count > 0).then_some(())
    }
}

/// Octets before the payload, and the whole frame's; `None` while too little is here to tell.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (before, payload) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        small => (2, usize::from(small)),
    };
    Some((before + mask, before + mask + payload))
}

fn length(bytes: &[u8]) -> Option<usize> {
    measure(bytes).map(|(_, whole)| whole)
}

/// The `type` of a text frame.
fn kind(bytes: &[u8]) -> String {
    let text = payload(bytes).unwrap_or_default();
    let found = text.split_once("\"type\":\"").and_then(|(_, rest)| rest.split_once('"'));
    found.map(|(kind, _)| kind.to_owned()).unwrap_or_default()
}

/// The text of a whole text frame, whoever sent it.
pub fn payload(bytes: &[u8]) -> Option<String> {
    let (before, whole) = measure(bytes)?;
    if bytes[0] != 0x81 || bytes.len() < whole {
        return None;
    }
    let mut text = bytes[before..whole].to_vec();
    if bytes[1] & 0x80 != 0 {
        let mask = &bytes[before - 4..before];
        text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    String::from_utf8(text).ok()
}

/// The texts of all whole frames in what was written at once.
pub fn payloads(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(whole) = length(bytes).filter(|whole| *whole <= bytes.len()) {
        texts.extend(payload(&bytes[..whole]));
        bytes = &bytes[whole..];
    }
    texts
}
