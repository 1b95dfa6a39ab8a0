//! Where people are told of alerts: channels, the news for them, messages on their way, and who carries them.

use async_trait::async_trait;
use domain::alert::channel::Settings;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{ChannelId, NoticeId};

use crate::error::StoreError;
use crate::replies::Once;

/// A channel as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its unique name.
    pub name: String,
    /// What an operator says of it.
    pub settings: Settings,
    /// The key messages are signed with, encrypted.
    pub secret: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Who changed it last, or made it.
    pub changed_by: String,
    /// When; no two states of a channel have the same.
    pub changed_at: Timestamp,
    /// The last news that was made a message, or passed over.
    pub told_up_to: u64,
    /// When that was.
    pub told_at: Option<Timestamp>,
}

/// One message to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its id, the same for every try.
    pub id: NoticeId,
    /// Where to.
    pub channel: ChannelId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: NoticeState,
    /// When it is tried, or tried again.
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// JSON text.
    pub body: String,
    /// What became of the last try, if that was nothing.
    pub error: Option<String>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeState {
    /// It is to be tried.
    Waiting,
    /// It arrived.
    Sent,
    /// It was given up.
    Dead,
}

impl NoticeState {
    /// All of them.
    pub const ALL: [NoticeState; 3] = [NoticeState::Waiting, NoticeState::Sent, NoticeState::Dead];

    /// The name used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeState::Waiting => "waiting",
            NoticeState::Sent => "sent",
            NoticeState::Dead => "dead",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<NoticeState> {
        NoticeState::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Where channels and their messages are kept.
#[async_trait]
pub trait Channels: Send + Sync {
    /// All channels, by name.
    async fn channels(&self) -> Result<Vec<Channel>, StoreError>;

    /// Stores a channel that hears of what comes from now on. `false` when another has the name.
    async fn add_channel(&self, channel: Channel, audit: Entry, once: Option<Once>) -> Result<bool, StoreError>;

    /// Stores a channel's settings and secret in the place of the state that was written at `read_at`. `false` when it
    /// has another by now, or is gone.
    async fn change_channel(&self, channel: Channel, read_at: Timestamp, audit: Entry) -> Result<bool, StoreError>;

    /// Drops a channel with its messages. `false` when there is no such channel.
    async fn remove_channel(&self, id: ChannelId, audit: Entry) -> Result<bool, StoreError>;

    /// News after `after`, up to the first that was not there before `before`, as JSON with their numbers.
    async fn news(&self, after: u64, before: Timestamp, limit: u32) -> Result<Vec<(u64, String)>, StoreError>;

    /// The channel is told up to `up_to`: by this message, or by none. `false` when somebody else did so first.
    async fn tell_channel(
        &self,
        channel: &Channel,
        up_to: u64,
        notice: Option<Notice>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Messages to try by `now`, those due first.
    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;

    /// Takes a message to try it, until `until`. `false` when somebody else did so first.
    async fn claim_notice(&self, notice: &Notice, until: Timestamp) -> Result<bool, StoreError>;

    /// Stores where a message stands after a try.
    async fn settle_notice(&self, notice: &Notice) -> Result<(), StoreError>;

    /// A page of a channel's messages, the newest ids first.
    async fn notices(
        &self,
        channel: ChannelId,
        state: Option<NoticeState>,
        before: Option<NoticeId>,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError>;

    /// Drops news older than `before`, and messages made before it that are not waiting.
    async fn forget_notices(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Where to.
    pub url: String,
    /// Besides what every request has.
    pub headers: Vec<(&'static str, String)>,
    /// JSON text.
    pub body: String,
}

/// Carries messages out.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Whether it would go there at all.
    ///
    /// # Errors
    /// Why not, for people.
    fn accepts(&self, url: &str) -> Result<(), String>;

    /// Posts it. Answers the status.
    ///
    /// # Errors
    /// Why there is none, for people; nothing of an answer's body is in it.
    async fn post(&self, parcel: Parcel) -> Result<u16, String>;
}
