//! Secrets on an agent's machine: what the supervisor is handed for a child stays with the two, and what the agent
//! was started with stays with the agent, whoever of them is killed, and however much they say.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use plan::envelope::seal;
use plan::id::AttemptKey;
use plan::outcome::End;
use plan::secret::{self, BEGIN, KeyText, Secrets, value_context};
use wire::frame::{AgentFrame, Command, HostFrame, Welcome};

use crate::played::{Bed, Session, command, welcome};
use crate::support::{attempt, cluster_key, envelope, plan, step, wait_for};

const POLICY: &str = "effects = [\"read\"]\n[programs.sh]\npath = \"/bin/sh\"\nstdin = true\nenv = [\"DB_*\"]\n";

/// A word nobody has seen before, and the forms in which it may stand somewhere.
struct Canary {
    word: String,
    forms: Vec<String>,
}

impl Canary {
    fn new() -> Canary {
        let word = format!("canary-{:032x}", rand::random::<u128>());
        let hex = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        let numbers: Vec<String> = word.bytes().map(|byte| byte.to_string()).collect();
        // Base64 of the word at each of three places, without the letters that neighbours have a part in.
        let inside = |before: usize| {
            let text = STANDARD_NO_PAD.encode([&b"xx"[..before], word.as_bytes()].concat());
            text[4..text.len() - 4].to_owned()
        };
        let forms = [vec![word.clone(), hex, numbers.join(",")], [0, 1, 2].map(inside).to_vec()].concat();
        Canary { word, forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().any(|form| text.contains(form))
    }

    /// The processes that have it in this file of theirs.
    fn processes(&self, file: &str) -> Vec<u32> {
        let ids = std::fs::read_dir("/proc").expect("there is one").filter_map(Result::ok);
        let mut ids: Vec<u32> = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.retain(|id| self.is_in(&std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default()));
        ids
    }

    /// Files in this folder and below that hold it.
    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("reads").filter_map(Result::ok) {
            // What is neither may be a socket or a pipe; what is gone by now is in no file.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => found.extend(self.files(&entry.path())),
                Ok(kind) if kind.is_file() && self.is_in(&std::fs::read(entry.path()).unwrap_or_default()) => {
                    found.push(entry.path());
                }
                Ok(_) | Err(_) => {}
            }
        }
        found
    }
}

/// A command with one secret as a line of its standard input, and one in its environment, that prints both, waits at
/// the gate, and prints them again.
fn secretive(key: AttemptKey, input: &Canary, environment: &Canary, gate: &Path) -> Command {
    let token = |n: usize| format!("{BEGIN}{n}}}");
    let script = format!(
        "read -r line; echo \"is $line $DB_PASSWORD\"; read go < {}; echo \"was $line $DB_PASSWORD\"",
        gate.display()
    );
    let mut one = step("sh", &["-c", &script]);
    one.stdin = Some(format!("{}\n", token(0)));
    one.env.insert("DB_PASSWORD".to_owned(), token(1));
    let plain = command(key, plan(vec![one.clone()]));
    let mut envelope = envelope(key, plan(vec![one]), agent::clock::now().wall_ms + 60_000);
    let cipher = [4; 32];
    let values = [input, environment].into_iter().enumerate().map(|(n, canary)| {
        let sealed =
            secret::seal(&cipher, [n as u8; 24], &value_context(key.command, &token(n)), canary.word.as_bytes());
        (token(n), sealed)
    });
    envelope.secrets = Some(Secrets { key: "wrapped".to_owned(), values: values.collect() });
    let secret_key = Some(KeyText(URL_SAFE_NO_PAD.encode(cipher)));
    Command { envelope: seal(&envelope, &cluster_key()), secret_key, ..plain }
}

/// What the child printed, once that ends so.
async fn printed(session: &mut Session, key: AttemptKey, end: &str) -> String {
    loop {
        let text = String::from_utf8(session.output(key)).expect("text");
        if text.ends_with(end) {
            return text;
        }
        let frame = session.until(|frame| matches!(frame, AgentFrame::Output(_))).await;
        session.heard.push(frame);
    }
}

#[tokio::test]
async fn a_secret_is_the_supervisors_and_the_childs_and_what_the_agent_was_given_is_the_agents() {
    let (input, environment, own) = (Canary::new(), Canary::new(), Canary::new());
    let mut bed = Bed::idle().await;
    std::fs::write(bed.data().join("policy.toml"), POLICY).expect("writes");
    bed.environment = vec![("VIWORKS_LOG", "trace".to_owned()), ("PROXY_PASSWORD", own.word.clone())];
    bed.start();
    let gate = bed.dir.path().join("gate");
    assert!(Process::new("mkfifo").arg(&gate).status().expect("it starts").success());
    let (mut session, _) = bed.session().await;
    let key = attempt(1, 1);
    session.say(HostFrame::Command(secretive(key, &input, &environment, &gate))).await;
    let child = session.started(key).await;
    printed(&mut session, key, "is *** ***\n").await;

    let agent = bed.agent.as_ref().expect("it runs").id();
    for canary in [&input, &environment, &own] {
        assert_eq!(canary.processes("cmdline"), [0; 0], "nobody is told it as an argument");
    }
    assert_eq!(input.processes("environ"), [0; 0], "what is read is in no environment");
    assert_eq!(environment.processes("environ"), [child], "nor in that of supervisor, guard and agent");
    assert_eq!(own.processes("environ"), [agent], "the agent's own is handed to nobody");
    let held: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{child}/fd"))
        .expect("it runs")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().contains("viworks"))
        .collect();
    assert_eq!(held, Vec::<PathBuf>::new(), "what its guard was told is not the child's to read");
    let nowhere = |bed: &Bed, when: &str| {
        for canary in [&input, &environment, &own] {
            assert_eq!(canary.files(bed.dir.path()), Vec::<PathBuf>::new(), "{when}");
        }
    };
    nowhere(&bed, "while it runs");

    // The agent dies; the supervisor knows what to blot out all the same.
    bed.kill_agent();
    drop(session);
    bed.start();
    let mut session = bed.accept().await;
    session.say(HostFrame::Welcome(Welcome { run: vec![key], ..welcome() })).await;
    std::fs::write(&gate, "go\n").expect("opens the gate");
    assert_eq!(session.result(key).await.end, End::Exited);
    assert_eq!(session.output(key), b"is *** ***\nwas *** ***\n");
    session.say(HostFrame::ResultAck { attempt: key }).await;
    nowhere(&bed, "after it");

    // Both die while the child runs; whoever comes next finds nothing to tell.
    let key = attempt(2, 1);
    session.say(HostFrame::Command(secretive(key, &input, &environment, &gate))).await;
    session.started(key).await;
    printed(&mut session, key, "is *** ***\n").await;
    bed.kill_supervisor();
    bed.kill_agent();
    drop(session);
    nowhere(&bed, "when nobody is left");
    bed.start();
    let (mut session, _) = bed.session().await;
    let ended = session.result(key).await.end;
    assert!(matches!(ended, End::Interrupted { .. }), "{ended:?}");
    wait_for("the child's end", || async { environment.processes("environ").is_empty().then_some(()) }).await;
    nowhere(&bed, "after all");
}
