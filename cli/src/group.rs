//! `viworks group …`: targets with a name, to be named as `@name`.

use api::group::{Group, GroupPatch, NewGroup};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, moment, table};

/// What to do with groups.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    List,
    /// Show a group, and how many agents it means now
    Show {
        /// Its name
        group: String,
    },
    /// Save a group; `viworks run VERB -t @NAME` runs on it
    Create {
        /// Its name: lower-case letters, digits and . _ -
        group: String,
        /// Who is meant, e.g. 'site = eu-1 and not agent = db-*'
        expression: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Change who a group means; commands that were accepted before keep their targets
    Update {
        /// Its name
        group: String,
        /// Who is meant from now on; as before when absent
        #[arg(required_unless_present = "description")]
        expression: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete a group that no other names
    Delete {
        /// Its name
        group: String,
    },
}

impl Row for Group {
    const COLUMNS: &'static [&'static str] = &["group", "means", "changed", "by", "description", "used by"];
    const NARROW: usize = 5;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.expr.clone(),
            moment::age(&self.changed_at, now),
            self.changed_by.clone(),
            self.description.clone(),
            self.used_by.join(","),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: GroupCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        GroupCommand::List => {
            sink.list(&client.groups().await?, "no groups: `viworks group create NAME EXPRESSION` saves one")?;
        }
        GroupCommand::Show { group } => show(&client.group(&group).await?, sink)?,
        GroupCommand::Create { group, expression, description } => {
            let new = NewGroup { name: group, expr: expression, description };
            show(&client.create_group(&new).await?, sink)?;
        }
        GroupCommand::Update { group, expression, description } => {
            let patch = GroupPatch { expr: expression, description };
            show(&client.change_group(&group, &patch).await?, sink)?;
        }
        GroupCommand::Delete { group } => {
            client.delete_group(&group).await?;
            sink.say(&format!("deleted: no target can name `{group}` any more"))?;
        }
    }
    Ok(Exit::Ok)
}

fn show(group: &Group, sink: &Sink) -> std::io::Result<()> {
    sink.one(group, &group.name, || card(group))
}

fn card(group: &Group) -> String {
    let mut fields = vec![
        ("group", group.name.clone()),
        ("means", group.expr.clone()),
        ("description", group.description.clone()),
        ("names", group.uses.join(", ")),
        ("named by", group.used_by.join(", ")),
    ];
    fields.extend(group.agents.map(|agents| ("agents now", agents.to_string())));
    fields.push(("created", format!("{} by {}", group.created_at, group.created_by)));
    fields.push(("changed", format!("{} by {}", group.changed_at, group.changed_by)));
    table::card(&fields)
}
