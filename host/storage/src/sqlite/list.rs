//! Lists of commands, newest first. Whatever is asked for, the rows come from an index in the order
//! of the list, so that a page costs the same over any length of history; what the index does not
//! say is tested row by row.
//!
//! Invariant: only words of closed sets are spelled into a statement; everything else is a parameter.

use domain::command::{CommandView, Status};
use domain::priority::Priority;
use plan::id::CommandId;
use ports::commands::{CommandFilter, Page};
use rusqlite::types::Value;

use super::failure::Failure;
use super::query::{Bind, Row, query, query_with};
use super::readers::Readers;
use super::{commands, rows};
use crate::text;

/// Most sites that are merged from one index scan each; for more, every command is looked at.
const SITE_ARMS: usize = 64;
/// Ids and times of acceptance grow together, but for requests that overtook each other; this many
/// rows around a boundary in time are looked at to find the boundary in ids.
pub(super) const OVERTAKING: u32 = 1024;

/// One command.
pub(super) async fn one(readers: &Readers, id: CommandId) -> Result<Option<CommandView>, Failure> {
    let sql = format!("select {}, {} from commands c where c.id = ?", rows::COMMAND, rows::VIEW);
    let found = query(sql).bind(id.0).fetch_optional(readers.near()).await?;
    Ok(found.as_ref().map(rows::view).transpose()?)
}

/// One page of a list.
pub(super) async fn page(readers: &Readers, filter: &CommandFilter, page: &Page) -> Result<Vec<CommandView>, Failure> {
    if filter.sites.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let found = statement(filter, page).fetch(readers).await?;
    Ok(commands::views(&found)?)
}

/// The statement behind a page.
pub(super) fn statement(filter: &CommandFilter, page: &Page) -> Sql {
    let mut sql = Sql::default();
    sql.text(&format!("select {}, {} from commands c where c.id in (", rows::COMMAND, rows::VIEW));
    for (n, arm) in arms(filter).iter().enumerate() {
        sql.text(if n == 0 { "select id from (" } else { " union select id from (" });
        arm.write(filter, page, &mut sql);
        sql.text(")");
    }
    sql.text(" order by 1 desc limit ").bind(page.limit);
    sql.text(") order by c.id desc");
    sql
}

/// A statement and its parameters.
#[derive(Default)]
pub(super) struct Sql {
    /// The statement.
    pub text: String,
    values: Vec<Value>,
}

impl Sql {
    /// The rows it answers.
    pub async fn fetch(self, readers: &Readers) -> Result<Vec<Row>, Failure> {
        Ok(query_with(self.text, self.values).fetch_all(readers).await?)
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Sql {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter and the sign that stands for it.
    pub fn bind(&mut self, value: impl Bind) -> &mut Sql {
        self.values.push(value.value());
        self.text("?")
    }
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
    fn write(&self, filter: &CommandFilter, page: &Page, sql: &mut Sql) {
        let joined = "cross join commands c on c.id = a.command_id";
        let id = match self {
            Arm::Agent => {
                sql.text(&format!(
                    "select a.command_id as id from invocations a indexed by invocations_agent {joined} \
                     where a.agent_id = "
                ));
                sql.bind(filter.agent.map(|agent| agent.0));
                "a.command_id"
            }
            Arm::Site(site) => {
                sql.text(&format!("select a.command_id as id from command_sites a {joined} where a.site = "));
                sql.bind(*site);
                "a.command_id"
            }
            Arm::Status(status) => {
                sql.text("select c.id from commands c indexed by commands_status where c.status = ");
                sql.bind(status.as_str());
                "c.id"
            }
            Arm::Verb => {
                sql.text("select c.id from commands c indexed by commands_verb where c.verb = ");
                sql.bind(filter.verb.as_deref());
                "c.id"
            }
            Arm::Priority => {
                sql.text("select c.id from commands c indexed by commands_priority where c.priority <> 'normal'");
                "c.id"
            }
            Arm::Everything => {
                sql.text("select c.id from commands c where true");
                "c.id"
            }
        };
        if let Some(before) = page.before {
            sql.text(&format!(" and {id} < ")).bind(before.0);
        }
        between(id, filter, sql);
        self.test_rest(filter, sql);
        sql.text(&format!(" order by {id} desc limit ")).bind(page.limit);
    }

    /// What this arm's index does not say.
    fn test_rest(&self, filter: &CommandFilter, sql: &mut Sql) {
        if !filter.statuses.is_empty() && !matches!(self, Arm::Status(_)) {
            let statuses: Vec<String> = filter.statuses.iter().map(|status| format!("'{status}'")).collect();
            sql.text(&format!(" and c.status in ({})", statuses.join(", ")));
        }
        if let Some(verb) = filter.verb.as_deref().filter(|_| *self != Arm::Verb) {
            sql.text(" and c.verb = ").bind(verb);
        }
        if let Some(priority) = filter.priority {
            sql.text(&format!(" and c.priority = '{priority}'"));
        }
        if let Some(sites) = filter.sites.as_ref().filter(|_| !matches!(self, Arm::Site(_))) {
            sql.text(
                " and exists (select 1 from command_sites s where s.command_id = c.id \
                 and s.site in (select value from json_each(",
            );
            sql.bind(text::json(sites)).text(")))");
        }
    }
}

/// Keeps to the time asked for: by id first, which the index can seek to, then exactly. The exact test is
/// spelled so that no index answers it: one in order of time would have all of that time sorted by id.
fn between(id: &str, filter: &CommandFilter, sql: &mut Sql) {
    if let Some(since) = filter.since {
        sql.text(&format!(" and {id} >= (select min(id) from (select id from commands where created_at >= "));
        sql.bind(since.0).text(&format!(" order by created_at limit {OVERTAKING})) and +c.created_at >= "));
        sql.bind(since.0);
    }
    if let Some(until) = filter.until {
        sql.text(&format!(" and {id} <= (select max(id) from (select id from commands where created_at < "));
        sql.bind(until.0).text(&format!(" order by created_at desc limit {OVERTAKING})) and +c.created_at < "));
        sql.bind(until.0);
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;
    use plan::id::AgentId;
    use uuid::Uuid;

    use super::super::connection::Sqlite;
    use super::*;

    /// The steps SQLite would take, over the schema as migrated.
    fn plan(filter: &CommandFilter) -> Vec<String> {
        let mut line = Sqlite::in_memory();
        line.batch(include_str!("../../../../migrations/sqlite/0001_foundation.sql")).expect("migrates");
        let sql = statement(filter, &Page { before: Some(CommandId(Uuid::from_u128(9))), limit: 50 });
        line.explain(&sql.text)
    }

    #[test]
    fn no_list_walks_a_table_or_sorts_history() {
        let any = CommandFilter::default;
        let sites = Some(vec!["eu".to_owned(), "us".to_owned()]);
        let filters = [
            any(),
            CommandFilter { verb: Some("a.b".into()), ..any() },
            CommandFilter { priority: Some(Priority::Critical), ..any() },
            CommandFilter { statuses: vec![Status::Running, Status::Failed], ..any() },
            CommandFilter { sites: sites.clone(), statuses: vec![Status::Failed], ..any() },
            CommandFilter { agent: Some(AgentId(Uuid::from_u128(1))), sites, ..any() },
            CommandFilter { since: Some(Timestamp(1)), until: Some(Timestamp(2)), ..any() },
        ];
        for filter in filters {
            let steps = plan(&filter);
            // Only the page itself, already cut to its limit, may be walked or sorted as a whole.
            let table = |step: &&String| {
                step.starts_with("SCAN ") && !step.contains("(subquery") && !step.contains("json_each")
            };
            let walked: Vec<&String> = steps.iter().filter(table).filter(|step| !step.contains("INDEX")).collect();
            assert!(walked.is_empty(), "{filter:?}: {steps:#?}");
        }
    }

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
