//! What the shell around the program gets: completions, manual pages, folded output and files of it, the fleet
//! at a glance, and a doctor's word.

use serde_json::json;

use crate::host::{Host, end, output, state};
use crate::program::{Program, Ran};

/// What a shell is offered after these words.
async fn offered(program: &Program, words: &[&str]) -> Ran {
    let mut command = program.command(&[&["--", "viworks"], words].concat());
    command.env("VIWORKS_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    crate::program::finished(command.spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_only_the_host_knows_are_completed() {
    let host = Host::start().await;
    host.fleet(&["web-01", "web-02", "db-01", "web\u{1b}[2J"]);
    let program = Program::logged_in(&host).await;
    for (words, expected) in [
        (&["agent", "show", "web"][..], &["web-01", "web-02"][..]),
        (&["run", "docker.p"], &["docker.ps"]),
        (&["run", "docker.ps", "-a", "db"], &["db-01"]),
        (&["run", "docker.ps", "-a", "db-01,web-0"], &["db-01,web-01", "db-01,web-02"]),
        (&["run", "docker.ps", "--lim"], &["--limit"]),
        (&["logs", "x", "--agent", "d"], &["db-01"]),
        (&["context", "use", "t"], &["test"]),
        (&["--context", "te"], &["test"]),
        (&["ag"], &["agent"]),
    ] {
        let ran = offered(&program, words).await;
        ran.ends_with(0);
        let found: Vec<&str> = ran.out.lines().collect();
        assert!(expected.iter().all(|one| found.contains(one)), "{words:?}: {found:?}");
        assert!(!ran.out.contains('\u{1b}') && ran.err.is_empty(), "{words:?}: {}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_away_or_silent_is_not_waited_for_and_not_spoken_of() {
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let program = Program::new().with("VIWORKS_URL", &url).with("VIWORKS_TOKEN", "t");
    // The program under test has a ceiling that is far above what a key press waits.
    let ran = offered(&program, &["agent", "show", "w"]).await;
    ran.ends_with(0);
    assert_eq!((ran.out.trim(), ran.err.as_str()), ("", ""));
    let nobody = offered(&Program::new(), &["run", ""]).await;
    nobody.ends_with(0);
    assert_eq!(nobody.err, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_for_shells_and_manual_pages_need_no_host() {
    let program = Program::new();
    for (shell, part) in [("bash", "complete "), ("zsh", "#compdef viworks"), ("fish", "complete ")] {
        let script = program.run(&["completions", shell]).await;
        script.ends_with(0);
        assert!(script.out.contains(part) && script.out.contains("VIWORKS_COMPLETE"), "{}", script.out);
    }
    program.run(&["completions", "tcsh"]).await.ends_with(2);
    let dir = program.home.path().join("man1");
    program.run(&["man", &dir.display().to_string()]).await.ends_with(0);
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert!(page("viworks.1").contains(".TH viworks 1"), "{}", page("viworks.1"));
    assert!(page("viworks-run.1").contains("log\\-dir"), "{}", page("viworks-run.1"));
    assert!(page("viworks-agent-join-token-create.1").contains("ttl"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_outputs_are_folded_and_each_agent_has_its_file() {
    let host = Host::start().await;
    host.fleet(&["web-01", "web-02", "db-01"]);
    host.play(vec![
        output("web-01", "stdout", 0, b"one\nhalf"),
        output("web-02", "stdout", 0, b"one\n"),
        output("web-02", "stdout", 4, b"half"),
        output("db-01", "stderr", 0, b"bad\n"),
        state("web-01", "succeeded", None),
        state("web-02", "succeeded", None),
        state("db-01", "failed", None),
        end("partial", json!({"succeeded": 2, "failed": 1})),
    ]);
    let program = Program::at(&host);
    let dir = program.home.path().join("logs").display().to_string();
    let ran = program.run(&["run", "docker.ps", "--all", "--group", "--log-dir", &dir]).await;
    ran.ends_with(5);
    assert_eq!(ran.out, "── 2 agents, ok: web-01, web-02\none\nhalf\n── 1 agent, failed: db-01\n! bad\n");
    assert!(!ran.err.contains("--log-dir"), "the folder is full by now: {}", ran.err);
    let read = |name: &str| std::fs::read_to_string(format!("{dir}/{name}.log")).unwrap();
    assert_eq!((read("web-01").as_str(), read("db-01").as_str()), ("one\nhalf\n", "! bad\n"));
    let again = program.run(&["run", "docker.ps", "--all", "--log-dir", &dir]).await;
    again.ends_with(2);
    assert!(again.err.contains("not empty") && host.state().submitted.len() == 1, "{}", again.err);
    program.run(&["run", "docker.ps", "--all", "--group", "--detach"]).await.ends_with(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_shown_once_where_there_is_no_terminal() {
    let host = Host::start().await;
    let top = Program::at(&host).run(&["top", "--sort", "name"]).await;
    top.ends_with(0);
    let rows: Vec<Vec<&str>> = top.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "SITE", "STATUS", "CPU", "MEMORY", "DISK", "LOAD", "RUNNING", "REPORT"]);
    assert_eq!(rows[1][..7], ["web-01", "eu", "online", "12%", "50%", "90%", "0.50"]);
    let asked = host.state().requests.iter().filter(|line| line.contains("telemetry")).count();
    assert_eq!(asked, 1, "one question for all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doctor_says_what_is_broken_and_what_to_do() {
    let nobody = Program::new().run(&["doctor"]).await;
    nobody.ends_with(1);
    assert!(nobody.out.contains("× not logged in") && nobody.out.contains("viworks login URL"), "{}", nobody.out);

    let host = Host::start().await;
    let well = Program::at(&host).run(&["doctor", "-o", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&well.out).unwrap();
    let sections: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["section"].as_str().unwrap()).collect();
    for section in ["configuration", "host", "host parts", "login", "plugins", "agents"] {
        assert!(sections.contains(&section), "{section}: {sections:?}");
    }
    let fault = report["checks"].as_array().unwrap().iter().find(|check| check["outcome"] == "broken").unwrap();
    assert_eq!(
        (&fault["what"], &fault["hint"]),
        (&json!("bad.wasm: imports wasi (bad_import)"), &json!("build without it"))
    );
    well.ends_with(1);

    host.state().access.clear();
    let over = Program::new().with("VIWORKS_URL", &host.url()).with("VIWORKS_TOKEN", "old").run(&["doctor"]).await;
    over.ends_with(1);
    assert!(over.out.contains("√ ") && over.out.contains("login\n-----\n× "), "{}", over.out);
}
