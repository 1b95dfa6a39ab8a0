//! A backup made while the host works, the host lost, the backup restored: nothing that ran runs again, nothing
//! that waits is forgotten, and the host of before is no host any more.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use domain::attempt::State;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::client::{Api, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![a_restored_backup_runs_nothing_again_and_forgets_nothing];

fn opened() -> Gated {
    let mut gated = Gated::new();
    gated.open();
    gated
}

async fn is_held(api: &Api, id: &str, agent: &str) -> Value {
    let held = api.invocation(id, agent).await;
    assert_eq!((state_of(&held), &held["reason"]), (State::Held, &json!("restored")), "{held:#}");
    assert!(held["explanation"].as_str().expect("a sentence").contains("came out of a backup"), "{held:#}");
    held
}

/// `viworks-host backup …` on this host's configuration.
fn backup(host: &TestHost, words: &[&str]) -> Output {
    let mut command = Command::new(program("viworks-host"));
    command.arg("backup").args(words).current_dir(host.scratch());
    command.output().expect("viworks-host starts")
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What an operator does on each store.
enum Backup {
    Folder(PathBuf),
    Dump(Dump),
}

impl Backup {
    fn make(host: &TestHost, store: &Store) -> Backup {
        match store {
            Store::Sqlite => {
                let made = done(&backup(host, &["create", "--config", "host.toml", "backups"]));
                let made = host.scratch().join(made.trim());
                let said = done(&backup(host, &["verify", made.to_str().expect("text")]));
                assert!(said.starts_with("whole: 5 files"), "{said}");
                Backup::Folder(made)
            }
            Store::Postgres(url) => Backup::Dump(Dump::make(url)),
        }
    }

    /// Restores it over what is there; what the host of before had is kept where it is answered.
    fn restore(&self, host: &TestHost) -> String {
        match self {
            Backup::Folder(path) => {
                let path = path.to_str().expect("text");
                let refused = backup(host, &["restore", "--config", "host.toml", path]);
                assert!(!refused.status.success());
                let words = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert!(words.contains("with --replace it is set aside"), "{words}");
                done(&backup(host, &["restore", "--config", "host.toml", "--replace", path]))
            }
            Backup::Dump(dump) => {
                dump.restore();
                done(&backup(host, &["adopt", "--config", "host.toml"]))
            }
        }
    }
}

/// A database dumped and restored as docs/operations.md says.
struct Dump {
    url: String,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Dump {
    fn make(url: &str) -> Dump {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("viworks.dump");
        let made = tool("pg_dump").args(["--format=custom", "--file"]).arg(&file).arg(url).output();
        done(&made.expect("pg_dump starts"));
        Dump { url: url.to_owned(), file, _folder: folder }
    }

    fn restore(&self) {
        let anew = "drop schema public cascade; create schema public";
        let emptied = tool("psql").args(["--set", "ON_ERROR_STOP=1", "--command", anew, &self.url]).output();
        done(&emptied.expect("psql starts"));
        let words = ["--exit-on-error", "--single-transaction", "--dbname", &self.url];
        let restored = tool("pg_restore").args(words).arg(&self.file).output();
        done(&restored.expect("pg_restore starts"));
    }
}

/// PostgreSQL's own, of the newest version there is.
fn tool(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    Command::new(found.pop().unwrap_or_else(|| Path::new(name).to_owned()))
}

async fn a_restored_backup_runs_nothing_again_and_forgets_nothing(store: Store) {
    let mut host = TestHost::start_on(store.clone()).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let mut away = TestAgent::start(&host, &admin, "web-2").await;
    away.kill9();
    away.seen(&admin, "offline").await;

    // As the backup has them: one over, one running, one waiting for a machine that is away, and one waiting
    // that runs before the host is lost.
    let over = opened();
    let over_id = admin.exec("web-1", &over.args()).await;
    assert_eq!(state_of(&admin.ended(&over_id, "web-1").await), State::Succeeded);
    let mut running = Gated::new();
    let running_id = admin.exec("web-1", &running.args()).await;
    running.started().await;
    admin.reaches(&running_id, "web-1", State::Running).await;
    let waiting = opened();
    let waiting_id = admin.exec("web-2", &waiting.args()).await;
    let runs_later = opened();
    let runs_later_id = admin.exec("web-2", &runs_later.args()).await;
    let made = Backup::make(&host, &store);

    // After it: what ran ends, what waited runs, more is accepted and run, and one more waits.
    running.open();
    assert_eq!(state_of(&admin.ended(&running_id, "web-1").await), State::Succeeded);
    let cancelled = admin.cancel(&waiting_id).await;
    assert_eq!(cancelled.status, 202);
    away.run();
    assert_eq!(state_of(&admin.ended(&runs_later_id, "web-2").await), State::Succeeded);
    assert_eq!(state_of(&admin.ended(&waiting_id, "web-2").await), State::Cancelled);
    away.kill9();
    away.seen(&admin, "offline").await;
    let unknown = opened();
    let unknown_id = admin.exec("web-1", &unknown.args()).await;
    assert_eq!(state_of(&admin.ended(&unknown_id, "web-1").await), State::Succeeded);
    let unknown_waiting = opened();
    admin.exec("web-2", &unknown_waiting.args()).await;

    let before = exported(&host, "before.ndjson").await;

    host.kill9();
    let said = made.restore(&host);
    assert!(said.contains("3 commands were not over: 3 invocations are held now"), "{said}");
    host.launch().await;
    let admin = host.admin().await;
    agent.seen(&admin, "online").await;
    away.run();
    away.seen(&admin, "online").await;

    // The machines are here and nothing goes out.
    assert_eq!(admin.get(&format!("/api/v1/commands/{unknown_id}")).await.status, 404, "the backup is older");
    assert_eq!(state_of(&admin.invocation(&over_id, "web-1").await), State::Succeeded);
    is_held(&admin, &running_id, "web-1").await;
    is_held(&admin, &waiting_id, "web-2").await;
    is_held(&admin, &runs_later_id, "web-2").await;
    // Something new goes out to both, so whatever else was to be sent was sent before it.
    for name in ["web-1", "web-2"] {
        let fresh = admin.exec(name, &json!({ "program": "true" })).await;
        assert_eq!(state_of(&admin.ended(&fresh, name).await), State::Succeeded);
    }
    let all = [&over, &running, &waiting, &runs_later, &unknown, &unknown_waiting];
    assert_eq!(all.map(Gated::starts), [1, 1, 0, 1, 1, 0]);

    // Released, what never ran runs once, and what ran is told from the agent's memory.
    let cli = Cli::login(&host).await;
    for (id, name) in [(&running_id, "web-1"), (&waiting_id, "web-2"), (&runs_later_id, "web-2")] {
        let shown = cli.run(&["command", "show", id]).await;
        assert!(shown.stdout.contains("came out of a backup"), "{shown:?}");
        let released = cli.run(&["command", "release", id]).await;
        assert_eq!(released.code, Some(0), "{released:?}");
        let ended = admin.ended(id, name).await;
        assert_eq!((state_of(&ended), &ended["attempt"]), (State::Succeeded, &json!(1)), "{ended:#}");
        // Output that was acknowledged to the host of before is gone with it, and nobody claims otherwise.
        let whole = *id == waiting_id;
        assert_eq!(ended["stdout"] == "out\nend\n", whole, "{ended:#}");
        assert_eq!(ended["parse_fault"].is_null(), whole, "{ended:#}");
    }
    assert_eq!(all.map(Gated::starts), [1, 1, 1, 1, 1, 0]);
    let again = cli.run(&["command", "release", &running_id]).await;
    assert_eq!((again.code, again.stderr.contains("is held since a restore")), (Some(0), true), "{again:?}");

    // The audit log is whole, and says that a restore gave up what came after the backup.
    let after = exported(&host, "after.ndjson").await;
    let whole = cli.run(&["audit", "verify", &after, "--since", &before]).await;
    assert_eq!((whole.code, whole.stdout.contains("given up by a restore")), (Some(0), true), "{whole:?}");
    let released = cli.run(&["audit", "tail", "--action", "command.release"]).await;
    assert_eq!(released.stdout.matches("command.release").count(), 3, "{released:?}");

    if let Backup::Folder(_) = made {
        the_host_of_before_is_refused(&mut host, &mut agent).await;
    }
}

/// The audit log in a file.
async fn exported(host: &TestHost, name: &str) -> String {
    let file = host.scratch().join(name).display().to_string();
    let export = Cli::login(host).await.run(&["audit", "export", &file]).await;
    assert_eq!(export.code, Some(0), "{export:?}");
    file
}

/// Puts back what the restore has set aside, and starts it.
async fn the_host_of_before_is_refused(host: &mut TestHost, agent: &mut TestAgent) {
    host.kill9();
    let data = host.data();
    let aside = std::fs::read_dir(&data).expect("the data folder").filter_map(Result::ok).map(|entry| entry.path());
    let mut aside = aside.filter(|path| path.to_string_lossy().contains("replaced-"));
    let aside = aside.next().expect("what was set aside");
    for end in ["", "-wal", "-shm"] {
        let (old, now) = (aside.join(format!("viworks.db{end}")), data.join(format!("viworks.db{end}")));
        _ = std::fs::remove_file(&now);
        if old.exists() {
            std::fs::rename(old, now).expect("put back");
        }
    }
    host.launch().await;
    until("the agent refuses the host of before", async || agent.log().contains("stale_epoch").then_some(())).await;
    agent.seen(&host.admin().await, "offline").await;
}
