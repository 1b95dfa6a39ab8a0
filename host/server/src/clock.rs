//! The real clock and the real chance. Nobody else asks the machine for either.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::time::Timestamp;
use plan::id::{AgentId, CommandId, KeyId, TokenId, UserId};
use ports::clock::{Clock, Ids};
use uuid::Uuid;

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "the one real clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// UUIDv7 ids and the operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl RandomIds {
    #[expect(clippy::disallowed_methods, reason = "the one maker of ids")]
    fn uuid() -> Uuid {
        Uuid::now_v7()
    }
}

impl Ids for RandomIds {
    fn agent(&self) -> AgentId {
        AgentId(Self::uuid())
    }

    fn command(&self) -> CommandId {
        CommandId(Self::uuid())
    }

    fn user(&self) -> UserId {
        UserId(Self::uuid())
    }

    fn token(&self) -> TokenId {
        TokenId(Self::uuid())
    }

    fn key(&self) -> KeyId {
        KeyId(Self::uuid())
    }

    fn secret(&self) -> [u8; 32] {
        rand::random()
    }
}
