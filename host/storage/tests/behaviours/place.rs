//! Where a store lives: opened there again and again, also by another process that is then killed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ports::live::Live;
use ports::restore::Restored;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Ground, Store, Told};

/// Longest a test waits for anything. Far above what is normal.
pub const CEILING: Duration = Duration::from_secs(60);
/// Set in a child to the address of the place it works at.
const CHILD: &str = "VIWORKS_STORAGE_CHILD";

/// Where a store lives.
pub trait Place: Send + Sync + Sized + 'static {
    type Store: Store;

    /// An empty one; `None`, said aloud, where there cannot be one.
    fn fresh() -> Option<Self>;

    /// The one that somebody else keeps.
    fn at(address: &str) -> Self;

    /// What to give to [`at`](Self::at).
    fn address(&self) -> String;

    /// Opens the store and makes what its writer will do; refused with the text a person reads.
    async fn try_open(&self, live: Arc<dyn Live>) -> Result<(Self::Store, Writing), String>;

    /// Opens it as a restore does.
    async fn restored(&self) -> Box<dyn Restored>;

    /// Runs a statement past the store and answers the text it gives, if it gives any.
    async fn sql(&self, statement: &'static str) -> Result<Option<String>, sqlx::Error>;

    /// Runs statements past the store.
    async fn many(&self, statements: &str);

    /// Takes away what keeps the audit log from being changed.
    const UNGUARD: &'static str;

    /// Changes of an audit entry that need words of this database.
    const EDITS: &'static [&'static str];
}

/// What a writer does until it is told to stop.
pub type Writing = Box<dyn FnOnce(CancellationToken) -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// A running writer. Dropped, it is cut off in the middle of whatever it does.
pub struct Running {
    stop: CancellationToken,
    writer: JoinSet<()>,
}

impl Running {
    /// Ends the writer in order: everything queued is written first.
    pub async fn finish(mut self) {
        self.stop.cancel();
        while self.writer.join_next().await.is_some() {}
    }
}

/// Opens the store and runs its writer.
pub async fn open<P: Place>(place: &P) -> (Ground<P::Store>, Running) {
    let told = Arc::new(Told::default());
    let (store, writing) = place.try_open(Arc::clone(&told) as _).await.expect("opens");
    let stop = CancellationToken::new();
    let mut writer = JoinSet::new();
    writer.spawn(writing(stop.clone()));
    (Ground { store, told }, Running { stop, writer })
}

/// The place this process was started to work at, if it is a child.
pub fn given<P: Place>() -> Option<P> {
    std::env::var(CHILD).ok().map(|address| P::at(&address))
}

/// Says something to the parent.
pub fn tell_parent(line: &str) {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
}

/// Tells a person something, past the test harness, which swallows what tests that pass print.
pub fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Starts the test `name` of this binary again as a child that works at `place`.
pub fn child<P: Place>(name: &str, place: &P) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, place.address())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines)
}
