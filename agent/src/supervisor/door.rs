//! What only one supervisor can have: the lock that says it lives, and the socket agents find it by.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixListener;

use crate::supervisor::failure::{SuperviseError, io};
use crate::supervisor::protocol::{lock_path, socket_path};

/// Takes the lock, which is let go when this process ends, however it ends.
///
/// # Errors
/// [`SuperviseError::Taken`] when another supervisor lives.
pub(super) fn take_lock(data: &Path) -> Result<Flock<std::fs::File>, SuperviseError> {
    let path = lock_path(data);
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io("open supervisor.lock"))?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| SuperviseError::Taken(data.to_owned()))?;
    lock.set_len(0).map_err(io("write supervisor.lock"))?;
    writeln!(lock, "{}", std::process::id()).map_err(io("write supervisor.lock"))?;
    Ok(lock)
}

/// Binds the socket through the directory's own descriptor, because a socket's path may hold only 107
/// bytes and a data directory's may be longer.
///
/// # Errors
/// What the system answered.
pub(super) fn listen(data: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(data);
    let _ = std::fs::remove_file(&path);
    let dir = std::fs::File::open(data)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/supervisor.sock", dir.as_raw_fd()))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Ends standard output, which whoever started this process reads to know that agents are answered.
///
/// # Errors
/// What the system answered.
pub(super) fn say_ready() -> std::io::Result<()> {
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(nowhere)?)
}
