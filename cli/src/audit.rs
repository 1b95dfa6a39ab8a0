//! `viworks audit …`: who did what, whether the log is whole, and all of it to take away.

mod file;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::audit::AuditReport;
use api::page::Page;
use api::system::AuditEntry;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use domain::audit::check::Report;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::instant::instant;
use crate::output::format::Row;
use crate::output::{Sink, count, escape, moment};

/// How often `tail -f` looks for more.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to do with the audit log.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the latest entries, the newest last
    Tail(TailOptions),
    /// Say whether the log, or an export of it, is as it was written
    #[command(after_help = "\
Without FILE the host verifies its own log. An export is verified here, without a host; give the key
from a place you trust (`viworks audit verify -o json` shows it), for an export vouches for its own.
An earlier export tells whether anything it had is gone or changed since: keep one elsewhere.")]
    Verify {
        /// An export
        file: Option<PathBuf>,
        /// The public half of the key that seals the log; may stand several times
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        key: Vec<String>,
        /// An earlier export, all of whose chains must be there still; may stand several times
        #[arg(long, value_name = "FILE", requires = "file")]
        since: Vec<PathBuf>,
    },
    /// Write the whole log to a file, or to standard output, one entry a line, with its seals
    Export {
        /// Where to; it must not exist
        file: Option<PathBuf>,
    },
}

/// Which entries to show.
#[derive(Clone, Debug, clap::Args)]
pub struct TailOptions {
    /// How many; 0 for only what is added, with --follow
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
    /// Go on showing what is added
    #[arg(short, long)]
    follow: bool,
    /// Only what this user or agent did
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this, e.g. command.submit
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only from then on: RFC 3339, or a length of time ago like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then: RFC 3339, or a length of time ago like 30m
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Row for AuditEntry {
    const COLUMNS: &'static [&'static str] = &["at", "actor", "action", "on", "from", "details", "request"];
    const NARROW: usize = 5;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let on = [self.resource_type.as_deref(), self.resource_id.as_deref()];
        vec![
            moment::age(&self.at, now),
            self.actor.clone().unwrap_or_default(),
            self.action.clone(),
            on.into_iter().flatten().collect::<Vec<_>>().join(" "),
            self.ip_address.clone().unwrap_or_default(),
            self.details.to_string(),
            self.correlation_id.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

/// Does it. `client` is asked for only by what needs a host.
///
/// # Errors
/// What the host refuses, or a file that cannot be read or written.
pub async fn run(
    command: AuditCommand,
    client: impl FnOnce() -> Result<Client, Failure>,
    sink: &Sink,
) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Tail(options) => tail(options, &client()?, sink).await,
        AuditCommand::Verify { file: None, .. } => host(&client()?.verify_audit().await?, sink),
        AuditCommand::Verify { file: Some(path), key, since } => offline(&path, key, &since, sink),
        AuditCommand::Export { file } => export(file.as_deref(), &client()?, sink).await,
    }
}

async fn tail(options: TailOptions, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let TailOptions { lines, follow, actor, action, since, until } = options;
    let now = Utc::now();
    let (since, until) = (instant(since, now)?, instant(until, now)?);
    let named = [("actor", actor), ("action", action), ("since", since), ("until", until)];
    let query: Vec<(&str, String)> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut page = client.audit(query.clone(), lines.max(1)).await?;
    page.items.reverse();
    page.next_cursor = None;
    let mut last = page.items.last().map_or(0, |entry| entry.id);
    if lines > 0 {
        sink.list(&page, "nothing is on record")?;
    }
    if !follow {
        return Ok(Exit::Ok);
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let page = added(client, query.clone(), last).await?;
        if let Some(newest) = page.items.last() {
            last = newest.id;
            sink.more(&page)?;
        }
    }
}

/// All that was added after the entry `last`, however much it is, the newest last.
async fn added(client: &Client, query: Vec<(&str, String)>, last: u64) -> Result<Page<AuditEntry>, Failure> {
    let mut items = Vec::new();
    let mut newest_first = client.each_audit_entry(query);
    while let Some(entry) = newest_first.next().await {
        match entry? {
            entry if entry.id > last => items.push(entry),
            _ => break,
        }
    }
    items.reverse();
    Ok(Page { items, next_cursor: None })
}

/// What the host found in its log.
fn host(report: &AuditReport, sink: &Sink) -> Result<Exit, Failure> {
    let AuditReport { whole, entries, unchained, pruned, heads, faults, faults_in_all, public_key } = report;
    sink.one(report, if *whole { "whole" } else { "changed" }, || {
        let mut text = counted(*entries, heads.len(), *unchained, *pruned);
        for head in heads {
            text += &escape::line(&format!("chain {} ends at {}: {}", head.chain, head.position, head.hash));
            text.push('\n');
        }
        text += &escape::line(&format!("sealed by {public_key}"));
        text.push('\n');
        text + &found(faults.iter().map(|fault| fault.message.clone()), *faults_in_all)
    })?;
    Ok(if *whole { Exit::Ok } else { Exit::Error })
}

fn offline(path: &Path, key: Vec<String>, since: &[PathBuf], sink: &Sink) -> Result<Exit, Failure> {
    let own_word = key.is_empty();
    let report = file::verify(path, key, since)?;
    let Report { entries, unchained, pruned, heads, faults, faults_in_all, given_up } = &report;
    let mut text = counted(*entries, heads.len(), *unchained, *pruned);
    for link in given_up {
        let (chain, position) = (link.chain, link.position);
        text += &format!("given up by a restore: chain {chain} up to place {position}, which an earlier export had\n");
    }
    text += &found(faults.iter().map(ToString::to_string), *faults_in_all);
    sink.print(&text)?;
    if own_word {
        sink.say("the key is the export's own word; give --key to check it against one you trust")?;
    }
    Ok(if *faults_in_all == 0 { Exit::Ok } else { Exit::Error })
}

fn counted(entries: u64, chains: usize, unchained: u64, pruned: u64) -> String {
    let mut text = format!("{} on {}\n", count::of(entries, "entry", "entries"), count::of(chains, "chain", "chains"));
    if pruned > 0 {
        text += &format!("{} pruned, up to sealed checkpoints\n", count::of(pruned, "more was", "more were"));
    }
    if unchained > 0 {
        text += &format!("{} on no chain: nothing vouches for them\n", count::of(unchained, "is", "are"));
    }
    text
}

fn found(faults: impl Iterator<Item = String>, in_all: u64) -> String {
    let mut text: String = faults.map(|fault| escape::line(&fault) + "\n").collect();
    text += &if in_all == 0 {
        "whole: everything is as it was written\n".to_owned()
    } else {
        format!("NOT whole: {}\n", count::of(in_all, "fault", "faults"))
    };
    text
}

async fn export(path: Option<&Path>, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let mut export = client.export_audit().await?;
    let mut out: Box<dyn std::io::Write> = match path {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => Box::new(file::create(path)?),
    };
    let mut watch = file::EndWatch::default();
    while let Some(bytes) = export.next().await? {
        watch.see(&bytes);
        out.write_all(&bytes)?;
    }
    out.flush()?;
    let entries = watch.entries().ok_or_else(|| Failure::new(Exit::Error, "the export broke off before its end"))?;
    sink.say(&format!("{} exported", count::of(entries, "entry", "entries")))?;
    Ok(Exit::Ok)
}
