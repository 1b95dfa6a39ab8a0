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
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, plain};
use crate::alarms;
use crate::staged::Staged;

/// Alerts dropped by one write, so that no other waits long for it.
const FORGOTTEN_AT_ONCE: i64 = 200;

/// Keeps other writers of news out until the commit, so that their numbers come in the order of commits: whoever reads
/// on from a number has seen all below it.
pub(super) const IN_ORDER: &str = "lock table alert_news in share row exclusive mode";

const COLUMNS: &str = "id, rule, agent_id, agent_name, site, key, state, severity, since, began, message, value, \
     owner::text, known, fired::text, flapping, muted, revision";

const SHARES: &str =
    "select rule, state, severity, count(*) from alerts where state <> 'resolved' group by rule, state, severity";

fn kept(row: &PgRow) -> Result<Kept, StoreError> {
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

fn share(row: &PgRow) -> Result<AlertShare, StoreError> {
    let mut cells = Cells::new(row, "alerts");
    let (rule, state): (String, String) = (cells.name()?, cells.take()?);
    let severity = cells.read_some(rows::word("severity", Severity::parse))?;
    let state = State::parse(&state, severity).ok_or_else(|| cells.corrupt("no state of an alert"))?;
    Ok(AlertShare { rule, state, count: cells.number()? })
}

fn moment(row: &PgRow) -> Result<(u64, Moment), StoreError> {
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
async fn write(tx: &mut PgConnection, kept: &Kept) -> Result<bool, sqlx::Error> {
    let Kept { id, rule, agent, agent_name, site, key, alert, muted, revision } = kept;
    let Alert { state, since, began, message, value, owner, known, flaps } = alert;
    let statement = if *revision == 0 {
        "insert into alerts (agent_name, site, state, severity, since, began, message, value, owner, known, fired, \
         flapping, muted, revision, id, rule, agent_id, key) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11::jsonb, $12, $13, $14 + 1, $15, $16, $17, $18) \
         on conflict do nothing"
    } else {
        "update alerts set agent_name = $1, site = $2, state = $3, severity = $4, since = $5, began = $6, message = $7, \
         value = $8, owner = $9::jsonb, known = $10, fired = $11::jsonb, flapping = $12, muted = $13, \
         revision = revision + 1 where revision = $14 and id = $15"
    };
    let mut query = sqlx::query(statement)
        .bind(agent_name.as_str())
        .bind(site.as_str())
        .bind(state.as_str())
        .bind(state.severity().map(Severity::as_str))
        .bind(micros(*since))
        .bind(micros(*began))
        .bind(plain::text(message))
        .bind(*value)
        .bind(owner.as_ref().map(|owner| plain::json(alarms::owner_text(owner))))
        .bind(*known)
        .bind(alarms::instants_text(flaps.fired_at()))
        .bind(flaps.is_flapping())
        .bind(muted.map(Mute::as_str))
        .bind(i64::try_from(*revision).unwrap_or(i64::MAX))
        .bind(id.0);
    if *revision == 0 {
        query = query.bind(rule.as_str()).bind(alarms::agent(*agent)).bind(plain::text(key));
    }
    Ok(query.execute(tx).await?.rows_affected() == 1)
}

async fn tell(tx: &mut PgConnection, change: &Change, staged: &mut Staged) -> Result<(), sqlx::Error> {
    let Change { alert, moments, news } = change;
    for Moment { at, line, severity, value, message, actor, note } in moments {
        sqlx::query(
            "insert into alert_lines (alert_id, at, what, severity, value, message, actor, note) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(alert.id.0)
        .bind(micros(*at))
        .bind(line.as_str())
        .bind(severity.map(Severity::as_str))
        .bind(*value)
        .bind(plain::text(message))
        .bind(plain::text_if_any(actor.as_deref()))
        .bind(plain::text_if_any(note.as_deref()))
        .execute(&mut *tx)
        .await?;
        let (agent, state) = (alert.agent, alert.alert.state);
        staged.event(*at, What::Alert { alert: alert.id, agent, state, line: *line });
    }
    if !news.is_empty() {
        sqlx::query(IN_ORDER).execute(&mut *tx).await?;
    }
    for subject in news {
        let at = moments.last().map_or(alert.alert.since, |moment| moment.at);
        sqlx::query("insert into alert_news (at, subject) values ($1, $2::jsonb)")
            .bind(micros(at))
            .bind(plain::json(subject.clone()))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn remember(tx: &mut PgConnection, remembered: &[Remembered]) -> Result<(), sqlx::Error> {
    let there: Vec<(&Remembered, &rules::State)> =
        remembered.iter().filter_map(|one| Some((one, one.state.as_ref()?))).collect();
    if !there.is_empty() {
        sqlx::query(
            "insert into alert_states (agent_id, rule, version, text) \
             select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[]) \
             on conflict (agent_id, rule) do update set version = excluded.version, text = excluded.text",
        )
        .bind(there.iter().map(|(one, _)| one.agent.0).collect::<Vec<_>>())
        .bind(there.iter().map(|(one, _)| one.rule.as_str()).collect::<Vec<_>>())
        .bind(there.iter().map(|(_, state)| i64::from(state.version)).collect::<Vec<_>>())
        .bind(there.iter().map(|(_, state)| plain::text(&state.text).into_owned()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    let gone: Vec<&Remembered> = remembered.iter().filter(|one| one.state.is_none()).collect();
    if !gone.is_empty() {
        sqlx::query(
            "delete from alert_states s using unnest($1::uuid[], $2::text[]) as gone (agent_id, rule) \
             where s.agent_id = gone.agent_id and s.rule = gone.rule",
        )
        .bind(gone.iter().map(|one| one.agent.0).collect::<Vec<_>>())
        .bind(gone.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn ids(agents: &[AgentId]) -> Vec<Uuid> {
    agents.iter().map(|agent| agent.0).collect()
}

#[async_trait]
impl Alerts for PostgresStore {
    async fn remembered(&self, agents: &[AgentId]) -> Result<Vec<Remembered>, StoreError> {
        let statement =
            Statement::new("select rule, agent_id, version, text from alert_states where agent_id = any($1)");
        let read = |row: &PgRow| {
            let mut cells = Cells::new(row, "alert_states");
            let (rule, agent) = (cells.name()?, AgentId(cells.take()?));
            let state = rules::State { version: cells.number()?, text: cells.take()? };
            Ok(Remembered { agent, rule, state: Some(state) })
        };
        self.rows(statement.bind(ids(agents))).await?.iter().map(read).collect()
    }

    async fn alerts_of(&self, agents: &[AgentId]) -> Result<Vec<Kept>, StoreError> {
        let agents = if agents.is_empty() { vec![alarms::agent(None)] } else { ids(agents) };
        let statement = Statement::new(format!("select {COLUMNS} from alerts where agent_id = any($1)"));
        self.rows(statement.bind(agents)).await?.iter().map(kept).collect()
    }

    async fn keep_alerts(
        &self,
        changes: Vec<Change>,
        remembered: Vec<Remembered>,
        audit: Option<Entry>,
    ) -> Result<Vec<AlertId>, StoreError> {
        self.cold(move |connection, staged| {
            let (changes, remembered, audit) = (changes.clone(), remembered.clone(), audit.clone());
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
                Ok(stale)
            })
        })
        .await
    }

    async fn alert(&self, id: AlertId) -> Result<Option<Kept>, StoreError> {
        let statement = Statement::new(format!("select {COLUMNS} from alerts where id = $1")).bind(id.0);
        self.row(statement).await?.as_ref().map(kept).transpose()
    }

    async fn alerts(&self, filter: &AlertFilter, before: Option<AlertId>, limit: u32) -> Result<Vec<Kept>, StoreError> {
        let AlertFilter { states, severity, rule, agent, sites } = filter;
        let mut sql = Statement::new(format!("select {COLUMNS} from alerts where "));
        if states.is_empty() {
            sql.push("state <> 'resolved'");
        } else {
            sql.push("state = any(").push_bind(states.clone()).push(")");
        }
        if let Some(severity) = severity {
            sql.push(" and severity = ").push_bind(severity.as_str());
        }
        if let Some(rule) = rule {
            sql.push(" and rule = ").push_bind(rule.as_str());
        }
        if let Some(agent) = agent {
            sql.push(" and agent_id = ").push_bind(agent.0);
        }
        if let Some(sites) = sites {
            sql.push(" and site = any(").push_bind(sites.clone()).push(")");
        }
        if let Some(before) = before {
            sql.push(" and id < ").push_bind(before.0);
        }
        sql.push(" order by id desc limit ").push_bind(i64::from(limit));
        self.rows(sql).await?.iter().map(kept).collect()
    }

    async fn alert_shares(&self) -> Result<Vec<AlertShare>, StoreError> {
        self.rows(Statement::new(SHARES)).await?.iter().map(share).collect()
    }

    async fn timeline(&self, id: AlertId, before: Option<u64>, limit: u32) -> Result<Vec<(u64, Moment)>, StoreError> {
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let statement = Statement::new(
            "select id, at, what, severity, value, message, actor, note from alert_lines \
             where alert_id = $1 and id < $2 order by id desc limit $3",
        );
        let statement = statement.bind(id.0).bind(before).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(moment).collect()
    }

    async fn forget_alerts(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.cold(move |connection, _| {
            Box::pin(async move {
                let gone: Vec<Uuid> = sqlx::query_scalar(
                    "delete from alerts where id in \
                         (select id from alerts where state = 'resolved' and since < $1 limit $2) returning id",
                )
                .bind(micros(before))
                .bind(FORGOTTEN_AT_ONCE)
                .fetch_all(&mut *connection)
                .await?;
                let lines = sqlx::query("delete from alert_lines where alert_id = any($1)").bind(&gone);
                lines.execute(connection).await?;
                Ok(gone.len() as u64)
            })
        })
        .await
    }
}
