//! Alerts, what became of them, what rules remember.

use async_trait::async_trait;
use domain::alert::Severity;
use domain::alert::flap::Flaps;
use domain::alert::life::State;
use domain::alert::mute::Mute;
use domain::alert::standing::{Alert, Line};
use domain::audit::Entry;
use domain::event::What;
use domain::time::Timestamp;
use plan::id::{AgentId, AlertId};
use ports::alerts::{AlertFilter, AlertShare, Alerts, Change, Kept, Moment, Remembered};
use ports::error::StoreError;
use ports::rules;

use super::SqliteStore;
use super::bulk::Bulk;
use super::connection::Sqlite;
use super::failure::Failure;
use super::list::Sql;
use super::query::{Error, Row, query, query_scalar};
use super::rows::{self, Cells};
use crate::alarms;
use crate::staged::Staged;

/// Alerts dropped by one write, so that no other waits long for it.
const FORGOTTEN_AT_ONCE: u32 = 200;

const COLUMNS: &str = "id, rule, agent_id, agent_name, site, key, state, severity, since, began, message, value, owner, \
     known, fired, flapping, muted, revision";

static REMEMBER: Bulk = Bulk::new(
    "insert into alert_states (agent_id, rule, version, text) values",
    "(?, ?, ?, ?)",
    "on conflict (agent_id, rule) do update set version = excluded.version, text = excluded.text",
);

const SHARES: &str =
    "select rule, state, severity, count(*) from alerts where state <> 'resolved' group by rule, state, severity";

fn kept(row: &Row) -> Result<Kept, StoreError> {
    let mut cells = Cells::new(row, "alerts");
    let id = AlertId(cells.id()?);
    let (rule, agent) = (cells.take()?, alarms::agent_of(cells.take()?));
    let (agent_name, site, key) = (cells.take()?, cells.take()?, cells.take()?);
    let state: String = cells.take()?;
    let severity = cells.read_some(rows::word("severity", Severity::parse))?;
    let state = State::parse(&state, severity).ok_or_else(|| cells.corrupt("no state of an alert"))?;
    let mut alert = Alert {
        state,
        since: cells.time()?,
        began: cells.time()?,
        message: cells.take()?,
        value: cells.take()?,
        owner: cells.read_some(alarms::owner)?,
        known: cells.take()?,
        flaps: Flaps::default(),
    };
    alert.flaps = Flaps::restored(cells.read(alarms::instants)?, cells.take()?);
    let muted = cells.read_some(rows::word("reason to be quiet", Mute::parse))?;
    Ok(Kept { id, rule, agent, agent_name, site, key, alert, muted, revision: cells.number()? })
}

fn share(row: &Row) -> Result<AlertShare, StoreError> {
    let mut cells = Cells::new(row, "alerts");
    let (rule, state): (String, String) = (cells.name()?, cells.take()?);
    let severity = cells.read_some(rows::word("severity", Severity::parse))?;
    let state = State::parse(&state, severity).ok_or_else(|| cells.corrupt("no state of an alert"))?;
    Ok(AlertShare { rule, state, count: cells.number()? })
}

fn moment(row: &Row) -> Result<(u64, Moment), StoreError> {
    let mut cells = Cells::new(row, "alert_lines");
    let id = cells.numbered()?;
    let moment = Moment {
        at: cells.time()?,
        line: cells.read(rows::word("line of an alert", Line::parse))?,
        severity: cells.read_some(rows::word("severity", Severity::parse))?,
        value: cells.take()?,
        message: cells.take()?,
        actor: cells.take()?,
        note: cells.take()?,
    };
    Ok((id, moment))
}

/// Writes the row, if nobody else has since it was read.
async fn write(tx: &mut Sqlite, kept: &Kept) -> Result<bool, Error> {
    let Kept { id, rule, agent, agent_name, site, key, alert, muted, revision } = kept;
    let Alert { state, since, began, message, value, owner, known, flaps } = alert;
    let statement = if *revision == 0 {
        "insert into alerts (agent_name, site, state, severity, since, began, message, value, owner, known, fired, \
         flapping, muted, revision, id, rule, agent_id, key) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? + 1, ?, ?, ?, ?) on conflict do nothing"
    } else {
        "update alerts set agent_name = ?1, site = ?2, state = ?3, severity = ?4, since = ?5, began = ?6, message = ?7, \
         value = ?8, owner = ?9, known = ?10, fired = ?11, flapping = ?12, muted = ?13, revision = revision + 1 \
         where revision = ?14 and id = ?15"
    };
    let mut query = query(statement)
        .bind(agent_name.as_str())
        .bind(site.as_str())
        .bind(state.as_str())
        .bind(state.severity().map(Severity::as_str))
        .bind(since.0)
        .bind(began.0)
        .bind(message.as_str())
        .bind(*value)
        .bind(owner.as_ref().map(alarms::owner_text))
        .bind(*known)
        .bind(alarms::instants_text(flaps.fired_at()))
        .bind(flaps.is_flapping())
        .bind(muted.map(Mute::as_str))
        .bind(i64::try_from(*revision).unwrap_or(i64::MAX))
        .bind(id.0);
    if *revision == 0 {
        query = query.bind(rule.as_str()).bind(alarms::agent(*agent)).bind(key.as_str());
    }
    Ok(query.execute(tx).await?.rows_affected() == 1)
}

async fn tell(tx: &mut Sqlite, change: &Change, staged: &mut Staged) -> Result<(), Error> {
    let Change { alert, moments, news } = change;
    for Moment { at, line, severity, value, message, actor, note } in moments {
        query(
            "insert into alert_lines (alert_id, at, what, severity, value, message, actor, note) \
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(alert.id.0)
        .bind(at.0)
        .bind(line.as_str())
        .bind(severity.map(Severity::as_str))
        .bind(*value)
        .bind(message.as_str())
        .bind(actor.as_deref())
        .bind(note.as_deref())
        .execute(&mut *tx)
        .await?;
        let (agent, state) = (alert.agent, alert.alert.state);
        staged.event(*at, What::Alert { alert: alert.id, agent, state, line: *line });
    }
    for subject in news {
        let at = moments.last().map_or(alert.alert.since, |moment| moment.at);
        query("insert into alert_news (at, subject) values (?, ?)")
            .bind(at.0)
            .bind(subject.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn remember(tx: &mut Sqlite, remembered: &[Remembered]) -> Result<(), Error> {
    let there: Vec<(&Remembered, &rules::State)> =
        remembered.iter().filter_map(|one| Some((one, one.state.as_ref()?))).collect();
    REMEMBER.execute(
        &mut *tx,
        &there,
        |(Remembered { agent, rule, .. }, rules::State { version, text }), values| {
            values.put(agent.0).put(rule).put(i64::from(*version)).put(text);
        },
    )?;
    for Remembered { agent, rule, .. } in remembered.iter().filter(|one| one.state.is_none()) {
        query("delete from alert_states where agent_id = ? and rule = ?")
            .bind(agent.0)
            .bind(rule.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// A statement about some agents.
fn of_agents(text: &str, agents: &[AgentId]) -> Sql {
    let mut sql = Sql::default();
    sql.text(text).text(" where agent_id in (");
    for (n, agent) in agents.iter().enumerate() {
        sql.text(if n == 0 { "" } else { ", " }).bind(agent.0);
    }
    sql.text(")");
    sql
}

#[async_trait]
impl Alerts for SqliteStore {
    async fn remembered(&self, agents: &[AgentId]) -> Result<Vec<Remembered>, StoreError> {
        let found = of_agents("select rule, agent_id, version, text from alert_states", agents);
        let read = |row: &Row| {
            let mut cells = Cells::new(row, "alert_states");
            let (rule, agent) = (cells.name()?, AgentId(cells.take()?));
            let state = rules::State { version: cells.number()?, text: cells.take()? };
            Ok(Remembered { agent, rule, state: Some(state) })
        };
        found.fetch(&self.readers).await?.iter().map(read).collect()
    }

    async fn alerts_of(&self, agents: &[AgentId]) -> Result<Vec<Kept>, StoreError> {
        let nobody = [AgentId(alarms::agent(None))];
        let agents = if agents.is_empty() { &nobody } else { agents };
        let found = of_agents(&format!("select {COLUMNS} from alerts"), agents);
        found.fetch(&self.readers).await?.iter().map(kept).collect()
    }

    async fn keep_alerts(
        &self,
        changes: Vec<Change>,
        remembered: Vec<Remembered>,
        audit: Option<Entry>,
    ) -> Result<Vec<AlertId>, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let mut stale = Vec::new();
                for change in &changes {
                    if write(connection, &change.alert).await? {
                        tell(connection, change, staged).await?;
                    } else {
                        stale.push(change.alert.id);
                    }
                }
                remember(connection, &remembered).await?;
                if let Some(entry) = audit.filter(|_| stale.is_empty()) {
                    staged.audit(entry);
                }
                Ok::<_, Failure>(stale)
            })
        })
        .await
    }

    async fn alert(&self, id: AlertId) -> Result<Option<Kept>, StoreError> {
        let mut sql = Sql::default();
        sql.text(&format!("select {COLUMNS} from alerts where id = ")).bind(id.0);
        sql.fetch(&self.readers).await?.first().map(kept).transpose()
    }

    async fn alerts(&self, filter: &AlertFilter, before: Option<AlertId>, limit: u32) -> Result<Vec<Kept>, StoreError> {
        let AlertFilter { states, severity, rule, agent, sites } = filter;
        let mut sql = Sql::default();
        sql.text(&format!("select {COLUMNS} from alerts where "));
        if states.is_empty() {
            sql.text("state <> 'resolved'");
        } else {
            sql.text("state in (");
            for (n, state) in states.iter().enumerate() {
                sql.text(if n == 0 { "" } else { ", " }).bind(*state);
            }
            sql.text(")");
        }
        if let Some(severity) = severity {
            sql.text(" and severity = ").bind(severity.as_str());
        }
        if let Some(rule) = rule {
            sql.text(" and rule = ").bind(rule.as_str());
        }
        if let Some(agent) = agent {
            sql.text(" and agent_id = ").bind(agent.0);
        }
        if let Some(sites) = sites {
            sql.text(" and site in (select value from json_each(").bind(crate::text::json(sites)).text("))");
        }
        if let Some(before) = before {
            sql.text(" and id < ").bind(before.0);
        }
        sql.text(" order by id desc limit ").bind(limit);
        sql.fetch(&self.readers).await?.iter().map(kept).collect()
    }

    async fn alert_shares(&self) -> Result<Vec<AlertShare>, StoreError> {
        let found = query(SHARES).fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(share).collect()
    }

    async fn timeline(&self, id: AlertId, before: Option<u64>, limit: u32) -> Result<Vec<(u64, Moment)>, StoreError> {
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let mut sql = Sql::default();
        sql.text("select id, at, what, severity, value, message, actor, note from alert_lines where alert_id = ");
        sql.bind(id.0).text(" and id < ").bind(before).text(" order by id desc limit ").bind(limit);
        sql.fetch(&self.readers).await?.iter().map(moment).collect()
    }

    async fn forget_alerts(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let gone: Vec<uuid::Uuid> =
                    query_scalar("select id from alerts where state = 'resolved' and since < ? limit ?")
                        .bind(before.0)
                        .bind(FORGOTTEN_AT_ONCE)
                        .fetch_all(&mut *connection)
                        .await?;
                for id in &gone {
                    for statement in ["delete from alert_lines where alert_id = ?", "delete from alerts where id = ?"] {
                        query(statement).bind(id).execute(&mut *connection).await?;
                    }
                }
                Ok::<_, Failure>(gone.len() as u64)
            })
        })
        .await
    }
}
