//! A log of records on disk that survives a crash at any byte.
//!
//! ```text
//!   magic(8)  { mark(4) length(4) batch(8) sum(8) payload }…
//! ```
//!
//! `batch` is where the first record stands that was not on disk when this one was written. Everything
//! before it was, so a record that does not check tells two stories apart: if a good record of a
//! later batch follows, the bad one had been fsynced and somebody changed it, which is refused; if
//! none follows, the last write was torn and never acknowledged to anybody, and is cut off.
//!
//! Invariant: `append` returns only after the records, and all before them, are on disk. What `note` takes outlives the
//! process and not a power failure. An error means that nothing is known about the records; the process must end
//! rather than try again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"VIWLOG1\n";
const MARK: [u8; 4] = [0xB7, b'V', b'w', 0x1E];
const HEADER_BYTES: usize = 24;
/// Most bytes of one record. An accepted command is the largest and stays far below.
pub const MAX_RECORD_BYTES: usize = 4 << 20;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something else lies there.
    #[error("{} is not a log of this program; move it away or name another --data directory", .0.display())]
    NotALog(PathBuf),
    /// A record that was once on disk no longer reads back.
    #[error(
        "{} is damaged at byte {offset}: {message}; commands accepted after it may have run, so the agent will not \
         guess: restore the file or move it away and join again", .path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the bad record begins.
        offset: u64,
        /// What is wrong with it.
        message: String,
    },
}

/// Takes one record while a log is opened: its offset and bytes. A message makes it count as damaged.
pub type EachOpened<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;
/// Takes one record of an open log: its offset and bytes.
pub type EachScanned<'a> = dyn FnMut(u64, &[u8]) -> Result<(), LogError> + 'a;

/// What opening a log found out besides its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Good records.
    pub records: u64,
    /// Bytes of a torn last write that were cut off.
    pub cut_bytes: u64,
}

/// An open log, positioned at its end.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    end: u64,
    /// Everything before it is on disk.
    synced: u64,
    syncs: u64,
}

/// One record's place and content.
enum Found {
    Record { batch: u64, payload: Vec<u8> },
    End,
    Bad,
}

impl Log {
    /// Opens or creates the log at `path` and shows every record to `each`, with its offset.
    ///
    /// # Errors
    /// [`LogError`]; a message returned by `each` makes the record count as damaged.
    pub fn open(path: &Path, each: &mut EachOpened<'_>) -> Result<(Log, Opened), LogError> {
        let fail = |doing| move |source| LogError::Io { doing, path: path.to_owned(), source };
        let _ = std::fs::remove_file(with_suffix(path, ".new"));
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(fail("open"))?;
        let length = file.metadata().map_err(fail("read"))?.len();
        if length < MAGIC.len() as u64 {
            // A crash while the file was being created; nothing can have been acknowledged.
            file.set_len(0).map_err(fail("empty"))?;
            file.write_all_at(MAGIC, 0).map_err(fail("write"))?;
            file.sync_all().map_err(fail("sync"))?;
            sync_parent(path).map_err(fail("sync the directory of"))?;
            return Ok((
                Log { path: path.to_owned(), file, end: MAGIC.len() as u64, synced: MAGIC.len() as u64, syncs: 1 },
                Opened { records: 0, cut_bytes: length },
            ));
        }
        let mut opened = Opened::default();
        let mut end = MAGIC.len() as u64;
        let mut torn = false;
        {
            let mut reader = BufReader::with_capacity(64 * 1024, &mut file);
            let mut magic = [0; MAGIC.len()];
            reader.read_exact(&mut magic).map_err(fail("read"))?;
            if magic != *MAGIC {
                return Err(LogError::NotALog(path.to_owned()));
            }
            loop {
                match read_record(&mut reader, end).map_err(fail("read"))? {
                    Found::End => break,
                    Found::Bad => {
                        torn = true;
                        break;
                    }
                    Found::Record { payload, .. } => {
                        each(end, &payload).map_err(|message| LogError::Damaged {
                            path: path.to_owned(),
                            offset: end,
                            message,
                        })?;
                        opened.records += 1;
                        end += (HEADER_BYTES + payload.len()) as u64;
                    }
                }
            }
        }
        if torn {
            if let Some(later) = later_batch(&mut file, end, length).map_err(fail("read"))? {
                let message = format!("a good record of a later write follows at byte {later}");
                return Err(LogError::Damaged { path: path.to_owned(), offset: end, message });
            }
            opened.cut_bytes = length - end;
            file.set_len(end).map_err(fail("cut"))?;
        }
        // Whoever wrote it may have died before the disk confirmed it.
        file.sync_data().map_err(fail("sync"))?;
        Ok((Log { path: path.to_owned(), file, end, synced: end, syncs: 1 }, opened))
    }

    /// Writes `payloads` with one write and one fsync; answers where each stands.
    ///
    /// # Errors
    /// [`LogError::Io`]; see the invariant above.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<u64>, LogError> {
        let places = self.note(payloads)?;
        self.file.sync_data().map_err(|source| self.error("sync", source))?;
        self.syncs += 1;
        self.synced = self.end;
        Ok(places)
    }

    /// Writes `payloads` with one write, which the next [`Log::append`] has the disk confirm; answers where each stands.
    ///
    /// # Errors
    /// [`LogError::Io`]; see the invariant above.
    pub fn note(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<u64>, LogError> {
        let batch = self.synced;
        let mut bytes = Vec::with_capacity(payloads.iter().map(|p| p.len() + HEADER_BYTES).sum());
        let mut places = Vec::with_capacity(payloads.len());
        for payload in payloads {
            places.push(self.end + bytes.len() as u64);
            frame(&mut bytes, batch, payload);
        }
        self.file.write_all_at(&bytes, self.end).map_err(|source| self.error("write", source))?;
        self.end += bytes.len() as u64;
        Ok(places)
    }

    /// Reads the record at `offset`, as told by [`Log::append`] or [`Log::open`].
    ///
    /// # Errors
    /// [`LogError::Damaged`] when there is no good record there.
    pub fn read(&self, offset: u64) -> Result<Vec<u8>, LogError> {
        let mut reader = BufReader::with_capacity(4096, &self.file);
        reader.seek(SeekFrom::Start(offset)).map_err(|source| self.error("read", source))?;
        match read_record(&mut reader, offset).map_err(|source| self.error("read", source))? {
            Found::Record { payload, .. } => Ok(payload),
            Found::End | Found::Bad => {
                let message = "no record there".to_owned();
                Err(LogError::Damaged { path: self.path.clone(), offset, message })
            }
        }
    }

    /// Shows every record to `each` again.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn scan(&self, each: &mut EachScanned<'_>) -> Result<(), LogError> {
        let mut reader = BufReader::with_capacity(64 * 1024, &self.file);
        let mut at = MAGIC.len() as u64;
        reader.seek(SeekFrom::Start(at)).map_err(|source| self.error("read", source))?;
        while at < self.end {
            match read_record(&mut reader, at).map_err(|source| self.error("read", source))? {
                Found::Record { payload, .. } => {
                    each(at, &payload)?;
                    at += (HEADER_BYTES + payload.len()) as u64;
                }
                Found::End | Found::Bad => {
                    let message = "it was good when this process opened it".to_owned();
                    return Err(LogError::Damaged { path: self.path.clone(), offset: at, message });
                }
            }
        }
        Ok(())
    }

    /// Begins a new file that will take this one's place.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn rewrite(&self) -> Result<Rewrite, LogError> {
        let path = with_suffix(&self.path, ".new");
        let fail = |source| LogError::Io { doing: "create", path: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(fail)?;
        let mut writer = BufWriter::with_capacity(64 * 1024, file);
        writer.write_all(MAGIC).map_err(fail)?;
        Ok(Rewrite { path, writer, end: MAGIC.len() as u64 })
    }

    /// Puts the rewritten file in this one's place: fsynced, renamed, directory fsynced.
    ///
    /// # Errors
    /// [`LogError::Io`]; the old file is still in place unless the rename succeeded.
    pub fn replace(&mut self, rewrite: Rewrite) -> Result<(), LogError> {
        let Rewrite { path, writer, end } = rewrite;
        let fail = |doing| {
            let path = path.clone();
            move |source| LogError::Io { doing, path, source }
        };
        let written = writer.into_inner().map_err(|error| fail("write")(error.into_error()))?;
        written.sync_all().map_err(fail("sync"))?;
        std::fs::rename(&path, &self.path).map_err(fail("rename"))?;
        sync_parent(&self.path).map_err(fail("sync the directory of"))?;
        self.file =
            OpenOptions::new().read(true).write(true).open(&self.path).map_err(|source| self.error("open", source))?;
        (self.end, self.synced) = (end, end);
        self.syncs += 1;
        Ok(())
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// How often this process had the disk confirm something, for tests of group fsync.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    fn error(&self, doing: &'static str, source: io::Error) -> LogError {
        LogError::Io { doing, path: self.path.clone(), source }
    }
}

/// A file being written to take a log's place.
#[derive(Debug)]
pub struct Rewrite {
    path: PathBuf,
    writer: BufWriter<File>,
    end: u64,
}

impl Rewrite {
    /// Adds one record and says where it will stand.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn push(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        let at = self.end;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        frame(&mut bytes, at, payload);
        self.end += bytes.len() as u64;
        let fail = |source| LogError::Io { doing: "write", path: self.path.clone(), source };
        self.writer.write_all(&bytes).map_err(fail)?;
        Ok(at)
    }
}

fn frame(into: &mut Vec<u8>, batch: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
    into.extend_from_slice(&MARK);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&batch.to_le_bytes());
    into.extend_from_slice(&sum(length, batch, payload));
    into.extend_from_slice(payload);
}

fn sum(length: u32, batch: u64, payload: &[u8]) -> [u8; 8] {
    let hash = Sha256::new().chain_update(length.to_le_bytes()).chain_update(batch.to_le_bytes());
    let hash = hash.chain_update(payload).finalize();
    hash[..8].try_into().expect("SHA-256 has 32 bytes")
}

/// Reads the record that begins at `at`, where `reader` stands.
fn read_record(reader: &mut impl io::Read, at: u64) -> io::Result<Found> {
    let mut header = [0; HEADER_BYTES];
    match read_up_to(reader, &mut header)? {
        0 => return Ok(Found::End),
        HEADER_BYTES => {}
        _ => return Ok(Found::Bad),
    }
    let Some((length, batch, expected)) = parse_header(&header, at) else { return Ok(Found::Bad) };
    let mut payload = vec![0; length];
    if read_up_to(reader, &mut payload)? < length || sum(length as u32, batch, &payload) != expected {
        return Ok(Found::Bad);
    }
    Ok(Found::Record { batch, payload })
}

fn parse_header(header: &[u8], at: u64) -> Option<(usize, u64, [u8; 8])> {
    let (mark, rest) = header.split_at(4);
    let length = u32::from_le_bytes(rest[..4].try_into().ok()?) as usize;
    let batch = u64::from_le_bytes(rest[4..12].try_into().ok()?);
    let expected = rest[12..20].try_into().ok()?;
    (mark == MARK && length <= MAX_RECORD_BYTES && batch <= at).then_some((length, batch, expected))
}

fn read_up_to(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Looks behind the bad record at `bad` for a good one whose write began after it.
fn later_batch(file: &mut File, bad: u64, length: u64) -> io::Result<Option<u64>> {
    let mut rest = Vec::new();
    file.seek(SeekFrom::Start(bad))?;
    file.take(length - bad).read_to_end(&mut rest)?;
    let mut from = 1;
    while let Some(found) = rest.get(from..).and_then(|tail| tail.windows(4).position(|window| window == MARK)) {
        let start = from + found;
        let at = bad + start as u64;
        if let Found::Record { batch, .. } = read_record(&mut &rest[start..], at)?
            && batch > bad
        {
            return Ok(Some(at));
        }
        from = start + 1;
    }
    Ok(None)
}

/// `path` with `suffix` after its last part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a created or renamed name in `path`'s directory durable.
///
/// # Errors
/// What the file system answered.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
