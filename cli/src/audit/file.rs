//! Exports of the audit log as files: written, read back, verified without a host.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::audit::{AuditLink, ExportChain, ExportCheckpoint, ExportEnd, ExportEntry, ExportHead};
use chrono::DateTime;
use domain::audit::chain::{Cause, Chain, Checkpoint, Genesis, Hash, Head, Link, Linked};
use domain::audit::check::{Check, Report};
use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::count;

/// The form of exports that this program reads.
const FORMAT: u32 = 1;

/// Makes a file that was not there, for its owner only.
pub fn create(path: &Path) -> Result<File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| Failure::new(Exit::Error, format!("cannot write {}: {error}", path.display())))
}

/// Looks out for the last line of an export that passes by.
#[derive(Default)]
pub struct EndWatch {
    line: Vec<u8>,
}

impl EndWatch {
    /// The next bytes.
    pub fn see(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.line.last() == Some(&b'\n') {
                self.line.clear();
            }
            self.line.push(*byte);
        }
    }

    /// How many entries the last line counts; `None` when there is none.
    pub fn entries(&self) -> Option<u64> {
        let end: ExportEnd = serde_json::from_slice(&self.line).ok()?;
        (end.kind == "end").then_some(end.entries)
    }
}

/// Verifies an export by `keys`, or by its own word when there are none, and against what `earlier` exports
/// tell of the chains' ends.
///
/// # Errors
/// A file that cannot be read, or is no export.
pub fn verify(path: &Path, mut keys: Vec<String>, earlier: &[PathBuf]) -> Result<Report, Failure> {
    let mut ends = Vec::new();
    for path in earlier {
        ends.extend(Reader::open(path)?.chains()?.iter().map(Chain::end));
    }
    let mut reader = Reader::open(path)?;
    let chains = reader.chains()?;
    if keys.is_empty() {
        keys.push(reader.head.public_key.clone());
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut check = Check::begin(&keys, &ends, &chains);
    while let Some(linked) = reader.entry()? {
        check.entry(&linked);
    }
    Ok(check.end(&chains))
}

/// An export, line by line.
struct Reader<'p> {
    path: &'p Path,
    lines: std::io::Lines<BufReader<File>>,
    number: u64,
    head: ExportHead,
    /// The line after the chains.
    ahead: Option<String>,
    /// The words of the log's small vocabulary, which the domain names for ever.
    words: HashSet<&'static str>,
    entries: u64,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl<'p> Reader<'p> {
    fn open(path: &'p Path) -> Result<Reader<'p>, Failure> {
        let cannot = |error| Failure::new(Exit::Error, format!("cannot read {}: {error}", path.display()));
        let lines = BufReader::new(File::open(path).map_err(cannot)?).lines();
        let head = ExportHead {
            kind: String::new(),
            format: 0,
            at: String::new(),
            cluster_id: String::new(),
            public_key: String::new(),
        };
        let mut reader = Reader { path, lines, number: 0, head, ahead: None, words: HashSet::new(), entries: 0 };
        let first = reader.line()?.ok_or_else(|| reader.refuse("it is empty"))?;
        reader.head = reader.read(&first)?;
        if reader.head.kind != "export" || reader.head.format != FORMAT {
            return Err(reader.refuse(format!("it is no export of form {FORMAT}; a newer program may read it")));
        }
        Ok(reader)
    }

    fn line(&mut self) -> Result<Option<String>, Failure> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        self.number += 1;
        self.lines.next().transpose().map_err(|error| self.refuse(error))
    }

    fn refuse(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(Exit::Error, format!("{}, line {}: {why}", self.path.display(), self.number))
    }

    fn read<T: DeserializeOwned>(&self, line: &str) -> Result<T, Failure> {
        serde_json::from_str(line).map_err(|error| self.refuse(error))
    }

    fn kind(&self, line: &str) -> Result<String, Failure> {
        Ok(self.read::<Kind>(line)?.kind)
    }

    /// The chains, which come before the entries.
    fn chains(&mut self) -> Result<Vec<Chain>, Failure> {
        let mut chains = Vec::new();
        while let Some(line) = self.line()? {
            if self.kind(&line)? != "chain" {
                self.ahead = Some(line);
                break;
            }
            let body: ExportChain = self.read(&line)?;
            let chain = chain(body).ok_or_else(|| self.refuse("this is no chain"))?;
            if chains.iter().any(|known: &Chain| known.genesis.chain == chain.genesis.chain) {
                return Err(self.refuse("this chain stands twice"));
            }
            chains.push(chain);
        }
        Ok(chains)
    }

    /// The next entry; `None` at the end, which says how many there were.
    fn entry(&mut self) -> Result<Option<Linked>, Failure> {
        let line = self.line()?.ok_or_else(|| self.refuse("the export ends here, before its last line"))?;
        let kind = self.kind(&line)?;
        if kind == "end" {
            let end: ExportEnd = self.read(&line)?;
            if end.entries != self.entries || self.line()?.is_some() {
                let exported = count::of(end.entries, "entry was", "entries were");
                return Err(self.refuse(format!("{exported} exported, and here are {}", self.entries)));
            }
            return Ok(None);
        }
        if kind != "entry" {
            return Err(self.refuse(format!("`{kind}` is no kind of line that belongs here")));
        }
        self.entries += 1;
        let body: ExportEntry = self.read(&line)?;
        let linked = self.linked(body).ok_or_else(|| self.refuse("this is no entry"))?;
        Ok(Some(linked))
    }

    fn word(&mut self, text: &str) -> &'static str {
        if let Some(word) = self.words.get(text) {
            return word;
        }
        let word: &'static str = Box::leak(text.to_owned().into_boxed_str());
        self.words.insert(word);
        word
    }

    fn linked(&mut self, body: ExportEntry) -> Option<Linked> {
        let kind = body.resource_type.as_deref().map(|kind| self.word(kind));
        let entry = Entry {
            at: instant(&body.at)?,
            level: Level::parse(&body.level)?,
            category: self.word(&body.category),
            action: self.word(&body.action),
            actor: body.actor,
            resource: kind.zip(body.resource_id),
            details: body.details.get().to_owned(),
            ip_address: body.ip_address,
            user_agent: body.user_agent,
            correlation_id: body.correlation_id,
        };
        let at = match &body.link {
            None => None,
            Some(at) => Some(link(at)?),
        };
        Some(Linked { id: body.id, entry, link: at })
    }
}

fn chain(body: ExportChain) -> Option<Chain> {
    let genesis = Genesis {
        chain: body.chain.parse().ok()?,
        begun_at: instant(&body.begun_at)?,
        cause: Cause::parse(&body.cause)?,
        unchained: body.unchained,
        after: body.after.iter().map(link).collect::<Option<_>>()?,
    };
    let head = Head { position: body.position, hash: Hash::parse(&body.hash)?, at: instant(&body.sealed_at)? };
    let checkpoint = match body.checkpoint {
        None => None,
        Some(ExportCheckpoint { position, hash, at, seal }) => {
            Some(Checkpoint { head: Head { position, hash: Hash::parse(&hash)?, at: instant(&at)? }, seal })
        }
    };
    Some(Chain { genesis, head, seal: body.seal, checkpoint })
}

fn link(body: &AuditLink) -> Option<Link> {
    let AuditLink { chain, position, hash } = body;
    Some(Link { chain: chain.parse().ok()?, position: *position, hash: Hash::parse(hash)? })
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp(at.timestamp_micros()))
}

#[cfg(test)]
mod tests;
