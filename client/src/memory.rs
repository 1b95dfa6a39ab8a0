//! Tokens of a program that logs in by itself and forgets them when it ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::vault::{Exchange, Held, Vault, VaultError};

/// A vault in memory, shared by the clones of a client.
pub struct MemoryVault {
    held: Arc<Mutex<Held>>,
    /// Whose turn it is to renew.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Turn {
    held: Arc<Mutex<Held>>,
    _turn: OwnedMutexGuard<()>,
}

impl MemoryVault {
    /// A vault with these tokens.
    pub fn new(held: Held) -> MemoryVault {
        MemoryVault { held: Arc::new(Mutex::new(held)), turn: Arc::default() }
    }
}

impl fmt::Debug for MemoryVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryVault(…)")
    }
}

fn copy(held: &Mutex<Held>) -> Held {
    held.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Vault for MemoryVault {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(Some(copy(&self.held)))
    }

    fn begin(&self) -> Result<Box<dyn Exchange>, VaultError> {
        let turn = Arc::clone(&self.turn).blocking_lock_owned();
        Ok(Box::new(Turn { held: Arc::clone(&self.held), _turn: turn }))
    }
}

impl Exchange for Turn {
    fn read(&self) -> Result<Option<Held>, VaultError> {
        Ok(Some(copy(&self.held)))
    }

    fn write(&mut self, held: &Held) -> Result<(), VaultError> {
        held.clone_into(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
