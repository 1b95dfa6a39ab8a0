//! At a terminal: what is asked, hidden, coloured and made harmless.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use serde_json::json;
use tokio::process::Command;

use crate::host::{Host, PASSWORD, end, output, state};
use crate::program::{CEILING, Program};

/// A pseudo-terminal on all three streams, and everything that was written to it.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn of(command: &mut Command) -> Terminal {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let mut reader = File::from(pty.master.try_clone().unwrap());
        let (sender, screen) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Reading fails when the program and we have both let go of it.
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard: File::from(pty.master), screen, seen: String::new() }
    }

    /// Waits until the screen shows `text`.
    fn wait_for(&mut self, text: &str) {
        let since = Instant::now();
        while !self.seen.contains(text) {
            let left = CEILING.saturating_sub(since.elapsed());
            let chunk = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no `{text}` in:\n{}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, after taking in everything that was written.
    async fn ended(&mut self, mut command: Command, mut act: impl FnMut(&mut Terminal)) -> i32 {
        let mut child = command.spawn().unwrap();
        // The command still holds the other end of the terminal.
        drop(command);
        act(self);
        let status = tokio::time::timeout(CEILING, child.wait()).await.expect("it hangs").unwrap();
        while let Ok(chunk) = self.screen.recv_timeout(Duration::from_millis(200)) {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        status.code().unwrap_or(-1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_password_is_asked_for_and_not_shown() {
    let host = Host::start().await;
    let program = Program::new();
    let mut command = program.command(&["login", &host.url()]);
    let mut terminal = Terminal::of(&mut command);
    let code = terminal
        .ended(command, |terminal| {
            terminal.wait_for("user: ");
            terminal.press("ada\n");
            terminal.wait_for("password: ");
            // A mistake, taken back: two letters, one of them of two bytes.
            terminal.press(&format!("{PASSWORD}xü\u{7f}\u{7f}\n"));
        })
        .await;
    assert_eq!(code, 0, "{}", terminal.seen);
    assert!(!terminal.seen.contains("horse"), "{}", terminal.seen);

    let mut command = program.command(&["login", &host.url(), "--user", "ada"]);
    let mut terminal = Terminal::of(&mut command);
    let code = terminal
        .ended(command, |terminal| {
            terminal.wait_for("password: ");
            terminal.press("half\u{3}");
        })
        .await;
    assert_eq!(code, 130, "{}", terminal.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_change_of_many_agents_is_confirmed_by_their_number() {
    let host = Host::start().await;
    let names: Vec<String> = (0..12).map(|n| format!("web-{n:02}")).collect();
    host.fleet(&names.iter().map(String::as_str).collect::<Vec<_>>());
    host.state().effect = "destroy".into();
    host.play(vec![end("succeeded", json!({"succeeded": 12}))]);
    let program = Program::at(&host);
    for (answer, code, submitted) in [("yes\n", 3, 0), ("12\n", 0, 1)] {
        let mut command = program.command(&["run", "docker.ps", "--all"]);
        let mut terminal = Terminal::of(&mut command);
        let ended = terminal
            .ended(command, |terminal| {
                terminal.wait_for("type 12 to go on: ");
                terminal.press(answer);
            })
            .await;
        assert_eq!((ended, host.state().submitted.len()), (code, submitted), "{}", terminal.seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_machines_write_is_coloured_by_name_and_cannot_move_the_cursor() {
    let host = Host::start().await;
    host.play(vec![
        output("web-01", "stdout", 0, "\u{1b}[2Jgone \u{202e}txt\tgrün\n".as_bytes()),
        output("web-01", "stderr", 0, b"bad\xff\n"),
        state("web-01", "succeeded", None),
        end("succeeded", json!({"succeeded": 2})),
    ]);
    for (no_color, prefix, mark) in
        [("", "m[web-01]\u{1b}[0m ", "\u{1b}[31m!\u{1b}[0m "), ("1", "[web-01] ", "[web-01]! ")]
    {
        let program = Program::at(&host).with("NO_COLOR", no_color).with("TERM", "xterm");
        let mut command = program.command(&["run", "docker.ps", "--all"]);
        let mut terminal = Terminal::of(&mut command);
        assert_eq!(terminal.ended(command, |_| ()).await, 0, "{}", terminal.seen);
        assert!(
            terminal.seen.contains(&format!("{prefix}\\x1b[2Jgone \\u{{202e}}txt\tgrün\r\n")),
            "{:?}",
            terminal.seen
        );
        assert!(terminal.seen.contains(&format!("{mark}bad\\xff\r\n")), "{:?}", terminal.seen);
        assert_eq!(no_color.is_empty(), terminal.seen.contains("\u{1b}["), "{:?}", terminal.seen);
    }
}
