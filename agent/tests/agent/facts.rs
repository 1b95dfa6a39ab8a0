//! What an agent says of its machine, from what real programs answer it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use agent::config::Config;
use agent::facts::gather;
use agent::policy::Policy;
use wire::facts::Facts;

/// What a machine says whose container tools are these shell scripts.
async fn facts(tools: &[(&str, &str)]) -> Facts {
    let folder = tempfile::tempdir().expect("a directory");
    let mut programs = Vec::new();
    for (name, script) in tools {
        let path = folder.path().join(name);
        write_script(&path, &format!("#!/bin/sh\n{script}\n"));
        programs.push((*name, path.to_str().expect("UTF-8").to_owned()));
    }
    let programs: Vec<(&str, &str)> = programs.iter().map(|(name, path)| (*name, path.as_str())).collect();
    let policy = Policy::of(&[], &programs).expect("the tools are there");
    gather(&policy, &Config::default(), &BTreeMap::new()).await
}

/// Another process writes it: a file that this one has open for writing, and so every child that another
/// test is just starting, could not be run.
fn write_script(path: &Path, text: &str) {
    let mut writer = Command::new("/bin/sh");
    writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().expect("a shell");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("writes");
    assert!(writer.wait().expect("ends").success());
}

#[tokio::test]
async fn a_machine_without_container_tools_says_so() {
    let facts = facts(&[]).await;
    assert_eq!((facts.container_engine, facts.compose), (None, None));
    assert!(facts.capabilities.is_empty(), "{:?}", facts.capabilities);
    assert_eq!(facts.os, "linux");
}

#[tokio::test]
async fn an_engine_has_its_own_version_and_its_commands_beside_it() {
    for (printed, expected) in [
        (r#"{"Client":{"Version":"28.2.2"},"Server":{"Version":"28.2.2"}}"#, Some("docker 28.2.2")),
        (
            r#"{"Client":{"Version":"28.2.2"},"Server":{"Version":"20.10.24+dfsg1"}}"#,
            Some("docker 20.10.24+dfsg1, client 28.2.2"),
        ),
        (r#"{"Client":{"Version":"28.2.2"},"Server":null}"#, Some("docker unreachable, client 28.2.2")),
        (r#"{"Client":{"Version":"x\ny"},"Server":{"Version":""}}"#, None),
        ("usage: something else", None),
        ("", None),
    ] {
        // The real one fails without an engine and prints all the same.
        let script = format!("[ \"$1\" = version ] || exit 1\ncat <<'END'\n{printed}\nEND\nexit 1");
        let facts = facts(&[("docker", &script)]).await;
        assert_eq!(facts.container_engine.as_deref(), expected, "{printed}");
        assert_eq!((facts.compose, facts.capabilities), (None, vec!["docker".to_owned()]), "{printed}");
    }
}

#[tokio::test]
async fn compose_is_found_as_a_plugin_first_and_then_as_a_program() {
    let plugin = ("docker", "[ \"$1\" = compose ] && echo v2.29.7");
    let docker = ("docker", "exit 125");
    for (tools, expected) in [
        (vec![plugin, ("docker-compose", "echo 1.29.2")], Some("v2 2.29.7")),
        (vec![docker, ("docker-compose", "echo 1.29.2")], Some("v1 1.29.2")),
        (vec![docker, ("docker-compose", "echo 2.26.1-4")], Some("v2-standalone 2.26.1-4")),
        (vec![docker, ("docker-compose", "echo broken; exit 1")], None),
        (vec![docker, ("docker-compose", "echo no version")], None),
    ] {
        let facts = facts(&tools).await;
        assert_eq!(facts.compose.as_deref(), expected);
        assert_eq!(facts.capabilities.contains(&"compose".to_owned()), expected.is_some());
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_unreachable_and_holds_nobody_up() {
    let begun = std::time::Instant::now();
    let facts = facts(&[("docker", "exec sleep 600")]).await;
    assert_eq!(facts.container_engine.as_deref(), Some("docker unreachable"));
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_configured_engine_is_the_one_that_is_asked() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("docker");
    let script = "#!/bin/sh\nprintf '{\"Client\":{\"Version\":\"1.%s\"}}' \"$DOCKER_HOST$DOCKER_CONFIG$HOME\"\n";
    write_script(&path, script);
    let mut policy = Policy::of(&[], &[("docker", path.to_str().expect("UTF-8"))]).expect("there");
    policy.engine_env.insert("DOCKER_HOST".to_owned(), "a".to_owned());
    policy.engine_env.insert("DOCKER_CONFIG".to_owned(), "b".to_owned());
    let facts = gather(&policy, &Config::default(), &BTreeMap::new()).await;
    assert_eq!(facts.container_engine.as_deref(), Some("docker unreachable, client 1.ab"));
}

#[tokio::test]
async fn the_real_command_without_an_engine_says_its_version() {
    let Some(docker) = ["/usr/bin/docker", "/usr/local/bin/docker"].into_iter().find(|path| Path::new(path).is_file())
    else {
        eprintln!("skipped: no docker command here; install docker.io");
        return;
    };
    let mut policy = Policy::of(&[], &[("docker", docker)]).expect("there");
    policy.engine_env.insert("DOCKER_HOST".to_owned(), "unix:///no/such/docker.sock".to_owned());
    let facts = gather(&policy, &Config::default(), &BTreeMap::new()).await;
    let engine = facts.container_engine.expect("the command is there");
    assert!(engine.starts_with("docker unreachable, client "), "{engine}");
    assert!(facts.capabilities.contains(&"docker".to_owned()), "{:?}", facts.capabilities);
}
