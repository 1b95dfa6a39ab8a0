//! Time and chance, so that tests can hold both.

use domain::time::Timestamp;
use plan::id::{AgentId, CommandId, KeyId, TokenId, UserId};

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// Now, on the host's wall clock.
    fn now(&self) -> Timestamp;
}

/// Makes ids and secrets.
pub trait Ids: Send + Sync {
    /// A fresh agent id.
    fn agent(&self) -> AgentId;
    /// A fresh command id; later ones sort after earlier ones.
    fn command(&self) -> CommandId;
    /// A fresh user id.
    fn user(&self) -> UserId;
    /// A fresh join token id.
    fn token(&self) -> TokenId;
    /// A fresh API key's id.
    fn key(&self) -> KeyId;
    /// 32 bytes nobody can guess.
    fn secret(&self) -> [u8; 32];
}
