//! How a guest call can fail that is the plugin's doing: a trap, a limit, nonsense for an answer.

use std::time::Duration;

use wasmtime::Trap;

/// One failed call. The text never holds anything the guest printed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The guest trapped by itself: a panic, a bad memory access, a stack overflow.
    #[error("trapped: {0}")]
    Trap(String),
    /// Used up its processor time.
    #[error("used more than {} ms of processor time", limit.as_millis())]
    CpuTime { limit: Duration },
    /// Ran into the last resort against the clock on the wall.
    #[error("ran longer than {} ms", limit.as_millis())]
    WallTime { limit: Duration },
    /// Wanted more memory than it may have.
    #[error("wanted more than {} MiB of memory", limit / (1024 * 1024))]
    Memory { limit: usize },
    /// Wanted a larger table than it may have.
    #[error("wanted a table of more than {limit} elements")]
    Table { limit: usize },
    /// Answered something that is not what the ABI promises.
    #[error("{0}")]
    Nonsense(String),
    /// The host's own side of the call broke; nothing is known about the guest.
    #[error("call was lost inside the host")]
    Lost,
}

impl Fault {
    /// What `error` means when the host did not end the guest itself.
    pub(crate) fn of(error: &wasmtime::Error) -> Fault {
        match error.downcast_ref::<Trap>() {
            Some(trap) => Fault::Trap(trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
            None => {
                // The first line of the root cause: what follows are frames and hints.
                let text = error.root_cause().to_string();
                Fault::Trap(text.lines().next().unwrap_or("unknown cause").chars().take(200).collect())
            }
        }
    }
}
