//! Files nobody thought of: random components, plugins with random insides, good plugins with bits flipped. The
//! gates may say what they like, so long as they say it: without a panic, and soon.
//!
//! A few of each in every run; `VIWORKS_FUZZ=10000` tries that many.

use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use runtime::tool::{self, ToolError};

use crate::guest::{Guest, section};

/// Longest that gates 1 to 8 take for one small file, on a busy machine: describing and examples have limits of
/// their own, and compiling so little code is nothing.
const SOON: Duration = Duration::from_secs(120);
/// Random bytes a generator is given.
const MATTER: usize = 4096;

/// Files of each kind.
fn rounds() -> u64 {
    std::env::var("VIWORKS_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(24)
}

/// The same bytes for the same seed, on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a size")
    }

    fn matter(&mut self) -> Vec<u8> {
        (0..MATTER / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}

/// Leads the file through the gates; answers whether it got past those that do not run it.
#[track_caller]
fn survives(what: &str, seed: u64, bytes: &[u8]) -> bool {
    let began = Instant::now();
    let ran = match tool::check(bytes, "demo.wasm") {
        Ok(_) => true,
        Err(ToolError::Refused(refusal)) => refusal.gate >= 7,
        Err(error) => panic!("{what} of seed {seed}: {error}"),
    };
    assert!(began.elapsed() < SOON, "{what} of seed {seed} held the gates up for {:?}", began.elapsed());
    ran
}

/// What the engine has switched on, and nothing that a plugin could not be made of.
fn config() -> wasm_smith::Config {
    wasm_smith::Config {
        compact_imports_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        max_memories: 1,
        memory64_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    }
}

#[test]
fn random_components_are_refused_in_words() {
    for seed in 0..rounds() {
        let matter = Chance(seed).matter();
        let config = wasm_smith::Config::default();
        let Ok(component) = wasm_smith::Component::new(config, &mut Unstructured::new(&matter)) else { continue };
        survives("a random component", seed, &component.to_bytes());
    }
}

#[test]
fn plugins_with_random_insides_are_ended_by_their_limits() {
    let honest = Guest::new("demo", "1.0.0");
    let shape = honest.core();
    let stamp = section("viworks:manifest", honest.manifest.to_string().as_bytes());
    let mut ran = 0;
    for seed in 0..rounds() {
        let matter = Chance(seed).matter();
        let config = wasm_smith::Config { module_shape: Some(shape.clone()), ..config() };
        let Ok(module) = wasm_smith::Module::new(config, &mut Unstructured::new(&matter)) else { continue };
        let component = honest.component(module.to_bytes());
        ran += u64::from(survives("a plugin with random insides", seed, &[component, stamp.clone()].concat()));
    }
    assert!(ran > rounds() / 2, "most of them came to run: {ran}");
}

#[test]
fn good_plugins_with_flipped_bits_are_good_or_refused() {
    let good = Guest::new("demo", "1.0.0").build();
    let mut ran = 0;
    for seed in 0..rounds() {
        let (mut chance, mut bytes) = (Chance(seed), good.clone());
        // None now and then: what is as it was must come to run.
        for _ in 0..chance.below(5) {
            let at = chance.below(bytes.len());
            match chance.below(4) {
                0 => bytes[at] = u8::try_from(chance.below(256)).expect("a byte"),
                1 => _ = bytes.remove(at),
                2 => bytes.insert(at, u8::try_from(chance.below(256)).expect("a byte")),
                _ => bytes[at] ^= 1 << chance.below(8),
            }
        }
        ran += u64::from(survives("a good plugin with flipped bits", seed, &bytes));
    }
    assert!(ran > 0, "some of them came to run");
}
