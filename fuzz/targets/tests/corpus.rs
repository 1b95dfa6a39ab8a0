//! Every target over its corpus and over seeded changes of it, under ceilings on memory and processor time that
//! end the process.
//!
//! `VIWORKS_INPUTS` is the number of changed inputs for each target, `VIWORKS_SEED` the seed.

use std::path::PathBuf;

use nix::sys::resource::{Resource, setrlimit};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use targets::ALL;

/// More than all targets together have any reason to take.
const MEMORY_BYTES: u64 = 2 << 30;
/// Processor time after which a target counts as hanging.
const SECONDS: u64 = 900;
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// What readers trip over.
const WORDS: [&str; 18] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "\0",
    "\u{202e}",
    "..",
    "/",
    "*",
    "{\"type\":\"",
    "====",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("read")).collect()
}

fn changed(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=input.len());
        let until = rng.random_range(at..=input.len().min(at + 64));
        match rng.random_range(0..7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..until)),
            2 => input.insert(at, rng.random()),
            3 => input.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            4 => drop(input.splice(at..at, WORDS.choose(rng).expect("some").bytes())),
            5 => {
                let piece: Vec<u8> = input[at..until].repeat(rng.random_range(1..200));
                drop(input.splice(at..at, piece));
            }
            _ => {
                let other = seeds.choose(rng).cloned().unwrap_or_default();
                let from = rng.random_range(0..=other.len());
                drop(input.splice(at..until, other[from..].iter().copied()));
            }
        }
    }
    input.truncate(MAX_INPUT_BYTES);
    input
}

#[test]
fn nothing_that_strangers_send_makes_a_reader_panic_hang_or_swell() {
    setrlimit(Resource::RLIMIT_AS, MEMORY_BYTES, MEMORY_BYTES).expect("memory is bounded");
    setrlimit(Resource::RLIMIT_CPU, SECONDS, SECONDS).expect("time is bounded");
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let inputs = number("VIWORKS_INPUTS").unwrap_or(2_000);
    let seed = number("VIWORKS_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    for (name, target) in ALL {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "`{name}` has a corpus");
        seeds.iter().for_each(|input| target(input));
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..inputs {
            let input = changed(&mut rng, &seeds);
            // Should it end the process, this is the last line.
            let run = std::panic::AssertUnwindSafe(|| target(&input));
            if std::panic::catch_unwind(run).is_err() {
                panic!("`{name}`, seed {seed}: {:?}", String::from_utf8_lossy(&input));
            }
        }
    }
}
