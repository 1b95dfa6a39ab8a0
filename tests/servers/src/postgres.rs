//! A real PostgreSQL: a cluster on a folder, a port of the loopback, one server process tree that can be
//! ended in any way and started again at the same address.
//!
//! `fsync` stays on: what is tested here is what survives. Only the making of the cluster is not synced.
//! Roles log in from the loopback without a password, so this is no server for anything but tests and
//! trying things out.
//!
//! When the process that started it dies in whatever way, a small guard ends the server: the guard waits
//! on a pipe whose other end only that process holds. It removes a temporary folder, too.

mod files;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tempfile::TempDir;

/// Longest a start or an end may take. Far above what is normal.
const CEILING: Duration = Duration::from_secs(120);
/// Lines of the log that are kept for error messages.
const KEPT: usize = 60;
/// The role everything is owned by.
const ROLE: &str = "viworks";

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGINT: sessions are cut off, open transactions rolled back, a last checkpoint written.
    Fast,
    /// SIGQUIT: everything stops where it is; the next start recovers from the log.
    Immediate,
    /// SIGKILL of the postmaster; its children see that and stop.
    Kill,
}

/// One cluster and, unless it was ended, its server.
pub struct Postgres {
    programs: Programs,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    port: u16,
    server: Option<Server>,
    /// Removed with everything in it at the end.
    _temporary: Option<TempDir>,
}

struct Programs {
    bin: PathBuf,
    /// Who runs them; `None` = whoever runs this.
    user: Option<User>,
}

/// A running postmaster.
struct Server {
    child: Child,
    guard: Child,
    log: Log,
}

/// Whether a PostgreSQL server is installed on this machine.
pub fn is_installed() -> bool {
    bin().is_some()
}

/// The newest `bin` folder with a server in it.
fn bin() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let version = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut versions: Vec<PathBuf> =
        packaged.map(|entry| entry.path()).filter(|path| version(path).is_some()).collect();
    versions.sort_by_key(|path| version(path));
    let elsewhere = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut places = versions.into_iter().rev().map(|path| path.join("bin")).chain(elsewhere.into_iter().flatten());
    places.find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
}

impl Programs {
    fn find() -> anyhow::Result<Programs> {
        let bin = bin().context(
            "no PostgreSQL server found in /usr/lib/postgresql/*/bin or on PATH; install one (Debian: apt install postgresql)",
        )?;
        if !geteuid().is_root() {
            return Ok(Programs { bin, user: None });
        }
        let user = User::from_name("postgres")?.or(User::from_name("nobody")?);
        let user = user.context("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")?;
        Ok(Programs { bin, user: Some(user) })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        // Messages are read here; and the caller's own PG* variables are about another server.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")));
        command.env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null()).process_group(0);
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
        }
        command
    }

    fn run(&self, command: &mut Command) -> anyhow::Result<String> {
        let output = command.output().with_context(|| format!("{command:?} does not start"))?;
        if !output.status.success() {
            bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Postgres {
    /// A fresh cluster in a temporary folder, running. `settings` are added to `postgresql.conf`, e.g.
    /// `("fsync", "off")`.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start; the log is in the text.
    pub fn temporary(settings: &[(&str, &str)]) -> anyhow::Result<Postgres> {
        let folder = tempfile::Builder::new().prefix("viworks-postgres-").tempdir_in(crate::place::temporary())?;
        let path = folder.path().to_owned();
        Postgres::open(path, settings, Some(folder))
    }

    /// The cluster in `folder`, made when there is none, running. The folder is given to the user the
    /// server runs as, and every folder above it must let that user through.
    ///
    /// # Errors
    /// As [`temporary`](Self::temporary).
    pub fn at(folder: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Postgres> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        Postgres::open(folder.canonicalize()?, settings, None)
    }

    fn open(folder: PathBuf, settings: &[(&str, &str)], temporary: Option<TempDir>) -> anyhow::Result<Postgres> {
        let programs = Programs::find()?;
        if let Some(user) = &programs.user {
            chown(&folder, Some(user.uid), Some(user.gid))
                .with_context(|| format!("cannot give `{}` to `{}`", folder.display(), user.name))?;
        }
        let mut postgres =
            Postgres { programs, folder, settings: Vec::new(), port: 0, server: None, _temporary: temporary };
        if !postgres.data().join("PG_VERSION").exists() {
            let mut initdb = postgres.programs.command("initdb");
            initdb.arg("-D").arg(postgres.data()).args(["-U", ROLE, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"]);
            initdb.args(["--no-sync", "--no-instructions"]);
            postgres.programs.run(&mut initdb)?;
        }
        postgres.set(settings);
        postgres.start()?;
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Settings of the next start.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Starts the server if it does not run, at the same address as before, and returns when it takes
    /// connections.
    ///
    /// # Errors
    /// When it does not start; the end of its log is in the text.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let fresh = self.port == 0;
            let port = if fresh { crate::port::free()? } else { self.port };
            match self.try_start(port)? {
                Ok(server) => {
                    self.port = port;
                    self.server = Some(server);
                    return Ok(());
                }
                // The last of a killed server's children let go of its memory only when they notice.
                Err(log) if log.contains("shared memory block") && begun.elapsed() < CEILING => {}
                // Somebody else has taken it since it was looked at, or is about to give it back.
                Err(log) if log.contains("could not bind") && begun.elapsed() < CEILING => {}
                Err(log) => bail!("PostgreSQL in `{}` does not start:\n{log}", self.folder.display()),
            }
        }
    }

    /// Starts a server once; its log when it ended instead of taking connections.
    fn try_start(&self, port: u16) -> anyhow::Result<Result<Server, String>> {
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(port.to_string());
        let ours = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", ""), ("max_connections", "200")];
        let ours = ours.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in ours.chain(self.settings.iter().cloned()) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("postgres does not start")?;
        let stderr = child.stderr.take().context("its log is piped")?;
        let guard = guard(child.id(), self._temporary.as_ref().map(TempDir::path))?;
        let mut server = Server { child, guard, log: Log::read(stderr) };
        if server.log.until(CEILING, |line| line.contains("database system is ready to accept connections"))? {
            return Ok(Ok(server));
        }
        server.child.wait()?;
        Ok(Err(server.log.text()))
    }

    /// Ends the server and returns when every one of its processes is gone. Nothing when it does not run.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, how: End) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(match how {
            End::Fast => Signal::SIGINT,
            End::Immediate => Signal::SIGQUIT,
            End::Kill => Signal::SIGKILL,
        });
        server.log.until_closed(CEILING)
    }

    /// Where it listens, the same after every start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.child.id())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.server.as_ref().map(|server| server.log.text()).unwrap_or_default()
    }

    /// The database every cluster has.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// A database by its name.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and answers its address.
    ///
    /// # Errors
    /// When the server does not run or has one of that name.
    pub fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.sql(&format!("create database {}", quoted(name)))?;
        Ok(self.url_of(name))
    }

    /// Drops a database with all its connections. Nothing when there is none.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        self.sql(&format!("drop database if exists {} with (force)", quoted(name))).map(drop)
    }

    /// Runs one statement in the database `postgres` and answers what it prints, a row a line.
    ///
    /// # Errors
    /// With what the server says.
    pub fn sql(&self, statement: &str) -> anyhow::Result<String> {
        let mut psql = self.programs.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", ROLE, "-d", "postgres"]);
        psql.arg("-p").arg(self.port.to_string()).arg("-c").arg(statement);
        self.programs.run(&mut psql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A folder that is kept is worth an orderly end; another is removed anyway.
        let how = if self._temporary.is_some() { End::Immediate } else { End::Fast };
        if let Err(error) = self.stop(how) {
            eprintln!("PostgreSQL in `{}`: {error:#}", self.folder.display());
        }
    }
}

impl Server {
    /// Sends the signal and lets the guard go; the process is not reaped yet, so its id is still its own.
    fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        // Fails only when it has ended by itself.
        let _ = kill(Pid::from_raw(pid), signal);
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Ends process `pid` when this process dies, for then the pipe it reads from closes; then removes
/// `folder`.
fn guard(pid: u32, folder: Option<&Path>) -> anyhow::Result<Child> {
    let script = "read -r _; kill -QUIT \"$1\" 2>/dev/null\n\
                  n=0; while kill -0 \"$1\" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done\n\
                  [ -z \"$2\" ] || rm -rf -- \"$2\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "guard"]).arg(pid.to_string()).arg(folder.unwrap_or(Path::new(""))).current_dir("/");
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("/bin/sh does not start")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What a server says. All its processes hold the other end, so the end of it is the end of them all.
struct Log {
    lines: Receiver<String>,
    kept: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    fn read(stderr: ChildStderr) -> Log {
        let (tell, lines) = channel();
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let keep = Arc::clone(&kept);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
                if keep.len() == KEPT {
                    keep.pop_front();
                }
                keep.push_back(line.clone());
                drop(keep);
                // Nobody may be listening any more; the pipe is read to its end all the same.
                let _ = tell.send(line);
            }
        });
        Log { lines, kept }
    }

    /// Waits for a line; `false` when the log ends before it.
    fn until(&self, ceiling: Duration, is_it: impl Fn(&str) -> bool) -> anyhow::Result<bool> {
        let end = Instant::now() + ceiling;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if is_it(&line) => return Ok(true),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(anyhow!("PostgreSQL took longer than {} s:\n{}", ceiling.as_secs(), self.text()));
                }
            }
        }
    }

    fn until_closed(&self, ceiling: Duration) -> anyhow::Result<()> {
        self.until(ceiling, |_| false).map(drop)
    }

    fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is something to test with; if not, that is said by name.
    fn can_run() -> bool {
        if !is_installed() {
            crate::need::skipped("no PostgreSQL server here: apt-get install postgresql");
        }
        is_installed()
    }

    fn processes(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn what_was_committed_survives_every_end_at_the_same_address() {
        if !can_run() {
            return;
        }
        let mut postgres = Postgres::temporary(&[("work_mem", "7MB")]).expect("starts");
        let address = postgres.url();
        assert_eq!(postgres.sql("show work_mem").expect("asked").trim(), "7MB");
        assert_eq!(postgres.sql("show fsync").expect("asked").trim(), "on");
        postgres.sql("create table kept (n int)").expect("made");
        for (n, how) in [End::Fast, End::Immediate, End::Kill].into_iter().enumerate() {
            postgres.sql(&format!("insert into kept values ({n})")).expect("stored");
            let pid = postgres.pid().expect("running");
            postgres.stop(how).expect("ends");
            assert!(!processes(pid), "{how:?} left its postmaster");
            postgres.sql("select 1").expect_err("nobody answers");
            postgres.start().expect("starts again");
            assert_eq!(postgres.url(), address);
            assert_eq!(postgres.sql("select count(*) from kept").expect("asked").trim(), (n + 1).to_string());
        }
    }

    #[test]
    fn a_folder_keeps_its_databases_from_one_start_to_the_next() {
        if !can_run() {
            return;
        }
        let folder = tempfile::tempdir_in(crate::place::temporary()).expect("a folder");
        // The server's user has to get through to its own folder.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        let inside = folder.path().join("cluster");
        let first = Postgres::at(&inside, &[]).expect("starts");
        assert!(first.create_database("a \"b\"").expect("made").ends_with("/a \"b\""));
        first.create_database("other").expect("made");
        first.drop_database("other").expect("dropped");
        first.drop_database("other").expect("gone already");
        drop(first);
        let again = Postgres::at(&inside, &[]).expect("starts again");
        let found = again.sql("select datname from pg_database where datname in ('a \"b\"', 'other')").expect("asked");
        assert_eq!(found.trim(), "a \"b\"");
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        if !can_run() {
            return;
        }
        let said = Postgres::temporary(&[("work_mem", "much")]).err().expect("refused").to_string();
        assert!(said.contains("work_mem"), "{said}");
    }

    const CHILD: &str = "VIWORKS_POSTGRES_CHILD";

    /// Plays both parts: the parent starts this test again as a child, which starts a server and is
    /// killed; the server must not outlive it.
    #[test]
    fn a_server_does_not_outlive_who_started_it() {
        if !can_run() {
            return;
        }
        if std::env::var_os(CHILD).is_some() {
            let postgres = Postgres::temporary(&[]).expect("starts");
            println!("server {} {}", postgres.pid().expect("running"), postgres.folder.display());
            let (_never, wait) = channel::<()>();
            let _ = wait.recv();
        }
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "postgres::tests::a_server_does_not_outlive_who_started_it", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let said = lines.find_map(|line| Some(line.split_once("server ")?.1.to_owned())).expect("it says which");
        let (pid, folder) = said.split_once(' ').expect("both");
        let pid: u32 = pid.parse().expect("a process id");
        assert!(processes(pid));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let gone = crate::supervised::wait(|| (!Path::new(folder).exists()).then_some(()));
        assert!(gone.is_some(), "`{folder}` stays");
        assert!(!processes(pid) || zombie(pid), "the server lives on");
    }

    fn zombie(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    }
}
