//! `docs/plugins.md`, done as a reader does it.

use std::time::Duration;

use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::page::{Page, root};

/// A page about fifteen minutes, on a machine that takes three times as long for everything.
const WITHIN: Duration = Duration::from_secs(45 * 60);

#[tokio::test]
async fn the_page_leads_from_nothing_to_a_running_verb() {
    let page = Page::open("plugins.md");
    assert!(page.blocks.len() > 8, "{} blocks", page.blocks.len());
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let folder = tempfile::tempdir().expect("a folder");
    let env = [
        // Where projects of tests are compiled: outside crates only once for all of them.
        ("CARGO_TARGET_DIR", root().join("target/projects").display().to_string()),
        ("VIWORKS_HOST", host.url()),
        ("VIWORKS_ADMIN", host.credential_file().display().to_string()),
        ("VIWORKS_PLUGINS", host.plugins().display().to_string()),
    ];
    page.run(folder.path(), &env, &[], WITHIN).await;
}

#[test]
fn a_block_that_nothing_runs_is_found() {
    let text = "```bash\ntrue\n```\n\n```text\nx\n```\n```rust file=a.rs\nfn a() {}\n```\n";
    let page = Page::of("a page", text);
    let infos: Vec<(usize, &str)> = page.blocks.iter().map(|block| (block.line, block.info.as_str())).collect();
    assert_eq!(infos, [(1, "bash"), (5, "text"), (8, "rust file=a.rs")]);
    assert_eq!(page.expected()[0].0, 0);
    let script = page.script(&[]);
    assert!(script.contains("{\ntrue\n} >\"$OUT/0\"") && script.contains("cat >\"a.rs\""), "{script}");
    let idle = Page::of("a page", "```bash\n```\n```rust\nfn a() {}\n```\n");
    assert!(std::panic::catch_unwind(|| idle.script(&[])).is_err());
    assert!(std::panic::catch_unwind(|| idle.script(&["rust"])).is_ok());
}
