//! Whole outputs, held until everybody is over, so that those who said the same are shown once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use plan::outcome::Stream;

use crate::output::lines::Look;
use crate::output::{colour, count, escape};

/// Bytes of one stream that are held; what is beyond is not compared and not shown.
const MAX_HELD_BYTES: usize = 256 * 1024;
/// Names in a heading; the others are counted.
const NAMED: usize = 20;

/// One stream: pieces by where they begin.
type Pieces = BTreeMap<u64, Vec<u8>>;

/// What each agent wrote at its latest attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    agents: BTreeMap<String, Agent>,
}

#[derive(Clone, Debug, Default)]
struct Agent {
    attempt: u32,
    streams: BTreeMap<Stream, Pieces>,
}

/// What makes agents alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    how: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    cut: bool,
}

impl Gathered {
    /// Takes bytes that were not seen before.
    pub(super) fn take(&mut self, agent: &str, attempt: u32, stream: Stream, at: u64, bytes: &[u8]) {
        let held = self.agents.entry(agent.to_owned()).or_default();
        if attempt > held.attempt {
            *held = Agent { attempt, streams: BTreeMap::new() };
        }
        let pieces = held.streams.entry(stream).or_default();
        let full = pieces.values().map(Vec::len).sum::<usize>() > MAX_HELD_BYTES;
        if attempt == held.attempt && !full && !bytes.is_empty() {
            pieces.insert(at, bytes.to_vec());
        }
    }

    /// Everybody's output, those that are alike under one heading, the most frequent first. `ends` are the
    /// agents in their words and how each ended.
    pub(super) fn page(&self, ends: &[(String, String, String)], look: Look) -> String {
        let mut alike: BTreeMap<Said, Vec<&str>> = BTreeMap::new();
        for (agent, name, how) in ends {
            let held = self.agents.get(agent).cloned().unwrap_or_default();
            let (stdout, cut_out) = whole(held.streams.get(&Stream::Stdout));
            let (stderr, cut_err) = whole(held.streams.get(&Stream::Stderr));
            let said = Said { how: how.clone(), stdout, stderr, cut: cut_out || cut_err };
            alike.entry(said).or_default().push(name);
        }
        let mut groups: Vec<(Said, Vec<&str>)> = alike.into_iter().collect();
        groups.sort_by_key(|(said, names)| (usize::MAX - names.len(), names.first().copied(), said.how.clone()));
        let mut text = String::new();
        for (said, names) in groups {
            show(&said, &names, look, &mut text);
        }
        text
    }
}

/// The stream as one, and whether something of it is missing.
fn whole(pieces: Option<&Pieces>) -> (Vec<u8>, bool) {
    let (mut bytes, mut gap) = (Vec::new(), false);
    for (at, piece) in pieces.into_iter().flatten() {
        gap |= *at != bytes.len() as u64;
        bytes.extend_from_slice(piece);
    }
    let cut = gap || bytes.len() > MAX_HELD_BYTES;
    bytes.truncate(MAX_HELD_BYTES);
    (bytes, cut)
}

fn show(said: &Said, names: &[&str], look: Look, text: &mut String) {
    let agents = count::of(names.len(), "agent", "agents");
    let mut listed = names.iter().take(NAMED).map(|name| escape::line(name)).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        let _ = write!(listed, " and {} more", names.len() - NAMED);
    }
    let heading = format!("── {agents}, {}: {listed}", escape::line(&said.how));
    let _ = writeln!(text, "{}", if look.colour { colour::paint(colour::BOLD, &heading) } else { heading });
    for (bytes, mark) in [(&said.stdout, ""), (&said.stderr, "! ")] {
        let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in lines.split(|byte| *byte == b'\n').filter(|_| !bytes.is_empty()) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let mark = if look.colour && !mark.is_empty() { colour::paint(colour::RED, mark) } else { mark.to_owned() };
            let line = if look.terminal { escape::bytes(line) } else { String::from_utf8_lossy(line).into_owned() };
            let _ = writeln!(text, "{mark}{line}");
        }
    }
    if said.cut {
        text.push_str("   (there is more: `viworks logs` has all that is kept)\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(agents: &[(&str, &str)]) -> Vec<(String, String, String)> {
        agents.iter().map(|(name, how)| (format!("id-{name}"), (*name).to_owned(), (*how).to_owned())).collect()
    }

    #[test]
    fn who_said_the_same_is_shown_once_and_the_many_come_first() {
        let mut gathered = Gathered::default();
        for (name, text) in [("a", "6.1\n"), ("b", "6.1\n"), ("c", "5.15\n"), ("d", "6.1\n")] {
            gathered.take(&format!("id-{name}"), 1, Stream::Stdout, 0, text.as_bytes());
        }
        gathered.take("id-d", 1, Stream::Stderr, 0, b"\x1b[2Jbad\r\nworse");
        let ends = ends(&[("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "failed"), ("e", "unreachable")]);
        insta::assert_snapshot!(gathered.page(&ends, Look { colour: false, terminal: true }), @r"
        ── 2 agents, ok: a, b
        6.1
        ── 1 agent, ok: c
        5.15
        ── 1 agent, failed: d
        6.1
        ! \x1b[2Jbad
        ! worse
        ── 1 agent, unreachable: e
        ");
    }

    #[test]
    fn only_the_latest_attempt_counts_and_late_pieces_find_their_place() {
        let mut gathered = Gathered::default();
        gathered.take("id-a", 1, Stream::Stdout, 0, b"first try\n");
        gathered.take("id-a", 2, Stream::Stdout, 6, b"end\n");
        gathered.take("id-a", 2, Stream::Stdout, 0, b"start\n");
        gathered.take("id-a", 1, Stream::Stdout, 10, b"stale\n");
        let page = gathered.page(&ends(&[("a", "ok")]), Look::default());
        assert_eq!(page, "── 1 agent, ok: a\nstart\nend\n");
        gathered.take("id-a", 3, Stream::Stdout, 5, b"gap\n");
        assert!(gathered.page(&ends(&[("a", "ok")]), Look::default()).contains("there is more"));
    }

    #[test]
    fn an_endless_output_is_cut_and_many_names_are_counted() {
        let mut gathered = Gathered::default();
        for piece in 0..40 {
            gathered.take("id-00", 1, Stream::Stdout, piece * 16_384, &[b'x'; 16_384]);
        }
        let names: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
        let ends = ends(&names.iter().map(|name| (name.as_str(), "ok")).collect::<Vec<_>>());
        let page = gathered.page(&ends, Look::default());
        assert!(page.starts_with("── 24 agents, ok: 01, 02,") && page.contains(", 20 and 4 more\n"), "{page:.200}");
        assert!(page.len() < MAX_HELD_BYTES + 1000 && page.contains("there is more"));
    }
}
