//! The ways to the host and to the supervisor: each is waiting, dialling or open, and says what happened
//! next.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep_until};
use wire::codec::encode;
use wire::facts::Facts;
use wire::frame::{AgentFrame, Output as OutputFrame};

use crate::clock;
use crate::machine::{Machine, Next};
use crate::socket::{Heard, Socket};
use crate::spool::Spool;
use crate::supervisor::client::{self, Link, Place};
use crate::supervisor::protocol::Event;

pub(crate) type Dialled = Result<Box<(Socket, Facts)>, String>;

/// The way to the host.
pub(crate) enum Net {
    /// Waits for the supervisor's first greeting: before it nothing is known of what runs, and HELLO names that.
    Idle,
    /// Open, for the same greeting, until it has taken too long: a host has few places for who says nothing.
    Early(Box<(Socket, Facts)>, Instant),
    Waiting(Instant),
    Dialling(Pin<Box<dyn Future<Output = Dialled> + Send>>),
    Open(Box<Socket>),
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>, Option<Duration>),
}

pub(crate) enum NetEvent {
    Dial,
    TooEarly,
    Dialled(Dialled),
    Heard(Heard),
    Closed,
}

/// The way to the supervisor.
pub(crate) enum Care {
    Waiting(Instant),
    Dialling(Pin<Box<dyn Future<Output = std::io::Result<Link>> + Send>>),
    Up(Box<Link>),
}

pub(crate) enum CareEvent {
    Dial,
    Dialled(std::io::Result<Link>),
    Told(Event),
    Gone,
}

pub(crate) fn dial_supervisor(place: &Place) -> Care {
    let place = place.clone();
    Care::Dialling(Box::pin(async move { client::connect(&place).await }))
}

pub(crate) async fn next_care(care: &mut Care) -> CareEvent {
    match care {
        Care::Waiting(until) => {
            sleep_until(*until).await;
            CareEvent::Dial
        }
        Care::Dialling(dialling) => CareEvent::Dialled(dialling.await),
        Care::Up(link) => match link.next().await {
            Ok(Some(event)) => CareEvent::Told(event),
            Ok(None) => CareEvent::Gone,
            Err(error) => {
                tracing::error!(%error, "the supervisor's connection is unusable");
                CareEvent::Gone
            }
        },
    }
}

pub(crate) async fn next_net(net: &mut Net, machine: &mut Machine, spool: &Spool) -> NetEvent {
    match net {
        Net::Idle => pending().await,
        Net::Early(_, until) => {
            sleep_until(*until).await;
            NetEvent::TooEarly
        }
        Net::Waiting(until) => {
            sleep_until(*until).await;
            NetEvent::Dial
        }
        Net::Dialling(dialling) => NetEvent::Dialled(dialling.await),
        Net::Closing(closing, _) => {
            closing.await;
            NetEvent::Closed
        }
        Net::Open(socket) => {
            poll_fn(|context| {
                if let Poll::Ready(heard) = socket.poll_heard(context) {
                    return Poll::Ready(NetEvent::Heard(heard));
                }
                match socket.poll_write(context, &mut || next_text(machine, spool)) {
                    Poll::Ready(error) => Poll::Ready(NetEvent::Heard(Heard::Gone(error.to_string()))),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        }
    }
}

/// The next piece of output as a frame's text.
fn next_text(machine: &mut Machine, spool: &Spool) -> Option<String> {
    loop {
        let now = clock::now();
        let chunk = match machine.next_output(now) {
            Next::Chunk(chunk) => chunk,
            Next::Frame(frame) => return Some(encode(&*frame)),
            Next::Idle => return None,
        };
        let read = || spool.read(chunk.attempt, chunk.stream, chunk.end.as_ref(), chunk.offset, chunk.length);
        match chunk.bytes.clone().map_or_else(read, Ok) {
            Ok(bytes) => {
                machine.sent(&chunk, bytes.len(), now);
                return Some(encode(&AgentFrame::Output(OutputFrame {
                    attempt: chunk.attempt,
                    stream: chunk.stream,
                    offset: chunk.offset,
                    data: STANDARD.encode(&bytes),
                    gone: chunk.gone,
                })));
            }
            Err(error) => {
                tracing::error!(attempt = %chunk.attempt, offset = chunk.offset, %error, "cannot read kept output");
                machine.unreadable(&chunk);
            }
        }
    }
}
