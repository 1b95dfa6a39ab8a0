//! Closed-loop GETs: one agent, one command by id, or a bare route to compare with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::JoinSet;

use crate::http::{Client, Origin};
use crate::latency::Recorder;
use crate::report::Measured;
use crate::schedule::{Window, now_ns};
use crate::usage::Meter;

/// What is read and how.
#[derive(Clone, Debug)]
pub struct Reads {
    /// Name in the report.
    pub scenario: &'static str,
    /// Paths, taken in turn.
    pub paths: Vec<String>,
    /// Connections, one request under way on each.
    pub connections: usize,
    /// Before the measured part.
    pub warmup: Duration,
    /// The measured part.
    pub duration: Duration,
    /// The measured process.
    pub server_pid: Option<u32>,
}

#[derive(Default)]
struct Tally {
    done: u64,
    refused: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Reads until the window ends. Anything but 200 is an error; 429 is counted beside.
///
/// # Errors
/// When a reader panics.
pub async fn run(origin: &Arc<Origin>, bearer: &Arc<str>, reads: &Reads) -> Result<Measured> {
    let window = Window::after(reads.warmup, reads.duration);
    let (recorder, next) = (Arc::new(Recorder::default()), Arc::new(AtomicUsize::new(0)));
    let paths: Arc<[String]> = reads.paths.clone().into();
    let mut readers = JoinSet::new();
    for index in 0..reads.connections {
        let (mut client, bearer) = (Client::new(origin.clone()), bearer.clone());
        let (recorder, next, paths) = (recorder.clone(), next.clone(), paths.clone());
        readers.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let began = now_ns();
                if began >= window.to {
                    return tally;
                }
                let path = &paths[next.fetch_add(1, Ordering::Relaxed) % paths.len()];
                match client.send("GET", path, Some(&bearer), None).await {
                    Ok(answer) if answer.status == 200 => {
                        let at = now_ns();
                        if window.holds(at) {
                            tally.done += 1;
                            recorder.record(index, at - began);
                        }
                    }
                    Ok(answer) if answer.status == 429 => {
                        tally.refused += 1;
                        let pause = Duration::from_millis(answer.retry_after.map_or(50, |seconds| seconds * 1000));
                        tokio::time::sleep(pause).await;
                    }
                    Ok(answer) => {
                        tally.errors += 1;
                        let text = String::from_utf8_lossy(answer.body).into_owned();
                        tally.first_error.get_or_insert(format!("GET {path} answered {}: {text}", answer.status));
                    }
                    Err(error) => {
                        tally.errors += 1;
                        tally.first_error.get_or_insert(format!("GET {path}: {error}"));
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_nanos(window.from.saturating_sub(now_ns()))).await;
    let meter = Meter::start(reads.server_pid);
    tokio::time::sleep(Duration::from_nanos(window.to.saturating_sub(now_ns()))).await;
    let cost = meter.stop();
    let parameters = json!({
        "connections": reads.connections,
        "paths": reads.paths.len(),
        "duration_s": reads.duration.as_secs_f64(),
    });
    let mut found = Measured::new(reads.scenario, parameters);
    found.cost = cost;
    while let Some(tally) = readers.join_next().await {
        let tally = tally.context("a reader panicked")?;
        found.operations += tally.done;
        found.refused_429 += tally.refused;
        found.errors += tally.errors;
        if found.faults.is_empty() {
            found.faults.extend(tally.first_error);
        }
    }
    found.rate = found.operations as f64 / window.seconds();
    found.latency = recorder.quantiles();
    if found.operations == 0 && found.faults.is_empty() {
        found.faults.push("nothing was read inside the window".to_owned());
    }
    Ok(found)
}
