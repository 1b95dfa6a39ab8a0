//! A page of documentation, done as a reader does it: every block of it, in order, in one shell.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::programs::program;

/// One fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The line of its fence.
    pub line: usize,
    /// e.g. `bash`, or `rust file=src/lib.rs`.
    pub info: String,
    /// What is in it.
    pub text: String,
}

/// A page in `docs/`.
#[derive(Clone, Debug)]
pub struct Page {
    name: String,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// The workspace's folder.
///
/// # Panics
/// Never: this crate lies in it.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

impl Page {
    /// Reads `docs/NAME`.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn open(name: &str) -> Page {
        let text = std::fs::read_to_string(root().join("docs").join(name)).expect("the page");
        Page::of(&format!("docs/{name}"), &text)
    }

    /// The page `name` with this text.
    ///
    /// # Panics
    /// When a block has no end.
    pub fn of(name: &str, text: &str) -> Page {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (number, line) in text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(info) if !open => {
                    blocks.push(Block { line: number + 1, info: info.to_owned(), text: String::new() });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    let text = &mut blocks.last_mut().expect("an open block").text;
                    text.push_str(line);
                    text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "the last block of {name} has no end");
        Page { name: name.to_owned(), blocks }
    }

    /// The page as one script. What block `n` prints goes to `$OUT/n`. Blocks of `elsewhere` are run by others.
    ///
    /// # Panics
    /// When nothing runs a block.
    pub fn script(&self, elsewhere: &[&str]) -> String {
        let mut script = String::from("set -euo pipefail\n");
        for (number, block) in self.blocks.iter().enumerate() {
            let (Block { line, info, text }, name) = (block, &self.name);
            if info == "bash" {
                writeln!(script, "echo '{name}:{line}'\n{{\n{text}}} >\"$OUT/{number}\" 2>&1").expect("text grows");
            } else if let Some((_, file)) = info.split_once(" file=") {
                let end = format!("END_OF_BLOCK_{number}");
                writeln!(script, "mkdir -p \"$(dirname \"{file}\")\"\ncat >\"{file}\" <<'{end}'\n{text}{end}")
                    .expect("text grows");
            } else if !elsewhere.contains(&info.as_str()) {
                assert!(info == "text" && number > 0, "{name}:{line}: a block of `{info}` that nothing runs");
            }
        }
        script
    }

    /// What the block before a block of `text` printed, for each of them.
    pub fn expected(&self) -> Vec<(usize, &Block)> {
        let texts = self.blocks.iter().enumerate().filter(|(_, block)| block.info == "text");
        texts.map(|(number, block)| (number - 1, block)).collect()
    }

    /// Runs the page in `folder` with these variables, and holds what it printed against what it says it prints.
    ///
    /// # Panics
    /// When a block fails, prints something else, or the whole takes longer than `within`.
    pub async fn run(&self, folder: &Path, env: &[(&str, String)], elsewhere: &[&str], within: Duration) {
        let out = folder.join("printed");
        std::fs::create_dir(&out).expect("a folder");
        let tools = program("viworks").parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path))).expect("a path");
        let mut shell = Command::new("bash");
        shell.args(["-c", &self.script(elsewhere)]).current_dir(folder).env("PATH", path).env("OUT", &out);
        shell.env("VIWORKS_CONFIG", folder.join("contexts.toml")).env("NO_COLOR", "1");
        for name in ["VIWORKS_URL", "VIWORKS_TOKEN", "VIWORKS_CONTEXT", "VIWORKS_CA", "VIWORKS_PIN"] {
            shell.env_remove(name);
        }
        shell.envs(env.iter().map(|(name, value)| (name, value)));
        let done = shell.stdin(Stdio::null()).kill_on_drop(true).output();
        let done = tokio::time::timeout(within, done).await;
        let done = done.unwrap_or_else(|_| panic!("{} takes longer than {within:?}", self.name)).expect("bash starts");
        let printed = |number: usize| std::fs::read_to_string(out.join(number.to_string())).unwrap_or_default();
        if !done.status.success() {
            let reached = String::from_utf8_lossy(&done.stdout);
            let blocks = 0..self.blocks.len();
            let last = blocks.rev().find(|number| out.join(number.to_string()).exists()).unwrap_or_default();
            panic!("{}\n{}{}", reached, printed(last), String::from_utf8_lossy(&done.stderr));
        }
        for (number, block) in self.expected() {
            let printed = printed(number);
            for line in block.text.lines() {
                assert!(printed.contains(line), "{}:{}: `{line}` is not in\n{printed}", self.name, block.line);
            }
        }
    }
}
