//! What would end this program, or put it to sleep, before it has put everything back.

/// What would end this process.
#[cfg(unix)]
pub(crate) struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    /// Listens from now on: none of them ends anything by itself any more.
    pub(crate) fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};

        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.into_iter().map(signal).collect::<std::io::Result<_>>().map(Signals)
    }

    /// The next of them.
    pub(crate) async fn next(&mut self) {
        let each = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(each).await;
    }
}

/// What would end this process.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    pub(crate) async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// The wish that this process sleeps until its shell wakes it: Ctrl-Z.
#[cfg(unix)]
pub(crate) struct Naps(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Naps {
    /// Listens from now on: the wish is granted by [`sleep`](Self::sleep) alone.
    pub(crate) fn new() -> std::io::Result<Naps> {
        let stop = tokio::signal::unix::SignalKind::from_raw(nix::sys::signal::Signal::SIGTSTP as i32);
        tokio::signal::unix::signal(stop).map(Naps)
    }

    /// The next of them.
    pub(crate) async fn wished(&mut self) {
        self.0.recv().await;
    }

    /// Sleeps until it is woken. Where no shell could wake it, it stays awake: the system itself sees to that with
    /// this signal, which is listened to by nobody here, and would not with SIGSTOP.
    pub(crate) fn sleep(&self) -> std::io::Result<()> {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTTIN)?;
        Ok(())
    }
}

/// Nobody wishes for it here.
#[cfg(not(unix))]
pub(crate) struct Naps;

#[cfg(not(unix))]
impl Naps {
    pub(crate) fn new() -> std::io::Result<Naps> {
        Ok(Naps)
    }

    pub(crate) async fn wished(&mut self) {
        std::future::pending::<()>().await;
    }

    pub(crate) fn sleep(&self) -> std::io::Result<()> {
        Ok(())
    }
}
