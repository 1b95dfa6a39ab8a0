//! In which form data leaves, and where to.

use std::io::{self, IsTerminal, Write};

use api::page::Page;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde::Serialize;

use super::lines::Look;
use super::{escape, table, yaml};

/// How to print data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document, as the API has it.
    Json,
    /// One YAML document with the same fields.
    Yaml,
    /// One JSON document on each line.
    Ndjson,
    /// Names only, one on each line.
    Name,
}

/// Where output goes and how.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// The form of data.
    pub format: Format,
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Standard error is a terminal.
    pub chatter_terminal: bool,
    /// Nobody asked for a world without colour.
    pub colour: bool,
}

/// What a list shows of an item.
pub trait Row: Serialize {
    /// Titles of the columns.
    const COLUMNS: &'static [&'static str];
    /// How many of them a plain table has.
    const NARROW: usize;

    /// The cells, one for each column.
    fn cells(&self, now: DateTime<Utc>) -> Vec<String>;
    /// What `-o name` prints.
    fn name(&self) -> String;
}

impl Sink {
    /// The process's own outputs.
    pub fn of_process(format: Format) -> Sink {
        // NO_COLOR counts when it is set and not empty.
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Sink { format, terminal: io::stdout().is_terminal(), chatter_terminal: io::stderr().is_terminal(), colour }
    }

    /// How machines' lines look on standard output.
    pub fn look(&self) -> Look {
        Look { colour: self.colour && self.terminal, terminal: self.terminal }
    }

    /// Prints a list.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn list<T: Row>(&self, page: &Page<T>, nothing: &str) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.document(page),
            Format::Ndjson => page.items.iter().try_for_each(|item| self.document(item)),
            Format::Name => self.names(page.items.iter().map(Row::name)),
            Format::Table | Format::Wide if page.items.is_empty() => self.say(nothing),
            Format::Table => self.print(&rows(&page.items, T::NARROW)),
            Format::Wide => self.print(&rows(&page.items, T::COLUMNS.len())),
        }
    }

    /// Prints what came to a list that stands on the screen already: under its titles.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn more<T: Row>(&self, page: &Page<T>) -> io::Result<()> {
        let columns = match self.format {
            Format::Json | Format::Yaml | Format::Ndjson | Format::Name => return self.list(page, ""),
            Format::Table => T::NARROW,
            Format::Wide => T::COLUMNS.len(),
        };
        let text = rows(&page.items, columns);
        self.print(text.split_once('\n').map_or("", |(_, below)| below))
    }

    /// Prints things that are no rows of one table: the whole `document`, each of them, the name of each, or the text that
    /// `page` makes of them.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn many<T: Serialize>(
        &self,
        document: &impl Serialize,
        items: &[T],
        name: impl Fn(&T) -> &str,
        page: impl FnOnce() -> String,
    ) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.document(document),
            Format::Ndjson => items.iter().try_for_each(|item| self.document(item)),
            Format::Name => {
                let mut names: Vec<&str> = items.iter().map(name).collect();
                // One after the other they may be of the same machine.
                names.dedup();
                self.names(names.into_iter().map(str::to_owned))
            }
            Format::Table | Format::Wide => self.print(&page()),
        }
    }

    /// Prints one thing: as JSON, by name, or as the text `page` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn one<T: Serialize>(&self, item: &T, name: &str, page: impl FnOnce() -> String) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Yaml | Format::Ndjson => self.document(item),
            Format::Name => self.names([name.to_owned()]),
            Format::Table | Format::Wide => self.print(&page()),
        }
    }

    /// Prints a document: as YAML for `yaml`, as JSON on one line for `ndjson`, laid out for all others.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn document(&self, item: &impl Serialize) -> io::Result<()> {
        let document = match self.format {
            Format::Yaml => return self.print(&yaml::document(&serde_json::to_value(item).map_err(io::Error::other)?)),
            Format::Ndjson => serde_json::to_string(item),
            Format::Table | Format::Wide | Format::Json | Format::Name => serde_json::to_string_pretty(item),
        };
        let mut document = escape::json(&document.map_err(io::Error::other)?);
        document.push('\n');
        self.print(&document)
    }

    /// Whether data is a table or a page for people, and not a document or names for a script.
    pub fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    fn names(&self, names: impl IntoIterator<Item = String>) -> io::Result<()> {
        let text: String = names.into_iter().map(|name| escape::line(&name) + "\n").collect();
        self.print(&text)
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Says something to the person, not to the script.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn say(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }
}

fn rows<T: Row>(items: &[T], columns: usize) -> String {
    let now = Utc::now();
    table::grid(&T::COLUMNS[..columns], items.iter().map(|item| item.cells(now).into_iter().take(columns).collect()))
}
