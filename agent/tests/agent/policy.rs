//! What an operator may write, and what he is told when it is wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use agent::config::Config;
use agent::policy::Policy;
use agent::verdict::{describe, judge};

use crate::support::{plan, step};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("sets the mode");
        path
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let files = Files::new();
    let path = files.write("policy.toml", text, 0o600);
    let error = Policy::load(&path).expect_err("refused").to_string();
    assert_eq!(error.replace(&path.display().to_string(), "policy.toml"), expected);
}

#[test]
fn faults_are_told_with_file_and_line() {
    refused(
        "effects = [\"read\"]\ncolour = 1\n",
        "policy.toml:2: unknown field `colour`, expected one of `effects`, `max_concurrency`, `programs`",
    );
    refused(
        "effects = [\n  \"read\",\n  \"wreck\",\n]\n",
        "policy.toml:3: effect `wreck` is none of read, change, destroy, host",
    );
    refused("max_concurrency = 0\n", "policy.toml:1: max_concurrency 0 is not 1 to 1024");
    refused(
        "[programs.x]\npath = \"/usr/bin/no-such-program\"\n",
        "policy.toml:2: programs.x: cannot find `/usr/bin/no-such-program`: No such file or directory (os error 2)",
    );
    refused(
        "[programs.x]\npath = \"ls\"\n",
        "policy.toml:2: programs.x: path `ls` is not an absolute path without empty, . or .. parts",
    );
    refused(
        "[programs.x]\npath = \"/etc/passwd\"\n",
        "policy.toml:2: programs.x: `/etc/passwd` is not an executable file",
    );
    refused(
        "[programs.x]\npath = \"/bin/ls\"\nshell = true\n",
        "policy.toml:3: unknown field `shell`, expected one of `path`, `args`, `env`, `cwd`, `stdin`, `max_timeout_ms`",
    );
    refused(
        "[programs.\"*\"]\npath = \"/bin/ls\"\n",
        "policy.toml:2: programs.*: a program's name is letters, digits and . _ + -, not starting with - or .",
    );
    refused(
        "[programs.x]\npath = \"/bin/ls\"\ncwd = [\"srv\"]\n",
        "policy.toml:3: programs.x: cwd `srv` is not an absolute path without empty, . or .. parts",
    );
}

#[test]
fn a_program_that_others_may_overwrite_is_refused_by_name() {
    let files = Files::new();
    let program = files.write("tool", "#!/bin/sh\n", 0o775);
    let text = format!("[programs.tool]\npath = \"{}\"\n", program.display());
    let path = files.write("policy.toml", &text, 0o600);
    let error = Policy::load(&path).expect_err("refused").to_string();
    assert!(error.contains("programs.tool") && error.contains("may be written by others (mode 0775)"), "{error}");
    files.write("tool", "#!/bin/sh\n", 0o755);
    let policy = Policy::load(&path).expect("good now");
    assert_eq!(policy.file("tool"), program.canonicalize().expect("exists").to_str());
}

#[test]
fn files_that_others_may_write_are_not_read() {
    let files = Files::new();
    let path = files.write("policy.toml", "", 0o662);
    let error = Policy::load(&path).expect_err("refused").to_string();
    assert!(error.contains("may be written by others (mode 0662)"), "{error}");
}

#[test]
fn an_empty_policy_allows_nothing_and_a_named_program_only_what_its_line_says() {
    let files = Files::new();
    let empty = Policy::load(&files.write("empty.toml", "", 0o600)).expect("an empty file is a policy");
    let uname = plan(vec![step("uname", &["-a"])]);
    assert_eq!(empty.resolve(&uname).expect_err("denied").pointer, "/effect");
    assert_eq!(empty.max_concurrency, 4);
    let text =
        "effects = [\"read\"]\n[programs.uname]\npath = \"/usr/bin/uname\"\nargs = [[\"-a\"]]\nmax_timeout_ms = 50\n";
    let policy = Policy::load(&files.write("policy.toml", text, 0o600)).expect("good");
    let steps = policy.resolve(&uname).expect("allowed");
    assert_eq!((steps[0].name.as_str(), steps[0].timeout_ms), ("/usr/bin/uname", Some(50)));
    assert_eq!(policy.resolve(&plan(vec![step("uname", &["-r"])])).expect_err("denied").pointer, "/steps/0/args");
    assert_eq!(policy.resolve(&plan(vec![step("ls", &[])])).expect_err("denied").pointer, "/steps/0/program");
}

#[test]
fn container_steps_are_sent_to_the_configured_engine() {
    let mut policy =
        Policy::of(&[plan::effect::Effect::Read], &[("docker", "/bin/true"), ("uname", "/bin/true")]).expect("exists");
    policy.engine_env.insert("DOCKER_HOST".to_owned(), "unix:///run/test.sock".to_owned());
    let rule = policy.rules.programs.iter_mut().find(|rule| rule.program == "docker").expect("listed");
    rule.env.push("DOCKER_*".to_owned());
    let mut ps = step("docker", &["ps"]);
    ps.env.insert("DOCKER_HOST".to_owned(), "tcp://elsewhere:2375".to_owned());
    let steps = policy.resolve(&plan(vec![ps, step("uname", &[])])).expect("allowed");
    assert_eq!(steps[0].env.get("DOCKER_HOST").map(String::as_str), Some("unix:///run/test.sock"));
    assert!(steps[1].env.is_empty());
}

#[test]
fn settings_are_checked_as_strictly() {
    let files = Files::new();
    for (text, expected) in [
        ("[labels]\nSite = \"x\"\n", ":2: label name `Site` is not 1 to 63 of a-z, 0-9, - _ and ."),
        ("[labels]\nsite = \"a b\"\n", ":2: the value of label `site` is not 1 to 63 of A-Z, a-z, 0-9, - _ . and /"),
        ("\n[spool]\nmax_bytes = 0\n", ":3: spool.max_bytes is 0; give it at least 1 byte"),
        (
            "[container_engine]\nendpoint = \"/run/docker.sock\"\n",
            ":2: container_engine.endpoint `/run/docker.sock` is no engine address; write it like unix:///run/docker.sock",
        ),
        (
            "[container_engine]\nconfig = \"docker/../x\"\n",
            ":2: container_engine.config `docker/../x` is not an absolute path without empty, . or .. parts",
        ),
        ("capabilities = [\"Do It\"]\n", ":1: capability `Do It` is not 1 to 63 of a-z, 0-9, - _ and ."),
        (
            "speed = 1\n",
            ":1: unknown field `speed`, expected one of `labels`, `capabilities`, `container_engine`, `telemetry`, `spool`",
        ),
    ] {
        let path = files.write("agent.toml", text, 0o600);
        let error = Config::load(&path).expect_err("refused").to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    let text = "[container_engine]\nendpoint = \"unix:///run/x.sock\"\nconfig = \"/etc/docker-cli\"\n";
    let config = Config::load(&files.write("agent.toml", text, 0o600)).expect("good");
    let env: Vec<(&str, &str)> =
        config.engine_env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("DOCKER_CONFIG", "/etc/docker-cli"), ("DOCKER_HOST", "unix:///run/x.sock")]);
    for (length, taken) in [(0, false), (1, true), (63, true), (64, false)] {
        let text = format!("[labels]\nsite = \"{}\"\n", "x".repeat(length));
        assert_eq!(Config::load(&files.write("agent.toml", &text, 0o600)).is_ok(), taken, "{length}");
    }
    let text = "capabilities = [\"b\", \"a\"]\n[labels]\nsite = \"eu-1\"\n[spool]\nstream_bytes = 5\n";
    let config = Config::load(&files.write("agent.toml", text, 0o600)).expect("good");
    assert_eq!(config.capabilities, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((config.labels.get("site").map(String::as_str), config.spool.stream_bytes), (Some("eu-1"), 5));
}

#[test]
fn a_policy_says_in_words_what_it_allows_and_by_which_line_it_decides() {
    let files = Files::new();
    let text = "effects = [\"read\"]\n[programs.uname]\npath = \"/usr/bin/uname\"\nargs = [[\"-a\"], [\"-r\", \"**\"], []]\n\
                env = [\"LC_*\"]\n[programs.sleep]\npath = \"/bin/sleep\"\nmax_timeout_ms = 50\nstdin = true\ncwd = [\"/srv\"]\n";
    let policy = Policy::load(&files.write("policy.toml", text, 0o600)).expect("good");
    let said = describe(&policy);
    for line in [
        "effects: read\n",
        "  arguments: `-a`, `-r` `**`, no arguments\n  variables: LC_*\n  directories: the agent's own\n  standard input: no\n",
        "  arguments: any arguments\n  variables: none\n  directories: /srv\n  standard input: yes\n  longest run: 50 ms\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let good = judge(&policy, &plan(vec![step("uname", &["-a"])]));
    assert!(good.is_allowed);
    let expected = "effect read: allowed (effects: read)\n\
                    step 1, `uname -a`: allowed by [programs.uname], runs /usr/bin/uname\nallowed\n";
    assert_eq!(good.text, expected);
    let bad = judge(&policy, &plan(vec![step("uname", &["-a"]), step("uname", &["-n"]), step("rm", &["-rf"])]));
    assert!(!bad.is_allowed);
    for line in [
        "step 1, `uname -a`: allowed by",
        "step 2, `uname -n`: denied at /steps/1/args: these arguments are not among those allowed for `uname`",
        "  [programs.uname] accepts `-a`, `-r` `**`, no arguments\n",
        "step 3, `rm -rf`: denied at /steps/2/program: program `rm` is not in the list of allowed programs\ndenied\n",
    ] {
        assert!(bad.text.contains(line), "{}", bad.text);
    }
    assert!(judge(&policy, &plan(vec![step("/../x", &[])])).text.starts_with("no plan: /steps/0/program"));
}

#[test]
fn a_policy_narrows_the_environment_that_docker_gets_whatever_the_plugin_asks_for() {
    let files = Files::new();
    let text = "effects = [\"host\"]\n[programs.docker]\npath = \"/bin/true\"\nargs = [[\"run\", \"**\"]]\nenv = [\"APP_*\"]\n";
    let policy = Policy::load(&files.write("policy.toml", text, 0o600)).expect("a policy");
    let with = |names: &[&str]| {
        let mut planned = plan(vec![step("docker", &["run", "--privileged", "--", "nginx"])]);
        planned.effect = plan::effect::Effect::Host;
        planned.steps[0].env = names.iter().map(|name| ((*name).to_owned(), "{viworks-secret:0}".to_owned())).collect();
        policy.rules.permit(&planned).map_err(|denied| denied.to_string())
    };
    assert_eq!(with(&["APP_TOKEN", "APP_KEY"]), Ok(()));
    for name in ["LD_PRELOAD", "DOCKER_HOST", "DOCKER_CONFIG", "PATH", "TOKEN", "XAPP_TOKEN", "app_token"] {
        let said = with(&["APP_TOKEN", name]).expect_err(name);
        assert!(said.contains(name), "{said}");
    }
}
