//! Output on disk: one file for each stream of an attempt.
//!
//! Of a stream with limit L the first 3/4 L bytes are kept for good, the last 1/4 L in a ring behind
//! them. Until the stream outgrows L, bytes stand in the file where they stand in the stream. While
//! an attempt runs only the head is read, because the ring may be turning; after its end everything
//! that was kept is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use plan::id::AttemptKey;
use plan::outcome::{Stream, StreamEnd};
use sha2::{Digest as _, Sha256};

/// The folder that holds all output.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// Bytes kept from the start of a stream with this limit.
pub fn head_bytes(limit: u64) -> u64 {
    limit - limit / 4
}

impl Spool {
    /// The spool of the agent whose data lies in `data`; makes the folder.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn open(data: &Path) -> io::Result<Spool> {
        let dir = data.join("spool");
        std::fs::create_dir_all(&dir)?;
        Ok(Spool { dir })
    }

    /// Where a stream's bytes lie.
    pub fn path(&self, attempt: AttemptKey, stream: Stream) -> PathBuf {
        let suffix = match stream {
            Stream::Stdout => "out",
            Stream::Stderr => "err",
        };
        self.dir.join(format!("{}-{}.{suffix}", attempt.command, attempt.number))
    }

    /// Forgets an attempt's output.
    pub fn remove(&self, attempt: AttemptKey) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Missing is the usual case: most streams stay empty and never get a file.
            let _ = std::fs::remove_file(self.path(attempt, stream));
        }
    }

    /// Forgets the output of every attempt that `wanted` does not want.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn sweep(&self, wanted: impl Fn(AttemptKey) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let attempt = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| {
                let (command, number) = stem.rsplit_once('-')?;
                format!("{command}/{number}").parse().ok()
            });
            if attempt.is_some_and(|attempt| !wanted(attempt)) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Reads at most `length` bytes that stand at `offset` of a stream; fewer where the ring wraps.
    /// `end` is the stream's end, once it is known.
    ///
    /// # Errors
    /// What the file system answered; `UnexpectedEof` when nothing stands there.
    pub fn read(
        &self,
        attempt: AttemptKey,
        stream: Stream,
        end: Option<&StreamEnd>,
        offset: u64,
        length: usize,
    ) -> io::Result<Vec<u8>> {
        let mut position = offset;
        let mut length = length as u64;
        if let Some(end) = end
            && end.tail > 0
            && offset >= end.head
        {
            let turned = (offset - end.head) % end.tail;
            position = end.head + turned;
            length = length.min(end.tail - turned);
        }
        let file = File::open(self.path(attempt, stream))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let count = file.read_at(&mut bytes, position)?;
        bytes.truncate(count);
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    /// What can be said of both streams of an attempt whose keeper died, standard output first.
    pub fn remains(&self, attempt: AttemptKey, limit: u64) -> [StreamEnd; 2] {
        [Stream::Stdout, Stream::Stderr].map(|stream| {
            self.salvage(attempt, stream, limit).unwrap_or_else(|error| {
                tracing::error!(%attempt, %error, "cannot read what was kept of an interrupted attempt's output");
                StreamEnd::default()
            })
        })
    }

    /// What can be said of a stream whose keeper died: everything, if it had not outgrown its limit;
    /// else only its head, because nobody knows where the ring begins.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn salvage(&self, attempt: AttemptKey, stream: Stream, limit: u64) -> io::Result<StreamEnd> {
        let bytes = match std::fs::read(self.path(attempt, stream)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StreamEnd::default()),
            Err(error) => return Err(error),
        };
        let length = bytes.len() as u64;
        if length >= limit {
            return Ok(StreamEnd { bytes: length, head: head_bytes(limit), tail: 0, sha256: String::new() });
        }
        Ok(StreamEnd { bytes: length, head: length, tail: 0, sha256: HEXLOWER.encode(&Sha256::digest(&bytes)) })
    }
}

/// Writes one stream as its bytes come.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    file: Option<File>,
    limit: u64,
    total: u64,
    /// Bytes that stand in the file, had the disk no room for more.
    broken_at: Option<u64>,
    sum: Sha256,
}

impl Keeper {
    /// Keeps at most `limit` bytes in the file at `path`, which is made with the first byte.
    pub fn new(path: PathBuf, limit: u64) -> Keeper {
        Keeper { path, file: None, limit, total: 0, broken_at: None, sum: Sha256::new() }
    }

    /// Takes bytes. When the disk refuses, they are counted and hashed but not kept, and the end says so.
    pub fn write(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        if self.broken_at.is_none()
            && let Err(error) = self.keep(bytes)
        {
            tracing::error!(path = %self.path.display(), %error, "cannot keep output; the rest is only counted");
            self.broken_at = Some(self.total.min(head_bytes(self.limit)));
        }
        self.total += bytes.len() as u64;
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (head, limit) = (head_bytes(self.limit), self.limit);
        let ring = limit - head;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                self.file.insert(options.open(&self.path)?)
            }
        };
        let (mut at, mut rest) = (self.total, bytes);
        while !rest.is_empty() {
            let (position, room) = match at < head {
                true => (at, head - at),
                false if ring == 0 => return Ok(()),
                false => (head + (at - head) % ring, ring - (at - head) % ring),
            };
            let (now, later) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            file.write_all_at(now, position)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are kept for good; what comes after them turns in the ring.
    pub fn head(&self) -> u64 {
        head_bytes(self.limit)
    }

    /// Bytes that may be read while the stream is still growing.
    pub fn readable(&self) -> u64 {
        self.broken_at.unwrap_or(self.total).min(head_bytes(self.limit))
    }

    /// Whether there is a file for the disk to confirm.
    pub fn is_on_disk(&self) -> bool {
        self.file.is_some()
    }

    /// Has the disk confirm the bytes and says what is kept.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn finish(self) -> io::Result<StreamEnd> {
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        let sha256 = if self.total == 0 { String::new() } else { HEXLOWER.encode(&self.sum.finalize()) };
        let (head, tail) = match self.broken_at {
            Some(kept) => (kept, 0),
            None if self.total <= self.limit => (self.total, 0),
            None => (head_bytes(self.limit), self.limit - head_bytes(self.limit)),
        };
        Ok(StreamEnd { bytes: self.total, head, tail, sha256 })
    }
}
