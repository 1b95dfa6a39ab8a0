//! `cargo xtask bench`: builds what is measured as it is delivered, starts what it needs, runs every axis beside its
//! baselines, and prints one table.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::program::{self, cargo, root, say, shown, target_dir};
use crate::{plugins, toolchain};

/// Binaries whose size is told.
const BINARIES: [&str; 3] = ["viworks-host", "viworks-agent", "viworks"];

/// How much is measured.
#[derive(clap::Args)]
pub struct Options {
    /// One short repetition of each axis: a look in a quarter of an hour, not a figure
    #[arg(long)]
    quick: bool,
    /// Install peers into a temporary folder, and measure them too
    #[arg(long)]
    peers: bool,
    /// Only these groups of axes: `plans`, and those that `viworks-bench axes --help` names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Which stores
    #[arg(long, default_value = "sqlite,postgres")]
    store: String,
    /// Where databases are made; on the file system that is meant
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Finished invocations that growth is measured over; 1,000,000, or 100,000 with --quick, when absent
    #[arg(long)]
    invocations: Option<u64>,
    /// Where results are written, one JSON line each; target/bench/results.jsonl when absent
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Measures. Goals that are missed are told, not failed; a run that does not count fails.
///
/// # Errors
/// When something cannot be built.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    toolchain::c_tools()?;
    let wasm = toolchain::wasm()?;
    let wanted = |group: &str| options.only.is_empty() || options.only.iter().any(|word| word == group);
    if options.store.contains("postgres") {
        toolchain::postgres()?;
        if (wanted("hosts") || wanted("life"))
            && let Err(error) = toolchain::redis()
        {
            say(format_args!("skipped: several hosts by Redis: {error:#}"));
        }
    }
    if wanted("start")
        && let Err(error) = toolchain::nats()
    {
        say(format_args!("skipped: what is held beside nats-server: {error:#}"));
    }
    let begun = Instant::now();
    let bars = build()?;
    let (target, took) = (target_dir()?, begun.elapsed().as_secs_f64());
    let release = target.join("release");
    for line in plugins::build_all(&release.join("viworks"), &target.join("plugins"), &wasm)? {
        say(line);
    }
    let results = options.results.clone().unwrap_or_else(|| target.join("bench/results.jsonl"));
    fresh(&results)?;
    say(format_args!("built in {took:.0} s; load before: {}; results: {}", load(), results.display()));

    let begun = Instant::now();
    let mut well = true;
    for name in BINARIES {
        let bytes = std::fs::metadata(release.join(name)).with_context(|| format!("{name} is not there"))?.len();
        let mib = bytes as f64 / f64::from(1 << 20);
        append(
            &results,
            &json!({
                "axis": "S", "what": format!("{name}, release, stripped"), "unit": "MiB", "ours": mib, "beside": null,
                "goal": "told",
            }),
        )?;
    }
    match peak_mib(&release.join("viworks")) {
        Some(mib) => append(
            &results,
            &json!({
                "axis": "S", "what": "viworks --help, memory at most", "unit": "MiB", "ours": mib, "beside": null, "goal": "told",
            }),
        )?,
        None => say(format_args!("skipped: memory of the command line tool: no python3 to ask for it")),
    }
    if wanted("plans") {
        well &= passed(Command::new(&bars).arg("calls").env("VIWORKS_BENCH_JSON", &results).current_dir(root()));
    }
    let mut axes = Command::new(release.join("viworks-bench"));
    axes.arg("axes").arg("--host").arg(release.join("viworks-host"));
    axes.arg("--agent").arg(release.join("viworks-agent")).arg("--plugins").arg(target.join("plugins"));
    axes.args(["--store", &options.store]).arg("--json").arg(&results).current_dir(root());
    if options.quick {
        axes.arg("--quick");
    }
    if let Some(count) = options.invocations {
        axes.args(["--invocations", &count.to_string()]);
    }
    if let Some(work) = &options.work {
        axes.arg("--work").arg(work);
    }
    let only: Vec<&str> = options.only.iter().map(String::as_str).filter(|word| *word != "plans").collect();
    if !only.is_empty() {
        axes.args(["--only", &only.join(",")]);
    }
    if options.only.is_empty() || !only.is_empty() {
        well &= passed(&mut axes);
    }
    if options.peers {
        let mut peers = Command::new("python3");
        peers.arg(root().join("bench/peers/run.py")).arg("--json").arg(&results);
        if options.quick {
            peers.arg("--quick");
        }
        well &= passed(peers.current_dir(root()));
    }
    let mut table = Command::new(release.join("viworks-bench"));
    // Missed goals are in the table; they are no fault of the run, and their exit status is not told.
    table.arg("table").arg(&results).status().context("viworks-bench")?;
    say(format_args!("measured in {:.0} s; load after: {}", begun.elapsed().as_secs_f64(), load()));
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds all of it in one go, so that everything is compiled once and with the same features. Answers with the
/// program that measures plan calls.
fn build() -> anyhow::Result<PathBuf> {
    let text = program::read(&mut cargo(&[
        "build",
        "--release",
        "-p",
        "server",
        "-p",
        "agent",
        "-p",
        "cli",
        "-p",
        "bench",
        "-p",
        "runtime",
        "--bins",
        "--bench",
        "bars",
        "--message-format",
        "json-render-diagnostics",
    ]))?;
    bars(&text).context("Cargo does not say where it put the benchmark `bars`")
}

/// The most memory that the command line tool has while it says how it is used.
fn peak_mib(tool: &Path) -> Option<f64> {
    const ASK: &str = "import resource, subprocess, sys; subprocess.run([sys.argv[1], '--help'], stdout=subprocess.DEVNULL, \
         check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let told = program::read(Command::new("python3").args(["-c", ASK]).arg(tool)).ok()?;
    Some(told.trim().parse::<f64>().ok()? / 1024.0)
}

fn bars(messages: &str) -> Option<PathBuf> {
    let artefacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = artefacts.filter(|message| message["target"]["name"] == "bars");
    ours.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// An empty file for results; those of the run before lie beside it.
fn fresh(results: &Path) -> anyhow::Result<()> {
    if let Some(dir) = results.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    if results.exists() {
        std::fs::rename(results, results.with_extension("before.jsonl")).context("results of the run before")?;
    }
    std::fs::write(results, "").with_context(|| format!("{} cannot be written", results.display()))
}

fn append(results: &Path, row: &Value) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(results).context("results")?;
    writeln!(file, "{row}").context("results")
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Runs to the end; what went wrong is told, and the others run all the same.
fn passed(command: &mut Command) -> bool {
    let line = shown(command);
    match program::run(command) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{line}: {error:#}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_is_found_among_all_that_cargo_built() {
        let line = |name: &str, program: &str| {
            json!({ "reason": "compiler-artifact", "target": { "name": name }, "executable": program }).to_string()
        };
        let text = [line("runtime", "/a"), "not JSON".to_owned(), line("bars", "/b/bars-1")].join("\n");
        assert_eq!(bars(&text), Some("/b/bars-1".into()));
        assert_eq!(bars(&line("runtime", "/a")), None);
    }

    #[test]
    fn results_of_the_run_before_are_kept_beside() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("bench/results.jsonl");
        fresh(&file).expect("made");
        append(&file, &json!({ "axis": "S" })).expect("written");
        fresh(&file).expect("made again");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "");
        let before = std::fs::read_to_string(dir.path().join("bench/results.before.jsonl")).expect("kept");
        assert_eq!(before, "{\"axis\":\"S\"}\n");
    }
}
