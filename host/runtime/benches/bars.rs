//! The bars of the plugin platform, measured: `cargo bench -p runtime --bench bars`. Prints figures and judges
//! none; they stand in `docs/benchmarks.md`. It wants the plugins of `cargo xtask plugins`, and an idle machine.
//!
//! Behind `--`, names of parts that alone are to run: `calls`, `kills`, `neighbours`, `rules`, `reloads`, `start`,
//! `memory`. `VIWORKS_BENCH_CALLS` is how many calls the memory is watched for, a million by default;
//! `VIWORKS_BENCH_JSON` a file that what a call costs is appended to, beside a bare one, as `viworks-bench` does it.

#[expect(dead_code, reason = "the tests misbehave in more ways")]
#[path = "../tests/plugins/guest.rs"]
mod guest;
#[path = "bars/bare.rs"]
mod bare;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::time::Timestamp;
use domain::verb::{Profile, VerbName};
use ports::clock::Clock;
use ports::plugins::{Plugins as _, Verb};
use ports::rules::{Batch, Rules as _, State};
use runtime::tool::Loaded;
use runtime::{CacheOptions, Compile, DefaultGrants, Handle, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use bare::Bare;
use guest::{Guest, LOOP};

struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Timestamp(i64::try_from(since.as_micros()).expect("before the year 294000"))
    }
}

/// A running plugin service on a folder of its own.
struct House {
    dir: TempDir,
    handle: Handle,
    /// From nothing to all plugins serving.
    took: Duration,
    _stop: tokio_util::sync::DropGuard,
    _tasks: JoinSet<std::io::Result<()>>,
}

impl House {
    async fn open(files: &[(String, Vec<u8>)], cache: Option<&Path>) -> House {
        let dir = tempfile::tempdir().expect("temp dir");
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).expect("write");
        }
        let options = Options {
            default_grants: DefaultGrants::Requested,
            compile: Compile::Child { program: env!("CARGO_BIN_EXE_compile-worker").into(), args: Vec::new() },
            cache: cache.map(|dir| CacheOptions { dir: dir.to_owned(), fresh_key: [7; 32] }),
            ..Options::new(dir.path(), Arc::new(RealClock))
        };
        let began = Instant::now();
        let (service, handle) = options.build().expect("service builds");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(stop.clone()));
        handle.rescan().await.expect("the service runs");
        House { dir, handle, took: began.elapsed(), _stop: stop.drop_guard(), _tasks: tasks }
    }

    fn verb(&self, name: &str) -> Arc<dyn Verb> {
        self.handle.resolve(name).unwrap_or_else(|error| panic!("{error}; {:#?}", self.handle.plugins()))
    }
}

fn profile() -> Profile {
    Profile { os: "linux".into(), arch: "x86_64".into(), ..Profile::default() }
}

/// Arguments of `exec.run` of about a kilobyte.
fn kilobyte() -> Value {
    json!({ "program": "echo", "args": vec!["x".repeat(30); 32] })
}

/// A line of percentiles.
fn told(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 1000];
    let (least, most) = (at(0), at(1000));
    println!("{what}: least {least:?}, p50 {:?}, p99 {:?}, p99.9 {:?}, most {most:?}", at(500), at(990), at(999));
    at(990)
}

async fn calls(verb: &Arc<dyn Verb>, args: &Value, count: usize) -> Vec<Duration> {
    let profile = profile();
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        verb.plan(&profile, args).await.expect("a plan");
        took.push(began.elapsed());
    }
    took
}

/// What this process has used.
fn processor_time() -> Duration {
    let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    Duration::from(spent.expect("every process has such a clock"))
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("linux");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let exec = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/exec.wasm");
    let exec = std::fs::read(&exec).expect("`cargo xtask plugins` leaves it there");
    println!("plugin: exec, {} bytes; arguments: {} bytes", exec.len(), kilobyte().to_string().len());
    // Cargo says `--bench` to whoever it starts.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    if runs("calls") {
        plan_calls(&exec).await;
    }
    if runs("kills") {
        kills().await;
    }
    if runs("neighbours") {
        neighbours(&exec).await;
    }
    if runs("rules") {
        rule_batches().await;
    }
    if runs("reloads") {
        reloads(&exec).await;
    }
    if runs("start") {
        warm_start(&exec).await;
    }
    if runs("memory") {
        memory(&exec).await;
    }
    println!("load: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
}

/// One plan after the other: the sandbox's part, all of it, and through the queue.
async fn plan_calls(exec: &[u8]) {
    let loaded = Loaded::open(exec, "exec.wasm").expect("passes the gates");
    let run = VerbName::parse("exec.run").expect("a name");
    let calls_of_it = |rounds| loaded.time_calls(&run, &profile(), &kilobyte(), rounds).expect("plans");
    calls_of_it(2_000);
    let began = Instant::now();
    let took = calls_of_it(50_000);
    println!("fresh guest and one call, on one thread: {:.0}/s", 50_000.0 / began.elapsed().as_secs_f64());
    told("fresh guest and one call", took);
    beside_a_bare_one(&Bare::new(exec), calls_of_it);
    let plans = |rounds| loaded.time_plans(&run, &profile(), &kilobyte(), rounds).expect("plans");
    plans(2_000);
    let began = Instant::now();
    let took = plans(50_000);
    println!("plans on one thread: {:.0}/s", 50_000.0 / began.elapsed().as_secs_f64());
    told("plan, schema to grant, fresh guest", took);

    let house = House::open(&[("exec.wasm".into(), exec.to_vec())], None).await;
    let verb = house.verb("exec.run");
    calls(&verb, &kilobyte(), 2_000).await;
    println!("instances are {:?}", house.handle.allocation());
    told("the same through the queue", calls(&verb, &kilobyte(), 20_000).await);
}

/// What limits cost: such calls and bare ones in turn, the medians of all of each.
fn beside_a_bare_one(bare: &Bare, ours: impl Fn(usize) -> Vec<Duration>) {
    let (profile, args) = (json!({ "os": "linux", "arch": "x86_64" }).to_string(), kilobyte().to_string());
    let bare = |rounds| bare.calls("exec.run", &profile, &args, rounds);
    bare(2_000);
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        of_bare.extend(bare(5_000));
        of_ours.extend(ours(5_000));
        of_bare.extend(bare(5_000));
    }
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took[took.len() / 2].as_secs_f64() * 1e6
    };
    let (ours, beside) = (median(of_ours), median(of_bare));
    println!("beside bare calls of the same component, p50: {ours:.1} µs ÷ {beside:.1} µs = {:.2}", ours / beside);
    let Some(file) = std::env::var_os("VIWORKS_BENCH_JSON") else { return };
    let row = json!({
        "axis": "D1", "what": "plan in a fresh, limited guest, p50 ÷ a bare pooled call of the same component",
        "unit": "µs", "ours": ours, "beside": beside, "goal": { "at_most": 2.0 },
    });
    let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
    writeln!(file.expect("opens"), "{row}").expect("writes");
}

/// How long after its limit of 10 ms a loop is over.
async fn kills() {
    let guest = Guest { plan: LOOP.into(), ..Guest::new("hog", "1.0.0") };
    let house = House::open(&[("hog.wasm".into(), guest.build())], None).await;
    let (verb, profile, args) = (house.verb("hog.run"), profile(), json!({ "mode": 1 }));
    let mut over = Vec::new();
    // The breaker takes a plugin out of service that loops for long; what is held goes on.
    for _ in 0..200 {
        let began = Instant::now();
        verb.plan(&profile, &args).await.expect_err("it is ended");
        over.push(began.elapsed().saturating_sub(Duration::from_millis(10)));
    }
    told("a loop is over, after its 10 ms", over);
}

/// What one plugin that loops at full tilt does to another.
async fn neighbours(exec: &[u8]) {
    let guest = Guest { plan: LOOP.into(), ..Guest::new("hog", "1.0.0") };
    let files = [("hog.wasm".to_owned(), guest.build()), ("exec.wasm".to_owned(), exec.to_vec())];
    let house = House::open(&files, None).await;
    let (hog, verb) = (house.verb("hog.run"), house.verb("exec.run"));
    calls(&verb, &kilobyte(), 2_000).await;
    let alone = told("a modest plugin alone", calls(&verb, &kilobyte(), 5_000).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut loops = JoinSet::new();
    for _ in 0..8 {
        let (hog, stop) = (Arc::clone(&hog), Arc::clone(&stop));
        loops.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                _ = hog.plan(&profile(), &json!({ "mode": 1 })).await;
            }
        });
    }
    let beside = told("beside one that loops at full tilt", calls(&verb, &kilobyte(), 5_000).await);
    println!("p99 beside ÷ alone: {:.1}", beside.as_secs_f64() / alone.as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    while loops.join_next().await.is_some() {}
}

/// 10,000 agents with a sample each, judged in one call by a rule of ours: a tenth of them too busy, and so with
/// something to keep until the next time.
async fn rule_batches() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/cpu.wasm");
    let bytes = std::fs::read(&file).expect("`cargo xtask plugins` leaves it there");
    let house = House::open(&[("cpu.wasm".into(), bytes)], None).await;
    let rule = house.handle.rules().into_iter().next().expect("a rule");
    let mut states: Vec<Option<State>> = vec![None; 10_000];
    let (mut took, mut spent) = (Vec::new(), Vec::new());
    for round in 0..120_u64 {
        let now = 1_700_000_000_000 + round * 30_000;
        let mut batch = Batch::default();
        let cpu = batch.series("cpu.total", "", "");
        for (number, state) in states.iter_mut().enumerate() {
            batch.subject(format!("web-{number}"), "online", now, state.take());
            batch.sample(now);
            batch.reading(cpu, if number % 10 == 0 { 97.0 } else { 20.0 });
        }
        let (began, used) = (Instant::now(), processor_time());
        let answers = rule.evaluate(None, now, batch).await.expect("all of them");
        took.push(began.elapsed());
        spent.push(processor_time() - used);
        for (state, answer) in states.iter_mut().zip(answers) {
            *state = answer.expect("a verdict").state;
        }
    }
    told("10,000 samples through a rule", took.split_off(20));
    told("the same, of processor", spent.split_off(20));
}

/// From a rename into the folder to a verb that serves.
async fn reloads(exec: &[u8]) {
    let cache = tempfile::tempdir().expect("temp dir");
    for (name, what) in [("cold", "file dropped → verb live, compiled"), ("warm", "the same, from the cache")] {
        let house = House::open(&[], Some(&cache.path().join("cache"))).await;
        let mut changes = house.handle.changes();
        std::fs::write(house.dir.path().join(".exec.tmp"), exec).expect("write");
        let began = Instant::now();
        std::fs::rename(house.dir.path().join(".exec.tmp"), house.dir.path().join("exec.wasm")).expect("rename");
        changes.wait_for(|generation| *generation > 0).await.expect("it runs");
        println!("{what} ({name}): {:?}", began.elapsed());
    }
}

/// A host with 50 plugins, each of the size of `exec`, starts again.
async fn warm_start(exec: &[u8]) {
    let cache = tempfile::tempdir().expect("temp dir");
    let named = |number: usize| {
        let (name, mut bytes) = (format!("x{number:03}"), exec.to_vec());
        // The same length, so that nothing in the file moves.
        while let Some(at) = bytes.windows(4).position(|four| four == b"exec") {
            bytes[at..at + 4].copy_from_slice(name.as_bytes());
        }
        (format!("{name}.wasm"), bytes)
    };
    let files: Vec<(String, Vec<u8>)> = (0..50).map(named).collect();
    for what in ["first start", "warm start", "warm start again"] {
        let house = House::open(&files, Some(&cache.path().join("cache"))).await;
        println!("{what} with 50 plugins: {:?}, {} verbs", house.took, house.handle.verbs().len());
    }
}

/// Whether calls leave anything behind.
async fn memory(exec: &[u8]) {
    let house = House::open(&[("exec.wasm".into(), exec.to_vec())], None).await;
    let verb = house.verb("exec.run");
    let wanted = std::env::var("VIWORKS_BENCH_CALLS").ok().and_then(|count| count.parse().ok());
    let total: usize = wanted.unwrap_or(1_000_000);
    let profile = profile();
    for done in 1..=10 {
        for _ in 0..total / 10 {
            verb.plan(&profile, &kilobyte()).await.expect("a plan");
        }
        println!("resident after {} calls: {} KiB", total / 10 * done, resident() / 1024);
    }
}
