//! A terminal of which one table takes possession, and which is itself again afterwards however it ends.

use std::io::{self, Read as _, Write as _};

use chrono::Utc;
use tokio::sync::mpsc::{Receiver, channel};

use super::{Load, Sort};
use crate::output::format::Row;
use crate::output::{colour, count, escape, table};
use crate::prompt::Quiet;

/// The other screen, without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Sort(Sort),
}

/// The screen, until dropped.
pub(super) struct Screen {
    keys: Receiver<Key>,
    colour: bool,
    _terminal: Taken,
}

impl Screen {
    pub(super) fn open(colour: bool) -> io::Result<Screen> {
        let terminal = Taken::now()?;
        let (sender, keys) = channel(8);
        // Reading a terminal blocks and cannot be given up; the thread ends with the process.
        std::thread::spawn(move || {
            for byte in io::stdin().lock().bytes() {
                let key = byte.ok().map(key_of);
                match key {
                    Some(Some(key)) if sender.blocking_send(key).is_err() => return,
                    Some(_) => {}
                    None => return,
                }
            }
        });
        Ok(Screen { keys, colour, _terminal: terminal })
    }

    /// Gives the terminal back for as long as `meanwhile` takes.
    pub(super) fn without(self, meanwhile: impl FnOnce() -> io::Result<()>) -> io::Result<Screen> {
        let Screen { keys, colour, _terminal: terminal } = self;
        drop(terminal);
        meanwhile()?;
        Ok(Screen { keys, colour, _terminal: Taken::now()? })
    }

    /// The next key that means something; `None` when the keyboard is gone.
    pub(super) async fn key(&mut self) -> Option<Key> {
        self.keys.recv().await
    }

    /// Draws rows as far as there is room.
    pub(super) fn draw(&self, rows: &[Load], sort: Sort, trouble: Option<&str>) -> io::Result<()> {
        let (width, height) = terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0, height.0));
        let room = usize::from(height).saturating_sub(4);
        let mut out = io::stdout().lock();
        write!(out, "\x1b[H")?;
        for line in page(rows, sort, trouble, room).lines() {
            let shown: String = line.chars().take(usize::from(width)).collect();
            let is_title = shown.starts_with("NAME ");
            let shown = if self.colour && is_title { colour::paint(colour::BOLD, &shown) } else { shown };
            write!(out, "{shown}\x1b[K\r\n")?;
        }
        write!(out, "\x1b[J")?;
        out.flush()
    }
}

/// The other screen, and keys that are not shown, until dropped.
struct Taken {
    /// After the screen, so that what is typed shows again only when the table is gone.
    _quiet: Quiet,
}

impl Taken {
    fn now() -> io::Result<Taken> {
        let quiet = Quiet::keys()?;
        write!(io::stdout(), "{ENTER}")?;
        io::stdout().flush()?;
        Ok(Taken { _quiet: quiet })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = write!(out, "{LEAVE}");
        let _ = out.flush();
    }
}

fn key_of(byte: u8) -> Option<Key> {
    match byte {
        b'q' | b'Q' | 0x1b | 0x04 => Some(Key::Quit),
        b'c' => Some(Key::Sort(Sort::Cpu)),
        b'm' => Some(Key::Sort(Sort::Memory)),
        b'd' => Some(Key::Sort(Sort::Disk)),
        b'r' => Some(Key::Sort(Sort::Running)),
        b'n' => Some(Key::Sort(Sort::Name)),
        _ => None,
    }
}

fn page(rows: &[Load], sort: Sort, trouble: Option<&str>, room: usize) -> String {
    let now = Utc::now();
    let online = rows.iter().filter(|row| row.status == "online").count();
    let running: u32 = rows.iter().map(|row| row.running).sum();
    let by = match sort {
        Sort::Cpu => "cpu",
        Sort::Memory => "memory",
        Sort::Disk => "disk",
        Sort::Running => "running",
        Sort::Name => "name",
    };
    let agents = count::of(rows.len(), "agent", "agents");
    let mut text = format!("{online} of {agents} online, {running} running, by {by}   (q quits; c m d r n sort)\n");
    text += &trouble.map_or_else(|| "\n".to_owned(), |why| format!("{}\n", escape::line(why)));
    text += &table::grid(Load::COLUMNS, rows.iter().take(room).map(|row| row.cells(now)));
    if rows.len() > room {
        text += &format!("and {} more\n", rows.len() - room);
    }
    text
}
