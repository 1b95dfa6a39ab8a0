//! Help: one screen, examples, and the flags a verb has today.

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
