//! One end of the Unix socket between agent and supervisor.
//!
//! Lines to be written gather in memory while the other end is busy. What they may grow to is bounded
//! by who sends: an agent by its admitted attempts, a supervisor by telling growth only when its last
//! word was read.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::supervisor::protocol::MAX_LINE_BYTES;

/// Speaks `Out`, hears `In`.
#[derive(Debug)]
pub struct Peer<In, Out> {
    stream: UnixStream,
    unread: Vec<u8>,
    /// Bytes of `unread` already searched for a line's end.
    searched: usize,
    unwritten: VecDeque<u8>,
    speaks: PhantomData<fn(Out) -> In>,
}

impl<In: DeserializeOwned, Out: Serialize> Peer<In, Out> {
    /// Speaks over `stream`, whose other end must belong to the same user.
    ///
    /// # Errors
    /// `PermissionDenied` when it does not.
    pub fn new(stream: UnixStream) -> io::Result<Peer<In, Out>> {
        let other = stream.peer_cred()?.uid();
        if other != nix::unistd::geteuid().as_raw() {
            let message = format!("user {other} is at the other end of the supervisor's socket");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(Peer { stream, unread: Vec::new(), searched: 0, unwritten: VecDeque::new(), speaks: PhantomData })
    }

    /// Queues one value; it is written while [`Peer::next`] waits.
    pub fn send(&mut self, value: &Out) {
        let line = serde_json::to_vec(value).expect("a message holds nothing that JSON cannot");
        self.unwritten.extend(line);
        self.unwritten.push_back(b'\n');
        // Most of the time the socket takes it at once; if not, `next` goes on.
        let _ = self.write();
    }

    /// Bytes queued and not taken by the socket yet.
    pub fn backlog(&self) -> usize {
        self.unwritten.len()
    }

    /// The next value; `None` when the other end is gone.
    ///
    /// # Errors
    /// A line that is too long or no value of this protocol.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> io::Result<Option<In>> {
        loop {
            if let Some(value) = self.take_line()? {
                return Ok(Some(value));
            }
            let interest =
                if self.unwritten.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let ready = self.stream.ready(interest).await?;
            if ready.is_writable() && self.write().is_err() {
                // What it still had to say may yet be read; the end of that tells.
                self.unwritten.clear();
            }
            if ready.is_readable() {
                let mut buffer = [0; 16 * 1024];
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => return Ok(None),
                    Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn take_line(&mut self) -> io::Result<Option<In>> {
        let Some(end) = self.unread[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.unread.len();
            if self.unread.len() > MAX_LINE_BYTES {
                return Err(io::Error::other(format!("a line of over {MAX_LINE_BYTES} bytes")));
            }
            return Ok(None);
        };
        let end = self.searched + end;
        let value = serde_json::from_slice(&self.unread[..end]).map_err(io::Error::other)?;
        self.unread.drain(..=end);
        self.searched = 0;
        if self.unread.is_empty() && self.unread.capacity() > 64 * 1024 {
            self.unread = Vec::new();
        }
        Ok(Some(value))
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            let (front, _) = self.unwritten.as_slices();
            match self.stream.try_write(front) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.unwritten.capacity() > 64 * 1024 {
            self.unwritten = VecDeque::new();
        }
        Ok(())
    }
}
