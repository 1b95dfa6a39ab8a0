//! Channels, the news for them, and messages on their way.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{ChannelId, NoticeId};
use ports::channels::{Channel, Channels, Notice, NoticeState};
use ports::error::StoreError;
use ports::replies::Once;

use super::connection::Sqlite;
use super::failure::Failure;
use super::list::Sql;
use super::query::{Error, Row, query};
use super::rows::{self, Cells};
use super::{SqliteStore, replies};
use crate::alarms;

const NOTICE: &str = "id, channel_id, created_at, state, due_at, attempts, body, error";

fn channel(row: &Row) -> Result<Channel, StoreError> {
    let mut cells = Cells::new(row, "notification_channels");
    Ok(Channel {
        id: ChannelId(cells.id()?),
        name: cells.take()?,
        settings: cells.read(alarms::settings)?,
        secret: cells.take()?,
        created_by: cells.take()?,
        created_at: cells.time()?,
        changed_by: cells.take()?,
        changed_at: cells.time()?,
        told_up_to: cells.number()?,
        told_at: cells.time_if_any()?,
    })
}

fn notice(row: &Row) -> Result<Notice, StoreError> {
    let mut cells = Cells::new(row, "notifications");
    Ok(Notice {
        id: NoticeId(cells.id()?),
        channel: ChannelId(cells.take()?),
        created_at: cells.time()?,
        state: cells.read(rows::word("state of a message", NoticeState::parse))?,
        due_at: cells.time()?,
        attempts: cells.number()?,
        body: cells.take()?,
        error: cells.take()?,
    })
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

async fn insert(tx: &mut Sqlite, notice: &Notice) -> Result<(), Error> {
    let Notice { id, channel, created_at, state, due_at, attempts, body, error } = notice;
    query(
        "insert into notifications (id, channel_id, created_at, state, due_at, attempts, body, error) \
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.0)
    .bind(channel.0)
    .bind(created_at.0)
    .bind(state.as_str())
    .bind(due_at.0)
    .bind(i64::from(*attempts))
    .bind(body.as_str())
    .bind(error.as_deref())
    .execute(tx)
    .await?;
    Ok(())
}

#[async_trait]
impl Channels for SqliteStore {
    async fn channels(&self) -> Result<Vec<Channel>, StoreError> {
        let found = query(
            "select id, name, settings, secret, created_by, created_at, changed_by, changed_at, told_up_to, told_at \
             from notification_channels order by name",
        );
        found.fetch_all(&self.readers).await.map_err(Failure::from)?.iter().map(channel).collect()
    }

    async fn add_channel(&self, channel: Channel, audit: Entry, once: Option<Once>) -> Result<bool, StoreError> {
        let Channel { id, name, settings, secret, created_by, created_at, .. } = channel;
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let added = query(
                    "insert into notification_channels (id, name, settings, secret, created_by, created_at, \
                     changed_by, changed_at, told_up_to) values (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6, \
                     (select coalesce(max(id), 0) from alert_news)) on conflict (name) do nothing",
                )
                .bind(id.0)
                .bind(name)
                .bind(alarms::settings_text(&settings))
                .bind(secret)
                .bind(created_by)
                .bind(created_at.0)
                .execute(&mut *connection)
                .await?;
                let added = added.rows_affected() == 1;
                if added {
                    replies::keep(connection, once.as_ref()).await?;
                    staged.audit(audit);
                }
                Ok::<_, Failure>(added)
            })
        })
        .await
    }

    async fn change_channel(&self, channel: Channel, read_at: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        let Channel { id, settings, secret, changed_by, changed_at, .. } = channel;
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let changed = query(
                    "update notification_channels set settings = ?, secret = ?, changed_by = ?, changed_at = ? \
                     where id = ? and changed_at = ?",
                )
                .bind(alarms::settings_text(&settings))
                .bind(secret)
                .bind(changed_by)
                .bind(changed_at.0)
                .bind(id.0)
                .bind(read_at.0)
                .execute(connection)
                .await?;
                let changed = changed.rows_affected() == 1;
                if changed {
                    staged.audit(audit);
                }
                Ok::<_, Failure>(changed)
            })
        })
        .await
    }

    async fn remove_channel(&self, id: ChannelId, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let gone = query("delete from notification_channels where id = ?").bind(id.0);
                let gone = gone.execute(&mut *connection).await?.rows_affected() == 1;
                let messages = query("delete from notifications where channel_id = ?").bind(id.0);
                messages.execute(connection).await?;
                if gone {
                    staged.audit(audit);
                }
                Ok::<_, Failure>(gone)
            })
        })
        .await
    }

    async fn news(&self, after: u64, before: Timestamp, limit: u32) -> Result<Vec<(u64, String)>, StoreError> {
        let found = query("select id, at, subject from alert_news where id > ? order by id limit ?");
        let found = found.bind(number(after)).bind(limit).fetch_all(&self.readers).await;
        let read = |row: &Row| {
            let mut cells = Cells::new(row, "alert_news");
            Ok((cells.numbered()?, cells.time()?, cells.take()?))
        };
        let read: Result<_, StoreError> = found.map_err(Failure::from)?.iter().map(read).collect();
        Ok(alarms::settled(read?, before))
    }

    async fn tell_channel(
        &self,
        channel: &Channel,
        up_to: u64,
        notice: Option<Notice>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, before) = (channel.id, channel.told_up_to);
        self.cold(move |connection, _| {
            Box::pin(async move {
                let told = query(
                    "update notification_channels set told_up_to = ?1, \
                     told_at = case when ?2 then ?3 else told_at end where id = ?4 and told_up_to = ?5",
                )
                .bind(number(up_to))
                .bind(notice.is_some())
                .bind(now.0)
                .bind(id.0)
                .bind(number(before))
                .execute(&mut *connection)
                .await?;
                let first = told.rows_affected() == 1;
                if let Some(notice) = notice.as_ref().filter(|_| first) {
                    insert(connection, notice).await?;
                }
                Ok::<_, Failure>(first)
            })
        })
        .await
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let mut sql = Sql::default();
        sql.text(&format!("select {NOTICE} from notifications where state = 'waiting' and due_at <= ")).bind(now.0);
        sql.text(" order by due_at limit ").bind(limit);
        sql.fetch(&self.readers).await?.iter().map(self::notice).collect()
    }

    async fn claim_notice(&self, notice: &Notice, until: Timestamp) -> Result<bool, StoreError> {
        let (id, attempts) = (notice.id, notice.attempts);
        self.cold(move |connection, _| {
            Box::pin(async move {
                let claimed = query(
                    "update notifications set attempts = attempts + 1, due_at = ? \
                     where id = ? and attempts = ? and state = 'waiting'",
                );
                let claimed = claimed.bind(until.0).bind(id.0).bind(i64::from(attempts)).execute(connection).await?;
                Ok::<_, Failure>(claimed.rows_affected() == 1)
            })
        })
        .await
    }

    async fn settle_notice(&self, notice: &Notice) -> Result<(), StoreError> {
        let Notice { id, state, due_at, attempts, error, .. } = notice.clone();
        self.cold(move |connection, _| {
            Box::pin(async move {
                query("update notifications set state = ?, due_at = ?, error = ? where id = ? and attempts = ?")
                    .bind(state.as_str())
                    .bind(due_at.0)
                    .bind(error)
                    .bind(id.0)
                    .bind(i64::from(attempts))
                    .execute(connection)
                    .await?;
                Ok::<_, Failure>(())
            })
        })
        .await
    }

    async fn notices(
        &self,
        channel: ChannelId,
        state: Option<NoticeState>,
        before: Option<NoticeId>,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        let mut sql = Sql::default();
        sql.text(&format!("select {NOTICE} from notifications where channel_id = ")).bind(channel.0);
        if let Some(state) = state {
            sql.text(" and state = ").bind(state.as_str());
        }
        if let Some(before) = before {
            sql.text(" and id < ").bind(before.0);
        }
        sql.text(" order by id desc limit ").bind(limit);
        sql.fetch(&self.readers).await?.iter().map(self::notice).collect()
    }

    async fn forget_notices(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let news = query("delete from alert_news where at < ?").bind(before.0);
                news.execute(&mut *connection).await?;
                let old = query("delete from notifications where created_at < ? and state <> 'waiting'");
                Ok::<_, Failure>(old.bind(before.0).execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}
