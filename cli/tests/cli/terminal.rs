//! At a terminal: what is asked, hidden, coloured and made harmless.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::json;
use tokio::process::Command;

use crate::host::{Host, PASSWORD, end, output, state};
use crate::program::{CEILING, Program};

/// A pseudo-terminal on all three streams, and everything that was written to it.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    pub seen: String,
}

impl Terminal {
    pub fn of(command: &mut Command) -> Terminal {
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
    pub fn wait_for(&mut self, text: &str) {
        let since = Instant::now();
        while !self.seen.contains(text) {
            let left = CEILING.saturating_sub(since.elapsed());
            let chunk = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no `{text}` in:\n{}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Takes in what is written within a moment.
    pub fn look(&mut self) {
        if let Ok(chunk) = self.screen.recv_timeout(Duration::from_millis(100)) {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether keys are shown and gathered to lines, as they are while nothing but a shell reads them.
    fn is_itself(&self) -> bool {
        tcgetattr(&self.keyboard).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// The exit code, after taking in everything that was written.
    pub async fn ended(&mut self, mut command: Command, mut act: impl FnMut(&mut Terminal)) -> i32 {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_fleet_is_drawn_again_and_again_and_the_terminal_is_itself_afterwards() {
    let host = Host::start().await;
    for (keys, name) in [("q", "web-11"), ("\u{3}", "web-12")] {
        host.fleet(&["web-01"]);
        let program = Program::at(&host).with("TERM", "xterm");
        let mut command = program.under(&["setsid", "--ctty"], &["top", "--every", "1s"]);
        let mut terminal = Terminal::of(&mut command);
        let code = terminal
            .ended(command, |terminal| {
                terminal.wait_for("1 of 1 agent online, 0 running, by cpu");
                assert!(!terminal.is_itself());
                host.fleet(&["web-01", name]);
                terminal.wait_for(name);
                terminal.press("n");
                terminal.wait_for("2 of 2 agents online, 0 running, by name");
                terminal.press(keys);
            })
            .await;
        assert_eq!(code, 0, "{:?}", terminal.seen);
        assert!(terminal.is_itself());
        let (_, drawn) = terminal.seen.split_once("\u{1b}[?1049h\u{1b}[?25l").expect("it takes the other screen");
        assert!(drawn.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "and gives it back, last of all: {drawn:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_fleet_sleeps_at_ctrl_z_and_is_there_again_when_its_shell_wakes_it() {
    let host = Host::start().await;
    let program = Program::at(&host).with("TERM", "xterm");
    // A shell that minds its jobs: it goes on when the first one sleeps, and wakes it after a line.
    let shell = r#""$@"; echo "asle""ep"; read line; fg"#;
    let mut command = program.under(&["setsid", "--ctty", "sh", "-mc", shell, "sh"], &["top", "--every", "1s"]);
    let mut terminal = Terminal::of(&mut command);
    let code = terminal
        .ended(command, |terminal| {
            terminal.wait_for("2 of 2 agents online, 0 running, by cpu");
            terminal.press("\u{1a}");
            terminal.wait_for("asleep");
            assert!(terminal.is_itself());
            assert!(terminal.seen.contains("\u{1b}[?25h\u{1b}[?1049l"), "{:?}", terminal.seen);
            terminal.seen.clear();
            terminal.press("\n");
            terminal.wait_for("\u{1b}[?1049h\u{1b}[?25l");
            terminal.wait_for("2 of 2 agents online");
            assert!(!terminal.is_itself());
            terminal.press("n");
            terminal.wait_for("0 running, by name");
            terminal.press("q");
        })
        .await;
    assert_eq!(code, 0, "{:?}", terminal.seen);
    assert!(terminal.is_itself());
    assert!(terminal.seen.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{:?}", terminal.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_fleet_stays_awake_where_no_shell_could_wake_it() {
    let host = Host::start().await;
    let program = Program::at(&host).with("TERM", "xterm");
    let mut command = program.under(&["setsid", "--ctty"], &["top", "--every", "1s"]);
    let mut terminal = Terminal::of(&mut command);
    let code = terminal
        .ended(command, |terminal| {
            terminal.wait_for("2 of 2 agents online, 0 running, by cpu");
            terminal.press("\u{1a}");
            terminal.wait_for("\u{1b}[?1049l");
            terminal.seen.clear();
            terminal.wait_for("2 of 2 agents online");
            terminal.press("q");
        })
        .await;
    assert_eq!(code, 0, "{:?}", terminal.seen);
    assert!(terminal.is_itself());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_fleet_that_cannot_be_seen_any_more_says_why_and_leaves_at_a_key() {
    let host = Host::start().await;
    let program = Program::at(&host).with("TERM", "xterm");
    let mut command = program.command(&["top", "--every", "1s"]);
    let mut terminal = Terminal::of(&mut command);
    let code = terminal
        .ended(command, |terminal| {
            terminal.wait_for("2 of 2 agents online");
            // From now on every question is put off, and asked again for as long as the host has patience.
            host.state().away = true;
            terminal.wait_for("the store does not answer");
            terminal.press("q");
        })
        .await;
    assert_eq!(code, 0, "{:?}", terminal.seen);
    assert!(terminal.is_itself());
}
