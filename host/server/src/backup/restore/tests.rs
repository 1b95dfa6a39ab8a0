use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bus::local::Local;
use domain::attempt::{Reason, State};
use domain::audit::{Entry, Level};
use domain::command::{Command, NewInvocation};
use domain::priority::Priority;
use domain::terms::Terms;
use domain::time::Timestamp;
use domain::verb::VerbName;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, ClusterId, CommandId, TokenId};
use ports::agents::{Agents as _, JoinToken, Joined, NewAgent};
use ports::clock::Ids as _;
use ports::commands::{Commands as _, NewCommand};
use ports::journal::{Cluster, Installation as _, Journal as _};
use storage::sqlite::{Options, SqliteStore, open};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::backup::create::create;
use crate::backup::refuse_unfinished;
use crate::backup::{AUTHORITY, FORMER_AUTHORITY, KEYS, KEYS_IF_THERE};
use crate::clock::RandomIds;
use crate::keys::load_or_make;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

/// What is in a backup.
const FILES: [&str; 10] = [
    DATABASE,
    "keys/cluster.key",
    "keys/token.key",
    "keys/audit.key",
    "keys/secret.key",
    "keys/tls.key",
    "keys/agents-ca.key",
    "keys/agents-ca.former.key",
    "manifest.json",
    "manifest.sha256",
];

/// A data directory as a host leaves it.
struct Home {
    dir: TempDir,
    config: Config,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.data.dir = dir.path().join("data");
        Home { dir, config }
    }

    fn database(&self) -> PathBuf {
        self.config.data.dir.join("viworks.db")
    }

    /// What a host has left behind: its keys and a store with one command that waits.
    async fn lived_in() -> (Home, Cluster, CommandId) {
        let home = Home::new();
        private_dir(&home.config.data.dir.join("keys")).expect("made");
        for key in KEYS.into_iter().chain(KEYS_IF_THERE) {
            load_or_make(&home.config.data.dir.join(key)).expect("a key");
        }
        let (cluster, command) = home.open(async |store| (cluster(&store).await, accept(&store).await)).await;
        (home, cluster, command)
    }

    /// Works with the store as a host does, and ends in order.
    async fn open<T>(&self, work: impl AsyncFnOnce(SqliteStore) -> T) -> T {
        let live = Arc::new(Local::default());
        let (store, writer) = open(Options::new(self.database()), live).await.expect("opens");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(stop.clone()));
        let done = work(store).await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        // Readers are threads that end by themselves; whoever is alone then takes the log away.
        let settled = async {
            let lock = Lock::of(&self.database()).expect("nobody has it");
            loop {
                let alone = RestoredSqlite::open(&self.database(), &lock, None).await.expect("opens");
                Box::new(alone).close().await.expect("closes");
                if !beside(&self.database(), "-wal").exists() {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await.expect("every reader closes");
        done
    }

    async fn backup(&self) -> PathBuf {
        create(&self.config, &self.dir.path().join("backups")).await.expect("a backup")
    }

    async fn restore(&self, order: &Order) -> anyhow::Result<Done> {
        restore(&self.config, order, &mut |_| Ok(())).await
    }

    /// Every file in it and below, but for locks, with its contents.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.config.data.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|end| end != "lock") {
                    let bytes = fs::read(&path).expect("read");
                    files.insert(path, bytes);
                }
            }
        }
        files
    }
}

fn order(from: &Path) -> Order {
    Order { from: from.to_owned(), replace: false, epoch: None }
}

fn entry(action: &'static str) -> Entry {
    Entry {
        at: NOW,
        level: Level::Info,
        category: "commands",
        action,
        actor: None,
        resource: None,
        details: "{}".into(),
        ip_address: None,
        user_agent: None,
        correlation_id: None,
    }
}

async fn cluster(store: &SqliteStore) -> Cluster {
    store.cluster(ClusterId(RandomIds.command().0)).await.expect("a cluster")
}

async fn enrol(store: &SqliteStore) -> AgentId {
    let id = TokenId(RandomIds.command().0);
    let token = JoinToken {
        id,
        secret_sha256: "5ec".into(),
        site: "eu".into(),
        labels: BTreeMap::new(),
        needs_approval: false,
        created_by: "ada".into(),
        created_at: NOW,
        expires_at: NOW + Duration::from_secs(3600),
        used_at: None,
        used_by: None,
        revoked_at: None,
    };
    store.create_token(token, entry("token.create"), None).await.expect("stored");
    let join = NewAgent {
        token: id,
        secret_sha256: "5ec".into(),
        id: RandomIds.agent(),
        name: "web-1".into(),
        public_key: "cHVibGlj".into(),
        needs_approval: false,
        at: NOW,
        audit: entry("agent.join"),
    };
    match store.join(join).await.expect("answered") {
        Joined::Enrolled(agent) => agent.id,
        other => panic!("not enrolled: {other:?}"),
    }
}

async fn accept(store: &SqliteStore) -> CommandId {
    let agent = enrol(store).await;
    let command = Command {
        id: RandomIds.command(),
        verb: VerbName::parse("exec.run").expect("a verb"),
        plugin: "exec".into(),
        plugin_version: "1.0.0".into(),
        plugin_digest: "d1".repeat(32),
        args: "{}".into(),
        target: "{}".into(),
        priority: Priority::Normal,
        submitter: "ada".into(),
        principal: None,
        created_at: NOW,
        start_by: NOW,
        run_timeout_ms: 1000,
        terms: Terms::default(),
        parent: None,
        summary: "runs".into(),
        correlation_id: "r-1".into(),
        traceparent: None,
    };
    let (id, envelope) = (command.id, SignedEnvelope { signed: "s".repeat(9_000), signature: "s".into() });
    let invocations =
        vec![NewInvocation { agent, agent_name: "web-1".into(), site: "eu".into(), envelope, held: false }];
    let new = NewCommand { command: Arc::new(command), invocations, audit: entry("command.submit"), once: None };
    store.accept(new).await.expect("accepted");
    id
}

async fn is_held(store: &SqliteStore, command: CommandId) -> bool {
    let all = store.invocations(command, None, None, 10).await.expect("read");
    all.len() == 1 && all.iter().all(|one| (one.state, one.reason) == (State::Held, Some(Reason::Restored)))
}

#[tokio::test]
async fn what_was_backed_up_comes_back_elsewhere_with_a_higher_epoch_and_holds_what_waited() {
    let (home, before, command) = Home::lived_in().await;
    // Made while a host has the store open, and writes to it.
    let backup = home
        .open(async |store| {
            let backup = home.backup().await;
            store.audit(entry("auth.login")).await.expect("stored");
            backup
        })
        .await;
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&backup), 0o700);
    for file in FILES {
        assert_eq!(mode(&backup.join(file)), 0o600, "{file}");
    }

    let elsewhere = Home::new();
    let done = elsewhere.restore(&order(&backup)).await.expect("restored");
    assert_eq!((done.adopted.cluster.id, done.adopted.before, done.aside.len()), (before.id, before.epoch, 0));
    assert_eq!((done.adopted.held.commands, done.adopted.held.invocations), (1, 1));
    for key in KEYS.into_iter().chain(KEYS_IF_THERE) {
        let read = |home: &Home| fs::read(home.config.data.dir.join(key)).expect("a key");
        assert_eq!(read(&elsewhere), read(&home));
    }
    let now = elsewhere.open(async |store| (cluster(&store).await, is_held(&store, command).await)).await;
    assert_eq!(now, (done.adopted.cluster, true));

    // The same backup a second time has an epoch above that of the first.
    let third = Home::new();
    let again = third.restore(&order(&backup)).await.expect("restored");
    assert!(again.adopted.cluster.epoch > done.adopted.cluster.epoch);
}

#[tokio::test]
async fn a_host_without_some_keys_has_a_backup_without_them_and_the_others_are_needed() {
    let (home, before, _) = Home::lived_in().await;
    for key in KEYS_IF_THERE {
        fs::remove_file(home.config.data.dir.join(key)).expect("removed");
    }
    let backup = home.backup().await;
    verify(&backup).await.expect("whole");
    let elsewhere = Home::new();
    let done = elsewhere.restore(&order(&backup)).await.expect("restored");
    assert_eq!(done.adopted.cluster.id, before.id);
    for key in KEYS_IF_THERE {
        assert!(!elsewhere.config.data.dir.join(key).exists(), "{key} out of nowhere");
    }
    for key in KEYS {
        let (there, aside) = (home.config.data.dir.join(key), home.dir.path().join("aside"));
        fs::rename(&there, &aside).expect("moved");
        let refused = create(&home.config, &home.dir.path().join("none")).await.expect_err("no backup");
        assert!(format!("{refused:#}").contains(key), "{refused:#}");
        fs::rename(&aside, &there).expect("moved back");
    }
}

#[tokio::test]
async fn every_flipped_bit_every_cut_and_every_stray_file_is_found() {
    let (home, ..) = Home::lived_in().await;
    let backup = home.backup().await;
    verify(&backup).await.expect("whole");
    let mut found = 0;
    for number in 0..300 {
        let path = backup.join(FILES[number % FILES.len()]);
        let whole = fs::read(&path).expect("read");
        let at = rand::random_range(0..whole.len());
        let mut broken = whole.clone();
        let how = match number % 3 {
            0 | 1 => {
                let bit = rand::random_range(0..8);
                broken[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            _ if number % 2 == 0 => {
                broken.truncate(at);
                format!("cut to {at} bytes")
            }
            _ => {
                broken.insert(at, 0);
                format!("a byte more at {at}")
            }
        };
        fs::write(&path, &broken).expect("written");
        let refused = verify(&backup).await;
        assert!(refused.is_err(), "{}: {how}", path.display());
        found += 1;
        fs::write(&path, &whole).expect("written");
    }
    for stray in ["viworks.db-wal", "viworks.db-journal", "keys/other.key"] {
        fs::write(backup.join(stray), b"").expect("written");
        let refused = verify(&backup).await.expect_err("a stray file").to_string();
        assert!(refused.contains(&format!("{stray} does not belong to it")), "{refused}");
        fs::remove_file(backup.join(stray)).expect("removed");
        found += 1;
    }
    for file in FILES {
        let aside = home.dir.path().join("aside");
        fs::rename(backup.join(file), &aside).expect("moved");
        assert!(verify(&backup).await.is_err(), "{file} is missing");
        fs::rename(&aside, backup.join(file)).expect("moved back");
        found += 1;
    }
    verify(&backup).await.expect("whole again");
    println!("{found} of {found} mutations found");
}

#[tokio::test]
async fn a_restore_cut_off_at_any_step_is_started_over_and_loses_nothing() {
    const STEPS: [Step; 8] = [
        Step::Copied,
        Step::Adopted,
        Step::Ready,
        Step::AsideDatabase,
        Step::Aside,
        Step::FirstKey,
        Step::Keys,
        Step::InPlace,
    ];
    let (origin, before, command) = Home::lived_in().await;
    let backup = origin.backup().await;
    for cut in STEPS {
        let (home, old, _) = Home::lived_in().await;
        let there = home.files();
        let order = Order { replace: true, ..order(&backup) };
        let mut kill = |step| if step == cut { Err(anyhow::anyhow!("killed")) } else { Ok(()) };
        let ended = restore(&home.config, &order, &mut kill).await;
        assert_eq!(ended.expect_err("cut off").to_string(), "killed", "{cut:?}");
        let half = !matches!(cut, Step::Copied | Step::Adopted | Step::InPlace);
        assert_eq!(refuse_unfinished(&home.config).is_err(), half, "{cut:?}");
        if matches!(cut, Step::Copied | Step::Adopted) {
            assert_eq!(home.open(async |store| cluster(&store).await).await, old, "{cut:?}: the old store serves");
        }
        home.restore(&order).await.expect("started over");
        refuse_unfinished(&home.config).expect("whole");
        let now = home.open(async |store| (cluster(&store).await, is_held(&store, command).await)).await;
        assert_eq!((now.0.id, now.0.epoch > before.epoch, now.1), (before.id, true, true), "{cut:?}");
        // What was there is still somewhere, byte by byte; the log was written into the database meanwhile.
        let kept: Vec<Vec<u8>> = home.files().into_values().collect();
        for (path, bytes) in there.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "key")) {
            assert!(kept.contains(bytes), "{cut:?}: {} is gone", path.display());
        }
        let aside: Vec<PathBuf> = home.files().into_keys().filter(|path| path.ends_with("viworks.db")).collect();
        assert!(aside.len() >= 2, "{cut:?}: {aside:?}");
    }
}

#[tokio::test]
async fn an_authority_of_agents_that_the_backup_does_not_know_is_not_believed_again() {
    let (home, ..) = Home::lived_in().await;
    let former = home.config.data.dir.join(FORMER_AUTHORITY);
    let bytes = fs::read(&former).expect("read");
    fs::remove_file(&former).expect("removed");
    let backup = home.backup().await;
    fs::write(&former, &bytes).expect("exchanged since");
    fs::remove_file(home.database()).expect("lost");
    let refused = home.restore(&order(&backup)).await.expect_err("refused").to_string();
    assert!(refused.contains("keys/agents-ca.former.key is there already, and not as in the backup"), "{refused}");
    let done = home.restore(&Order { replace: true, ..order(&backup) }).await.expect("restored");
    assert!(!former.exists());
    assert_eq!(fs::read(done.aside[0].join(FORMER_AUTHORITY)).expect("set aside, not deleted"), bytes);
    // A backup from before authorities were in backups says nothing of them: what is there stays.
    let authority = home.config.data.dir.join(AUTHORITY);
    let kept = fs::read(&authority).expect("read");
    fs::remove_file(&authority).expect("removed");
    let without = home.backup().await;
    fs::write(&authority, kept).expect("there again");
    fs::write(&former, &bytes).expect("there again");
    home.restore(&Order { replace: true, ..order(&without) }).await.expect("restored");
    assert!(former.exists());
}

#[tokio::test]
async fn a_restore_that_must_not_be_changes_nothing() {
    let (origin, ..) = Home::lived_in().await;
    let backup = origin.backup().await;
    let (home, old, _) = Home::lived_in().await;
    let before = home.files();
    let refused = async |order: Order| format!("{:#}", home.restore(&order).await.expect_err("refused"));

    let occupied = refused(order(&backup)).await;
    assert!(occupied.contains("viworks.db is there already: with --replace it is set aside"), "{occupied}");
    let low = refused(Order { replace: true, epoch: Some(1), ..order(&backup) }).await;
    assert!(low.contains("epoch 1 is not above 1"), "{low}");
    let missing = refused(Order { replace: true, ..order(Path::new("/nowhere")) }).await;
    assert!(missing.contains("is this a backup?"), "{missing}");
    let bytes = fs::read(backup.join(DATABASE)).expect("read");
    fs::write(backup.join(DATABASE), &bytes[..bytes.len() / 2]).expect("cut");
    let damaged = refused(Order { replace: true, ..order(&backup) }).await;
    assert!(damaged.contains("bytes instead of"), "{damaged}");
    fs::write(backup.join(DATABASE), &bytes).expect("mended");

    let mut after = home.files();
    after.retain(|path, _| !path.to_string_lossy().contains(".restoring"));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after == before, "some file changed");
    home.open(async |store| {
        assert_eq!(cluster(&store).await, old);
        let running = refused(Order { replace: true, ..order(&backup) }).await;
        assert!(running.contains("is in use by another host; stop that one first"), "{running}");
    })
    .await;

    // Keys of another installation, left without their store.
    fs::remove_file(home.database()).expect("removed");
    let keys = refused(order(&backup)).await;
    assert!(keys.contains("keys/cluster.key is there already, and not as in the backup"), "{keys}");
}
