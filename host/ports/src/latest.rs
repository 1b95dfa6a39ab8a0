//! What agents said last of their machines, told to other hosts.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use domain::telemetry::report::Reading;
use domain::time::Timestamp;
use plan::id::AgentId;

/// Text that is made when somebody reads it first: of most samples nobody ever does.
pub struct Text(LazyLock<String, Box<dyn FnOnce() -> String + Send>>);

impl Text {
    /// What `make` makes, later or never.
    pub fn later(make: impl FnOnce() -> String + Send + 'static) -> Text {
        Text(LazyLock::new(Box::new(make)))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::later(|| text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        text.to_owned().into()
    }
}

impl Clone for Text {
    fn clone(&self) -> Text {
        (**self).into()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What an agent said last of its machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// As it said it, JSON text.
    pub sample: Text,
    /// When it was taken, as far as is believed.
    pub at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// How far the agent's clock is ahead of the host's that it came to.
    pub skew_ms: i64,
    /// Its numbers.
    pub readings: Arc<[Reading]>,
}

/// Where all hosts put up what they were told. Nothing on it is ever the only copy: it all is told again soon.
#[async_trait]
pub trait Board: Send + Sync {
    /// Puts this up in a while, in place of what the agent said before. Never waits.
    fn put(&self, agent: AgentId, latest: Arc<Latest>);

    /// What is up of these agents; nothing when nobody answers in time.
    async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)>;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn text_is_made_once_and_only_for_who_reads_it() {
        let made = Arc::new(AtomicU32::new(0));
        let text = |word: &'static str| {
            let made = made.clone();
            Text::later(move || {
                made.fetch_add(1, Ordering::Relaxed);
                word.to_owned()
            })
        };
        let (read, unread) = (text("said"), text("never read"));
        drop(unread);
        assert_eq!(made.load(Ordering::Relaxed), 0);
        assert_eq!((&*read, read == Text::from("said"), format!("{read:?}")), ("said", true, "\"said\"".to_owned()));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
