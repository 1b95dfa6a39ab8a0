//! `viworks top`: the fleet at a glance, and again every few seconds.

mod gather;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use api::page::Page;
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Sink;
use crate::output::format::Row;
use crate::output::moment::{age, parse_length};
use crate::signals::{Naps, Signals};
use screen::{Key, Screen};

/// What to look at.
#[derive(Clone, Debug, Args)]
pub struct TopOptions {
    /// Only at this site
    #[arg(short, long, value_name = "SITE")]
    pub site: Option<String>,
    /// By what to sort: cpu, memory, disk, running or name
    #[arg(long, value_name = "COLUMN", default_value = "cpu", hide_possible_values = true)]
    pub sort: Sort,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_length)]
    pub every: Duration,
    /// Print the table once; so it is without a terminal
    #[arg(long)]
    pub once: bool,
}

/// The column by which rows are sorted, the highest first; names from a to z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Processor use.
    Cpu,
    /// Memory use.
    Memory,
    /// The fullest disk.
    Disk,
    /// Commands that run there.
    Running,
    /// The name.
    Name,
}

/// One agent now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// `online`, `degraded`, `offline`, `maintenance` or `pending`.
    pub status: String,
    /// 0 to 100; null when not known, as all others.
    pub cpu_percent: Option<f64>,
    /// 0 to 100.
    pub memory_percent: Option<f64>,
    /// Of the fullest disk, 0 to 100.
    pub disk_percent: Option<f64>,
    /// Over one minute.
    pub load: Option<f64>,
    /// Commands that run there, of the newest.
    pub running: u32,
    /// When its last report came, RFC 3339; null when none has come since the host started.
    pub reported_at: Option<String>,
}

impl Row for Load {
    const COLUMNS: &'static [&'static str] =
        &["name", "site", "status", "cpu", "memory", "disk", "load", "running", "report"];
    const NARROW: usize = 9;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let percent = |value: Option<f64>| value.map(|value| format!("{value:.0}%")).unwrap_or_default();
        vec![
            self.name.clone(),
            self.site.clone(),
            self.status.clone(),
            percent(self.cpu_percent),
            percent(self.memory_percent),
            percent(self.disk_percent),
            self.load.map(|load| format!("{load:.2}")).unwrap_or_default(),
            self.running.to_string(),
            self.reported_at.as_deref().map_or_else(String::new, |came| age(came, now)),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Shows it once, or until `q`.
///
/// # Errors
/// What the host refuses; while the table is refreshed a host that is away is borne with.
pub async fn run(options: TopOptions, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let live = !options.once && sink.is_for_people() && sink.terminal && std::io::stdin().is_terminal();
    let rows = sorted(gather::loads(client, options.site.as_deref()).await?, options.sort);
    if !live {
        sink.list(&Page { items: rows, next_cursor: None }, "no agents: `viworks agent join-token create` adds one")?;
        return Ok(Exit::Ok);
    }
    // Listened for before the screen is taken, which is given back however this ends.
    let (mut signals, mut naps) = (Signals::new()?, Naps::new()?);
    let mut ticks = tokio::time::interval(options.every.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.reset();
    let site = options.site.as_deref();
    // A stream of its own, so that keys are heard while a host is slow to answer.
    let looks = stream::unfold(ticks, async |mut ticks| {
        ticks.tick().await;
        Some((gather::loads(client, site).await, ticks))
    });
    tokio::pin!(looks);
    let mut screen = Screen::open(sink.colour)?;
    let (mut sort, mut rows) = (options.sort, rows);
    screen.draw(&rows, sort, None)?;
    loop {
        tokio::select! {
            () = signals.next() => return Ok(Exit::Ok),
            () = naps.wished() => {
                screen = screen.without(|| naps.sleep())?;
                screen.draw(&rows, sort, None)?;
            }
            key = screen.key() => match key {
                Some(Key::Quit) | None => return Ok(Exit::Ok),
                Some(Key::Sort(column)) => {
                    sort = column;
                    rows = sorted(rows, sort);
                    screen.draw(&rows, sort, None)?;
                }
            },
            Some(looked) = looks.next() => match looked {
                Ok(fresh) => {
                    rows = sorted(fresh, sort);
                    screen.draw(&rows, sort, None)?;
                }
                Err(error) if error.is_passing() => screen.draw(&rows, sort, Some(&error.to_string()))?,
                Err(error) => return Err(error.into()),
            },
        }
    }
}

fn sorted(mut rows: Vec<Load>, by: Sort) -> Vec<Load> {
    let value = |row: &Load| match by {
        Sort::Cpu => row.cpu_percent,
        Sort::Memory => row.memory_percent,
        Sort::Disk => row.disk_percent,
        Sort::Running => Some(f64::from(row.running)),
        Sort::Name => None,
    };
    // What is not known comes last, and what is alike in the order of names.
    let key = |row: &Load| value(row).unwrap_or(-1.0);
    rows.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, cpu: Option<f64>, running: u32) -> Load {
        Load {
            name: name.to_owned(),
            site: "eu".to_owned(),
            status: "online".to_owned(),
            cpu_percent: cpu,
            memory_percent: None,
            disk_percent: None,
            load: None,
            running,
            reported_at: None,
        }
    }

    #[test]
    fn the_busiest_come_first_and_the_unknown_last() {
        let rows = vec![load("b", None, 0), load("a", Some(0.0), 2), load("d", Some(90.0), 0), load("c", Some(0.0), 1)];
        let names = |by| sorted(rows.clone(), by).into_iter().map(|row| row.name).collect::<String>();
        assert_eq!(names(Sort::Cpu), "dacb");
        assert_eq!(names(Sort::Running), "acbd");
        assert_eq!(names(Sort::Name), "abcd");
        assert_eq!(names(Sort::Memory), "abcd");
    }
}
