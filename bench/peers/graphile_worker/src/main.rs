//! graphile_worker (the crate), tuned as its own benchmarks are: jobs in batches, a local queue, many at once. Claim,
//! run and complete only. `burn URL JOBS`; prints jobs a second as one line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};

static DONE: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize, Serialize)]
struct Nothing {}

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        DONE.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (url, jobs) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().parse::<u64>()?);
    let worker = WorkerOptions::default()
        .database_url(&url)
        .schema("graphile_worker")
        .concurrency(24)
        .local_queue(LocalQueueConfig::default().with_size(500))
        .define_job::<Nothing>()
        .init()
        .await?;
    let worker = Arc::new(worker);
    let begun = Instant::now();
    let job = || RawJobSpec {
        identifier: Nothing::IDENTIFIER.to_owned(),
        payload: serde_json::json!({}),
        spec: JobSpec::default(),
    };
    for _ in 0..jobs / 1_000 {
        worker.create_utils().add_raw_jobs(&(0..1_000).map(|_| job()).collect::<Vec<_>>()).await?;
    }
    let enqueued = jobs as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let running = {
        let worker = worker.clone();
        tokio::spawn(async move { worker.run().await })
    };
    while DONE.load(Ordering::Relaxed) < jobs / 1_000 * 1_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let burned = jobs as f64 / begun.elapsed().as_secs_f64();
    worker.request_shutdown();
    running.await??;
    println!("{}", serde_json::json!({ "enqueued": enqueued, "burned": burned }));
    Ok(())
}
