//! Baselines and product in one run, alternated: bare, product, bare, as often as asked. Only ratios of
//! one run are worth quoting; the machine's moods change in minutes.

mod aged;
pub mod axes;
pub mod bare;
pub mod crowd;
pub mod figures;
pub mod ground;
pub mod growth;
pub mod history;
pub mod host;
pub mod hosts;
pub mod kill;
pub mod machines;
pub mod overload;
pub mod past;
pub mod product;
pub mod retention;
pub mod sizes;
pub mod soak;
pub mod starting;
pub mod telemetry;
pub mod urgent;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::args::All;
use crate::conditions::Conditions;
use crate::report::Measured;
use crate::store::Store;
use crate::suite::bare::Bare;
use crate::suite::figures::Figures;
use crate::suite::product::Product;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Simulated agents.
    pub agents: usize,
    /// Commands under way at saturation.
    pub in_flight: usize,
    /// Connections that read.
    pub connections: usize,
    /// Before each measured part.
    pub warmup: Duration,
    /// The product's measured part under load.
    pub load: Duration,
    /// Everything else's.
    pub short: Duration,
    /// Commands to all agents, the first of which is warm-up.
    pub broadcasts: usize,
}

impl Size {
    fn of(asked: &All) -> Size {
        let quick = Size {
            agents: 200,
            in_flight: 128,
            connections: 64,
            warmup: Duration::from_millis(500),
            load: Duration::from_secs(3),
            short: Duration::from_secs(2),
            broadcasts: 4,
        };
        let full = Size {
            agents: 1000,
            in_flight: 256,
            warmup: Duration::from_secs(2),
            load: Duration::from_secs(10),
            short: Duration::from_secs(4),
            broadcasts: 6,
            ..quick
        };
        let size = if asked.quick { quick } else { full };
        Size { agents: asked.agents.map_or(size.agents, |agents| agents as usize), ..size }
    }
}

/// Runs the whole suite; whether every run counts and, if asked, every gate holds.
///
/// # Errors
/// When the host does not start, or something cannot be measured at all.
pub async fn run(asked: &All, json: Option<&Path>) -> Result<bool> {
    // Known before minutes are spent on the bare side.
    ensure!(asked.host.is_file(), "host {} is no file", asked.host.display());
    ensure!(asked.plugins.is_dir(), "plugins {} is no folder", asked.plugins.display());
    let (size, repeat) = (Size::of(asked), repetitions(asked));
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let (figures, good) = repeated(asked, &store, &conditions, json).await?;
    conditions.look_again().await;
    println!("\n{conditions}");
    println!(
        "{} agents, {} in flight, {repeat} × (bare, product, bare), signatures checked by agents: every {}th\n",
        size.agents, size.in_flight, asked.verify_every
    );
    println!("{figures}");
    if let Some(file) = json {
        let mut summary =
            Measured::new("ratios", json!({ "repeat": repeat, "agents": size.agents, "quick": asked.quick }));
        summary.notes = figures.summary();
        summary.append(&conditions, file).context("summary")?;
    }
    Ok(good && (!asked.gate || figures.hold()))
}

fn repetitions(asked: &All) -> usize {
    asked.repeat.unwrap_or(if asked.quick { 1 } else { 3 }).max(1)
}

/// All repetitions, and whether every run counts.
async fn repeated(asked: &All, store: &Store, conditions: &Conditions, json: Option<&Path>) -> Result<(Figures, bool)> {
    let (size, repeat) = (Size::of(asked), repetitions(asked));
    let mut figures = Figures::default();
    let mut good = true;
    for repetition in 1..=repeat {
        eprintln!("repetition {repetition} of {repeat}: bare");
        let before = Bare::measure(store, size, None).await?;
        eprintln!("repetition {repetition} of {repeat}: product");
        let product = Product::measure(asked, store, size).await?;
        eprintln!("repetition {repetition} of {repeat}: bare again");
        let after = Bare::measure(store, size, Some(product.rates())).await?;
        figures.add(&before, &product, &after);
        let findings = before.into_findings().into_iter().chain(product.into_findings()).chain(after.into_findings());
        for mut found in findings {
            found.note("repetition", repetition);
            good &= keep(found.conclude(conditions.cores), conditions, json)?;
        }
    }
    Ok((figures, good))
}

fn keep(found: Measured, conditions: &Conditions, json: Option<&Path>) -> Result<bool> {
    print!("{found}");
    if let Some(file) = json {
        found.append(conditions, file)?;
    }
    Ok(found.faults.is_empty())
}
