//! The corpus of files that mean harm. Each says the code it is refused with and a word of the cause; what
//! gets past the gates and turns on the host later is in `hostile/calls.rs`.

mod calls;
mod files;
mod guests;
mod random;
mod schemas;
mod stamps;

use std::collections::BTreeSet;

use runtime::Code;
use runtime::tool::{self, ToolError};

/// One file and what must become of it.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub code: Code,
    /// Stands in the cause.
    pub told: &'static str,
}

impl Case {
    pub fn new(name: &'static str, bytes: Vec<u8>, code: Code, told: &'static str) -> Case {
        Case { name, bytes, code, told }
    }
}

#[test]
fn every_hostile_file_is_refused_with_its_code() {
    let cases: Vec<Case> =
        [files::cases(), stamps::cases(), schemas::cases(), guests::cases()].into_iter().flatten().collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    let mut wrong = Vec::new();
    for Case { name, bytes, code, told } in &cases {
        match tool::check(bytes, "demo.wasm") {
            Err(ToolError::Refused(refusal)) if refusal.code == code.as_str() && refusal.cause.contains(told) => {
                assert!(!refusal.cure.is_empty() && refusal.cause.chars().count() <= 501, "{name}: {refusal:?}");
            }
            Err(ToolError::Refused(refusal)) => wrong.push(format!("{name}: {}: {}", refusal.code, refusal.cause)),
            other => wrong.push(format!("{name}: {:?}", other.map(|checked| checked.manifest.name))),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 100, "the corpus shrank to {}", cases.len());
}
