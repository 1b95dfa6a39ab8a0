//! Calls each function a fixed number of times and does nothing else, so that instructions can be counted.

use counts::Given;

/// Calls of each; `xtask/src/counts.rs` divides by it.
const CALLS: usize = 64;

fn main() {
    let given = Given::default();
    let calls = given.calls();
    let mut sum = 0;
    for _ in 0..CALLS {
        sum += calls.iter().map(|(_, call)| call()).sum::<usize>();
    }
    println!("{sum}");
}
