//! `docs/plugins.md`, done as a reader does it: every block of the page, in order, in one shell.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tokio::process::Command;

/// One fenced block.
#[derive(Debug)]
struct Block {
    line: usize,
    /// e.g. `bash`, or `rust file=src/lib.rs`.
    info: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
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
    assert!(!open, "the last block of the page has no end");
    blocks
}

/// The page as one script. What block `n` prints goes to `$OUT/n`.
fn script(blocks: &[Block]) -> String {
    let mut script = String::from("set -euo pipefail\n");
    for (number, block) in blocks.iter().enumerate() {
        let Block { line, info, text } = block;
        if info == "bash" {
            writeln!(script, "echo 'docs/plugins.md:{line}'\n{{\n{text}}} >\"$OUT/{number}\" 2>&1")
                .expect("text grows");
        } else if let Some((_, file)) = info.split_once(" file=") {
            let end = format!("END_OF_BLOCK_{number}");
            writeln!(script, "mkdir -p \"$(dirname \"{file}\")\"\ncat >\"{file}\" <<'{end}'\n{text}{end}")
                .expect("text grows");
        } else {
            assert!(info == "text" && number > 0, "docs/plugins.md:{line}: a block of `{info}` that nothing runs");
        }
    }
    script
}

/// What the block before a block of `text` printed, for each of them.
fn expected(blocks: &[Block]) -> Vec<(usize, &Block)> {
    let texts = blocks.iter().enumerate().filter(|(_, block)| block.info == "text");
    texts.map(|(number, block)| (number - 1, block)).collect()
}

#[tokio::test]
async fn the_page_leads_from_nothing_to_a_running_verb() {
    let page = std::fs::read_to_string(root().join("docs/plugins.md")).expect("the page");
    let blocks = blocks(&page);
    assert!(blocks.len() > 8, "{} blocks", blocks.len());
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let tools = program("viworks").parent().expect("a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path))).expect("a path");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script(&blocks)]).current_dir(folder.path()).env("PATH", path).env("OUT", &out);
    // Where projects of tests are compiled: outside crates only once for all of them.
    shell.env("CARGO_TARGET_DIR", root().join("target/projects"));
    shell.env("VIWORKS_CONFIG", folder.path().join("contexts.toml")).env("NO_COLOR", "1");
    shell.env("VIWORKS_HOST", host.url()).env("VIWORKS_ADMIN", host.credential_file());
    shell.env("VIWORKS_PLUGINS", host.plugins());
    for name in ["VIWORKS_URL", "VIWORKS_TOKEN", "VIWORKS_CONTEXT"] {
        shell.env_remove(name);
    }
    let done = shell.stdin(Stdio::null()).kill_on_drop(true).output();
    // A page about fifteen minutes may not take longer.
    let done = tokio::time::timeout(std::time::Duration::from_secs(15 * 60), done).await;
    let done = done.expect("fifteen minutes are enough").expect("bash starts");
    let printed = |number: usize| std::fs::read_to_string(out.join(number.to_string())).unwrap_or_default();
    if !done.status.success() {
        let reached = String::from_utf8_lossy(&done.stdout);
        let last = (0..blocks.len()).rev().find(|number| out.join(number.to_string()).exists()).unwrap_or_default();
        panic!("{}\n{}{}", reached, printed(last), String::from_utf8_lossy(&done.stderr));
    }
    for (number, block) in expected(&blocks) {
        let printed = printed(number);
        for line in block.text.lines() {
            assert!(printed.contains(line), "docs/plugins.md:{}: `{line}` is not in\n{printed}", block.line);
        }
    }
}

#[test]
fn a_block_that_nothing_runs_is_found() {
    let page = "```bash\ntrue\n```\n\n```text\nx\n```\n```rust file=a.rs\nfn a() {}\n```\n";
    let found = blocks(page);
    let infos: Vec<(usize, &str)> = found.iter().map(|block| (block.line, block.info.as_str())).collect();
    assert_eq!(infos, [(1, "bash"), (5, "text"), (8, "rust file=a.rs")]);
    assert_eq!(expected(&found)[0].0, 0);
    let script = script(&found);
    assert!(script.contains("{\ntrue\n} >\"$OUT/0\"") && script.contains("cat >\"a.rs\""), "{script}");
    let idle = blocks("```bash\n```\n```rust\nfn a() {}\n```\n");
    assert!(std::panic::catch_unwind(|| self::script(&idle)).is_err());
}
