//! Prints how many pieces of memory one call of each function asks for.

use std::hint::black_box;

use allocation_counter::measure;
use counts::Given;

fn main() {
    let given = Given::default();
    for (name, call) in given.calls() {
        // The first call may set up what later ones use.
        black_box(call());
        let asked = measure(|| {
            black_box(call());
        });
        println!("{name} {}", asked.count_total);
    }
}
