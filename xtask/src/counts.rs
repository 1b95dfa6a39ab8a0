//! `cargo xtask counts`: how many instructions the hottest functions take, counted by callgrind, which feels nothing of
//! what else the machine does. One that takes a tenth more than it did fails.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::program::{self, cargo, root, say, target_dir, write_whole};
use crate::toolchain;

/// What they took, in the repository.
const BASELINE: &str = "bench/counts/baseline.json";
/// Calls of each; as many as `bench/counts` makes.
const CALLS: u64 = 64;
/// What one may take more than it did, as a share.
const ABOVE: f64 = 0.10;
/// What the functions that are counted begin with.
const COUNTED: &str = "counted_";

/// What to do with the counts.
#[derive(clap::Args)]
pub struct Options {
    /// Take them as what is to be held from now on
    #[arg(long)]
    bless: bool,
}

/// Counts, and where they were taken: another compiler or processor counts otherwise.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    compiler: String,
    processor: String,
    /// Instructions of one call of each.
    instructions: BTreeMap<String, u64>,
}

/// Builds the little program, counts, and compares.
///
/// # Errors
/// When it cannot be built or counted; without valgrind it is left out, and that is said.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let valgrind = match toolchain::valgrind() {
        Ok(valgrind) => valgrind,
        Err(error) => {
            say(format_args!("skipped: instruction counts: {error:#}"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    program::run(&mut cargo(&["build", "--quiet", "--profile", "counts", "-p", "counts"]))?;
    let folder = target_dir()?.join("counts");
    let out = folder.join("callgrind.out");
    let mut counted = Command::new(valgrind);
    counted.args(["--tool=callgrind", "-q"]).arg(format!("--callgrind-out-file={}", out.display()));
    program::read(counted.arg(folder.join("counts"))).context("instructions cannot be counted")?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("{} is not there", out.display()))?;
    let now = Counts { compiler: compiler()?, processor: processor(), instructions: instructions(&text) };
    anyhow::ensure!(!now.instructions.is_empty(), "callgrind saw none of the functions");
    let file = root().join(BASELINE);
    if options.bless {
        write_whole(&file, &format!("{}\n", serde_json::to_string_pretty(&now)?))?;
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("{BASELINE} is not there"))?;
    let before: Counts = serde_json::from_str(&text).with_context(|| format!("{BASELINE} reads otherwise"))?;
    say("instructions of one call          now       before");
    for (name, count) in &now.instructions {
        let told = before.instructions.get(name).map_or("new".to_owned(), u64::to_string);
        say(format_args!("{name:<26} {count:>10} {told:>12}"));
    }
    let faults = compared(&before, &now);
    if (&before.compiler, &before.processor) != (&now.compiler, &now.processor) {
        say(format_args!(
            "not compared: {BASELINE} is of {} on {}, this is {} on {}",
            before.compiler, before.processor, now.compiler, now.processor
        ));
        return Ok(ExitCode::SUCCESS);
    }
    for fault in &faults {
        say(format_args!("FAIL: {fault}"));
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Functions that take too much more than before, or are not held at all.
fn compared(before: &Counts, now: &Counts) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, count) in &now.instructions {
        match before.instructions.get(name) {
            None => faults.push(format!("{name} is not in {BASELINE}: `cargo xtask counts --bless`")),
            Some(old) if *count as f64 > *old as f64 * (1.0 + ABOVE) => faults.push(format!(
                "{name} takes {count} instructions, {:.0} % more than {old}",
                (*count as f64 / *old as f64 - 1.0) * 100.0
            )),
            Some(_) => {}
        }
    }
    let gone = before.instructions.keys().filter(|name| !now.instructions.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name} is in {BASELINE} and is counted no more")));
    faults
}

/// What each counted function took with all it called, by one call, from a file of callgrind: a `cfn=` line names the
/// callee, once in full and then by number; two lines on is what the calls took.
fn instructions(text: &str) -> BTreeMap<String, u64> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut took: BTreeMap<String, u64> = BTreeMap::new();
    let mut callee = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let function = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn="));
        if let Some((number, name)) = function.and_then(|named| named.split_once(')')) {
            if !name.is_empty() {
                names.insert(number, name.trim());
            }
            callee = line.starts_with("cfn=").then(|| names.get(number).copied().unwrap_or_default());
        } else if line.starts_with("calls=")
            && let Some(name) = callee.and_then(counted)
            && let Some(cost) = lines.next().and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        {
            *took.entry(name.to_owned()).or_default() += cost;
        }
    }
    took.into_iter().map(|(name, cost)| (name, cost / CALLS)).collect()
}

/// The counted function's own name in a symbol of the little program, mangled or not; libraries have others like it.
fn counted(symbol: &str) -> Option<&str> {
    let (before, rest) = symbol.split_once(COUNTED)?;
    if !before.contains("counts") {
        return None;
    }
    let ends = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
    Some(&rest[..ends])
}

fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = program::read(Command::new(rustc).arg("--version").current_dir(root()))?;
    Ok(text.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned())
}

/// What decides which code the libraries choose at run time.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let wide = text.split_whitespace().any(|flag| flag == "avx2");
    format!("{}{}", std::env::consts::ARCH, if wide { " with avx2" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callees_took_is_read_from_the_calls_of_them() {
        let text = "fn=(1) counts::main\n10 5\ncfn=(2) counts::counted_frame_encode\ncalls=64 0\n20 6400\n\
                    cfn=(3) malloc\ncalls=1 0\n21 99\n\nfn=(2)\n1 6400\n\
                    fn=(4) other\ncfn=(2)\ncalls=1 0\n3 640\n";
        assert_eq!(instructions(text), BTreeMap::from([("frame_encode".to_owned(), 110)]));
        assert_eq!(counted("_ZN6counts20counted_frame_encode17h0123E"), Some("frame_encode"));
        assert_eq!(counted("core::fmt"), None);
        assert_eq!(counted("regex_syntax::counted_repetition"), None);
    }

    #[test]
    fn a_tenth_more_is_too_much_and_less_is_not() {
        let counts = |pairs: &[(&str, u64)]| Counts {
            compiler: "rustc".into(),
            processor: "x".into(),
            instructions: pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        };
        let before = counts(&[("a", 1_000), ("b", 1_000), ("gone", 1)]);
        let faults = compared(&before, &counts(&[("a", 1_100), ("b", 1_101), ("new", 5)]));
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("b takes 1101") && faults[1].starts_with("new is not in"), "{faults:?}");
        assert!(compared(&before, &counts(&[("a", 10), ("b", 10), ("gone", 1)])).is_empty());
    }
}
