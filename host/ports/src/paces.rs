//! A pace that several hosts keep together: how fast one may ask all of them.

use std::time::Duration;

use async_trait::async_trait;

/// Buckets that all hosts take from.
#[async_trait]
pub trait Paces: Send + Sync {
    /// Takes a token of the bucket `key`, which holds `burst` of them and gains one every `refill`. `None` when
    /// nobody can say in time: then whoever asks keeps count by itself.
    async fn take(&self, key: &str, burst: u32, refill: Duration) -> Option<Taken>;

    /// Gives a token of the bucket `key` back, if that can be done in time.
    async fn give(&self, key: &str, refill: Duration);
}

/// How a bucket stands after one has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether there was a token.
    pub granted: bool,
    /// How long until all of them are there.
    pub full_in: Duration,
}
