//! The audit log read while it is pruned, and over restarts: whatever is handed out is whole, or says that it is not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::local::Local;
use domain::access::{Caller, Principal, Role};
use domain::audit::Entry;
use domain::audit::chain::{Chain, Link};
use domain::audit::check::{Check, Report};
use domain::time::Timestamp;
use ed25519_dalek::SigningKey;
use futures_util::future::join_all;
use plan::id::UserId;
use ports::clock::Clock as _;
use ports::error::StoreError;
use ports::journal::{Cut, Journal, Trail};
use ports::seal::Notary;
use server::clock::WallClock;
use services::audit::{Audit, AuditError};
use services::origin::Origin;
use tests::store::Store;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixtures;

/// Entries of each start that are old enough to go; more than are read at a time.
const OLD: u32 = 700;
/// And such as are not.
const NEW: u32 = 10;
/// Entries written at once.
const AT_ONCE: usize = 50;

tests::on_both_stores![what_is_read_of_a_log_while_it_is_pruned_is_whole_or_says_that_it_is_not];

#[derive(Debug)]
struct Key(SigningKey);

impl Notary for Key {
    fn sign(&self, bytes: &[u8]) -> String {
        plan::envelope::sign(&self.0, &[bytes])
    }

    fn public_key(&self) -> String {
        plan::envelope::key_text(&self.0.verifying_key())
    }
}

/// A host's log, from one start to the next.
struct Log {
    audit: Audit,
    trail: Arc<dyn Trail>,
    journal: Arc<dyn Journal>,
    stop: CancellationToken,
    writing: JoinSet<()>,
}

impl Log {
    /// Opens it, and has some entries written, the oldest first.
    async fn begin(store: &Store, folder: &Path) -> Log {
        let notary: Arc<dyn Notary> = Arc::new(Key(SigningKey::from_bytes(&[5; 32])));
        let (stop, mut writing) = (CancellationToken::new(), JoinSet::new());
        let (trail, journal): (Arc<dyn Trail>, Arc<dyn Journal>) = match store {
            Store::Sqlite => {
                let path = folder.join("viworks.db");
                let options =
                    storage::sqlite::Options { notary: Some(notary.clone()), ..storage::sqlite::Options::new(&path) };
                let (store, writer) = storage::sqlite::open(options, Arc::new(Local::default())).await.expect("opens");
                writing.spawn(writer.run(stop.clone()));
                (Arc::new(store.clone()), Arc::new(store))
            }
            Store::Postgres(url) => {
                let options =
                    storage::postgres::Options { notary: Some(notary.clone()), ..storage::postgres::Options::new(url) };
                let (store, writer) =
                    storage::postgres::open(options, Arc::new(Local::default())).await.expect("opens");
                writing.spawn(writer.run(stop.clone()));
                (Arc::new(store.clone()), Arc::new(store))
            }
        };
        let clock = Arc::new(WallClock);
        let verifying = Semaphore::new(1);
        let audit = Audit { journal: journal.clone(), trail: trail.clone(), notary, clock, verifying };
        let log = Log { audit, trail, journal, stop, writing };
        log.write(OLD, fixtures::NOON).await;
        log.write(NEW, WallClock.now()).await;
        log
    }

    async fn write(&self, count: u32, at: Timestamp) {
        let entry = || Entry { at, ..fixtures::entry("users.create") };
        // Not all at once: each of them waits for those before it, and a busy machine's store would be given up on.
        for first in (0..count).step_by(AT_ONCE) {
            let some = count.min(first + AT_ONCE as u32) - first;
            join_all((0..some).map(|_| async { self.journal.audit(entry()).await.expect("stored") })).await;
        }
    }

    /// Drops so many of the oldest, if there are so many; how many went.
    async fn prune(&self, most: u32) -> u64 {
        let cut = Cut { before: fixtures::at(1), most, at: WallClock.now(), audit: None };
        self.trail.prune(cut).await.expect("pruned")
    }

    /// Exports it as a file holds it, with something else done after each page; how it reads.
    async fn export(&self, earlier: &[Link], mut between: impl AsyncFnMut()) -> Result<Report, StoreError> {
        let key = self.audit.public_key();
        let mut export = self.audit.export(&admin(), &Origin::default()).await.expect("it begins");
        let chains = export.chains.clone();
        let mut check = Check::begin(&[&key], earlier, &chains);
        let mut strays = 0;
        while let Some(page) = export.next().await? {
            page.iter().filter(|linked| linked.link.is_some()).for_each(|linked| check.entry(linked));
            strays += page.iter().filter(|linked| linked.link.is_none()).count() as u64;
            between().await;
        }
        check.strays(strays);
        Ok(check.end(&chains))
    }

    async fn ends(&self) -> Vec<Link> {
        self.trail.chains().await.expect("read").iter().map(Chain::end).collect()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.writing.join_next().await.is_some() {}
    }
}

fn admin() -> Caller {
    let principal = Principal::User(UserId(Uuid::from_u128(1)));
    Caller { principal, name: "ada".to_owned(), role: Role::Admin, grants: Vec::new(), within: None }
}

#[track_caller]
fn is_whole(report: &Report, chains: usize) {
    assert_eq!((report.faults.as_slice(), report.heads.len()), (&[][..], chains), "{report:?}");
}

fn was_pruned(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(why) if why.contains("pruned while"))
}

async fn what_is_read_of_a_log_while_it_is_pruned_is_whole_or_says_that_it_is_not(store: Store) {
    let folder = tempfile::tempdir().expect("a folder");
    Log::begin(&store, folder.path()).await.end().await;
    let log = Log::begin(&store, folder.path()).await;
    let earlier = log.ends().await;
    is_whole(&log.export(&[], async || {}).await.expect("nothing was pruned"), 2);

    // What goes of it when it was read already is in the export, and so is its end.
    let mut pages = 0;
    let behind = log.export(&earlier, async || {
        pages += 1;
        if pages == 1 {
            assert_eq!(log.prune(OLD / 2).await, u64::from(OLD / 2));
        }
    });
    let report = behind.await.expect("it was read before it went");
    is_whole(&report, 2);
    assert_eq!(report.pruned, 0);

    // What goes before it was read would look like tampering, so there is no such export.
    let ahead = log.export(&earlier, async || while log.prune(OLD).await > 0 {}).await;
    assert!(ahead.as_ref().is_err_and(was_pruned), "{ahead:?}");
    let report = log.export(&earlier, async || {}).await.expect("the next one");
    is_whole(&report, 2);
    assert_eq!(report.pruned, u64::from(2 * OLD));
    log.end().await;

    // The same with everything at once, after a restart.
    let log = Log::begin(&store, folder.path()).await;
    let over = AtomicBool::new(false);
    let pruning = async {
        while log.prune(7).await > 0 {
            log.write(1, WallClock.now()).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let reading = async {
        while !over.load(Ordering::Relaxed) {
            match log.export(&earlier, async || {}).await {
                Ok(report) => is_whole(&report, 3),
                Err(error) => assert!(was_pruned(&error), "{error}"),
            }
            match log.audit.verify(&admin()).await {
                Ok(report) => is_whole(&report, 3),
                // Pruned under its eyes, each time that it looked.
                Err(AuditError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(pruning, reading);
    log.end().await;

    let log = Log::begin(&store, folder.path()).await;
    let report = log.export(&earlier, async || {}).await.expect("nothing is pruned now");
    is_whole(&report, 4);
    assert_eq!(report.pruned, u64::from(3 * OLD));
    is_whole(&log.audit.verify(&admin()).await.expect("read"), 4);
    log.end().await;
}
