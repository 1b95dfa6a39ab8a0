//! A small HTTP/1.1 client that costs next to nothing: one connection, kept open, one request at a
//! time. The generator shares the machine with what it measures, so its own cost is part of the figure.
//!
//! Invariant: plain text only; a POST is never sent twice.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Most bytes of one answer's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("`{0}` is no address such as http://127.0.0.1:8080")]
    Address(String),
    /// The connection failed or ended.
    #[error("connection to {0}: {1}")]
    Io(SocketAddr, std::io::Error),
    /// The answer is no HTTP.
    #[error("answer is no HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Timeout,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The socket address.
    pub address: SocketAddr,
    /// What the `Host` header says.
    pub authority: String,
}

impl Origin {
    /// Reads `http://host:port`, `ws://host:port/path` or `host:port`.
    ///
    /// # Errors
    /// [`HttpError::Address`] when it is none of these or the name is unknown.
    pub fn parse(url: &str) -> Result<Arc<Origin>, HttpError> {
        let wrong = || HttpError::Address(url.to_owned());
        let rest = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => url,
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let address = authority.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)?;
        Ok(Arc::new(Origin { address, authority: authority.to_owned() }))
    }
}

/// One answer; the body is valid until the next request.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// The body, unchunked.
    pub body: &'a [u8],
}

/// One connection, opened when first needed.
pub struct Client {
    origin: Arc<Origin>,
    /// What its requests say in `Prefer`.
    prefer: Option<&'static str>,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    inp: Vec<u8>,
    body: Vec<u8>,
}

/// What an answer's head says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    retry_after: Option<u64>,
    length: Option<usize>,
    chunked: bool,
    close: bool,
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(origin: Arc<Origin>) -> Client {
        let (out, inp) = (Vec::with_capacity(1024), Vec::with_capacity(4096));
        Client { origin, prefer: None, stream: None, out, inp, body: Vec::new() }
    }

    /// The same, with a `Prefer` header in each request, e.g. `wait=30`.
    #[must_use]
    pub fn preferring(self, prefer: &'static str) -> Client {
        Client { prefer: Some(prefer), ..self }
    }

    /// Sends one request and reads its answer. A connection that turned out closed before anything was
    /// sent on it is opened anew.
    ///
    /// # Errors
    /// See [`HttpError`]; the next request opens a fresh connection then.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<Answer<'_>, HttpError> {
        self.out.clear();
        let authority = &self.origin.authority;
        write!(self.out, "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n").expect("memory takes every byte");
        if let Some(token) = bearer {
            write!(self.out, "Authorization: Bearer {token}\r\n").expect("memory takes every byte");
        }
        if let Some(prefer) = self.prefer {
            write!(self.out, "Prefer: {prefer}\r\n").expect("memory takes every byte");
        }
        match body {
            Some(body) => {
                let length = body.len();
                write!(self.out, "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
                    .expect("memory takes every byte");
                self.out.extend_from_slice(body);
            }
            None => self.out.extend_from_slice(b"\r\n"),
        }
        let head = match tokio::time::timeout(ANSWER_WITHIN, self.exchange()).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => {
                self.stream = None;
                return Err(error);
            }
            Err(_) => {
                self.stream = None;
                return Err(HttpError::Timeout);
            }
        };
        if head.close {
            self.stream = None;
        }
        Ok(Answer { status: head.status, retry_after: head.retry_after, body: &self.body })
    }

    async fn exchange(&mut self) -> Result<Head, HttpError> {
        let io = |error| HttpError::Io(self.origin.address, error);
        let alive = self.stream.take().filter(|stream| {
            let mut probe = [0_u8; 1];
            matches!(stream.try_read(&mut probe), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        let mut stream = match alive {
            Some(stream) => stream,
            None => {
                let fresh = TcpStream::connect(self.origin.address).await.map_err(io)?;
                fresh.set_nodelay(true).map_err(io)?;
                fresh
            }
        };
        stream.write_all(&self.out).await.map_err(io)?;
        self.inp.clear();
        self.body.clear();
        let (head, start) = loop {
            if let Some(found) = parse_head(&self.inp)? {
                break found;
            }
            if self.inp.len() > MAX_HEAD_BYTES {
                return Err(HttpError::Malformed("head too long"));
            }
            more(&mut stream, &mut self.inp).await.map_err(io)?;
        };
        if let Some(length) = head.length {
            self.inp.reserve((start + length).saturating_sub(self.inp.len()));
            while self.inp.len() < start + length {
                more(&mut stream, &mut self.inp).await.map_err(io)?;
            }
            self.body.extend_from_slice(&self.inp[start..start + length]);
        } else if head.chunked {
            while !unchunk(&self.inp[start..], &mut self.body)? {
                more(&mut stream, &mut self.inp).await.map_err(io)?;
            }
        }
        self.stream = Some(stream);
        Ok(head)
    }
}

async fn more(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<()> {
    match stream.read_buf(into).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The head and where the body starts; `None` while it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| HttpError::Malformed("head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status: u16 = status.and_then(|code| code.parse().ok()).ok_or(HttpError::Malformed("status line"))?;
    let mut head = Head { status, retry_after: None, length: None, chunked: false, close: false };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(HttpError::Malformed("header line"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = Some(value.parse().map_err(|_| HttpError::Malformed("content length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("retry-after") {
            head.retry_after = value.parse().ok();
        }
    }
    if head.length.is_none() && !head.chunked && status != 204 && status != 304 {
        return Err(HttpError::Malformed("a body of unknown length"));
    }
    Ok(Some((head, end + 4)))
}

/// Unchunks a whole body into `into`; `false` while the last chunk is missing.
fn unchunk(mut bytes: &[u8], into: &mut Vec<u8>) -> Result<bool, HttpError> {
    into.clear();
    loop {
        let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let size = std::str::from_utf8(&bytes[..line]).ok().and_then(|text| text.split(';').next());
        let size = size.and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let size = size.ok_or(HttpError::Malformed("chunk size"))?;
        let from = line + 2;
        if bytes.len() < from + size + 2 {
            return Ok(false);
        }
        into.extend_from_slice(&bytes[from..from + size]);
        bytes = &bytes[from + size + 2..];
        if size == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form_they_are_given_in() {
        for url in ["http://127.0.0.1:80", "ws://127.0.0.1:80/ws/agent", "127.0.0.1:80"] {
            assert_eq!(Origin::parse(url).expect(url).authority, "127.0.0.1:80");
        }
        for url in ["https://127.0.0.1:80", "127.0.0.1", "http://"] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let whole =
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\nRetry-After: 7\r\nConnection: close\r\n\r\n{}";
        let expected = Head { status: 429, retry_after: Some(7), length: Some(2), chunked: false, close: true };
        assert_eq!(parse_head(whole).expect("a head"), Some((expected, whole.len() - 2)));
        for cut in 0..whole.len() - 2 {
            assert_eq!(parse_head(&whole[..cut]).expect("no fault"), None, "cut at {cut}");
        }
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_are_joined_only_when_the_last_is_there() {
        let whole = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        let mut body = Vec::new();
        for cut in 0..whole.len() {
            assert!(!unchunk(&whole[..cut], &mut body).expect("no fault"), "cut at {cut}");
        }
        assert!(unchunk(whole, &mut body).expect("no fault"));
        assert_eq!(body, b"hello world");
    }
}
