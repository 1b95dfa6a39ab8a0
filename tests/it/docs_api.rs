//! `docs/api.md` and `docs/metrics.md`, done as a reader does them: every block of shell, in order, in one shell.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::host::TestHost;
use tests::machine::TestAgent;
use tokio::process::Command;

fn page(name: &str) -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
    std::fs::read_to_string(root.join("docs").join(name)).expect("a page")
}

/// The blocks of a page that a shell runs, each with its line. No other block may hold a request.
fn blocks(name: &str, page: &str) -> Vec<(usize, String)> {
    let (mut blocks, mut open): (Vec<(usize, String)>, Option<bool>) = (Vec::new(), None);
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(info), None) => {
                open = Some(info == "bash");
                if info == "bash" {
                    blocks.push((number + 1, String::new()));
                }
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(true)) => {
                let (_, text) = blocks.last_mut().expect("an open block");
                text.push_str(line);
                text.push('\n');
            }
            (None, Some(false)) => assert!(!line.contains("curl"), "{name}:{}: nothing runs this", number + 1),
            (None, None) => {}
        }
    }
    blocks
}

#[tokio::test]
async fn every_request_on_the_pages_of_the_api_does_what_it_says() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    let _agent = TestAgent::start(&host, &admin, "web-01").await;
    let folder = host.scratch().join("reader");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::copy(host.credential_file(), folder.join("admin.json")).expect("the first admin");
    let mut script = String::from("set -euo pipefail\n");
    let mut count = 0;
    for name in ["api.md", "metrics.md"] {
        for (line, text) in blocks(name, &page(name)) {
            writeln!(script, "echo 'docs/{name}:{line}'\n{text}echo").expect("text grows");
            count += 1;
        }
    }
    assert!(count >= 15, "{count} blocks");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(&folder).env("HOST", host.url()).env("no_proxy", "*");
    let done = shell.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("bash starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    // What the reader came for is there: output, the stream's end, a new command in place of one that failed.
    for word in ["Linux\n", "event: end", "\"key\":\"vwk_", "\"token\":\"vwj_", "\"last_1m\""] {
        assert!(said.contains(word), "{word}\n{said}");
    }
}
