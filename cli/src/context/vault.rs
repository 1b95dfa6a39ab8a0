//! The tokens of one context, as the client wants them.

use chrono::SecondsFormat;
use viworks_client::{Exchange, Held, Vault, VaultError};

use super::Context;
use super::store::{Lock, Store, StoreError};

/// One context of a store.
#[derive(Clone, Debug)]
pub struct ContextVault {
    store: Store,
    name: String,
}

impl ContextVault {
    /// The tokens of the context called `name`.
    pub fn new(store: Store, name: impl Into<String>) -> ContextVault {
        ContextVault { store, name: name.into() }
    }
}

impl From<StoreError> for VaultError {
    fn from(error: StoreError) -> VaultError {
        VaultError(error.to_string())
    }
}

impl Context {
    /// Its tokens, unless it is logged out.
    fn held(&self) -> Option<Held> {
        self.access_token.clone().map(|access_token| Held {
            access_token,
            refresh_token: self.refresh_token.clone(),
            // An end that cannot be read is no end; the host refuses the token when it is over.
            expires_at: self.expires_at.as_deref().and_then(|text| text.parse().ok()),
        })
    }

    /// Takes new tokens.
    pub(super) fn hold(&mut self, held: &Held) {
        let Held { access_token, refresh_token, expires_at } = held.clone();
        self.access_token = Some(access_token);
        self.refresh_token = refresh_token;
        self.expires_at = expires_at.map(|end| end.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
}

impl Vault for ContextVault {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(self.store.read()?.contexts.get(&self.name).and_then(Context::held))
    }

    fn begin(&self) -> Result<Box<dyn Exchange>, VaultError> {
        Ok(Box::new(Renewal { lock: self.store.lock()?, name: self.name.clone() }))
    }
}

struct Renewal {
    lock: Lock,
    name: String,
}

impl Exchange for Renewal {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(self.lock.read()?.contexts.get(&self.name).and_then(Context::held))
    }

    fn write(&mut self, held: &Held) -> Result<(), VaultError> {
        let mut contexts = self.lock.read()?;
        let context =
            contexts.contexts.get_mut(&self.name).ok_or_else(|| VaultError(format!("no context `{}`", self.name)))?;
        context.hold(held);
        Ok(self.lock.write(&contexts)?)
    }
}
