//! `Idempotency-Key`: the same request asked again gets the answer that was given, and does nothing.
//!
//! The reply is stored in the transaction of what it answers, so there is no moment in which one is there
//! without the other, whoever dies when.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::clock::Clock;
use ports::error::StoreError;
use ports::replies::{Once, Replies, Reply};
use ports::seal::Vault;

/// How long a reply is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Most characters of a key.
pub const KEY_MAX: usize = 255;

/// The use case.
pub struct Replays {
    /// Where replies are kept.
    pub replies: Arc<dyn Replies>,
    /// Digests requests: a plain digest would let whoever reads the store guess at short secrets in them.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Requests being answered by this host.
    pub under_way: Arc<UnderWay>,
}

/// Keys of requests that are being answered.
#[derive(Default)]
pub struct UnderWay(Mutex<HashSet<(String, String)>>);

/// A request with a key, to be answered for the first time. Dropped, the key is free again.
pub struct First {
    principal: String,
    key: String,
    request_sha256: String,
    under_way: Arc<UnderWay>,
    clock: Arc<dyn Clock>,
}

/// A request with a key, and how the reply that is kept for it is made of what came of it.
pub struct Keep<T: ?Sized> {
    /// The request.
    pub first: First,
    /// Makes the reply.
    pub reply: Box<dyn Fn(&T) -> Reply + Send + Sync>,
}

/// What to store beside `made`, when who asked for it gave a key.
pub fn kept<T: ?Sized>(keep: Option<&Keep<T>>, made: &T) -> Option<Once> {
    keep.map(|keep| keep.first.once((keep.reply)(made)))
}

/// What a key means now.
pub enum Asked {
    /// Nobody has used it.
    First(First),
    /// It was answered.
    Again(Reply),
}

/// Why a key is not good.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplayError {
    /// It stands for another request.
    #[error("the key was used for another request")]
    Reused,
    /// That request is being answered at this moment.
    #[error("the same request is being answered at this moment")]
    UnderWay,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replays {
    /// Looks a key up; `request` is all that the request says.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn ask(&self, principal: &str, key: &str, request: &str) -> Result<Asked, ReplayError> {
        let name = (principal.to_owned(), key.to_owned());
        if !self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            return Err(ReplayError::UnderWay);
        }
        // Taken before the store is asked: whoever comes in between finds it taken or answered.
        let first = First {
            principal: principal.to_owned(),
            key: key.to_owned(),
            request_sha256: self.vault.digest(request),
            under_way: self.under_way.clone(),
            clock: self.clock.clone(),
        };
        match self.replies.reply(principal, key, self.clock.now()).await? {
            None => Ok(Asked::First(first)),
            Some(kept) if kept.request_sha256 == first.request_sha256 => Ok(Asked::Again(kept.reply)),
            Some(_) => Err(ReplayError::Reused),
        }
    }
}

impl First {
    /// What to store beside what `reply` answers.
    pub fn once(&self, reply: Reply) -> Once {
        let created_at = self.clock.now();
        Once {
            principal: self.principal.clone(),
            key: self.key.clone(),
            request_sha256: self.request_sha256.clone(),
            reply,
            created_at,
            expires_at: created_at + KEPT_FOR,
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let name = (std::mem::take(&mut self.principal), std::mem::take(&mut self.key));
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }
}
