//! Lists of commands, newest first. Whatever is asked for, the rows come from an index in the order
//! of the list, so that a page costs the same over any length of history; what the index does not
//! say is tested row by row.
//!
//! Invariant: only words of closed sets are spelled into a statement; everything else is a parameter.

use domain::command::{CommandView, Status};
use domain::priority::Priority;
use plan::id::CommandId;
use ports::commands::{CommandFilter, Page};
use ports::error::StoreError;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::micros::micros;
use super::read::Statement;
use super::together::Ask;
use super::{PostgresStore, rows};

/// Most sites that are merged from one index scan each; for more, every command is looked at.
const SITE_ARMS: usize = 64;
/// Ids and times of acceptance grow together, but for requests that overtook each other; this many
/// rows around a boundary in time are looked at to find the boundary in ids.
pub(super) const OVERTAKING: u32 = 1024;

/// One command.
pub(super) async fn one(store: &PostgresStore, id: CommandId) -> Result<Option<CommandView>, StoreError> {
    store.by_id.get(store, id).await?.as_ref().map(rows::view).transpose()
}

/// Those of some commands that there are, each with its number among the ids, from 1.
pub(super) fn by_ids() -> String {
    format!(
        "select {}, {}, n.number from unnest($1::uuid[]) with ordinality as n (id, number) \
         join commands c on c.id = n.id",
        rows::COMMAND,
        rows::VIEW
    )
}

impl Ask<CommandId> for PostgresStore {
    type Row = PgRow;

    async fn ask(&self, ids: Vec<CommandId>) -> Result<Vec<Option<PgRow>>, StoreError> {
        let mut found: Vec<Option<PgRow>> = ids.iter().map(|_| None).collect();
        let ids: Vec<Uuid> = ids.into_iter().map(|id| id.0).collect();
        let count = ids.len();
        for row in self.rows(Statement::new(by_ids()).bind(ids)).await? {
            let number = row.try_get::<i64, _>("number").map_err(|error| misplaced(error.to_string()))?;
            let place = usize::try_from(number - 1).ok().and_then(|place| found.get_mut(place));
            *place.ok_or_else(|| misplaced(format!("number {number} of {count} ids")))? = Some(row);
        }
        Ok(found)
    }
}

fn misplaced(what: String) -> StoreError {
    StoreError::Corrupt { table: "commands", key: "?".to_owned(), what }
}

/// One page of a list.
pub(super) async fn page(
    store: &PostgresStore,
    filter: &CommandFilter,
    page: &Page,
) -> Result<Vec<CommandView>, StoreError> {
    if filter.sites.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    store.rows(statement(filter, page)).await?.iter().map(rows::view).collect()
}

/// The statement behind a page.
pub(super) fn statement(filter: &CommandFilter, page: &Page) -> Statement {
    let limit = i64::from(page.limit);
    let mut sql = Statement::new(format!("select {}, {} from commands c where c.id in (", rows::COMMAND, rows::VIEW));
    sql.push("select m.id from (");
    for (n, arm) in arms(filter).iter().enumerate() {
        sql.push(if n == 0 { "(" } else { " union (" });
        arm.write(filter, page, &mut sql);
        sql.push(")");
    }
    sql.push(") as m order by m.id desc limit ").push_bind(limit);
    sql.push(") order by c.id desc");
    sql
}

/// The index a part of the list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm<'f> {
    Agent,
    Site(&'f str),
    Status(Status),
    Verb,
    Priority,
    Everything,
}

/// Where the list comes from: the narrowest index there is, merged from as many arms as it takes.
fn arms(filter: &CommandFilter) -> Vec<Arm<'_>> {
    let by_status = || filter.statuses.iter().map(|status| Arm::Status(*status)).collect();
    let unfinished = !filter.statuses.is_empty() && filter.statuses.iter().all(|status| !status.is_terminal());
    let sites = filter.sites.as_ref().filter(|sites| sites.len() <= SITE_ARMS);
    if filter.agent.is_some() {
        vec![Arm::Agent]
    } else if unfinished {
        by_status()
    } else if let Some(sites) = sites {
        sites.iter().map(|site| Arm::Site(site)).collect()
    } else if !filter.statuses.is_empty() {
        by_status()
    } else if filter.verb.is_some() {
        vec![Arm::Verb]
    } else if filter.priority.is_some_and(|priority| priority != Priority::Normal) {
        vec![Arm::Priority]
    } else {
        vec![Arm::Everything]
    }
}

impl Arm<'_> {
    fn write(&self, filter: &CommandFilter, page: &Page, sql: &mut Statement) {
        let joined = "join commands c on c.id = a.command_id";
        let id = match self {
            Arm::Agent => {
                sql.push(&format!(
                    "select a.command_id as id from invocations a {joined} \
                     where a.agent_id = "
                ));
                sql.push_bind(filter.agent.map(|agent| agent.0));
                "a.command_id"
            }
            Arm::Site(site) => {
                sql.push(&format!("select a.command_id as id from command_sites a {joined} where a.site = "));
                sql.push_bind(*site);
                "a.command_id"
            }
            Arm::Status(status) => {
                sql.push("select c.id from commands c where c.status = ");
                sql.push_bind(status.as_str());
                "c.id"
            }
            Arm::Verb => {
                sql.push("select c.id from commands c where c.verb = ");
                sql.push_bind(filter.verb.as_deref());
                "c.id"
            }
            Arm::Priority => {
                sql.push("select c.id from commands c where c.priority <> 'normal'");
                "c.id"
            }
            Arm::Everything => {
                sql.push("select c.id from commands c where true");
                "c.id"
            }
        };
        if let Some(before) = page.before {
            sql.push(&format!(" and {id} < ")).push_bind(before.0);
        }
        between(id, filter, sql);
        self.test_rest(filter, sql);
        sql.push(&format!(" order by {id} desc limit ")).push_bind(i64::from(page.limit));
    }

    /// What this arm's index does not say.
    fn test_rest(&self, filter: &CommandFilter, sql: &mut Statement) {
        if !filter.statuses.is_empty() && !matches!(self, Arm::Status(_)) {
            let statuses: Vec<String> = filter.statuses.iter().map(|status| format!("'{status}'")).collect();
            sql.push(&format!(" and c.status in ({})", statuses.join(", ")));
        }
        if let Some(verb) = filter.verb.as_deref().filter(|_| *self != Arm::Verb) {
            sql.push(" and c.verb = ").push_bind(verb);
        }
        if let Some(priority) = filter.priority {
            sql.push(&format!(" and c.priority = '{priority}'"));
        }
        if let Some(sites) = filter.sites.as_ref().filter(|_| !matches!(self, Arm::Site(_))) {
            sql.push(
                " and exists (select 1 from command_sites s where s.command_id = c.id \
                 and s.site = any(",
            );
            sql.push_bind(sites.as_slice()).push("))");
        }
    }
}

/// Keeps to the time asked for: by id first, which the index can seek to, then exactly. The exact test is
/// spelled so that no index answers it: one in order of time would have all of that time sorted by id.
fn between(id: &str, filter: &CommandFilter, sql: &mut Statement) {
    if let Some(since) = filter.since.map(micros) {
        sql.push(&format!(" and {id} >= (select e.id from (select id from commands where created_at >= "));
        sql.push_bind(since).push(&format!(
            " order by created_at limit {OVERTAKING}) as e order by e.id limit 1) and c.created_at + '0'::interval >= "
        ));
        sql.push_bind(since);
    }
    if let Some(until) = filter.until.map(micros) {
        sql.push(&format!(" and {id} <= (select e.id from (select id from commands where created_at < "));
        sql.push_bind(until).push(&format!(
            " order by created_at desc limit {OVERTAKING}) as e order by e.id desc limit 1) and c.created_at + '0'::interval < "
        ));
        sql.push_bind(until);
    }
}

#[cfg(test)]
mod tests {
    use plan::id::AgentId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_narrowest_index_leads() {
        let nothing = CommandFilter::default();
        let sites = Some(vec!["eu".to_owned(), "us".to_owned()]);
        let agent = Some(AgentId(Uuid::from_u128(1)));
        let both = vec![Status::Running, Status::Failed];
        let cases = [
            (nothing.clone(), vec![Arm::Everything]),
            (CommandFilter { verb: Some("a.b".into()), ..nothing.clone() }, vec![Arm::Verb]),
            (CommandFilter { priority: Some(Priority::Normal), ..nothing.clone() }, vec![Arm::Everything]),
            (CommandFilter { priority: Some(Priority::Critical), ..nothing.clone() }, vec![Arm::Priority]),
            (CommandFilter { statuses: both.clone(), ..nothing.clone() }, both.into_iter().map(Arm::Status).collect()),
            (
                CommandFilter { statuses: vec![Status::Running], sites: sites.clone(), ..nothing.clone() },
                vec![Arm::Status(Status::Running)],
            ),
            (
                CommandFilter { statuses: vec![Status::Failed], sites: sites.clone(), ..nothing.clone() },
                vec![Arm::Site("eu"), Arm::Site("us")],
            ),
            (CommandFilter { agent, sites, ..nothing }, vec![Arm::Agent]),
        ];
        for (filter, expected) in cases {
            assert_eq!(arms(&filter), expected, "{filter:?}");
        }
    }
}
