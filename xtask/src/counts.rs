//! `cargo xtask counts`: how many pieces of memory the hottest functions ask for, and how many instructions they take,
//! counted by callgrind. Neither feels what else the machine does. One that asks for more than it did fails, and so does
//! one that takes a tenth more instructions.

use std::collections::BTreeMap;
use std::path::Path;
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
    /// Pieces of memory that one call of each asks for.
    allocations: BTreeMap<String, u64>,
    /// Instructions of one call of each.
    instructions: BTreeMap<String, u64>,
}

/// Builds the little programs, counts, and compares.
///
/// # Errors
/// When they cannot be built or counted. Without valgrind instructions are left out, and that is said; they are not
/// blessed then.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    program::run(&mut cargo(&["build", "--quiet", "--profile", "counts", "-p", "counts"]))?;
    let folder = target_dir()?.join("counts");
    let file = root().join(BASELINE);
    let instructions = match toolchain::valgrind() {
        Ok(valgrind) => Some(by_callgrind(&valgrind, &folder)?),
        Err(error) if options.bless => return Err(error.context("instructions are a part of what is blessed")),
        Err(error) => {
            say(format_args!("skipped: instruction counts: {error:#}"));
            None
        }
    };
    let allocations = allocations(&program::read(&mut Command::new(folder.join("allocations")))?)?;
    let (compiler, processor) = (compiler()?, processor());
    if options.bless {
        let now = Counts { compiler, processor, allocations, instructions: instructions.unwrap_or_default() };
        write_whole(&file, &format!("{}\n", serde_json::to_string_pretty(&now)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("{BASELINE} is not there: bless one"))?;
    let before: Counts = serde_json::from_str(&text).with_context(|| format!("{BASELINE} reads otherwise"))?;
    tell("allocations", &before.allocations, &allocations);
    if let Some(instructions) = &instructions {
        tell("instructions", &before.instructions, instructions);
    }
    if (&before.compiler, &before.processor) != (&compiler, &processor) {
        say(format_args!(
            "not compared: {BASELINE} is of {} on {}, this is {compiler} on {processor}",
            before.compiler, before.processor
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut faults = compared("allocations", 0.0, &before.allocations, &allocations);
    if let Some(instructions) = &instructions {
        faults.extend(compared("instructions", ABOVE, &before.instructions, instructions));
    }
    for fault in &faults {
        say(format_args!("FAIL: {fault}"));
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn by_callgrind(valgrind: &Path, folder: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let out = folder.join("callgrind.out");
    let mut counted = Command::new(valgrind);
    counted.args(["--tool=callgrind", "-q"]).arg(format!("--callgrind-out-file={}", out.display()));
    program::read(counted.arg(folder.join("counts"))).context("instructions cannot be counted")?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("{} is not there", out.display()))?;
    let found = instructions(&text);
    anyhow::ensure!(!found.is_empty(), "callgrind saw none of the functions");
    Ok(found)
}

/// What the program of that name prints: a function and a number in each line.
fn allocations(text: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let pair = |line: &str| line.split_once(' ').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    let found: Option<BTreeMap<String, u64>> = text.lines().map(pair).collect();
    found.filter(|found| !found.is_empty()).context("allocations are not told as they should be")
}

fn tell(what: &str, before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) {
    say(format_args!("{:<26} {:>10} {:>12}", format!("{what} of one call"), "now", "before"));
    for (name, count) in now {
        let told = before.get(name).map_or("new".to_owned(), u64::to_string);
        say(format_args!("{name:<26} {count:>10} {told:>12}"));
    }
}

/// Functions that take more than before by more than this share, or are not held at all.
fn compared(what: &str, above: f64, before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, count) in now {
        match before.get(name) {
            None => faults.push(format!("{what} of {name} are not in {BASELINE}: `cargo xtask counts --bless`")),
            Some(old) if *count as f64 > *old as f64 * (1.0 + above) => {
                faults.push(format!("{name} takes {count} {what} where it took {old}"));
            }
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    faults.extend(gone.map(|name| format!("{what} of {name} are in {BASELINE} and are counted no more")));
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
    fn what_is_over_its_share_or_not_held_is_told_and_less_is_not() {
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let before = counts(&[("a", 1_000), ("b", 1_000), ("gone", 1)]);
        let faults = compared("instructions", 0.1, &before, &counts(&[("a", 1_100), ("b", 1_101), ("new", 5)]));
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("b takes 1101") && faults[1].contains("of new are not in"), "{faults:?}");
        assert!(compared("instructions", 0.1, &before, &counts(&[("a", 10), ("b", 10), ("gone", 1)])).is_empty());
        let few = counts(&[("a", 3)]);
        assert_eq!(compared("allocations", 0.0, &few, &counts(&[("a", 4)])).len(), 1, "one more is too many");
        assert!(compared("allocations", 0.0, &few, &few).is_empty());
    }

    #[test]
    fn allocations_are_read_by_name_and_nonsense_is_none() {
        let read = allocations("frame_encode 3\nframe_decode 12\n").expect("two of them");
        assert_eq!(read, BTreeMap::from([("frame_encode".to_owned(), 3), ("frame_decode".to_owned(), 12)]));
        assert!(allocations("").is_err() && allocations("frame_encode many\n").is_err());
    }
}
