//! Users: logging in and out, who there is, passwords, the first admin.
//!
//! Invariant: neither a password nor a refresh token ever reaches an audit entry, a log line or an
//! error; the store sees hashes only.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::access::{Caller, Forbidden, Grant, Permission, Role};
use domain::audit::{Entry, Level};
use plan::id::UserId;
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::passwords::{PasswordError, Passwords};
use ports::users::{NewRefresh, RefreshToken, Rotated, User, UserChange, Users};

use crate::digest::sha256_hex;
use crate::grants::{self, BadGrant};
use crate::origin::Origin;
use crate::refusals::Refusals;
use crate::replays::{Keep, kept};
use crate::tag;

/// How long a refresh token is good for; each refresh starts it anew.
pub const REFRESH_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Fewest characters of a password.
pub const PASSWORD_MIN: usize = 12;
/// Most characters of a password.
pub const PASSWORD_MAX: usize = 256;
/// What every refresh token begins with, so that a leaked one can be recognised.
pub const REFRESH_PREFIX: &str = "vwr_";

/// The use cases.
pub struct Accounts {
    /// Where users are kept.
    pub users: Arc<dyn Users>,
    /// Where refusals are recorded.
    pub refusals: Arc<Refusals>,
    /// Hashes passwords.
    pub passwords: Arc<dyn Passwords>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub ids: Arc<dyn Ids>,
}

/// Somebody who proved who they are.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: User,
    /// What names this login: it lives and ends with the refresh tokens of this family.
    pub family: String,
    /// Good for one refresh. A secret.
    pub refresh_token: String,
}

/// A user on the way in.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// 1 to 63 of `[a-z0-9._-]`, not a UUID.
    pub name: String,
    /// 12 to 256 characters.
    pub password: String,
    /// Its role.
    pub role: Role,
    /// Absent: [`Grant::ordinary`].
    pub grants: Option<Vec<Grant>>,
}

/// What an admin wants of a user; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct UserWish {
    /// Another role.
    pub role: Option<Role>,
    /// Other grants, in place of all.
    pub grants: Option<Vec<Grant>>,
    /// Another password, which ends every login.
    pub password: Option<String>,
    /// Ends every login.
    pub end_logins: bool,
}

/// Name and password of the first admin, to be shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Wrong name or password, or a refresh token that is not good any more. Deliberately one case.
    #[error("name or password is wrong, or the token is no longer good")]
    Refused,
    /// A value nobody may have.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The caller's present password is another.
    #[error("the current password is wrong")]
    WrongPassword,
    /// Another user has the name.
    #[error("a user named `{0}` exists already")]
    NameTaken(String),
    /// Nobody could manage users any more.
    #[error("`{0}` is the last admin; make another admin first")]
    LastAdmin(String),
    /// They are not as they were when the caller read them.
    #[error("`{0}` has been changed since")]
    Changed(String),
    /// No such user.
    #[error("no user `{0}`")]
    NotFound(String),
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The hasher.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Accounts {
    /// Lets a user in. An unknown name costs the same work as a wrong password.
    ///
    /// # Errors
    /// [`AccountError::Refused`], recorded in the audit log; the hasher's; the store's.
    pub async fn login(&self, name: &str, password: &str, origin: &Origin) -> Result<Login, AccountError> {
        let user = if is_user_name(name) { self.users.user_named(name).await? } else { None };
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.passwords.verify(password, hash).await?;
        let Some(user) = user.filter(|_| right) else {
            let resource = is_user_name(name).then(|| ("user", name.to_owned()));
            self.refusals.record(self.refusal("auth.login_refused", resource, origin)).await?;
            return Err(AccountError::Refused);
        };
        let now = self.clock.now();
        let refresh_token = self.refresh_token();
        let sha256 = sha256_hex(refresh_token.as_bytes());
        let family = sha256.clone();
        let token = RefreshToken { family: family.clone(), sha256, user: user.id, expires_at: now + REFRESH_LIFE };
        self.users.add_refresh(token, origin.entry(now, "auth.login", Some(&user.name))).await?;
        Ok(Login { user, family, refresh_token })
    }

    /// Swaps a refresh token for its successor. One used before may be used once more when its answer was
    /// lost, see [`Users::rotate`]; else it is stolen: its whole family ends, and the audit log says so.
    ///
    /// # Errors
    /// [`AccountError::Refused`]; the store's.
    pub async fn refresh(&self, token: &str, origin: &Origin) -> Result<Login, AccountError> {
        let now = self.clock.now();
        let refresh_token = self.refresh_token();
        let new = NewRefresh {
            sha256: sha256_hex(refresh_token.as_bytes()),
            expires_at: now + REFRESH_LIFE,
            audit: origin.entry(now, "auth.refresh", None),
            alarm: self.refusal("auth.refresh_reused", None, origin),
        };
        match self.users.rotate(&sha256_hex(token.as_bytes()), new, now).await? {
            Rotated::Rotated(user, family) => Ok(Login { user: *user, family, refresh_token }),
            Rotated::Refused => {
                self.refusals.record(self.refusal("auth.refresh_refused", None, origin)).await?;
                Err(AccountError::Refused)
            }
            Rotated::Reused(_) => Err(AccountError::Refused),
        }
    }

    /// Ends a login: the caller's own, whose family is given, and that of the refresh token, should it be another.
    ///
    /// # Errors
    /// The store's.
    pub async fn logout(
        &self,
        caller: &Caller,
        family: &str,
        token: &str,
        origin: &Origin,
    ) -> Result<(), AccountError> {
        caller.may(Permission::OwnLogin)?;
        for sha256 in [family, &sha256_hex(token.as_bytes())] {
            let entry = origin.entry(self.clock.now(), "auth.logout", Some(&caller.name));
            self.users.end_family(sha256, entry).await?;
        }
        Ok(())
    }

    /// The user of a login, as they are now, if it goes on.
    ///
    /// # Errors
    /// The store's.
    pub async fn identify(&self, id: UserId, family: &str) -> Result<Option<User>, AccountError> {
        Ok(self.users.logged_in(id, family).await?)
    }

    /// All users, by name.
    ///
    /// # Errors
    /// [`AccountError::Forbidden`]; the store's.
    pub async fn users(&self, caller: &Caller) -> Result<Vec<User>, AccountError> {
        caller.may(Permission::ManageUsers)?;
        Ok(self.users.users().await?)
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`AccountError::Invalid`], [`AccountError::NameTaken`], [`AccountError::Forbidden`]; the
    /// hasher's; the store's.
    pub async fn create(
        &self,
        caller: &Caller,
        new: NewUser,
        keep: Option<Keep<User>>,
        origin: &Origin,
    ) -> Result<User, AccountError> {
        caller.may(Permission::ManageUsers)?;
        self.store(new, Some(&caller.name), keep, origin).await
    }

    /// One user, by id or name.
    ///
    /// # Errors
    /// [`AccountError::NotFound`], [`AccountError::Forbidden`]; the store's.
    pub async fn show(&self, caller: &Caller, user: &str) -> Result<User, AccountError> {
        caller.may(Permission::ManageUsers)?;
        self.found(user).await
    }

    /// Changes a user, by id or name; with `if_match`, only one who still has this tag. Who they are and what they
    /// may is read anew by every host within seconds.
    ///
    /// # Errors
    /// [`AccountError::NotFound`], [`AccountError::Changed`], [`AccountError::LastAdmin`], [`AccountError::Invalid`],
    /// [`AccountError::Forbidden`]; the hasher's; the store's.
    pub async fn change(
        &self,
        caller: &Caller,
        user: &str,
        wish: UserWish,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<User, AccountError> {
        caller.may(Permission::ManageUsers)?;
        let UserWish { role, grants, password, end_logins } = wish;
        if let Some(grants) = &grants {
            grants::check(grants)?;
        }
        if let Some(password) = &password {
            check_password("/password", password)?;
        }
        let found = self.found(user).await?;
        let expected = as_read(&found, if_match)?;
        let mut entry = origin.entry(self.clock.now(), "users.change", Some(&caller.name));
        entry.resource = Some(("user", found.name.clone()));
        entry.details = serde_json::json!({
            "role": role.map(Role::as_str),
            "grants": grants.as_ref().map(Vec::len),
            "password": password.is_some(),
            "end_logins": end_logins,
        })
        .to_string();
        let password_hash = match password {
            Some(password) => Some(self.passwords.hash(&password).await?),
            None => None,
        };
        let change = UserChange { role, grants, password_hash, end_logins, expected };
        match self.users.change_user(found.id, change, entry).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(AccountError::NotFound(found.name)),
            Err(StoreError::Conflict(_)) => Err(AccountError::LastAdmin(found.name)),
            Err(StoreError::Stale(_)) => Err(AccountError::Changed(found.name)),
            Err(error) => Err(error.into()),
        }
    }

    async fn found(&self, user: &str) -> Result<User, AccountError> {
        let found = match user.parse::<UserId>() {
            Ok(id) => self.users.user(id).await?,
            Err(_) if is_user_name(user) => self.users.user_named(user).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| AccountError::NotFound(user.chars().take(64).collect()))
    }

    /// Deletes a user, by id or name; with `if_match`, only one who still has this tag. Every token they hold is
    /// void at once.
    ///
    /// # Errors
    /// [`AccountError::NotFound`], [`AccountError::Changed`], [`AccountError::LastAdmin`],
    /// [`AccountError::Forbidden`]; the store's.
    pub async fn delete(
        &self,
        caller: &Caller,
        user: &str,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<UserId, AccountError> {
        caller.may(Permission::ManageUsers)?;
        let found = self.found(user).await?;
        let expected = as_read(&found, if_match)?;
        let mut entry = origin.entry(self.clock.now(), "users.delete", Some(&caller.name));
        entry.resource = Some(("user", found.name.clone()));
        match self.users.delete(found.id, expected, entry).await {
            Ok(true) => Ok(found.id),
            Ok(false) => Err(AccountError::NotFound(found.name)),
            Err(StoreError::Conflict(_)) => Err(AccountError::LastAdmin(found.name)),
            Err(StoreError::Stale(_)) => Err(AccountError::Changed(found.name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the caller's own password, which ends every token of before.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`], [`AccountError::Invalid`]; the hasher's; the store's.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: &str,
        new: &str,
        origin: &Origin,
    ) -> Result<(), AccountError> {
        caller.may(Permission::OwnLogin)?;
        check_password("/new", new)?;
        let id = caller.principal.user().ok_or(AccountError::Refused)?;
        let user = self.users.user(id).await?.ok_or(AccountError::Refused)?;
        if !self.passwords.verify(current, Some(&user.password_hash)).await? {
            let resource = Some(("user", user.name));
            self.refusals.record(self.refusal("auth.password_refused", resource, origin)).await?;
            return Err(AccountError::WrongPassword);
        }
        let hash = self.passwords.hash(new).await?;
        let mut entry = origin.entry(self.clock.now(), "auth.password_changed", Some(&caller.name));
        entry.resource = Some(("user", user.name));
        let change = UserChange { password_hash: Some(hash), ..UserChange::default() };
        self.users.change_user(user.id, change, entry).await?.map(drop).ok_or(AccountError::Refused)
    }

    /// Makes the first admin when there is no user at all, with the given password or one nobody can
    /// guess. `None` when there are users already.
    ///
    /// # Errors
    /// [`AccountError::Invalid`]; the hasher's; the store's.
    pub async fn first_admin(
        &self,
        name: &str,
        password: Option<String>,
        origin: &Origin,
    ) -> Result<Option<Credential>, AccountError> {
        if self.users.count().await? > 0 {
            return Ok(None);
        }
        let password = password.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(&self.ids.secret()[..24]));
        let new = NewUser { name: name.to_owned(), password: password.clone(), role: Role::Admin, grants: None };
        match self.store(new, None, None, origin).await {
            Ok(user) => Ok(Some(Credential { name: user.name, password })),
            // Another host of the same store was faster.
            Err(AccountError::NameTaken(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn store(
        &self,
        new: NewUser,
        actor: Option<&str>,
        keep: Option<Keep<User>>,
        origin: &Origin,
    ) -> Result<User, AccountError> {
        let NewUser { name, password, role, grants } = new;
        if !is_user_name(&name) {
            let message =
                "a user's name is 1 to 63 of a-z, 0-9, . _ and -, starting with a letter or digit, and no UUID";
            return Err(invalid("/name", message));
        }
        check_password("/password", &password)?;
        let grants = grants.unwrap_or_else(|| vec![Grant::ordinary()]);
        grants::check(&grants)?;
        let password_hash = self.passwords.hash(&password).await?;
        let created_at = self.clock.now();
        let id = self.ids.user();
        let user = User { id, name: name.clone(), password_hash, role, grants, token_version: 1, created_at };
        let mut entry = origin.entry(created_at, "users.create", actor);
        entry.resource = Some(("user", name.clone()));
        entry.details = serde_json::json!({ "role": role.as_str() }).to_string();
        match self.users.create(user.clone(), entry, kept(keep.as_ref(), &user)).await {
            Ok(()) => Ok(user),
            Err(StoreError::Conflict(_)) => Err(AccountError::NameTaken(name)),
            Err(error) => Err(error.into()),
        }
    }

    fn refusal(&self, action: &'static str, resource: Option<(&'static str, String)>, origin: &Origin) -> Entry {
        let entry = origin.entry(self.clock.now(), action, None);
        Entry { level: Level::Warn, resource, ..entry }
    }

    fn refresh_token(&self) -> String {
        format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.ids.secret()))
    }
}

/// Who is expected to be changed, if it has to be somebody with this tag.
fn as_read(found: &User, if_match: Option<&str>) -> Result<Option<Box<User>>, AccountError> {
    match if_match {
        None => Ok(None),
        Some(read) if read == tag::of(found) => Ok(Some(Box::new(found.clone()))),
        Some(_) => Err(AccountError::Changed(found.name.clone())),
    }
}

/// Whether `text` may be a user's name. Never the text of a UUID, so that a route can take either.
pub fn is_user_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '_', '-'])
        && text.parse::<UserId>().is_err()
}

impl From<BadGrant> for AccountError {
    fn from(BadGrant { pointer, message }: BadGrant) -> AccountError {
        AccountError::Invalid { pointer, message }
    }
}

fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> AccountError {
    AccountError::Invalid { pointer: pointer.into(), message: message.into() }
}

fn check_password(pointer: &str, password: &str) -> Result<(), AccountError> {
    let length = password.chars().count();
    if (PASSWORD_MIN..=PASSWORD_MAX).contains(&length) {
        Ok(())
    } else {
        Err(invalid(pointer, format!("{length} characters; a password has {PASSWORD_MIN} to {PASSWORD_MAX}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_short_lower_case_and_never_ids() {
        for good in ["ada", "ci-bot", "a.b_c", "0", &"a".repeat(63)] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["", "Ada", "-a", "a b", "a\0", "ä", "0193f2a4-7c1e-7abc-8def-0123456789ab", &"a".repeat(64)] {
            assert!(!is_user_name(bad), "{bad}");
        }
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        for (length, fits) in [(0, false), (11, false), (12, true), (256, true), (257, false)] {
            assert_eq!(check_password("/password", &"ö".repeat(length)).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn a_refresh_token_is_stored_as_its_digest() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
