//! Saved groups.

use api::group::Group as GroupBody;
use domain::group::Group;
use services::groups::Shown;

use crate::instant;

/// A group; `agents` is how many it means now, where that is told.
pub fn group(shown: Shown, agents: Option<u64>) -> GroupBody {
    let Shown { group, used_by } = shown;
    let Group { name, expr, description, created_by, created_at, changed_by, changed_at } = group;
    let mut uses: Vec<String> = expr.tree().groups().into_iter().map(str::to_owned).collect();
    uses.sort();
    uses.dedup();
    GroupBody {
        name: name.to_string(),
        expr: expr.text().to_owned(),
        description,
        uses,
        used_by,
        agents,
        created_by,
        created_at: instant::text(created_at),
        changed_by,
        changed_at: instant::text(changed_at),
    }
}
