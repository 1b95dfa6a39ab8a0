//! Channels for people: they make, try and drop them, and see what became of messages.

use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::alert::Severity;
use domain::alert::channel::{Kind, PER_MINUTE_MAX, Settings, TEMPLATE_MAX};
use domain::alert::mute::Matcher;
use domain::time::Timestamp;
use plan::id::{ChannelId, CommandId, NoticeId};
use ports::channels::{self, Channel, Courier, Notice, NoticeState};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::journal::Journal;
use ports::seal::Vault;
use serde_json::json;

use crate::address;
use crate::notify::{Carried, Notifier};
use crate::origin::Origin;
use crate::replays::{Keep, kept};
use crate::webhook;

/// Most channels: each is looked at every second.
const CHANNELS_MAX: usize = 100;
/// Tries to change what somebody else changes, too.
const TRIES: usize = 5;

/// Longest address.
const URL_MAX: usize = 2048;

/// The use cases.
pub struct Channels {
    /// Where channels are kept.
    pub channels: Arc<dyn channels::Channels>,
    /// Who carries messages.
    pub courier: Arc<dyn Courier>,
    /// Where it is put on record that a channel was tried.
    pub journal: Arc<dyn Journal>,
    /// Makes and carries messages.
    pub notifier: Arc<Notifier>,
    /// Keeps secrets.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
}

/// What is to be another way from now on; absent = as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Where to.
    pub url: Option<String>,
    /// Which alerts.
    pub matcher: Option<Matcher>,
    /// At least so bad.
    pub at_least: Option<Severity>,
    /// Of the text; the plain one when empty.
    pub template: Option<String>,
    /// Messages a minute.
    pub per_minute: Option<u32>,
    /// Whether messages are signed with another secret.
    pub new_secret: bool,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChannelError {
    /// No such channel.
    #[error("there is no such channel")]
    NotFound,
    /// Another has the name.
    #[error("the name is taken")]
    NameTaken,
    /// It is not as it was when it was read.
    #[error("the channel has been changed since you read it")]
    Changed,
    /// A value that cannot be.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Channels {
    /// All channels, by name.
    ///
    /// # Errors
    /// [`ChannelError::Forbidden`]; the store's.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Channel>, ChannelError> {
        caller.may(Permission::ManageChannels)?;
        Ok(self.channels.channels().await?)
    }

    /// One channel, by id or name.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`], [`ChannelError::Forbidden`]; the store's.
    pub async fn show(&self, caller: &Caller, text: &str) -> Result<Channel, ChannelError> {
        let id: Option<ChannelId> = text.parse().ok();
        let found = self.list(caller).await?.into_iter().find(|one| Some(one.id) == id || one.name == text);
        found.ok_or(ChannelError::NotFound)
    }

    /// Makes a channel. Answers it and the secret its messages are signed with, which nobody is shown again.
    ///
    /// # Errors
    /// [`ChannelError::Invalid`], [`ChannelError::NameTaken`], [`ChannelError::Forbidden`]; the store's.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        settings: Settings,
        keep: Option<Keep<Channel>>,
        origin: &Origin,
    ) -> Result<(Channel, String), ChannelError> {
        caller.may(Permission::ManageChannels)?;
        let invalid = |pointer, message: String| ChannelError::Invalid { pointer, message };
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 63 || !name.bytes().all(good) || name.parse::<ChannelId>().is_ok() {
            return Err(invalid("/name", "1 to 63 of [a-z0-9._-], and no id".to_owned()));
        }
        self.check(name, &settings)?;
        if self.channels.channels().await?.len() >= CHANNELS_MAX {
            return Err(invalid("", format!("there are {CHANNELS_MAX} channels, and there may be no more")));
        }
        let now = self.clock.now();
        let id = ChannelId(self.ids.command().0);
        let (secret, sealed) = self.secret(id);
        let channel = Channel {
            id,
            name: name.to_owned(),
            settings: self.kept(id, &secret, settings),
            secret: sealed,
            created_by: caller.name.clone(),
            created_at: now,
            changed_by: caller.name.clone(),
            changed_at: now,
            told_up_to: 0,
            told_at: None,
        };
        let mut audit = origin.entry(now, "channels.create", Some(&caller.name));
        audit.resource = Some(("channel", id.to_string()));
        audit.details = json!({ "name": name, "kind": channel.settings.kind.as_str() }).to_string();
        let once = kept(keep.as_ref(), &channel);
        if !self.channels.add_channel(channel.clone(), audit, once).await? {
            return Err(ChannelError::NameTaken);
        }
        Ok((channel, webhook::shown(&secret)))
    }

    /// Changes a channel; with `if_at`, only if it was last changed then. What waits goes the new way, too. Answers it
    /// and the secret its messages are signed with from now on, if that is another.
    ///
    /// # Errors
    /// [`ChannelError::Changed`], [`ChannelError::Invalid`], [`ChannelError::NotFound`], [`ChannelError::Forbidden`];
    /// the store's.
    pub async fn change(
        &self,
        caller: &Caller,
        text: &str,
        patch: &Patch,
        if_at: Option<Timestamp>,
        origin: &Origin,
    ) -> Result<(Channel, Option<String>), ChannelError> {
        for _ in 0..TRIES {
            let was = self.show(caller, text).await?;
            if if_at.is_some_and(|if_at| if_at != was.changed_at) {
                return Err(ChannelError::Changed);
            }
            let unreadable = |pointer| ChannelError::Invalid {
                pointer,
                message: "what is kept of it cannot be read any more: give it an address and a new secret".to_owned(),
            };
            let key = self.vault.unwrap(CommandId(was.id.0), &was.secret);
            let url = key.and_then(|key| address::open(&key, was.id, &was.settings.url)).or_else(|| patch.url.clone());
            let url = url.ok_or_else(|| unreadable("/url"))?;
            let (settings, parts) = patched(&Settings { url, ..was.settings.clone() }, patch);
            if patch.new_secret && settings.kind != Kind::Webhook {
                let message = "only messages of a webhook are signed".to_owned();
                return Err(ChannelError::Invalid { pointer: "/new_secret", message });
            }
            self.check(&was.name, &settings)?;
            let now = self.clock.now();
            let (key, secret, shown) = if patch.new_secret {
                let (key, sealed) = self.secret(was.id);
                (key, sealed, Some(webhook::shown(&key)))
            } else {
                (key.ok_or_else(|| unreadable("/new_secret"))?, was.secret.clone(), None)
            };
            let settings = self.kept(was.id, &key, settings);
            let mut channel = Channel { settings, secret, changed_by: caller.name.clone(), ..was.clone() };
            channel.changed_at = now.max(Timestamp(was.changed_at.0 + 1));
            let mut audit = origin.entry(now, "channels.change", Some(&caller.name));
            audit.resource = Some(("channel", was.id.to_string()));
            audit.details = json!({ "name": was.name, "changed": parts }).to_string();
            if self.channels.change_channel(channel.clone(), was.changed_at, audit).await? {
                return Ok((channel, shown));
            }
        }
        Err(ChannelError::Changed)
    }

    /// Whether a channel may be like this.
    fn check(&self, name: &str, settings: &Settings) -> Result<(), ChannelError> {
        let invalid = |pointer, message: String| ChannelError::Invalid { pointer, message };
        if settings.url.len() > URL_MAX {
            return Err(invalid("/url", format!("at most {URL_MAX} characters")));
        }
        self.courier.accepts(&settings.url).map_err(|why| invalid("/url", why))?;
        if !(1..=PER_MINUTE_MAX).contains(&settings.per_minute) {
            return Err(invalid("/per_minute", format!("1 to {PER_MINUTE_MAX}")));
        }
        if let Some(template) = &settings.template {
            if template.chars().count() > TEMPLATE_MAX {
                return Err(invalid("/template", format!("at most {TEMPLATE_MAX} characters")));
            }
            let tried = webhook::text(Some(template), name, &[sample()], 0);
            tried.map_err(|fault| invalid("/template", fault))?;
        }
        Ok(())
    }

    /// A fresh secret, and as it is kept.
    fn secret(&self, id: ChannelId) -> ([u8; 32], String) {
        let secret = self.ids.secret();
        (secret, self.vault.wrap(CommandId(id.0), &secret, self.nonce()))
    }

    /// Settings as they are kept.
    fn kept(&self, id: ChannelId, secret: &[u8; 32], settings: Settings) -> Settings {
        let url = address::seal(secret, self.nonce(), id, &settings.url);
        Settings { url, ..settings }
    }

    fn nonce(&self) -> [u8; 24] {
        let bytes = self.ids.secret();
        std::array::from_fn(|n| bytes[n])
    }

    /// Drops a channel and what was to be told there.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`], [`ChannelError::Forbidden`]; the store's.
    pub async fn delete(&self, caller: &Caller, text: &str, origin: &Origin) -> Result<(), ChannelError> {
        let channel = self.show(caller, text).await?;
        let mut audit = origin.entry(self.clock.now(), "channels.delete", Some(&caller.name));
        audit.resource = Some(("channel", channel.id.to_string()));
        audit.details = json!({ "name": channel.name }).to_string();
        let gone = self.channels.remove_channel(channel.id, audit).await?;
        if gone { Ok(()) } else { Err(ChannelError::NotFound) }
    }

    /// Sends a message of no alert, once, and answers what came of it.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`], [`ChannelError::Forbidden`]; the store's.
    pub async fn test(&self, caller: &Caller, text: &str, origin: &Origin) -> Result<Carried, ChannelError> {
        let channel = self.show(caller, text).await?;
        let now = self.clock.now();
        let notice = self.notifier.notice(&channel, "test", &[sample()], now);
        let carried = self.notifier.carry(&channel, &notice).await;
        let mut audit = origin.entry(now, "channels.test", Some(&caller.name));
        audit.resource = Some(("channel", channel.id.to_string()));
        self.journal.audit(audit).await?;
        Ok(carried)
    }

    /// A page of a channel's messages, newest first.
    ///
    /// # Errors
    /// [`ChannelError::NotFound`], [`ChannelError::Forbidden`]; the store's.
    pub async fn messages(
        &self,
        caller: &Caller,
        text: &str,
        state: Option<NoticeState>,
        before: Option<NoticeId>,
        limit: u32,
    ) -> Result<Vec<Notice>, ChannelError> {
        let channel = self.show(caller, text).await?;
        Ok(self.channels.notices(channel.id, state, before, limit).await?)
    }
}

/// Settings with what a patch says, and which parts it says.
fn patched(was: &Settings, patch: &Patch) -> (Settings, Vec<&'static str>) {
    let Patch { url, matcher, at_least, template, per_minute, new_secret } = patch;
    let mut settings = was.clone();
    if let Some(url) = url {
        settings.url.clone_from(url);
    }
    if let Some(matcher) = matcher {
        settings.matcher.clone_from(matcher);
    }
    if let Some(template) = template {
        settings.template = Some(template.clone()).filter(|template| !template.is_empty());
    }
    settings.at_least = at_least.unwrap_or(was.at_least);
    settings.per_minute = per_minute.unwrap_or(was.per_minute);
    let parts = [
        ("url", url.is_some()),
        ("matcher", matcher.is_some()),
        ("at_least", at_least.is_some()),
        ("template", template.is_some()),
        ("per_minute", per_minute.is_some()),
        ("secret", *new_secret),
    ];
    (settings, parts.into_iter().filter_map(|(part, said)| said.then_some(part)).collect())
}

/// An alert that is none, to try templates and channels with.
fn sample() -> serde_json::Value {
    json!({
        "alert": "00000000-0000-7000-8000-000000000000",
        "rule": "test",
        "agent": null,
        "agent_name": "",
        "site": "",
        "labels": {},
        "key": "",
        "what": "fired",
        "state": "firing",
        "severity": "warning",
        "began_ms": 0,
        "at_ms": 0,
        "message": "this is a test; nothing is wrong",
        "value": null,
    })
}
