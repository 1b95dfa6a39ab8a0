//! A command's whole life in a store and nowhere else, by a plain client: inserted, claimed, finished, three
//! commits that survive power loss, as many commands a commit as `batch` says.

mod postgres;
mod sqlite;

use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::latency::Recorder;
use crate::report::{Measured, round};
use crate::schedule::{Window, now_ns};
use crate::store::Store;
use crate::usage::{Cost, Meter};

/// The share of a rate that is kept, or it was not.
const KEPT: f64 = 0.98;

/// What a command takes with it, and what it leaves: as much as the product's.
struct Luggage {
    body: String,
    result: String,
}

impl Default for Luggage {
    fn default() -> Luggage {
        Luggage { body: "b".repeat(150), result: "r".repeat(250) }
    }
}

/// Lives in a database of their own.
enum Lives {
    Sqlite(Box<sqlite::Lives>),
    Postgres(Box<postgres::Lives>),
}

impl Lives {
    async fn open(url: &str, batch: usize) -> Result<Lives> {
        Ok(match url.strip_prefix("sqlite:") {
            Some(path) => Lives::Sqlite(Box::new(sqlite::Lives::open(path.as_ref(), batch).await?)),
            None => Lives::Postgres(Box::new(postgres::Lives::open(url, batch).await?)),
        })
    }

    /// One more connection that does the same beside it; an embedded store has one that writes.
    async fn beside(url: &str, batch: usize, lane: usize) -> Result<Lives> {
        match url.strip_prefix("sqlite:") {
            Some(_) => bail!("SQLite has one connection that writes; several lanes need --store postgres"),
            None => Ok(Lives::Postgres(Box::new(postgres::Lives::beside(url, batch, lane).await?))),
        }
    }

    /// One batch from birth to end; `committed` hears how long each of the three commits took.
    async fn live(&mut self, mut committed: impl FnMut(u64)) -> Result<()> {
        let mut began = now_ns();
        let mut commit = || {
            let now = now_ns();
            committed(now - began);
            began = now;
        };
        match self {
            Lives::Sqlite(lives) => {
                lives.insert().await?;
                commit();
                let claimed = lives.claim().await?;
                commit();
                lives.finish(&claimed).await?;
                commit();
            }
            Lives::Postgres(lives) => {
                lives.insert().await?;
                commit();
                let claimed = lives.claim().await?;
                commit();
                lives.finish(&claimed).await?;
                commit();
            }
        }
        Ok(())
    }

    /// Lives begun, and lives that stand at their end.
    async fn count(&mut self) -> Result<(u64, u64)> {
        match self {
            Lives::Sqlite(lives) => lives.count().await,
            Lives::Postgres(lives) => lives.count().await,
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            Lives::Sqlite(lives) => lives.close().await,
            Lives::Postgres(lives) => lives.close().await,
        }
    }
}

/// Refuses a batch that lost some on the way.
fn whole(what: &str, found: u64, batch: usize) -> Result<()> {
    if found != batch as u64 {
        bail!("{what} {found} of {batch} commands");
    }
    Ok(())
}

/// An id that ascends with time, as the product's do; `number` keeps two of one instant apart.
fn ascending(number: u64) -> u128 {
    (u128::from(now_ns()) << 64) | u128::from(number)
}

/// How lives are led.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Commands a commit.
    pub batch: usize,
    /// Connections that do so beside each other; one on an embedded store.
    pub lanes: usize,
    /// Batches a second, with the machine idle between two; one after the other when absent.
    pub rate: Option<f64>,
}

/// Lives batches in a fresh database of `store` for `duration`, after `warmup`.
///
/// # Errors
/// When the store fails, or a command's life does.
pub async fn run(store: &Store, way: Way, warmup: Duration, duration: Duration) -> Result<Measured> {
    let Way { batch, lanes, rate } = way;
    if batch == 0 || batch > 1_000 {
        bail!("batch is {batch}; 1 to 1000 commands a commit");
    }
    let url = store.fresh()?;
    let mut all = vec![Lives::open(&url, batch).await?];
    for lane in 1..lanes {
        all.push(Lives::beside(&url, batch, lane).await?);
    }
    let window = Window::after(warmup, duration);
    let (whole, commits) = (Recorder::default(), Recorder::default());
    let parameters =
        json!({ "batch": batch, "lanes": lanes, "duration_s": duration.as_secs_f64(), "batches_per_s": rate });
    let mut found = Measured::new("life", parameters);
    try_join_all(all.iter_mut().map(|lives| warm(lives, window.from))).await?;
    let meter = Meter::start(None);
    let began = now_ns();
    let led = try_join_all(all.iter_mut().map(|lives| lead(lives, window, rate, &whole, &commits))).await?;
    let last = now_ns();
    found.operations = led.iter().sum::<u64>() * batch as u64;
    let cost = meter.stop();
    // An embedded store lives in this process: its CPU is what is measured. Of a server's it is the
    // client's part, as the host's is the host's part.
    found.cost = Cost { generator_cpu_s: 0.0, server_cpu_s: Some(cost.generator_cpu_s), ..cost };
    found.rate = found.operations as f64 * 1e9 / (last - began) as f64;
    found.latency = whole.quantiles();
    found.note("commits", commits.quantiles().count);
    found.note("commit_p50_us", round(commits.quantiles().p50_us));
    found.note("commit_p99_us", round(commits.quantiles().p99_us));
    found.note("durability", store.durability()?);
    if let Some(rate) = rate
        && found.rate < rate * batch as f64 * KEPT
    {
        found
            .faults
            .push(format!("{:.1} of {rate} batches a second: its latencies say nothing", found.rate / batch as f64));
    }
    // Each knows how many it began, and any of them how many of all ended.
    let (mut born, mut ended) = (0, 0);
    for mut lives in all {
        let (of_it, of_all) = lives.count().await?;
        (born, ended) = (born + of_it, of_all);
        lives.close().await?;
    }
    if ended != born {
        found.faults.push(format!("{ended} of {born} lives ended"));
    }
    Ok(found)
}

async fn warm(lives: &mut Lives, until: u64) -> Result<()> {
    while now_ns() < until {
        lives.live(|_| ()).await?;
    }
    Ok(())
}

/// Batches of one connection until the window is over; how many.
async fn lead(
    lives: &mut Lives,
    window: Window,
    rate: Option<f64>,
    whole: &Recorder,
    commits: &Recorder,
) -> Result<u64> {
    let began = now_ns();
    let mut led = 0;
    while now_ns() < window.to {
        if let Some(rate) = rate {
            let due = began + (led as f64 * 1e9 / rate) as u64;
            tokio::time::sleep(Duration::from_nanos(due.saturating_sub(now_ns()))).await;
        }
        let start = now_ns();
        lives.live(|took| commits.record(0, took)).await?;
        whole.record(0, now_ns() - start);
        led += 1;
    }
    Ok(led)
}
