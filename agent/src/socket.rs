//! The WebSocket to the host: control frames first, then one piece of output at a time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink as _, Stream as _};
use hyper::Uri;
use tokio::net::{TcpSocket, lookup_host};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use wire::frame::Fault;
use wire::limits::MAX_FRAME_BYTES;

use crate::join::problem_text;
use crate::line::{self, HostTrust, Line, Own};

/// From dialling to an open WebSocket.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
const BUFFER_BYTES: usize = 4 * 1024;
/// Keeps little output in the kernel, where a control frame could not overtake it.
const KERNEL_BUFFER_BYTES: u32 = 128 * 1024;

/// What came from the host.
#[derive(Debug)]
pub enum Heard {
    /// A text frame.
    Text(String),
    /// A ping or pong.
    Alive,
    /// Something that is no frame.
    Foul(Fault),
    /// The socket is gone.
    Gone(String),
}

/// One open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Line>,
    control: VecDeque<Message>,
    unflushed: bool,
}

/// Checks that sessions can be opened at `url`.
///
/// # Errors
/// A sentence saying what is wrong with it.
pub fn check_url(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not an address"))?;
    match uri.scheme_str() {
        Some("ws" | "wss") if uri.host().is_some() => Ok(uri),
        _ => Err(format!("`{url}` is not an address like wss://host:9090/ws/agent")),
    }
}

/// Dials a host that `trust` believes, shows it what is its `own`, and upgrades.
///
/// # Errors
/// A sentence saying why not.
pub async fn connect(url: &Uri, trust: &HostTrust, own: &Own) -> Result<Socket, String> {
    match tokio::time::timeout(CONNECT_WITHIN, dial(url, trust, own)).await {
        Ok(Ok(socket)) => Ok(socket),
        // The host says why in a body.
        Ok(Err(Error::Http(answer))) => {
            let words = answer.body().as_deref().map(problem_text).unwrap_or_default();
            Err(format!("the host refused ({}): {words}", answer.status().as_u16()))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT_WITHIN.as_secs())),
    }
}

/// The bounds of the socket to a host.
pub fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(BUFFER_BYTES + 2 * MAX_FRAME_BYTES)
}

async fn dial(url: &Uri, trust: &HostTrust, own: &Own) -> Result<Socket, Error> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((line::host(url), line::way(url).1)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => {
                let stream = line::secure(stream, url, trust, Some(own)).await?;
                let (stream, _) = client_async_with_config(url.to_string(), stream, Some(bounds())).await?;
                return Ok(Socket { stream, control: VecDeque::new(), unflushed: false });
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

impl Socket {
    /// Queues a control frame. Full: the machine's frames are bounded by what it holds.
    pub fn push(&mut self, text: String) {
        self.control.push_back(Message::text(text));
    }

    /// Queues a WebSocket ping.
    pub fn ping(&mut self) {
        self.control.push_back(Message::Ping(Bytes::new()));
    }

    /// What the host sends next.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        let fault = |code: &str, message: String| Heard::Foul(Fault { code: code.to_owned(), message });
        let heard = match ready!(Pin::new(&mut self.stream).poll_next(context)) {
            Some(Ok(Message::Text(text))) => Heard::Text(text.as_str().to_owned()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                // The answer to a ping was queued inside; it leaves with the next flush.
                self.unflushed = true;
                Heard::Alive
            }
            Some(Ok(Message::Binary(_))) => fault("malformed_frame", "frames are text, this one is binary".to_owned()),
            Some(Ok(Message::Close(close))) => Heard::Gone(close.map(|close| close.to_string()).unwrap_or_default()),
            Some(Ok(Message::Frame(_))) => Heard::Alive,
            Some(Err(Error::Capacity(error))) => fault("frame_too_long", error.to_string()),
            Some(Err(Error::Utf8(_))) => fault("malformed_frame", "text frames are UTF-8".to_owned()),
            Some(Err(error)) => Heard::Gone(error.to_string()),
            None => Heard::Gone("the connection was closed".to_owned()),
        };
        Poll::Ready(heard)
    }

    /// Writes what it can: all control frames, then one piece of `output` at a time. Ready only when
    /// the socket failed.
    pub fn poll_write(&mut self, context: &mut Context<'_>, output: &mut dyn FnMut() -> Option<String>) -> Poll<Error> {
        loop {
            while !self.control.is_empty() {
                if let Err(error) = ready!(Pin::new(&mut self.stream).poll_ready(context)) {
                    return Poll::Ready(error);
                }
                if let Some(message) = self.control.pop_front()
                    && let Err(error) = Pin::new(&mut self.stream).start_send(message)
                {
                    return Poll::Ready(error);
                }
                self.unflushed = true;
            }
            // Everything is out of our hands before the next piece, so that a control frame never stands
            // behind more than one.
            if self.unflushed {
                if let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(context)) {
                    return Poll::Ready(error);
                }
                self.unflushed = false;
            }
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_ready(context)) {
                return Poll::Ready(error);
            }
            let Some(text) = output() else { return Poll::Pending };
            if let Err(error) = Pin::new(&mut self.stream).start_send(Message::text(text)) {
                return Poll::Ready(error);
            }
            self.unflushed = true;
        }
    }

    /// Sends what is queued and the closing handshake, within `ceiling`.
    pub async fn close(mut self, ceiling: Duration) {
        let farewell = async {
            let written = std::future::poll_fn(|context| match self.poll_write(context, &mut || None) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending if self.control.is_empty() && !self.unflushed => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            });
            written.await;
            // Waits for the host's half, so that the last frame is not lost to a reset.
            let _ = self.stream.close(None).await;
            while let Some(Ok(_)) = std::future::poll_fn(|context| Pin::new(&mut self.stream).poll_next(context)).await
            {
            }
        };
        let _ = tokio::time::timeout(ceiling, farewell).await;
    }
}
