//! The container engine of the tests: it is real, it can be killed and come back, and nothing of it is left.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use servers::docker::{Engine, leftovers};
use servers::registry::Registry;

/// Set for the copy of this program that starts an engine and then waits to be killed.
const VICTIM: &str = "SERVERS_TEST_VICTIM";

#[track_caller]
fn assert_nothing_left(dir: &Path) {
    let begun = Instant::now();
    loop {
        let left = leftovers(dir);
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "left of the engine:\n{}", left.join("\n"));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn an_engine_builds_runs_is_killed_comes_back_and_leaves_nothing() {
    let Some(engine) = Engine::own() else { return };
    let dir = engine.dir().to_owned();
    let files = [("hello", "#!/bin/sh\necho hello $1\n"), ("plain", "no program\n")];
    engine.build_image("hello:1", "FROM scratch\nCOPY bin /bin\nCOPY hello plain /\n", &files).expect("built");
    let alone = ["run", "--rm", "--network", "none"];
    let run = |words: &[&str]| engine.run(&[&alone, words].concat());
    assert_eq!(run(&["hello:1", "/hello", "you"]).expect("it runs"), "hello you");
    assert!(run(&["hello:1", "/plain"]).is_err_and(|error| error.to_string().contains("permission denied")));

    let long = ["run", "-d", "--network", "none", "--stop-timeout", "1", "--name", "long", "hello:1", "sleep", "1000"];
    engine.run(&long).expect("it runs");
    let before = engine.pid().expect("dockerd runs");
    assert!(!leftovers(&dir).is_empty(), "the look for leftovers sees what is there");
    engine.kill9().expect("killed");
    assert!(engine.run(&["ps"]).is_err_and(|error| error.to_string().contains("Cannot connect")));
    engine.restart().expect("it comes back");
    assert_ne!(engine.pid().expect("dockerd runs again"), before);
    assert_eq!(engine.run(&["ps", "-a", "--format", "{{.Names}}"]).expect("it answers"), "long");
    engine.run(&["start", "long"]).expect("it starts again");

    engine.end().expect("it ends with a container running");
    assert_eq!(leftovers(&dir), Vec::<String>::new());
}

#[test]
fn an_image_goes_to_the_registry_and_comes_back() {
    let (Some(engine), Some(registry)) = (Engine::shared(), Registry::shared()) else { return };
    let name = format!("{}/box:1", registry.address());
    engine.run(&["tag", engine.busybox().expect("built"), &name]).expect("tagged");
    engine.run(&["push", &name]).expect("pushed");
    engine.run(&["image", "rm", &name]).expect("removed");
    engine.run(&["pull", &name]).expect("pulled");
    assert_eq!(engine.run(&["run", "--rm", "--network", "none", &name, "echo", "back"]).expect("it runs"), "back");
}

#[test]
fn an_engine_does_not_outlive_a_program_that_was_killed() {
    if std::env::var_os(VICTIM).is_some() {
        return be_the_victim();
    }
    // Asked first, so that a machine without an engine skips this by name.
    if Engine::shared().is_none() {
        return;
    }
    let mut victim = Command::new(std::env::current_exe().expect("this program has a path"));
    victim.args(["--exact", "an_engine_does_not_outlive_a_program_that_was_killed", "--nocapture"]);
    let mut victim = victim.env(VICTIM, "1").stdout(Stdio::piped()).spawn().expect("a copy of this program");
    let lines = BufReader::new(victim.stdout.take().expect("its output")).lines();
    let mut dirs =
        lines.map_while(Result::ok).filter_map(|line| line.split_once("folder=").map(|(_, dir)| dir.to_owned()));
    let (engine, registry) = (dirs.next().expect("the engine's folder"), dirs.next().expect("the registry's folder"));
    assert!(leftovers(Path::new(&engine)).len() > 3, "the engine and a container run");
    victim.kill().expect("killed");
    victim.wait().expect("its end");
    assert_nothing_left(Path::new(&engine));
    assert_nothing_left(Path::new(&registry));
}

fn be_the_victim() {
    let engine = Engine::start().expect("an engine");
    let registry = Registry::start().expect("a registry");
    let image = engine.busybox().expect("built");
    engine.run(&["run", "-d", "--network", "none", "--restart", "always", image, "sleep", "1000"]).expect("it runs");
    println!("folder={}\nfolder={}", engine.dir().display(), registry.dir().display());
    // Until it is killed.
    loop {
        std::thread::park();
    }
}
