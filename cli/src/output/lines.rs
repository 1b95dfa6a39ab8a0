//! Output of many machines as one text: whole lines, each with the name of its machine.
//!
//! Invariant: a line is written in one piece, whatever chunks it came in, so lines of two machines
//! never mix.

use std::collections::BTreeMap;
use std::io::{self, Write};

use plan::outcome::Stream;

use super::{colour, escape};

/// A line longer than this is written in parts, so that a machine that never ends a line cannot
/// fill our memory.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Names in colour.
    pub colour: bool,
    /// The reader is a terminal, so what it would obey is written out.
    pub terminal: bool,
}

/// Gathers chunks and writes lines.
#[derive(Debug, Default)]
pub struct Lines {
    look: Look,
    /// The unfinished line of each machine's stream.
    held: BTreeMap<(String, Stream), Vec<u8>>,
}

impl Lines {
    /// Lines that look so.
    pub fn new(look: Look) -> Lines {
        Lines { look, held: BTreeMap::new() }
    }

    /// Takes the next bytes of a machine's stream and writes the lines they complete.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn push(&mut self, name: &str, stream: Stream, data: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let key = (name.to_owned(), stream);
        let mut held = self.held.remove(&key).unwrap_or_default();
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(part);
            if part.ends_with(b"\n") || held.len() >= MAX_LINE_BYTES {
                self.write(name, stream, &held, out)?;
                held.clear();
            }
        }
        if !held.is_empty() {
            self.held.insert(key, held);
        }
        Ok(())
    }

    /// Writes what a machine has left unfinished: it will not go on.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn finish(&mut self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(held) = self.held.remove(&(name.to_owned(), stream)) {
                self.write(name, stream, &held, out)?;
            }
        }
        Ok(())
    }

    /// Writes everything unfinished.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn finish_all(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for ((name, stream), held) in std::mem::take(&mut self.held) {
            self.write(&name, stream, &held, out)?;
        }
        Ok(())
    }

    /// `[web-01] line`, or `[web-01]! line` for standard error.
    fn write(&self, name: &str, stream: Stream, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mark = match stream {
            Stream::Stdout => "",
            Stream::Stderr => "!",
        };
        let mut whole = Vec::with_capacity(name.len() + line.len() + 16);
        // The prefix is ours even when piped, so a name cannot forge one.
        let name = escape::line(name);
        if self.look.colour {
            whole.extend(colour::paint(colour::of_name(&name), &format!("[{name}]")).bytes());
            if !mark.is_empty() {
                whole.extend(colour::paint(colour::RED, mark).bytes());
            }
        } else {
            whole.extend(format!("[{name}]{mark}").bytes());
        }
        whole.push(b' ');
        if self.look.terminal {
            // The carriage return of a CRLF line end does nothing a terminal would not do anyway.
            whole.extend(escape::bytes(line.strip_suffix(b"\r").unwrap_or(line)).bytes());
        } else {
            whole.extend_from_slice(line);
        }
        whole.push(b'\n');
        out.write_all(&whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(look: Look, chunks: &[(&str, Stream, &[u8])]) -> String {
        let (mut lines, mut out) = (Lines::new(look), Vec::new());
        for (name, stream, data) in chunks {
            lines.push(name, *stream, data, &mut out).unwrap();
        }
        lines.finish_all(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_whole_and_carry_their_machine_and_stream() {
        let text = shown(
            Look::default(),
            &[
                ("web-01", Stream::Stdout, b"one\ntw"),
                ("web-02", Stream::Stdout, b"other\n"),
                ("web-01", Stream::Stderr, b"warn"),
                ("web-01", Stream::Stdout, b"o\n\nthr"),
                ("web-01", Stream::Stderr, b"ing\n"),
                ("web-01", Stream::Stdout, b"ee"),
            ],
        );
        insta::assert_snapshot!(text, @r"
        [web-01] one
        [web-02] other
        [web-01] two
        [web-01] 
        [web-01]! warning
        [web-01] three
        ");
    }

    #[test]
    fn a_machine_that_ended_gives_up_its_unfinished_line() {
        let (mut lines, mut out) = (Lines::new(Look::default()), Vec::new());
        lines.push("a", Stream::Stdout, b"half", &mut out).unwrap();
        lines.push("b", Stream::Stdout, b"other half", &mut out).unwrap();
        assert!(out.is_empty());
        lines.finish("a", &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "[a] half\n");
    }

    #[test]
    fn a_terminal_gets_harmless_text_and_a_pipe_gets_the_bytes() {
        let chunk: &[(&str, Stream, &[u8])] = &[("a", Stream::Stdout, b"\x1b[2Jx\r\n")];
        assert_eq!(shown(Look { colour: false, terminal: true }, chunk), "[a] \\x1b[2Jx\n");
        assert_eq!(shown(Look { colour: false, terminal: false }, chunk), "[a] \x1b[2Jx\r\n");
    }

    #[test]
    fn a_character_in_two_chunks_is_one_character() {
        let chunks: &[(&str, Stream, &[u8])] = &[("a", Stream::Stdout, b"gr\xc3"), ("a", Stream::Stdout, b"\xbcn\n")];
        assert_eq!(shown(Look { colour: false, terminal: true }, chunks), "[a] grün\n");
    }

    #[test]
    fn colour_is_around_the_name_and_the_mark_only() {
        let text = shown(Look { colour: true, terminal: true }, &[("web-01", Stream::Stderr, b"x\n")]);
        let code = colour::of_name("web-01");
        assert_eq!(text, format!("\x1b[{code}m[web-01]\x1b[0m\x1b[31m!\x1b[0m x\n"));
    }

    #[test]
    fn an_endless_line_comes_in_parts() {
        let text = shown(Look::default(), &[("a", Stream::Stdout, &vec![b'x'; MAX_LINE_BYTES * 2 + 5])]);
        assert_eq!(text.lines().count(), 1, "one chunk is one part");
        let chunks: Vec<(&str, Stream, &[u8])> = vec![("a", Stream::Stdout, &[b'x'; 1024]); 130];
        assert_eq!(shown(Look::default(), &chunks).lines().count(), 3);
    }
}
