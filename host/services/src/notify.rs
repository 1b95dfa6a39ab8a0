//! Makes messages of news and carries them out. Background work: each message is made by whoever moves the channel's
//! mark first, and tried by whoever claims it first, so that any number of hosts may do both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::alert::Severity;
use domain::alert::channel::{Kind, back_off};
use domain::alert::mute::Subject;
use domain::time::Timestamp;
use futures_util::{StreamExt as _, stream};
use plan::id::{CommandId, NoticeId};
use ports::channels::{Channel, Channels, Courier, Notice, NoticeState, Parcel};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::seal::Vault;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{address, webhook};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// News that come so close together go into one message.
const GATHER: Duration = Duration::from_secs(3);
/// Alerts in one message; the rest is counted.
const ALERTS_MAX: usize = 50;
/// News read at a time.
const NEWS_PAGE: u32 = 500;
/// Messages tried at once, and read at a time.
const AT_ONCE: usize = 8;
const DUE_PAGE: u32 = 64;
/// Whoever claims a message may take so long.
const CLAIM: Duration = Duration::from_secs(60);
/// News and messages are kept for so long.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Looks between two attempts at forgetting.
const FORGET_EVERY: u64 = 600;

/// The use case.
pub struct Notifier {
    /// Where channels and messages are kept.
    pub channels: Arc<dyn Channels>,
    /// Who carries them.
    pub courier: Arc<dyn Courier>,
    /// Keeps the secrets they are signed with.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
    /// What became of tries since this host started.
    pub tries: Tries,
}

/// Tries, counted.
#[derive(Debug, Default)]
pub struct Tries {
    sent: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}

impl Tries {
    /// How many messages arrived, how many tries failed that are to be repeated, how many messages were given up.
    pub fn read(&self) -> [(&'static str, u64); 3] {
        let Tries { sent, failed, dead } = self;
        [("sent", sent), ("failed", failed), ("dead", dead)].map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It arrived: the status.
    Well(u16),
    /// It did not: the status, if there was one, and why.
    Not(Option<u16>, String),
}

impl Notifier {
    /// Makes and carries messages until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        for turn in 1_u64.. {
            if let Err(error) = self.turn(turn.is_multiple_of(FORGET_EVERY)).await {
                tracing::warn!(%error, "nobody is told of alerts now; they will be");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Looks once: makes what messages there are to make, tries those that are due, and with `forget` drops old ones.
    ///
    /// # Errors
    /// The store's. What was not done is done at the next look.
    pub async fn turn(&self, forget: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        let channels = self.channels.channels().await?;
        for channel in &channels {
            self.make(channel, now).await?;
        }
        let due = self.channels.due_notices(now, DUE_PAGE).await?;
        let tries = due.into_iter().filter_map(|notice| {
            let channel = channels.iter().find(|channel| channel.id == notice.channel)?;
            Some(self.try_once(channel, notice))
        });
        stream::iter(tries)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        if forget {
            self.channels.forget_notices(now - KEPT_FOR).await?;
        }
        Ok(())
    }

    /// Makes one message of all the news a channel wants, if it may have one now.
    async fn make(&self, channel: &Channel, now: Timestamp) -> Result<(), StoreError> {
        if channel.told_at.is_some_and(|last| now < channel.settings.next(last)) {
            return Ok(());
        }
        let news = self.channels.news(channel.told_up_to, now - GATHER, NEWS_PAGE).await?;
        let Some((up_to, _)) = news.last() else { return Ok(()) };
        let wanted: Vec<Value> = news.iter().filter_map(|(_, subject)| wanted(channel, subject)).collect();
        let notice = (!wanted.is_empty()).then(|| self.notice(channel, "alerts", &wanted, now));
        self.channels.tell_channel(channel, *up_to, notice, now).await.map(drop)
    }

    /// A message about these alerts.
    pub fn notice(&self, channel: &Channel, what: &str, alerts: &[Value], now: Timestamp) -> Notice {
        let (shown, rest) = alerts.split_at(alerts.len().min(ALERTS_MAX));
        let template = channel.settings.template.as_deref();
        let text = webhook::text(template, &channel.name, shown, rest.len()).unwrap_or_else(|fault| {
            // Somebody must be told all the same.
            let plain = webhook::text(None, &channel.name, shown, rest.len()).unwrap_or_default();
            format!("(the template of this channel fails: {fault})\n{plain}")
        });
        let at = rfc3339(now);
        let body = webhook::body(channel.settings.kind, what, &at, &channel.name, &text, shown, rest.len());
        Notice {
            id: NoticeId(self.ids.command().0),
            channel: channel.id,
            created_at: now,
            state: NoticeState::Waiting,
            due_at: now,
            attempts: 0,
            body,
            error: None,
        }
    }

    /// Tries a message, if nobody else does.
    async fn try_once(&self, channel: &Channel, notice: Notice) -> Result<(), StoreError> {
        if !self.channels.claim_notice(&notice, self.clock.now() + CLAIM).await? {
            return Ok(());
        }
        let tries = notice.attempts + 1;
        let carried = self.carry(channel, &notice).await;
        let now = self.clock.now();
        let (state, due_at, error) = match carried {
            Carried::Well(_) => (NoticeState::Sent, now, None),
            Carried::Not(_, why) => match back_off(tries) {
                Some(wait) => (NoticeState::Waiting, now + wait, Some(why)),
                None => {
                    tracing::warn!(channel = channel.name, message = %notice.id, why, "a message of alerts is given up");
                    (NoticeState::Dead, now, Some(why))
                }
            },
        };
        let count = match state {
            NoticeState::Sent => &self.tries.sent,
            NoticeState::Waiting => &self.tries.failed,
            NoticeState::Dead => &self.tries.dead,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.channels.settle_notice(&Notice { attempts: tries, state, due_at, error, ..notice }).await
    }

    /// Carries a message to its channel.
    pub async fn carry(&self, channel: &Channel, notice: &Notice) -> Carried {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        let secret = self.vault.unwrap(CommandId(channel.id.0), &channel.secret);
        let opened =
            secret.and_then(|secret| Some((secret, address::open(&secret, channel.id, &channel.settings.url)?)));
        let Some((secret, url)) = opened else {
            return Carried::Not(None, "this host has not the key to the channel's secret".to_owned());
        };
        if channel.settings.kind == Kind::Webhook {
            let at_s = self.clock.now().as_millis().div_euclid(1_000);
            headers.extend(webhook::headers(&secret, &format!("msg_{}", notice.id), at_s, &notice.body));
        }
        let parcel = Parcel { url, headers, body: notice.body.clone() };
        match self.courier.post(parcel).await {
            Ok(status @ 200..=299) => Carried::Well(status),
            Ok(status) => Carried::Not(Some(status), format!("it answered {status}")),
            Err(why) => Carried::Not(None, why),
        }
    }
}

/// News as a channel is told it, if it wants to be.
fn wanted(channel: &Channel, subject: &str) -> Option<Value> {
    let news: Value = serde_json::from_str(subject).ok()?;
    let word = |key: &str| news.get(key).and_then(Value::as_str).unwrap_or_default();
    let labels: BTreeMap<String, String> =
        news.get("labels").and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default();
    let subject = Subject {
        rule: word("rule"),
        agent: word("agent_name"),
        site: word("site"),
        labels: &labels,
        key: word("key"),
        severity: Severity::parse(word("severity")),
    };
    channel.settings.wants(&subject).then(|| news.clone())
}

/// RFC 3339 in UTC, to the second.
fn rfc3339(at: Timestamp) -> String {
    let instant = DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}
