//! Who a token belongs to, remembered for two seconds: long enough to spare the store, short enough
//! that a deleted user, a changed password or a new role takes hold at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;
use plan::id::UserId;
use ports::users::User;
use services::accounts::{AccountError, Accounts};

use crate::jwt::Claims;

/// How long a user row is believed.
pub const BELIEVED: Duration = Duration::from_secs(2);
/// Most users and most ended tokens remembered.
const CAPACITY: usize = 10_000;

/// Users by id, and tokens that were logged out before they were over.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    users: HashMap<UserId, (Timestamp, Arc<User>)>,
    ended: HashMap<String, Timestamp>,
}

impl Sessions {
    /// The user behind good claims; `None` when the token was ended, the user is gone, or its tokens
    /// of before are void.
    ///
    /// # Errors
    /// The store's: nobody is let in on a memory older than [`BELIEVED`].
    pub async fn user(
        &self,
        accounts: &Accounts,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<Option<Arc<User>>, AccountError> {
        let known = {
            let inner = self.lock();
            if inner.ended.contains_key(&claims.id) {
                return Ok(None);
            }
            let fresh = |(read, _): &&(Timestamp, Arc<User>)| *read <= now && now.since(*read) < BELIEVED;
            inner.users.get(&claims.user).filter(fresh).map(|(_, user)| user.clone())
        };
        let user = match known {
            Some(user) => user,
            None => {
                let Some(user) = accounts.identify(claims.user).await?.map(Arc::new) else { return Ok(None) };
                let mut inner = self.lock();
                if inner.users.len() >= CAPACITY {
                    inner.users.clear();
                }
                inner.users.insert(claims.user, (now, user.clone()));
                user
            }
        };
        Ok(Some(user).filter(|user| user.token_version == claims.version))
    }

    /// Forgets a user whose row just changed.
    pub fn forget(&self, user: UserId) {
        self.lock().users.remove(&user);
    }

    /// Refuses one token for as long as it would be good. The memory is this host's own: another
    /// host, or this one after a restart, still takes it for the rest of its ten minutes.
    pub fn end(&self, token: String, expires_at: Timestamp, now: Timestamp) {
        let mut inner = self.lock();
        if inner.ended.len() >= CAPACITY {
            inner.ended.retain(|_, over| *over + crate::jwt::LEEWAY > now);
        }
        if inner.ended.len() >= CAPACITY
            && let Some(soonest) = inner.ended.iter().min_by_key(|(_, over)| **over).map(|(token, _)| token.clone())
        {
            inner.ended.remove(&soonest);
        }
        inner.ended.insert(token, expires_at);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
