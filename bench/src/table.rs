//! One table of all axes: what the product does, what stands beside it, and whether that is enough. Rows lie in
//! the file of results, one JSON line each, so that whoever measures anything adds to the same table.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod markdown;

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// Nothing is demanded.
    Told,
}

impl Goal {
    /// Whether `ratio` is on the right side. What could not be measured is not.
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
            Goal::Told => true,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::Told => String::new(),
        };
        f.pad(&text)
    }
}

/// Why there is no figure although there should be one begins so.
pub const FAILED: &str = "failed: ";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which axis, e.g. `A1`.
    pub axis: String,
    /// What is divided by what.
    pub what: String,
    /// Under which store; empty when none matters.
    #[serde(default)]
    pub store: String,
    /// Of both figures.
    #[serde(default)]
    pub unit: String,
    /// The product's figure; absent when it could not be taken.
    pub ours: Option<f64>,
    /// The baseline's.
    pub beside: Option<f64>,
    /// What ours ÷ beside must be.
    pub goal: Goal,
    /// Why there is no figure; empty when there is one.
    #[serde(default)]
    pub skipped: String,
}

impl Row {
    /// A row with both figures.
    pub fn new(axis: &str, what: &str, unit: &str, goal: Goal, ours: f64, beside: f64) -> Row {
        let finite = |value: f64| value.is_finite().then_some(value);
        Row {
            axis: axis.to_owned(),
            what: what.to_owned(),
            store: String::new(),
            unit: unit.to_owned(),
            ours: finite(ours),
            beside: finite(beside),
            goal,
            skipped: String::new(),
        }
    }

    /// A row without figures, and why.
    pub fn skipped(axis: &str, what: &str, why: impl Into<String>) -> Row {
        Row { skipped: why.into(), ..Row::new(axis, what, "", Goal::Told, f64::NAN, f64::NAN) }
    }

    /// What stands in the table when a run of `group` does not count.
    pub fn faulty(group: &str) -> Row {
        Row::skipped("–", group, format!("{FAILED}a run does not count: its FAULT is among the results"))
    }

    /// The same, under `store`.
    #[must_use]
    pub fn on(self, store: &str) -> Row {
        Row { store: store.to_owned(), ..self }
    }

    /// Ours ÷ the baseline's; not a number when either is missing.
    pub fn ratio(&self) -> f64 {
        self.ours.unwrap_or(f64::NAN) / self.beside.unwrap_or(f64::NAN)
    }

    /// `met`, `missed`, `skipped`, `FAILED`, or nothing when nothing is demanded.
    pub fn verdict(&self) -> &'static str {
        match self.goal {
            _ if self.skipped.starts_with(FAILED) => "FAILED",
            _ if !self.skipped.is_empty() => "skipped",
            Goal::Told => "",
            goal if goal.holds(self.ratio()) => "met",
            Goal::AtLeast(_) | Goal::AtMost(_) => "missed",
        }
    }

    /// Appends it to the results.
    ///
    /// # Errors
    /// When `file` cannot be written.
    pub fn append(&self, file: &Path) -> Result<()> {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        let line = serde_json::to_string(self).context("a row is JSON")?;
        writeln!(opened.with_context(|| format!("results {}", file.display()))?, "{line}").context("results")
    }
}

/// All rows of a file of results, with those that compare with peers behind the rest.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    /// Under which conditions the first of the results was taken.
    conditions: Option<Value>,
}

#[derive(Deserialize)]
struct Stated {
    conditions: Value,
}

/// What one peer did, as `bench/peers` leaves it among the results.
#[derive(Clone, Debug, Deserialize)]
struct Peer {
    peer: String,
    figure: String,
    value: Option<f64>,
    #[serde(default)]
    skipped: String,
}

/// Which of our rows stands beside which figure of a peer: axis, how our row's text begins, the store that counts
/// (empty: whichever), peer, its figure, its factor into our unit, and the goal.
const BESIDE_PEERS: [(&str, &str, &str, &str, &str, f64, Goal); 7] = [
    ("A3", "durable commands", "postgres", "graphile_worker", "burn_down_per_s", 1.0, Goal::AtLeast(0.25)),
    ("A3", "durable commands", "postgres", "graphile-worker", "burn_down_per_s", 1.0, Goal::Told),
    ("A8", "commands of 10 real agents", "", "MeshCentral", "commands_per_s", 1.0, Goal::AtLeast(1.6)),
    ("A8", "one at a time, p50", "", "MeshCentral", "p50_ms", 1_000.0, Goal::AtMost(0.6)),
    ("A8", "commands of 10 real agents", "", "Salt", "commands_per_s", 1.0, Goal::AtLeast(30.0)),
    ("A8", "one at a time, p50", "", "Salt", "p50_ms", 1_000.0, Goal::AtMost(0.04)),
    ("A5", "50/s: p50", "sqlite", "nats-server", "request_p50_ms", 1_000.0, Goal::Told),
];

impl Table {
    /// Reads the rows and the peers of a file of results.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(file: &Path) -> Result<Table> {
        let text = std::fs::read_to_string(file).with_context(|| format!("results {}", file.display()))?;
        let mut rows: Vec<Row> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let peers: Vec<Peer> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        rows.extend(beside_peers(&rows, &peers));
        rows.extend(others(&peers));
        let conditions = text.lines().find_map(|line| serde_json::from_str::<Stated>(line).ok());
        Ok(Table { rows, conditions: conditions.map(|stated| stated.conditions) })
    }

    /// How many goals were met, missed and not tried, and how many lines failed.
    pub fn count(&self) -> [usize; 4] {
        ["met", "missed", "skipped", "FAILED"].map(|word| self.rows.iter().filter(|row| row.verdict() == word).count())
    }
}

fn beside_peers(rows: &[Row], peers: &[Peer]) -> Vec<Row> {
    let mut all = Vec::new();
    for (axis, begins, store, name, figure, factor, goal) in BESIDE_PEERS {
        let Some(peer) = peers.iter().rev().find(|peer| peer.peer == name && peer.figure == figure) else { continue };
        let what = format!("{begins} ÷ {name}'s {figure}");
        if let Some(value) = peer.value {
            // Our row is another axis' in name only: A3 is what A1 is on the other store.
            let ours = rows.iter().find(|row| {
                row.what.starts_with(begins) && (store.is_empty() || row.store == store) && row.ours.is_some()
            });
            let Some(ours) = ours else { continue };
            let found = Row::new(axis, &what, &ours.unit, goal, ours.ours.unwrap_or(f64::NAN), value * factor);
            all.push(found.on(&ours.store));
        } else {
            all.push(Row::skipped(axis, &what, peer.skipped.clone()));
        }
    }
    all
}

/// What peers did that stands beside nothing of ours.
fn others(peers: &[Peer]) -> Vec<Row> {
    let told = |peer: &Peer| {
        !BESIDE_PEERS.iter().any(|(.., name, figure, _, _)| (*name, *figure) == (&*peer.peer, &*peer.figure))
    };
    let row = |peer: &Peer| {
        let what = format!("{}: {}", peer.peer, peer.figure);
        match peer.value {
            Some(value) => Row::new("peer", &what, "", Goal::Told, f64::NAN, value),
            None => Row::skipped("peer", &what, peer.skipped.clone()),
        }
    };
    peers.iter().filter(|peer| told(peer)).map(row).collect()
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(conditions) = &self.conditions {
            let word =
                |name: &str| conditions[name].as_str().map_or_else(|| conditions[name].to_string(), str::to_owned);
            writeln!(
                f,
                "commit {}, {} × {}, kernel {}, {}; load {}, idle share {}",
                word("commit"),
                word("cores"),
                word("cpu"),
                word("kernel"),
                word("filesystem"),
                word("load"),
                word("idle_before")
            )?;
        }
        writeln!(
            f,
            "{:<4} {:<62} {:<8} {:>14} {:>14} {:>9}  {:<8}",
            "axis", "what", "store", "ours", "beside", "ratio", "gate"
        )?;
        for row in &self.rows {
            let number = |value: Option<f64>| match value {
                None => "–".to_owned(),
                Some(value) if value.abs() < 10.0 => format!("{value:.2} {}", row.unit),
                Some(value) => format!("{value:.0} {}", row.unit),
            };
            let (ours, beside, ratio) = (number(row.ours), number(row.beside), row.ratio());
            let ratio = if ratio.is_finite() { format!("{ratio:.3}") } else { String::new() };
            let Row { axis, what, store, goal, .. } = row;
            writeln!(
                f,
                "{axis:<4} {what:<62} {store:<8} {ours:>14} {beside:>14} {ratio:>9}  {goal:<8} {} {}",
                row.verdict(),
                row.skipped
            )?;
        }
        let [met, missed, skipped, failed] = self.count();
        write!(f, "{met} met, {missed} missed, {skipped} skipped, {failed} FAILED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[String]) -> Table {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("results.jsonl");
        std::fs::write(&file, lines.join("\n")).expect("written");
        Table::read(&file).expect("read")
    }

    fn line(row: &Row) -> String {
        serde_json::to_string(row).expect("JSON")
    }

    #[test]
    fn rows_are_found_among_other_results_and_judged() {
        let met = Row::new("A1", "durable commands ÷ life", "/s", Goal::AtLeast(0.2), 10.0, 40.0).on("sqlite");
        let missed = Row::new("B1", "memory ÷ hub", "B", Goal::AtMost(2.0), 30.0, 10.0);
        let untaken = Row::new("C1", "reports ÷ bare", "/s", Goal::AtMost(2.0), f64::NAN, 10.0);
        let other = r#"{"scenario":"hub","rate":1.0}"#.to_owned();
        let left_out = Row::skipped("I1", "half an hour", "takes half an hour");
        let failed = Row::skipped("A5", "50/s", format!("{FAILED}its rate was not kept"));
        let found = table(&[line(&met), other, line(&missed), line(&untaken), line(&left_out), line(&failed)]);
        assert_eq!(found.count(), [1, 2, 1, 1]);
        let text = found.to_string();
        assert!(text.contains("0.250") && text.contains("≥ 0.2") && text.contains("takes half an hour"), "{text}");
    }

    #[test]
    fn peers_stand_beside_the_rows_they_are_like_and_a_missing_one_is_named() {
        let ours = Row::new("A8", "commands of 10 real agents ÷ spawns", "/s", Goal::AtLeast(0.6), 900.0, 1000.0);
        let peer = |name: &str, value: &str| format!(r#"{{"peer":"{name}","figure":"commands_per_s",{value}}}"#);
        let found = table(&[
            line(&ours),
            peer("MeshCentral", r#""value":500.0"#),
            peer("Salt", r#""value":null,"skipped":"no pip""#),
        ]);
        assert_eq!(found.rows.len(), 3);
        assert!((found.rows[1].ratio() - 1.8).abs() < 1e-9);
        assert_eq!((found.rows[1].verdict(), found.rows[2].verdict()), ("met", "skipped"));
        assert!(found.to_string().contains("no pip"));
    }
}
