//! The compiler's process under attack: it limits itself before it reads, and killed at any moment it leaves
//! neither machine code nor a trace in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ports::plugins::Plugins as _;
use runtime::{CacheOptions, Compile, Options};
use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::Guest;

const WORKER: &str = env!("CARGO_BIN_EXE_compile-worker");
const CEILING: Duration = Duration::from_secs(120);

/// A worker that is killed `after` so many seconds.
fn killed(after: &str) -> Compile {
    let args = ["-s", "KILL", after, WORKER].map(str::to_owned);
    Compile::Child { program: "timeout".into(), args: args.into() }
}

fn entries(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".cwasm")).count()
}

#[tokio::test]
async fn a_compiler_killed_at_any_moment_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temp dir");
    let cache = |_: usize| Some(CacheOptions { dir: dir.path().join("cache"), fresh_key: [7; 32] });
    let mut died = 0;
    for (number, after) in ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "30"].iter().enumerate() {
        let name = format!("demo{number}");
        let (file, bytes) = (format!("{name}.wasm"), Guest::new(&name, "1.0.0").build());
        let before = if number == 0 { 0 } else { entries(&dir.path().join("cache")) };
        let open = |options| Options { compile: killed(after), cache: cache(number), ..options };
        let house = House::open(&[(&file, &bytes)], open).await;
        let status = house.handle.plugins().remove(0);
        let kept = entries(&dir.path().join("cache")) - before;
        match status.refusal {
            // It was done before it was killed.
            None => assert_eq!((status.state, kept), ("active", 1)),
            Some(refusal) => {
                assert_eq!((refusal.code.as_str(), kept), ("compile_limit", 0), "{}", refusal.cause);
                died += 1;
            }
        }
        let whole = Compile::Child { program: PathBuf::from(WORKER), args: Vec::new() };
        let open = |options| Options { compile: whole, cache: cache(number), ..options };
        let house = House::open(&[(&file, &bytes)], open).await;
        let plan = house.verb(&format!("{name}.run")).plan(&profile(), &json!({})).await;
        plan.expect("compiled by a worker that lives");
    }
    assert!((1..8).contains(&died), "some were too early, the last was not: {died}");
}

#[tokio::test]
async fn an_entry_of_the_cache_that_somebody_touched_is_compiled_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let cache = dir.path().join("cache");
    let files: Vec<(String, Vec<u8>)> =
        ["a", "b"].iter().map(|name| (format!("{name}.wasm"), Guest::new(name, "1.0.0").build())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let worker = |program: &str| Compile::Child { program: program.into(), args: Vec::new() };
    let open = |program: &str| {
        let (compile, cache) = (worker(program), Some(CacheOptions { dir: cache.clone(), fresh_key: [7; 32] }));
        House::open(&files, move |options| Options { compile, cache, ..options })
    };
    open(WORKER).await;
    let entries: Vec<PathBuf> = fs::read_dir(&cache)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .collect();
    let [one, other] = entries.as_slice() else { panic!("two entries: {entries:?}") };
    let nobody = "/nonexistent/worker";
    assert_eq!(open(nobody).await.handle.verbs().len(), 2, "both come from the cache: there is no compiler");
    let good = fs::read(one).expect("an entry");
    let mut edited = good.clone();
    edited[good.len() / 2] ^= 1;
    for bad in [edited, fs::read(other).expect("an entry"), good[..good.len() / 2].to_vec(), Vec::new()] {
        fs::write(one, bad).expect("written");
        let house = open(nobody).await;
        let refused: Vec<_> = house.handle.plugins().into_iter().filter_map(|status| status.refusal).collect();
        assert_eq!(house.handle.verbs().len(), 1, "the other still comes from the cache");
        assert_eq!(refused.iter().map(|refusal| refusal.code.as_str()).collect::<Vec<_>>(), ["compile_unavailable"]);
        assert_eq!(open(WORKER).await.handle.verbs().len(), 2, "compiled again");
        assert_eq!(fs::read(one).expect("an entry").len(), good.len(), "and kept again");
    }
}

#[test]
fn a_compiler_limits_itself_before_it_reads() {
    let mut child = Command::new(WORKER)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the worker starts");
    let limits = format!("/proc/{}/limits", child.id());
    let began = Instant::now();
    // It waits for its input; by then it has limited itself, and it says so through the system alone.
    let found = loop {
        let text = fs::read_to_string(&limits).unwrap_or_default();
        let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
        let has = |row: &[&str]| rows.iter().any(|found| found.starts_with(row));
        if has(&["Max", "cpu", "time", "20", "20"])
            && has(&["Max", "address", "space", "1073741824", "1073741824"])
            && has(&["Max", "core", "file", "size", "0", "0"])
        {
            break true;
        }
        if began.elapsed() > CEILING {
            break false;
        }
        std::thread::yield_now();
    };
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(found, "no limits within {CEILING:?}");
}
