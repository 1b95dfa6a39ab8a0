//! Who a bearer token belongs to, remembered for two seconds: long enough to spare the store, short enough
//! that a deleted user, a changed password, a new role, a logout or a revoked key takes hold at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::access::Caller;
use domain::time::Timestamp;
use plan::id::{KeyId, UserId};
use ports::api_keys::ApiKey;
use ports::users::User;
use services::accounts::Accounts;
use services::api_keys::{KeyRing, is_key};
use services::digest::sha256_hex;

use crate::external::{External, Guest};
use crate::jwt::{Claims, TokenError, Tokens};
use crate::problem::Problem;

/// How long what the store said is believed.
pub const BELIEVED: Duration = Duration::from_secs(2);
/// Most logins and keys remembered.
const CAPACITY: usize = 10_000;

/// What a bearer token was found to be, before anybody looked whether it still counts.
#[derive(Clone, Debug)]
pub enum Proof {
    /// An access token of ours.
    Login(Arc<Claims>),
    /// An API key, by the digest of its text.
    Key(String),
    /// A token of another issuer.
    Guest(Guest),
}

/// Somebody who proved who they are.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who is asking.
    pub caller: Arc<Caller>,
    /// Whom what they use up is counted for. A key shares its owner's share: more keys are not more of it.
    pub payer: String,
    /// Their row, unless they are a guest.
    pub user: Option<Arc<User>>,
    /// The key they came with.
    pub key: Option<Arc<ApiKey>>,
    /// They are nobody from then on.
    pub expires_at: Timestamp,
}

/// Those who can tell.
pub struct Judges<'a> {
    /// Access tokens.
    pub tokens: &'a Tokens,
    /// Logins.
    pub accounts: &'a Accounts,
    /// API keys.
    pub keys: &'a KeyRing,
    /// Other issuers.
    pub external: Option<&'a dyn External>,
}

/// Logins and keys as the store knew them a moment ago.
#[derive(Default)]
pub struct Sessions {
    known: Mutex<HashMap<Session, (Timestamp, Arc<Known>)>>,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Session {
    Login(UserId, String),
    Key(String),
}

/// Reads a bearer token. Nothing of the store is asked.
///
/// # Errors
/// Why it is none, as far as its holder may know.
pub async fn read(token: &str, judges: &Judges<'_>, now: Timestamp) -> Result<Proof, TokenError> {
    if is_key(token) {
        return Ok(Proof::Key(sha256_hex(token.as_bytes())));
    }
    match (judges.tokens.read(token, now), judges.external) {
        (Ok(claims), _) => Ok(Proof::Login(claims)),
        (Err(TokenError::Invalid), Some(external)) => external.read(token, now).await.map(Proof::Guest),
        (Err(error), _) => Err(error),
    }
}

impl Sessions {
    /// Who is behind a proof now; `None` when it does not count any more.
    ///
    /// # Errors
    /// The store's: nobody is let in on a memory older than [`BELIEVED`].
    pub async fn known(
        &self,
        proof: &Proof,
        judges: &Judges<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<Known>>, Problem> {
        let session = match proof {
            Proof::Guest(guest) => {
                let known = Arc::new(Known::new(guest.caller(), None, None, guest.expires_at));
                return Ok(Some(known).filter(|_| now < guest.expires_at + crate::jwt::LEEWAY));
            }
            Proof::Login(claims) => Session::Login(claims.user, claims.login.clone()),
            Proof::Key(sha256) => Session::Key(sha256.clone()),
        };
        let fresh = |(read, _): &&(Timestamp, Arc<Known>)| now.is_soon_after(*read, BELIEVED);
        let remembered = self.lock().get(&session).filter(fresh).map(|(_, known)| known.clone());
        let known = match remembered {
            Some(known) => known,
            None => {
                let Some(known) = look(proof, judges).await?.map(Arc::new) else {
                    self.lock().remove(&session);
                    return Ok(None);
                };
                let mut sessions = self.lock();
                if sessions.len() >= CAPACITY {
                    sessions.clear();
                }
                sessions.insert(session, (now, known.clone()));
                known
            }
        };
        let counts = match proof {
            // What is over by the clock was refused when the token was read, with its leeway.
            Proof::Login(claims) => known.user.as_ref().is_some_and(|user| user.token_version == claims.version),
            Proof::Key(_) => now < known.expires_at,
            Proof::Guest(_) => true,
        };
        Ok(Some(known).filter(|_| counts))
    }

    /// Whether a proof may be made up: a key that was good here when it was last looked up is none, however long ago.
    pub fn may_be_a_guess(&self, proof: &Proof) -> bool {
        match proof {
            Proof::Key(sha256) => !self.lock().contains_key(&Session::Key(sha256.clone())),
            // Nobody but who signs them makes these up.
            Proof::Login(_) | Proof::Guest(_) => false,
        }
    }

    /// Forgets a user whose row, logins or keys just changed.
    pub fn forget(&self, user: UserId) {
        self.lock().retain(|_, (_, known)| known.caller.principal.user() != Some(user));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Session, (Timestamp, Arc<Known>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(proof: &Proof, judges: &Judges<'_>) -> Result<Option<Known>, Problem> {
    Ok(match proof {
        Proof::Login(claims) => {
            let user = judges.accounts.identify(claims.user, &claims.login).await?.map(Arc::new);
            user.map(|user| Known::new(user.caller(), Some(user), None, claims.expires_at))
        }
        Proof::Key(sha256) => judges.keys.recognise(sha256).await?.map(|(key, owner)| {
            let (caller, expires_at) = (key.caller(&owner), key.expires_at);
            Known::new(caller, Some(Arc::new(owner)), Some(Arc::new(key)), expires_at)
        }),
        Proof::Guest(_) => None,
    })
}

impl Known {
    fn new(caller: Caller, user: Option<Arc<User>>, key: Option<Arc<ApiKey>>, expires_at: Timestamp) -> Known {
        let payer = caller.principal.user().map_or_else(|| caller.name.clone(), |user| user.to_string());
        Known { caller: Arc::new(caller), payer, user, key, expires_at }
    }

    /// The key's id, if they came with one.
    pub fn key_id(&self) -> Option<KeyId> {
        self.key.as_ref().map(|key| key.id)
    }
}
