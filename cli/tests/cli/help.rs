//! Help: one screen, examples, and the flags a verb has today.

use std::collections::BTreeSet;

use cli::app::command_tree;
use cli::run::reserved_flags;
use cli::schema::{Flag, command_line, flags};
use serde_json::{Map, Value};

use crate::host::Host;
use crate::program::Program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_explains_itself() {
    let program = Program::new();
    let help = program.run(&["--help"]).await;
    help.ends_with(0);
    insta::assert_snapshot!(help.out);
    for words in [
        &["agent", "--help"][..],
        &["agent", "join-token", "create", "--help"],
        &["login", "--help"],
        &["help", "run"],
        &["logs", "-h"],
    ] {
        let help = program.run(words).await;
        help.ends_with(0);
        assert!(
            help.out.contains("Usage:") && help.out.lines().all(|line| line.chars().count() <= 130),
            "{}",
            help.out
        );
    }
    program.run(&[]).await.ends_with(2);
    program.run(&["agnt"]).await.ends_with(2);
}

/// Every command that does something, by the words that lead to it.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    let inner: Vec<&clap::Command> = command.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    if inner.is_empty() {
        found.push(path.to_owned());
    }
    inner.iter().for_each(|one| leaves(one, &format!("{path} {}", one.get_name()), found));
}

#[test]
fn the_help_of_every_command_is_as_it_was_agreed() {
    let mut tree = command_tree().term_width(100);
    tree.build();
    let mut found = Vec::new();
    leaves(&tree, "viworks", &mut found);
    let mut pages = String::new();
    for path in &found {
        let command = path.split(' ').skip(1).fold(&tree, |command, word| {
            command.find_subcommand(word).unwrap_or_else(|| panic!("no {word} of {path}"))
        });
        let mut command = command.clone().term_width(100);
        // What `run` says before it knows its verb has a snapshot of its own.
        let page = if path == "viworks run" { String::new() } else { command.render_help().to_string() };
        pages.push_str(&format!("$ {path} --help\n{page}\n"));
    }
    insta::assert_snapshot!(pages);
}

#[test]
fn every_command_has_an_example_that_is_run() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    // Both are run from their first block to their last.
    let pages = [read("cli.md"), read("plugins.md")];
    let mut examples = String::new();
    for page in &pages {
        let mut inside = false;
        for line in page.lines() {
            match line.strip_prefix("```") {
                Some(info) => inside = info.starts_with("bash"),
                None if inside => examples.push_str(&format!("{line}\n")),
                None => {}
            }
        }
    }
    let mut found = Vec::new();
    leaves(&command_tree(), "viworks", &mut found);
    let is_shown = |path: &str| {
        examples.match_indices(path).any(|(at, _)| examples[at + path.len()..].starts_with([' ', '\n', ')', '"']))
    };
    let missing: Vec<&String> = found.iter().filter(|path| !is_shown(path)).collect();
    // They need a project half done, a component of another language, or somebody who goes on typing: they are
    // told in words, and run by tests of their own.
    assert_eq!(missing, ["viworks plugin stamp", "viworks plugin dev"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_explains_itself_without_a_host_and_a_verb_with_one() {
    let without = Program::new();
    let general = without.run(&["run", "--help"]).await;
    general.ends_with(0);
    assert_eq!(general.out, without.run(&["help", "run"]).await.out);
    without.run(&["run", "docker.ps", "--help"]).await.ends_with(4);

    let host = Host::start().await;
    let help = Program::at(&host).run(&["run", "docker.ps", "--help"]).await;
    help.ends_with(0);
    insta::assert_snapshot!(help.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verbs_flags_and_its_manual_page_come_from_its_schema() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let help = program.run(&["run", "docker.run", "--help"]).await;
    help.ends_with(0);
    let (_, flags) = help.out.split_once("Arguments of docker.run:").unwrap();
    insta::assert_snapshot!("flags_of_docker_run", flags);
    let page = program.run(&["verb", "show", "docker.run"]).await;
    page.ends_with(0);
    insta::assert_snapshot!("manual_page_of_docker_run", page.out);
    let near = program.run(&["verb", "show", "docker.rnu"]).await;
    near.ends_with(2);
    assert!(near.err.contains("did you mean docker.") && near.err.contains("viworks verb list"), "{}", near.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_behind_the_flags_is_what_the_host_gets() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let words = [
        "run",
        "docker.run",
        "-a",
        "web-01",
        "--detach",
        "--image",
        "nginx",
        "--arg-detach=false",
        "--rm",
        "--env",
        "TZ=UTC",
        "--env",
        "A=b=c",
        "--ports",
        "8080:80",
        "--ports",
        "443:443",
        "--cpus",
        "1.5",
        "--command",
        "-g",
        "--healthcheck",
        "command=curl -f a,b,interval=30s,retries=3",
    ];
    program.run(&words).await.ends_with(0);
    let expected = serde_json::json!({
        "image": "nginx", "detach": false, "rm": true, "env": {"TZ": "UTC", "A": "b=c"},
        "ports": ["8080:80", "443:443"], "cpus": 1.5, "command": ["-g"],
        "healthcheck": {"command": "curl -f a,b", "interval": "30s", "retries": 3},
    });
    assert_eq!(host.state().submitted.last().unwrap().args, expected);
    let file = program.file("args.json", "{\"image\": \"redis\", \"cpus\": 2}");
    let words = ["run", "docker.run", "-a", "web-01", "--detach", "--args", &format!("@{file}"), "--cpus", "3"];
    program.run(&words).await.ends_with(0);
    assert_eq!(host.state().submitted.last().unwrap().args, serde_json::json!({"image": "redis", "cpus": 3}));
}

/// Parses words as `viworks run VERB` does with its verb's flags.
fn parsed(flags: &[Flag], words: &[String]) -> Value {
    let taken: BTreeSet<String> = flags.iter().map(|flag| flag.long.clone()).chain(reserved_flags()).collect();
    let json = clap::Arg::new("args").long("args").allow_hyphen_values(true);
    let command = clap::Command::new("run").arg(json).args(flags.iter().map(|flag| flag.arg("Arguments", &taken)));
    let matches = command.try_get_matches_from(["run".to_owned()].iter().chain(words)).unwrap();
    let mut args = matches.get_one::<String>("args").map_or_else(Map::new, |text| serde_json::from_str(text).unwrap());
    flags.iter().try_for_each(|flag| flag.collect(&matches, &mut args)).unwrap();
    Value::Object(args)
}

#[test]
fn every_example_of_our_own_plugins_can_be_typed_as_its_manual_page_says() {
    let mut typed = 0;
    for plugin in [&exec::PLUGIN, &docker::PLUGIN] {
        for verb in plugin.manifest().verbs {
            let flags = flags(&verb.args_schema, &reserved_flags());
            for example in verb.examples {
                let words = command_line(&flags, &example.args);
                assert_eq!(parsed(&flags, &words), example.args, "{}: {words:?}", verb.name);
                typed += 1;
            }
        }
    }
    assert!(typed > 10, "{typed}");
}
