//! What a running program asks of the kernel, in order: its writes, its syncs, and what it sends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use servers::need;

use crate::wait::until;

/// Longest piece of a write that is kept; longer than any page of the embedded store.
const KEPT_BYTES: &str = "16384";
const CALLS: &str = "trace=write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync";

/// A program under watch.
pub struct Watch {
    strace: Child,
    calls: PathBuf,
}

/// One system call.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The file it was about.
    pub fd: i32,
    /// What was written.
    pub bytes: Vec<u8>,
    /// Its place among everything that was watched: when it began, and when it was over.
    pub began: usize,
    /// See `began`.
    pub over: usize,
}

impl Call {
    /// Whether what was written has these words in it.
    pub fn says(&self, words: &str) -> bool {
        self.bytes.windows(words.len()).any(|bytes| bytes == words.as_bytes())
    }

    /// Whether it brings a file to the disk.
    pub fn syncs(&self) -> bool {
        self.name == "fsync" || self.name == "fdatasync"
    }
}

impl Watch {
    /// Watches a process with all its threads from now on. `None`, said aloud, when this machine has no
    /// strace.
    ///
    /// # Panics
    /// When it is there and may not watch.
    pub async fn of(pid: i32, folder: &Path) -> Option<Watch> {
        let program = match need::find("strace", "strace") {
            Ok(program) => program,
            Err(why) => {
                need::skipped(&why);
                return None;
            }
        };
        let calls = folder.join(format!("calls-{pid}"));
        let said = folder.join(format!("strace-{pid}"));
        let log = std::fs::File::create(&said).expect("a file for what strace says");
        let mut command = Command::new(program);
        command.args(["-f", "-xx", "-s", KEPT_BYTES, "-e", CALLS, "-o"]).arg(&calls).args(["-p", &pid.to_string()]);
        let strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("strace starts");
        until("strace watches", async || {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            assert!(!said.contains("ptrace("), "strace may not watch: {said}");
            said.contains("attached").then_some(())
        })
        .await;
        Some(Watch { strace, calls })
    }

    /// Lets the program go and tells what it did.
    ///
    /// # Panics
    /// When nothing was written down.
    pub fn end(mut self) -> Vec<Call> {
        let pid = i32::try_from(self.strace.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("strace runs");
        self.strace.wait().expect("strace ends");
        read(&std::fs::read_to_string(&self.calls).expect("the calls"))
    }
}

fn read(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // By thread: the call that another thread's call interrupted on paper.
    let mut begun: HashMap<&str, usize> = HashMap::new();
    for (place, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(index) = begun.remove(thread) {
                calls[index].over = place;
            }
            continue;
        }
        let Some((name, words)) = rest.split_once('(') else { continue };
        let digits: String = words.chars().take_while(char::is_ascii_digit).collect();
        let Ok(fd) = digits.parse() else { continue };
        if rest.ends_with("<unfinished ...>") {
            begun.insert(thread, calls.len());
        }
        let bytes = words.split('"').skip(1).step_by(2).flat_map(octets).collect();
        calls.push(Call { name: name.to_owned(), fd, bytes, began: place, over: place });
    }
    calls
}

/// `\x68\x69`.
fn octets(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).filter_map(|two| u8::from_str_radix(two, 16).ok()).collect()
}

/// The write with these words that was on the disk before `place`, if there is one.
pub fn synced_before<'a>(calls: &'a [Call], words: &str, place: usize) -> Option<&'a Call> {
    calls.iter().find(|write| {
        let sync = |call: &Call| call.syncs() && call.fd == write.fd && call.began > write.over && call.over < place;
        write.says(words) && write.over < place && calls.iter().any(sync)
    })
}
