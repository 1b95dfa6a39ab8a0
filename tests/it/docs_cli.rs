//! `docs/cli.md`, done as a reader does it.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::page::Page;
use tests::programs::{plugin, program};
use tests::wait::until;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// No run of the page takes this long unless something hangs.
const WITHIN: Duration = Duration::from_secs(600);
/// The block that stays until it is told to end.
const DEV: &str = "bash dev";

#[tokio::test]
async fn every_block_of_the_page_does_what_it_says() {
    let page = Page::open("cli.md");
    let rule = plugin("memory");
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.install("memory.toml", b"[config]\nwarning = 0.0\ncritical = 100.0\nfor_s = 0\n");
    host.install("memory.wasm", rule);
    host.serves_plugin(&admin, "memory").await;
    let _first = TestAgent::start(&host, &admin, "web-1").await;
    let _second = TestAgent::start(&host, &admin, "web-2").await;
    until("both are told of", async || {
        let page = admin.get("/api/v1/alerts").await.expect(200);
        (page["items"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let env = [("VIWORKS_HOST", host.url()), ("VIWORKS_ADMIN", host.credential_file().display().to_string())];
    page.run(folder.path(), &env, &[DEV], WITHIN).await;
}

#[tokio::test]
async fn an_agents_doctor_finds_what_keeps_it_from_its_work() {
    let mut host = TestHost::start().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let (well, said) = agent.doctor();
    assert!(well, "{said}");
    for line in ["√ joined cluster", "√ ws://", "√ this machine and the host agree", "√ the agent runs"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    agent.kill9();
    host.kill9();
    let (well, said) = agent.doctor();
    assert!(!well && said.contains("cannot be reached") && said.contains("‼ the agent does not run"), "{said}");
}

#[tokio::test]
async fn a_host_and_an_agent_to_try_things_out_are_up_until_ctrl_c() {
    let page = Page::open("cli.md");
    let block = page.blocks.iter().find(|block| block.info == DEV).expect("the block");
    let words: Vec<&str> = block.text.split_whitespace().skip(1).collect();
    let home = tempfile::tempdir().expect("a folder");
    let mut dev = Command::new(program("viworks"));
    // The tests' own plugins are beside: the folder that is watched is one of the test's own.
    let plugins = home.path().join("plugins");
    std::fs::create_dir(&plugins).expect("a folder");
    std::fs::write(plugins.join("exec.wasm"), tests::programs::exec_plugin()).expect("a plugin");
    dev.args(words).args(["-o", "ndjson", "--plugins"]).arg(&plugins).env("TMPDIR", home.path());
    dev.env("HOME", home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = dev.spawn().expect("viworks starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let first = tokio::time::timeout(WITHIN, lines.next_line()).await.expect("it is up in time").expect("text");
    let Some(first) = first else {
        let done = child.wait_with_output().await.expect("it ends");
        panic!("it ended early: {}", String::from_utf8_lossy(&done.stderr));
    };
    let up: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let contexts = up["contexts"].as_str().expect("a path");
    let mut run = Command::new(program("viworks"));
    run.args(["run", "exec.run", "-a", "local", "--", "uname"]).env("VIWORKS_CONFIG", contexts);
    let ran = run.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("viworks starts");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("[local] Linux"), "{ran:?}");

    let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is told");
    let done = tokio::time::timeout(WITHIN, child.wait_with_output()).await.expect("it ends in time").expect("it ends");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.contains("agent stopped\nhost stopped"), "{said}");
    let data = up["data"].as_str().expect("a path");
    assert!(!std::path::Path::new(data).exists(), "{data} is left");
}
