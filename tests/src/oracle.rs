//! The judge of fault tests. It stands outside: every command writes its own start and its own end into
//! one file, and in the end that file is held against what the host says of each command.
//!
//! A request whose answer never came may have been stored or not: it may start once, never twice.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::attempt::State;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Api, state_of};
use crate::wait::until;

/// Invocations read at once.
const READS_AT_ONCE: usize = 8;
/// Numbers that a talkative command prints, 18,893 bytes.
const NUMBERS: u32 = 4_000;

/// What commands did, and what their submitters were told.
pub struct Oracle {
    ledger: PathBuf,
    /// In the arguments of every process that outlives a command's first line.
    mark: String,
    next: AtomicUsize,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    accepted: Vec<Accepted>,
    refused: usize,
    unanswered: usize,
}

/// A command that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// Where it runs.
    pub agent: String,
    /// What it is to write and to print.
    pub task: Task,
}

/// What one command does.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its own word in the file.
    pub word: String,
    /// Arguments of `exec.run`.
    pub args: Value,
    /// All it prints when it runs to its end.
    pub output: String,
}

/// What happened outside that explains an end which says that something is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// How many commands may read `interrupted`: those that ran when their supervisor was killed.
    pub interrupted: usize,
    /// How many may read `expired` or `rejected(stale)`: those whose time to start ran out.
    pub expired: usize,
}

/// What the judge found. The lists name commands.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Commands that were accepted.
    pub accepted: usize,
    /// Commands in the store, those without an answer too.
    pub stored: usize,
    /// Requests that were refused, and that got no answer.
    pub refused: (usize, usize),
    /// Accepted, and not in the store.
    pub lost: Vec<String>,
    /// Started more than once.
    pub twice: Vec<String>,
    /// Said to have ended otherwise than they did.
    pub untrue: Vec<String>,
    /// How those ended that were killed after they had written their last line.
    pub at_the_line: Vec<String>,
    /// How many ended in each state.
    pub states: BTreeMap<String, usize>,
}

impl Oracle {
    /// A judge with a fresh file in this folder.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn new(folder: &Path) -> Oracle {
        let ledger = folder.join("ledger");
        std::fs::write(&ledger, "").expect("the ledger is made");
        let mark = format!("{:09}", rand::random_range(1..1_000_000_000));
        Oracle { ledger, mark, next: AtomicUsize::new(0), told: Mutex::default() }
    }

    /// A command that takes about this long between its two lines.
    pub fn task(&self, takes_ms: u32) -> Task {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (word, ledger) = (format!("w{number}"), self.ledger.display());
        // The digits after the milliseconds are the mark.
        let sleep = match takes_ms {
            0 => String::new(),
            ms => format!("sleep {}.{:03}{}; ", ms / 1000, ms % 1000, self.mark),
        };
        let (talk, more) = match number % 5 {
            0 => (format!("seq {NUMBERS}; "), (1..=NUMBERS).map(|number| format!("{number}\n")).collect()),
            _ => (String::new(), String::new()),
        };
        let script = format!("echo start {word} >> {ledger}; echo {word}; {talk}{sleep}echo end {word} >> {ledger}");
        let args = json!({ "program": "sh", "args": ["-c", script] });
        Task { output: format!("{word}\n{more}"), word, args }
    }

    /// Its submitter was told 202.
    pub fn accepted(&self, id: &str, agent: &str, task: Task) {
        self.told().accepted.push(Accepted { id: id.to_owned(), agent: agent.to_owned(), task });
    }

    /// Its submitter was told no.
    pub fn refused(&self) {
        self.told().refused += 1;
    }

    /// Its submitter was told nothing.
    pub fn unanswered(&self) {
        self.told().unanswered += 1;
    }

    /// Commands accepted so far.
    pub fn accepted_so_far(&self) -> usize {
        self.told().accepted.len()
    }

    /// Commands started so far.
    pub fn started_so_far(&self) -> usize {
        self.lines().lines().filter(|line| line.starts_with("start ")).count()
    }

    /// Whether this one has started.
    pub fn has_started(&self, word: &str) -> bool {
        self.lines().lines().any(|line| line.strip_prefix("start ") == Some(word))
    }

    /// Process ids whose arguments name one of these commands.
    ///
    /// # Panics
    /// When there is no `/proc`.
    pub fn survivors(&self) -> Vec<String> {
        let ledger = self.ledger.display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let named = entries.filter_map(|entry| {
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            // Whoever runs `sh` or `sleep` for a command; not somebody who merely reads the file.
            let is_ours = words.contains(&ledger) || words.contains(&self.mark);
            is_ours.then(|| format!("{}: {words}", entry.file_name().display()))
        });
        named.collect()
    }

    /// Waits until everything that was stored is over, and judges all of it.
    ///
    /// # Panics
    /// When something does not end.
    pub async fn judge(&self, api: &Api, excuses: Excuses) -> Verdict {
        let accepted = self.told().accepted.clone();
        let stored = all_over(api).await;
        let found: Vec<(Accepted, Option<Value>)> = stream::iter(accepted)
            .map(|accepted| async {
                let path = format!("/api/v1/commands/{}/invocations/{}", accepted.id, accepted.agent);
                let answer = read(api, &path).await;
                let invocation = if answer.status == 404 { None } else { Some(answer.expect(200)) };
                (accepted, invocation)
            })
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        until("no process of an ended command is left", async || self.survivors().is_empty().then_some(())).await;

        let (starts, ends) = self.counts();
        let mut verdict = {
            let told = self.told();
            Verdict { accepted: found.len(), stored, refused: (told.refused, told.unanswered), ..Verdict::default() }
        };
        for (word, count) in &starts {
            if *count > 1 {
                verdict.twice.push(format!("{word} started {count} times"));
            }
        }
        let (mut interrupted, mut expired) = (excuses.interrupted, excuses.expired);
        for (Accepted { id, task, .. }, invocation) in &found {
            let Some(invocation) = invocation else {
                verdict.lost.push(id.clone());
                continue;
            };
            let state = state_of(invocation);
            let reason = invocation["reason"].as_str().unwrap_or_default();
            let ran = (starts.get(&task.word).copied().unwrap_or(0), ends.get(&task.word).copied().unwrap_or(0));
            *verdict.states.entry(format!("{state} {reason}").trim_end().to_owned()).or_default() += 1;
            let excused = |left: &mut usize| {
                let had = *left > 0;
                *left = left.saturating_sub(1);
                had
            };
            let is_true = match state {
                State::Succeeded => ran == (1, 1) && invocation["stdout"] == task.output,
                State::Cancelled if reason == "killed" => {
                    // Its last line is written a moment before its end: it may be killed in between.
                    verdict.at_the_line.extend((ran.1 > 0).then(|| end_of(invocation)));
                    ran.0 <= 1
                }
                State::Cancelled => ran.0 == 0 && ["never_sent", "not_started"].contains(&reason),
                State::Expired => ran.0 == 0 && excused(&mut expired),
                // An agent that met it past its validity.
                State::Rejected if reason == "stale" => ran.0 == 0 && excused(&mut expired),
                State::Interrupted => excused(&mut interrupted),
                // These commands do not fail, nothing refuses them, and no agent is gone for long.
                State::Failed | State::TimedOut | State::Rejected | State::Skipped | State::Lost => false,
                State::Held | State::Queued | State::Sent | State::Accepted | State::Running => false,
            };
            if !is_true || invocation["attempt"] != 1 {
                verdict.untrue.push(format!("{} wrote {ran:?}: {invocation:#}", task.word));
            }
        }
        verdict
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> String {
        std::fs::read_to_string(&self.ledger).expect("the ledger")
    }

    /// How often each word started and ended.
    fn counts(&self) -> (HashMap<String, usize>, HashMap<String, usize>) {
        let (mut starts, mut ends) = (HashMap::new(), HashMap::new());
        for line in self.lines().lines() {
            let (what, word) = line.split_once(' ').expect("two words");
            let counts = if what == "start" { &mut starts } else { &mut ends };
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        (starts, ends)
    }
}

impl Verdict {
    /// Fails the test unless all of it is true.
    ///
    /// # Panics
    /// With what is not.
    pub fn assert_true(&self) {
        let wrong: Vec<&String> = [&self.lost, &self.twice, &self.untrue].into_iter().flatten().collect();
        assert!(wrong.is_empty(), "{self}\n{}", wrong.into_iter().cloned().collect::<Vec<_>>().join("\n"));
        assert!(self.stored >= self.accepted, "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { accepted, stored, refused: (refused, unanswered), lost, twice, untrue, at_the_line, states } =
            self;
        let (lost, twice, untrue) = (lost.len(), twice.len(), untrue.len());
        write!(f, "{accepted} accepted, {refused} refused, {unanswered} without an answer, {stored} stored; ")?;
        write!(f, "lost {lost}, started twice {twice}, untrue {untrue}; ")?;
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{state} {count}")).collect();
        write!(f, "{}", states.join(", "))?;
        if !at_the_line.is_empty() {
            write!(f, "; killed after their last line: {}", at_the_line.join(", "))?;
        }
        Ok(())
    }
}

/// How its process ended, as the agent says.
fn end_of(invocation: &Value) -> String {
    let step = &invocation["outcome"]["steps"][0];
    match (step["signal"].as_i64(), step["exit_code"].as_i64()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// A command that is not over for so long is shown, before the wait for it is given up.
const SAY_WHY_AFTER: Duration = Duration::from_secs(80);

/// Waits until every command in the store is over; how many there are.
///
/// # Panics
/// When they do not end.
pub async fn all_over(api: &Api) -> usize {
    let begun = Instant::now();
    until("every stored command is over", async || {
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let page = read(api, &format!("/api/v1/commands?limit=500{cursor}")).await.expect(200);
            let items = page["items"].as_array().expect("items");
            if let Some(open) = items.iter().find(|item| item["completed_at"].is_null()) {
                if begun.elapsed() > SAY_WHY_AFTER {
                    let path = format!("/api/v1/commands/{}/invocations", open["id"].as_str().unwrap_or_default());
                    tell(&format!("not over: {open}\n{}", api.get(&path).await.json));
                }
                return None;
            }
            count += items.len();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Some(count),
            }
        }
    })
    .await
}

/// Reads, again and again until there is an answer: what a host or a balancer is in the middle of is judged elsewhere.
async fn read(api: &Api, path: &str) -> Answer {
    until("what became of commands can be read", async || {
        let answer = api.try_send(api.request(Method::GET, path)).await.ok()?;
        (answer.status < 500).then_some(answer)
    })
    .await
}

/// Past the test harness, which swallows what tests that pass print.
pub fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
