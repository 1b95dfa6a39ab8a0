//! One PostgreSQL for all tests of a program, each with a database of its own. It ends with the program,
//! however that ends.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::postgres::{self, Postgres};
use crate::{need, place};

/// The server all tests share.
struct Shared {
    server: Mutex<Postgres>,
    /// Removes the server's folder when this program has ended.
    _cleaner: Child,
}

/// The address of a fresh database on the shared server; `None`, said aloud, when this machine has no
/// PostgreSQL.
///
/// # Panics
/// When the server does not start, or with `CI=true` when there is none.
pub fn database() -> Option<String> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    if !is_there() {
        return None;
    }
    let shared = SHARED.get_or_init(Shared::start);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = shared.server.lock().unwrap_or_else(PoisonError::into_inner);
    Some(server.create_database(&name).expect("a fresh database"))
}

/// A server of this test's own, to be ended and started at will. `None`, said aloud, when this machine has
/// no PostgreSQL.
///
/// # Panics
/// When the server does not start, or with `CI=true` when there is none.
pub fn own(settings: &[(&str, &str)]) -> Option<Postgres> {
    is_there().then(|| Postgres::temporary(settings).expect("PostgreSQL starts"))
}

fn is_there() -> bool {
    let there = postgres::is_installed();
    if !there {
        need::skipped("no PostgreSQL server here: apt-get install postgresql");
    }
    there
}

impl Shared {
    fn start() -> Shared {
        // Kept, because nothing is dropped at the end of a test program: the cleaner removes it.
        let folder =
            tempfile::Builder::new().prefix("viworks-tests-").tempdir_in(place::temporary()).expect("a folder").keep();
        let cleaner = cleaner(&folder);
        let server = Mutex::new(Postgres::at(&folder, &[]).expect("PostgreSQL starts"));
        Shared { server, _cleaner: cleaner }
    }
}

/// Waits on a pipe that only this program holds; the server's own guard ends the server then.
fn cleaner(folder: &Path) -> Child {
    let script = r#"read -r _; for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 1; done"#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "cleaner"]).arg(folder).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("/bin/sh starts")
}
