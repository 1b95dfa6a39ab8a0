//! Completion in the shells themselves: they are taught as the manual says, somebody types at their prompt, and what
//! is asked of the host tells what the line had become.

use std::time::Instant;

use tokio::process::Command;

use crate::host::Host;
use crate::program::{CEILING, Program};
use crate::terminal::Terminal;

/// Starts without what this machine's users have set up.
const BASH: (&str, &[&str], &str) = ("bash", &["--norc", "--noprofile", "-i"], "source <(viworks completions bash)");
const ZSH: (&str, &[&str], &str) =
    ("zsh", &["-f", "-i"], "autoload -U compinit; compinit -u -D; source <(viworks completions zsh)");
const FISH: (&str, &[&str], &str) = ("fish", &["--no-config", "-i"], "viworks completions fish | source");

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn bash_completes_an_agents_name_from_the_host() {
    an_agents_name_is_completed(BASH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn zsh_completes_an_agents_name_from_the_host() {
    an_agents_name_is_completed(ZSH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn fish_completes_an_agents_name_from_the_host() {
    an_agents_name_is_completed(FISH).await;
}

async fn an_agents_name_is_completed((shell, words, lesson): (&str, &[&str], &str)) {
    let folders = std::env::var("PATH").unwrap();
    if !std::env::split_paths(&folders).any(|folder| folder.join(shell).exists()) {
        assert!(std::env::var_os("CI").is_none(), "{shell} is not installed: `cargo xtask test` installs it");
        eprintln!("skipped: {shell} is not installed");
        return;
    }
    let host = Host::start().await;
    host.fleet(&["web-01", "web-02", "database-01"]);
    let beside = std::path::Path::new(env!("CARGO_BIN_EXE_viworks")).parent().unwrap();
    let program = Program::at(&host).with("TERM", "xterm").with("PATH", &format!("{}:{folders}", beside.display()));
    // A shell wants a terminal of its own to have a prompt.
    let mut command = Command::new("setsid");
    program.prepare(command.args(["--ctty", shell]).args(words));
    let mut terminal = Terminal::of(&mut command);
    terminal
        .ended(command, |terminal| {
            terminal.press(&format!("{lesson}\n"));
            // The words as they are typed are not the words as they are said.
            terminal.press("echo all' 'ready\n");
            terminal.wait_for("all ready");
            // A key press waits for a host only a moment: on a busy machine one types again.
            while !shown(&host, "database-01") {
                let before = questions(&host);
                terminal.press("viworks agent show data\t\n");
                let since = Instant::now();
                while questions(&host) == before {
                    assert!(since.elapsed() < CEILING, "nothing is asked: {:?}", terminal.seen);
                    terminal.look();
                }
                assert!(host.state().requests.len() < 20, "{:?}", terminal.seen);
            }
            terminal.press("exit\n");
        })
        .await;
}

/// Whether an agent of this name was asked for.
fn shown(host: &Host, name: &str) -> bool {
    host.state().requests.iter().any(|line| *line == format!("GET /agents/{name}"))
}

/// How often one agent was asked for, whoever it was.
fn questions(host: &Host) -> usize {
    host.state().requests.iter().filter(|line| line.starts_with("GET /agents/")).count()
}
