//! Where people are told of alerts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::alert::AlertMatcher;

/// A place where people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// Its id.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// `webhook` or `slack`.
    pub kind: String,
    /// Where messages go, as far as that is shown: scheme and host.
    pub url: String,
    /// Which alerts.
    pub matcher: AlertMatcher,
    /// At least so bad.
    pub at_least: String,
    /// Of the text; a plain one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// At most so many messages a minute.
    pub per_minute: u32,
    /// Name of the user who made it.
    pub created_by: String,
    /// RFC 3339.
    pub created_at: String,
    /// When the last message was made. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<String>,
    /// What messages of a webhook are signed with; right after it was made, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Body of `POST /notification-channels`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChannel {
    /// 1 to 63 of `[a-z0-9._-]`.
    #[schema(pattern = "^[a-z0-9._-]{1,63}$")]
    pub name: String,
    /// `webhook`, signed as Standard Webhooks wants it, or `slack`.
    #[serde(default = "webhook")]
    pub kind: String,
    /// Where messages go; `https://`, unless private networks are allowed.
    pub url: String,
    /// Which alerts; all when absent.
    #[serde(default)]
    pub matcher: AlertMatcher,
    /// At least so bad: `warning` or `critical`.
    #[serde(default = "warning")]
    pub at_least: String,
    /// Of the text: Jinja, with `alerts`, `count`, `left_out` and `channel`. 4,096 characters at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// At most so many messages a minute, 1 to 600; what comes in between goes into the next one.
    #[serde(default = "six")]
    pub per_minute: u32,
}

/// Body of `PATCH /notification-channels/{channel}`. Absent = as it is, the address and the secret too.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelPatch {
    /// Where messages go from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Which alerts; the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matcher: Option<AlertMatcher>,
    /// At least so bad: `warning` or `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<String>,
    /// Of the text, as when it was made; the plain one again when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// At most so many messages a minute, 1 to 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Messages of a webhook are signed with another secret from now on, which is shown this once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub new_secret: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn webhook() -> String {
    "webhook".to_owned()
}

fn warning() -> String {
    "warning".to_owned()
}

fn six() -> u32 {
    6
}

/// What came of trying a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelTest {
    /// Whether it arrived.
    pub delivered: bool,
    /// The status that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it did not arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One message to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelMessage {
    /// Its id; `msg_` and this is `webhook-id`.
    pub id: String,
    /// `waiting`, `sent` or `dead`.
    pub state: String,
    /// RFC 3339.
    pub created_at: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// What became of the last try, if that was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The body, JSON text.
    pub body: String,
}
