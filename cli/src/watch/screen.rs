//! Two outputs that may be the same terminal: whole lines of data, and one progress line that makes
//! way for them.

use std::io::{self, Write};
use std::time::Duration;

use plan::outcome::Stream;

use crate::output::lines::Lines;
use crate::output::{Sink, colour, escape};

/// On a terminal progress appears after this long, so that quick commands are quiet.
const PATIENT: Duration = Duration::from_millis(600);
/// Without a terminal progress is one line each time this has passed.
const RARELY: Duration = Duration::from_secs(10);

/// Standard output and standard error of a followed command.
#[derive(Debug)]
pub(super) struct Screen {
    sink: Sink,
    lines: Lines,
    /// What the progress line shows now; empty when there is none.
    drawn: String,
    /// What the last progress line without a terminal said, and when.
    reported: (String, Duration),
}

impl Screen {
    pub(super) fn new(sink: Sink) -> Screen {
        Screen { sink, lines: Lines::new(sink.look()), drawn: String::new(), reported: (String::new(), Duration::ZERO) }
    }

    /// A machine's output.
    pub(super) fn output(&mut self, name: &str, stream: Stream, data: &[u8]) -> io::Result<()> {
        let mut text = Vec::new();
        self.lines.push(name, stream, data, &mut text)?;
        self.print(&text)
    }

    /// A machine says no more.
    pub(super) fn finish(&mut self, name: &str) -> io::Result<()> {
        let mut text = Vec::new();
        self.lines.finish(name, &mut text)?;
        self.print(&text)
    }

    /// Nobody says more.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.lines.finish_all(&mut text)?;
        self.print(&text)?;
        self.clear()
    }

    /// A sentence for the person.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.clear()?;
        self.sink.say(&escape::line(text))
    }

    /// Brings the progress line up to date. `elapsed` is since the start.
    pub(super) fn progress(&mut self, text: impl FnOnce() -> String, elapsed: Duration) -> io::Result<()> {
        if self.sink.chatter_terminal {
            if elapsed < PATIENT {
                return Ok(());
            }
            let text = text();
            if text != self.drawn {
                self.clear()?;
                let shown = if self.sink.colour { colour::paint(colour::DIM, &text) } else { text.clone() };
                // Cut at the right edge rather than wrapped: a wrapped line could not be taken back.
                write!(io::stderr(), "\x1b[?7l{shown}\x1b[?7h")?;
                io::stderr().flush()?;
                self.drawn = text;
            }
        } else if elapsed >= self.reported.1 + RARELY {
            let text = text();
            let changed = text != self.reported.0;
            if changed {
                self.sink.say(&text)?;
            }
            self.reported = (text, elapsed);
        }
        Ok(())
    }

    fn print(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.clear()?;
        let mut out = io::stdout().lock();
        out.write_all(text)?;
        out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if !self.drawn.is_empty() {
            self.drawn.clear();
            write!(io::stderr(), "\r\x1b[2K")?;
            io::stderr().flush()?;
        }
        Ok(())
    }
}
