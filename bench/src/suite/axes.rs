//! Every axis there is, on every store asked for, into one table. What fails is a row that says so, and the others
//! are measured all the same.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::args::{All, Axes, History, Past, Retention, Telemetry};
use crate::store::{Kept, Kind};
use crate::suite::ground::Ground;
use crate::suite::{
    crowd, growth, history, hosts, kill, machines, overload, past, retention, soak, starting, telemetry, urgent,
};
use crate::table::{FAILED, Goal, Row, Table};

/// Groups of axes, and whether each is measured on every store or on the first alone.
const GROUPS: [(&str, bool); 14] = [
    ("life", true),
    ("overload", true),
    ("hosts", true),
    ("kill", true),
    ("urgent", true),
    ("telemetry", true),
    ("past", true),
    ("history", true),
    ("retention", true),
    ("crowd", false),
    ("growth", false),
    ("machines", false),
    ("start", false),
    ("soak", false),
];

/// Measures, prints the table, and says whether everything counts. Goals that are missed are told, not failed.
///
/// # Errors
/// When a program is missing, or results cannot be kept.
pub async fn run(asked: &Axes, json: Option<&Path>) -> Result<bool> {
    ensure!(asked.host.is_file(), "host {} is no file", asked.host.display());
    ensure!(asked.plugins.is_dir(), "plugins {} is no folder", asked.plugins.display());
    for word in &asked.only {
        let names = GROUPS.map(|(name, _)| name);
        ensure!(names.contains(&word.as_str()), "there is no group `{word}`; there are {}", names.join(", "));
    }
    let kept = tempfile::tempdir_in(&asked.work)?;
    let json: PathBuf = json.map_or_else(|| kept.path().join("results.jsonl"), Path::to_owned);
    let mut good = true;
    for (number, kind) in asked.store.iter().enumerate() {
        let mut ground = Ground::start(asked, *kind, &json).await?;
        for (name, everywhere) in GROUPS {
            let wanted = asked.only.is_empty() || asked.only.iter().any(|word| word == name);
            if !wanted || (number > 0 && !everywhere) {
                continue;
            }
            eprintln!("{name} on {kind}");
            let began = Instant::now();
            let rows = measure(name, &ground).await.unwrap_or_else(|error| {
                good = false;
                vec![Row::skipped("–", name, format!("{FAILED}{error:#}"))]
            });
            for row in rows {
                good &= row.verdict() != "FAILED";
                row.on(&kind.to_string()).append(&json)?;
            }
            eprintln!("{name} on {kind}: {:.0} s", began.elapsed().as_secs_f64());
        }
        ground.conditions.look_again().await;
        println!("\n{}", ground.conditions);
    }
    println!("\n{}", Table::read(&json)?);
    Ok(good)
}

async fn measure(group: &str, ground: &Ground<'_>) -> Result<Vec<Row>> {
    match group {
        "life" => life(ground).await,
        "overload" => overload::run(ground).await,
        "hosts" => hosts::run(ground).await,
        "kill" => kill::run(ground).await,
        "urgent" => urgent::run(ground).await,
        "crowd" => crowd::run(ground).await,
        "growth" => growth::run(ground).await,
        "machines" => machines::run(ground).await,
        "telemetry" => reports(ground).await,
        "past" => long_past(ground).await,
        "history" => a_day(ground).await,
        "retention" => forgetting(ground).await,
        "start" => starting::run(ground).await,
        "soak" if ground.asked.quick => Ok(vec![Row::skipped("I1", "half an hour at 30 %", "left out of --quick")]),
        "soak" => soak::run(ground).await,
        other => unreachable!("`{other}` is no group"),
    }
}

/// A1, A3, A4, A5, A7, B1, E1, E2 and F1.
async fn life(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let Axes { host, plugins, quick, work, .. } = ground.asked;
    let asked = All {
        host: host.clone(),
        plugins: plugins.clone(),
        store: ground.kind,
        quick: *quick,
        agents: None,
        repeat: None,
        work: work.clone(),
        gate: false,
        verify_every: 16,
    };
    let (figures, good) = super::repeated(&asked, &ground.store, &ground.conditions, Some(ground.json)).await?;
    let mut rows = figures.rows(&ground.kind.to_string());
    if !good {
        rows.push(Row::faulty("life"));
    }
    Ok(rows)
}

/// C1, by the run of that name.
async fn reports(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let before = ground.written();
    let Axes { host, plugins, quick, work, .. } = ground.asked;
    let asked = Telemetry {
        host: host.clone(),
        plugins: plugins.clone(),
        store: ground.kind,
        agents: 1_000,
        // More than half of what a plain client inserts; what cannot be stored is counted and told.
        rate: match ground.kind {
            Kind::Sqlite => 60_000.0,
            Kind::Postgres => 120_000.0,
        },
        duration: Duration::from_secs(if *quick { 4 } else { 10 }),
        work: work.clone(),
    };
    let good = telemetry::run(&asked, Some(ground.json)).await?;
    let lines = ground.added(before)?;
    let rate = |name: &str| {
        let rates: Vec<f64> =
            lines.iter().filter(|line| line["scenario"] == name).filter_map(|l| l["rate"].as_f64()).collect();
        rates.iter().sum::<f64>() / rates.len() as f64
    };
    let (ours, beside) = (rate("telemetry"), rate("telemetry-bare-insert"));
    let received = rate("telemetry-bare-receive");
    let what = "reports stored ÷ bare inserts of 512 rows";
    let bare = "reports stored ÷ reports a bare hub receives and forgets";
    // The gate is the embedded store's; the other one's is told.
    let goal = if ground.kind == Kind::Sqlite { Goal::AtLeast(0.2) } else { Goal::Told };
    let told = lines.iter().find(|line| line["scenario"] == "telemetry").context("`telemetry` left no line")?;
    let unseen = told["notes"]["not_judged"].as_f64().unwrap_or(f64::NAN);
    let judged = ours * (1.0 - unseen / told["operations"].as_f64().unwrap_or(f64::NAN));
    let mut rows = vec![
        Row::new("C1", bare, "/s", goal, ours, received),
        Row::new("C1", what, "/s", Goal::Told, ours, beside),
        Row::new("C1", "of them seen by rules ÷ reports stored", "/s", Goal::Told, judged, ours),
    ];
    if !good {
        rows.push(Row::faulty("telemetry"));
    }
    Ok(rows)
}

/// E3 and how cost grows with what has ended, by the run of that name.
async fn long_past(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let before = ground.written();
    let Axes { quick, work, invocations, .. } = ground.asked;
    let asked = Past {
        store: ground.kind,
        invocations: invocations.unwrap_or(if *quick { 100_000 } else { 1_000_000 }),
        agents: 100,
        rounds: if *quick { 100 } else { 300 },
        work: work.clone(),
    };
    let good = past::run(&asked, Some(ground.json)).await?;
    let lines = ground.added(before)?;
    let found = lines.iter().find(|line| line["scenario"] == "past").context("`past` left no line")?;
    let count = asked.invocations;
    let few = asked.agents * past::EACH;
    let row = |axis: &str, step: &str, name: &str, which: &str| {
        let pair = &found["notes"][format!("{step}_{which}_us")];
        let [beside, ours] = [0, 1].map(|n| pair.get(n).and_then(Value::as_f64).unwrap_or(f64::NAN));
        let what = format!("{name}, {which}: {count} invocations behind it ÷ {few}");
        Row::new(axis, &what, "µs", Goal::AtMost(1.5), ours, beside)
    };
    let mut rows = vec![
        row("E3", "list", "list page of 50", "p99"),
        row("E3", "list", "list page of 50", "p50"),
        row("E3", "list_by_agent", "the same of one agent", "p50"),
        row("E3", "list_by_status", "the same by status", "p50"),
        row("H", "submit", "submit", "p50"),
        row("H", "dispatch", "dispatch", "p50"),
        row("H", "roll_up", "end, with the command's status", "p50"),
    ];
    if !good {
        rows.push(Row::faulty("past"));
    }
    Ok(rows)
}

/// A day of one agent's telemetry, by the run of that name: its gate is a time, so it stands beside that.
async fn a_day(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let before = ground.written();
    let Axes { quick, work, .. } = ground.asked;
    let (agents, days, questions) = if *quick { (100, 2, 100) } else { (1_000, 7, 200) };
    let asked = History { store: ground.kind, agents, days, questions, work: work.clone() };
    if !history::run(&asked, Some(ground.json)).await? {
        return Ok(vec![Row::faulty("history")]);
    }
    let lines = ground.added(before)?;
    let found = lines.iter().find(|line| line["scenario"] == "history").context("`history` left no line")?;
    let ours = found["latency"]["p50_us"].as_f64().unwrap_or(f64::NAN);
    let what = format!("a day of one of {agents} agents out of {days}, median ÷ what it may take");
    Ok(vec![Row::new("H", &what, "µs", Goal::AtMost(1.0), ours, history::GOAL_MS * 1e3)])
}

/// The longest wait of whoever writes while each thing is forgotten, without what the bare disk took of it, by the run
/// of that name. Its bound is a time, and holds for the run as a whole: one that exceeds it is a row that says so.
async fn forgetting(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let Axes { quick, work, .. } = ground.asked;
    let rows = if *quick { 20_000 } else { 200_000 };
    let mut found = Vec::new();
    for of in [Kept::Output, Kept::Telemetry, Kept::Audit] {
        let before = ground.written();
        let asked = Retention { of, store: ground.kind, rows, work: work.clone() };
        let good = retention::run(&asked, Some(ground.json)).await?;
        let lines = ground.added(before)?;
        let line = lines.iter().find(|line| line["scenario"] == "retention").context("`retention` left no line")?;
        let pair = &line["notes"]["own_longest_ms"];
        let [alone, beside] = [0, 1].map(|n| pair.get(n).and_then(Value::as_f64).unwrap_or(f64::NAN) * 1e3);
        let what = format!("longest wait of writers: {rows} rows of {} forgotten beside them ÷ alone", of.name());
        found.push(match good {
            true => Row::new("H", &what, "µs", Goal::Told, beside, alone),
            false => Row::skipped("H", &what, format!("{FAILED}{}", line["faults"])),
        });
    }
    Ok(found)
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
        })
    }
}
