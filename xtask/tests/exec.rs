//! `xtask exec`: what stands between `up` and its children.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{SigSet, Signal};

fn exec(starter: u32, script: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["exec", &starter.to_string(), "--", "sh", "-c", script]).stdin(Stdio::null());
    command.output().expect("started")
}

#[test]
fn a_child_hears_signals_that_its_starter_blocks() {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().expect("blocked");
    let output = exec(std::process::id(), "kill -TERM $$; exit 3");
    assert_eq!(output.status.signal(), Some(Signal::SIGTERM as i32), "{output:?}");
}

#[test]
fn it_is_the_program_itself_with_its_own_end() {
    let output = exec(std::process::id(), "echo said; exit 7");
    assert_eq!((output.status.code(), &*output.stdout), (Some(7), &b"said\n"[..]));
}

#[test]
fn nothing_starts_for_a_starter_that_is_gone() {
    let output = exec(1, "echo said");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is gone already"), "{output:?}");
}
