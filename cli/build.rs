//! Puts into the program what it hands out: the SDK's sources, so that `viworks plugin new` needs no
//! network, and the pages that explain refusals.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Folders and files of the SDK, from the repository's root.
const SDK: [&str; 7] = [
    "sdk/Cargo.toml",
    "sdk/src",
    "sdk/wit",
    "sdk/macros/Cargo.toml",
    "sdk/macros/src",
    "schemas/plan/Cargo.toml",
    "schemas/plan/src",
];
/// What says which versions of outside crates the SDK is built with.
const WORKSPACE: [&str; 2] = ["Cargo.toml", "Cargo.lock"];
/// One page for each code of a refusal.
const PAGES: &str = "docs/plugins";

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let root = here.parent().expect("the crate lies in the repository");
    let mut text = String::new();
    table(&mut text, "SDK", root, &SDK);
    table(&mut text, "WORKSPACE", root, &WORKSPACE);
    table(&mut text, "PAGES", root, &[PAGES]);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to write"));
    std::fs::write(out.join("embedded.rs"), text).expect("the build folder can be written");
}

/// A table of paths and texts.
fn table(text: &mut String, name: &str, root: &Path, parts: &[&str]) {
    let mut files = Vec::new();
    for part in parts {
        // A folder stands for all that is in it: a file that comes or goes changes the table.
        println!("cargo::rerun-if-changed={}", root.join(part).display());
        collect(&root.join(part), &mut files);
    }
    files.sort();
    writeln!(text, "pub const {name}: &[(&str, &str)] = &[").expect("text grows");
    for file in files {
        let path = file.strip_prefix(root).expect("it lies below the root").to_str().expect("names are text");
        writeln!(text, "    ({path:?}, include_str!({file:?})),").expect("text grows");
    }
    writeln!(text, "];").expect("text grows");
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let text = ["rs", "toml", "lock", "wit", "md"];
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("the folder can be read") {
            collect(&entry.expect("the folder can be read").path(), files);
        }
    } else if !hidden && path.extension().is_some_and(|kind| text.iter().any(|known| kind == *known)) {
        files.push(path.to_owned());
    }
}
