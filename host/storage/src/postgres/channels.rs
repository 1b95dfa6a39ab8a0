//! Channels, the news for them, and messages on their way.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::time::Timestamp;
use plan::id::{ChannelId, NoticeId};
use ports::channels::{Channel, Channels, Notice, NoticeState};
use ports::error::StoreError;
use ports::replies::Once;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, plain, replies};
use crate::alarms;

const NOTICE: &str = "id, channel_id, created_at, state, due_at, attempts, body, error";

fn channel(row: &PgRow) -> Result<Channel, StoreError> {
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

fn notice(row: &PgRow) -> Result<Notice, StoreError> {
    let mut cells = Cells::new(row, "notifications");
    Ok(Notice {
        id: NoticeId(cells.id()?),
        channel: ChannelId(cells.take()?),
        created_at: cells.time()?,
        state: cells.read(rows::word("state of a message", NoticeState::parse))?,
        due_at: cells.time()?,
        attempts: cells.attempt()?,
        body: cells.take()?,
        error: cells.take()?,
    })
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn tries(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

async fn insert(tx: &mut PgConnection, notice: &Notice) -> Result<(), sqlx::Error> {
    let Notice { id, channel, created_at, state, due_at, attempts, body, error } = notice;
    sqlx::query(
        "insert into notifications (id, channel_id, created_at, state, due_at, attempts, body, error) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.0)
    .bind(channel.0)
    .bind(micros(*created_at))
    .bind(state.as_str())
    .bind(micros(*due_at))
    .bind(tries(*attempts))
    .bind(plain::text(body))
    .bind(plain::text_if_any(error.as_deref()))
    .execute(tx)
    .await?;
    Ok(())
}

#[async_trait]
impl Channels for PostgresStore {
    async fn channels(&self) -> Result<Vec<Channel>, StoreError> {
        let statement = Statement::new(
            "select id, name, settings::text, secret, created_by, created_at, changed_by, changed_at, told_up_to, told_at \
             from notification_channels order by name",
        );
        self.rows(statement).await?.iter().map(channel).collect()
    }

    async fn add_channel(&self, channel: Channel, audit: Entry, once: Option<Once>) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let (channel, audit, once) = (channel.clone(), audit.clone(), once.clone());
            Box::pin(async move {
                let Channel { id, name, settings, secret, created_by, created_at, .. } = channel;
                let added = sqlx::query(
                    "insert into notification_channels (id, name, settings, secret, created_by, created_at, \
                     changed_by, changed_at, told_up_to) values ($1, $2, $3::jsonb, $4, $5, $6, $5, $6, \
                     (select coalesce(max(id), 0) from alert_news)) on conflict (name) do nothing",
                )
                .bind(id.0)
                .bind(name)
                .bind(plain::json(alarms::settings_text(&settings)))
                .bind(secret)
                .bind(created_by)
                .bind(micros(created_at))
                .execute(&mut *connection)
                .await?;
                let added = added.rows_affected() == 1;
                if added {
                    replies::keep(connection, once.as_ref()).await?;
                    staged.audit(audit);
                }
                Ok(added)
            })
        })
        .await
    }

    async fn change_channel(&self, channel: Channel, read_at: Timestamp, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let (channel, audit) = (channel.clone(), audit.clone());
            Box::pin(async move {
                let Channel { id, settings, secret, changed_by, changed_at, .. } = channel;
                let changed = sqlx::query(
                    "update notification_channels set settings = $1::jsonb, secret = $2, changed_by = $3, \
                     changed_at = $4 where id = $5 and changed_at = $6",
                )
                .bind(plain::json(alarms::settings_text(&settings)))
                .bind(secret)
                .bind(changed_by)
                .bind(micros(changed_at))
                .bind(id.0)
                .bind(micros(read_at))
                .execute(connection)
                .await?;
                let changed = changed.rows_affected() == 1;
                if changed {
                    staged.audit(audit);
                }
                Ok(changed)
            })
        })
        .await
    }

    async fn remove_channel(&self, id: ChannelId, audit: Entry) -> Result<bool, StoreError> {
        self.cold(move |connection, staged| {
            let audit = audit.clone();
            Box::pin(async move {
                let gone = sqlx::query("delete from notification_channels where id = $1").bind(id.0);
                let gone = gone.execute(&mut *connection).await?.rows_affected() == 1;
                let messages = sqlx::query("delete from notifications where channel_id = $1").bind(id.0);
                messages.execute(connection).await?;
                if gone {
                    staged.audit(audit);
                }
                Ok(gone)
            })
        })
        .await
    }

    async fn news(&self, after: u64, before: Timestamp, limit: u32) -> Result<Vec<(u64, String)>, StoreError> {
        let statement =
            Statement::new("select id, at, subject::text from alert_news where id > $1 order by id limit $2");
        let statement = statement.bind(number(after)).bind(i64::from(limit));
        let read = |row: &PgRow| {
            let mut cells = Cells::new(row, "alert_news");
            Ok((cells.numbered()?, cells.time()?, cells.compact()?))
        };
        let read: Result<_, StoreError> = self.rows(statement).await?.iter().map(read).collect();
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
            let notice = notice.clone();
            Box::pin(async move {
                let told = sqlx::query(
                    "update notification_channels set told_up_to = $1, \
                     told_at = case when $2 then $3 else told_at end where id = $4 and told_up_to = $5",
                )
                .bind(number(up_to))
                .bind(notice.is_some())
                .bind(micros(now))
                .bind(id.0)
                .bind(number(before))
                .execute(&mut *connection)
                .await?;
                let first = told.rows_affected() == 1;
                if let Some(notice) = notice.as_ref().filter(|_| first) {
                    insert(connection, notice).await?;
                }
                Ok(first)
            })
        })
        .await
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let statement = Statement::new(format!(
            "select {NOTICE} from notifications where state = 'waiting' and due_at <= $1 order by due_at limit $2"
        ));
        self.rows(statement.bind(micros(now)).bind(i64::from(limit))).await?.iter().map(self::notice).collect()
    }

    async fn claim_notice(&self, notice: &Notice, until: Timestamp) -> Result<bool, StoreError> {
        let (id, attempts) = (notice.id, notice.attempts);
        self.cold(move |connection, _| {
            Box::pin(async move {
                let claimed = sqlx::query(
                    "update notifications set attempts = attempts + 1, due_at = $1 \
                     where id = $2 and attempts = $3 and state = 'waiting'",
                );
                let claimed = claimed.bind(micros(until)).bind(id.0).bind(tries(attempts)).execute(connection).await?;
                Ok(claimed.rows_affected() == 1)
            })
        })
        .await
    }

    async fn settle_notice(&self, notice: &Notice) -> Result<(), StoreError> {
        let notice = notice.clone();
        self.cold(move |connection, _| {
            let Notice { id, state, due_at, attempts, error, .. } = notice.clone();
            Box::pin(async move {
                let statement = "update notifications set state = $1, due_at = $2, error = $3 \
                     where id = $4 and attempts = $5";
                sqlx::query(statement)
                    .bind(state.as_str())
                    .bind(micros(due_at))
                    .bind(plain::text_if_any(error.as_deref()))
                    .bind(id.0)
                    .bind(tries(attempts))
                    .execute(connection)
                    .await?;
                Ok(())
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
        let mut sql = Statement::new(format!("select {NOTICE} from notifications where channel_id = "));
        sql.push_bind(channel.0);
        if let Some(state) = state {
            sql.push(" and state = ").push_bind(state.as_str());
        }
        if let Some(before) = before {
            sql.push(" and id < ").push_bind(before.0);
        }
        sql.push(" order by id desc limit ").push_bind(i64::from(limit));
        self.rows(sql).await?.iter().map(self::notice).collect()
    }

    async fn forget_notices(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let news = sqlx::query("delete from alert_news where at < $1").bind(micros(before));
                news.execute(&mut *connection).await?;
                let old = sqlx::query("delete from notifications where created_at < $1 and state <> 'waiting'");
                Ok(old.bind(micros(before)).execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}
