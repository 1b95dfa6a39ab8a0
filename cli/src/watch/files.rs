//! Output in a folder: one file for each agent, whole lines as they came.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use plan::outcome::Stream;

use crate::failure::Failure;

/// An unfinished line is written in parts of this.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A folder that one command fills.
#[derive(Debug)]
pub struct LogFiles {
    dir: PathBuf,
    /// The unfinished line of each agent's stream.
    held: BTreeMap<(String, Stream), Vec<u8>>,
}

impl LogFiles {
    /// Takes `dir`, which is made if need be.
    ///
    /// # Errors
    /// When it holds something already, or cannot be made: nothing of an earlier run is mixed up or lost.
    pub fn in_folder(dir: &Path) -> Result<LogFiles, Failure> {
        let shown = dir.display();
        let cannot = |error: std::io::Error| Failure::usage(format!("--log-dir {shown}: {error}"));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(dir).map_err(cannot)?;
        if std::fs::read_dir(dir).map_err(cannot)?.next().is_some() {
            return Err(Failure::usage(format!("--log-dir {shown}: it is not empty; name a new folder")));
        }
        Ok(LogFiles { dir: dir.to_owned(), held: BTreeMap::new() })
    }

    /// Makes an agent's file, so that silence is seen to be silence.
    pub(super) fn begin(&mut self, agent: &str) -> Result<(), Failure> {
        self.append(agent, b"")
    }

    /// Takes the next bytes of a stream.
    pub(super) fn take(&mut self, agent: &str, stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
        let key = (agent.to_owned(), stream);
        let mut held = self.held.remove(&key).unwrap_or_default();
        let mut ready = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(part);
            if part.ends_with(b"\n") || held.len() >= MAX_LINE_BYTES {
                ready.extend(line(stream, &held));
                held.clear();
            }
        }
        if !held.is_empty() {
            self.held.insert(key, held);
        }
        if ready.is_empty() { Ok(()) } else { self.append(agent, &ready) }
    }

    /// Writes what everybody has left unfinished.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        for ((agent, stream), held) in std::mem::take(&mut self.held) {
            self.append(&agent, &line(stream, &held))?;
        }
        Ok(())
    }

    /// Opened for each piece: a fleet has more agents than a process may have open files.
    fn append(&self, agent: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(file_name(agent));
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.create(true).append(true).open(&path).and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| Failure::new(crate::exit::Exit::Error, format!("{}: {error}", path.display())))
    }
}

/// `! line` for standard error, and always whole.
fn line(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mark: &[u8] = match stream {
        Stream::Stdout => b"",
        Stream::Stderr => b"! ",
    };
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    [mark, bytes, end].concat()
}

/// `web-01.log`. Names are made of harmless letters; one that is not stays in the folder all the same.
fn file_name(agent: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = agent.chars().map(harmless).take(128).collect();
    format!("{}.log", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_has_a_file_of_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LogFiles::in_folder(&dir.path().join("new/logs")).unwrap();
        files.begin("silent").unwrap();
        files.take("a", Stream::Stdout, b"one\ntw").unwrap();
        files.take("a", Stream::Stderr, b"oops\n").unwrap();
        files.take("a", Stream::Stdout, b"o\nhalf").unwrap();
        files.finish().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join("new/logs").join(name)).unwrap();
        assert_eq!((read("a.log").as_str(), read("silent.log").as_str()), ("one\n! oops\ntwo\nhalf\n", ""));
        let again = LogFiles::in_folder(&dir.path().join("new/logs")).unwrap_err();
        assert!(again.message.contains("not empty"), "{}", again.message);
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        for (agent, name) in
            [("web-01", "web-01.log"), ("../../etc/x", "_.._etc_x.log"), ("..", ".log"), ("a/b", "a_b.log")]
        {
            assert_eq!(file_name(agent), name);
        }
    }
}
