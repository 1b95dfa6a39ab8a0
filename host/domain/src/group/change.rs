//! What is done to groups, and when it is refused. The store asks inside the transaction that writes, so
//! that no two changes are each right alone and wrong together.

use std::time::Duration;

use super::{Drawn, GROUPS_MAX, Group, GroupName, Groups, Undrawable};
use crate::expression::{Expression, Written};
use crate::time::Timestamp;

/// What somebody wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new group.
    Create {
        /// Its name.
        name: GroupName,
        /// Who is meant.
        expr: Written,
        /// What it is for.
        description: String,
    },
    /// Another meaning or description; absent = as it is.
    Edit {
        /// Which one.
        name: GroupName,
        /// Who is meant from now on.
        expr: Option<Written>,
        /// What it is for.
        description: Option<String>,
        /// Only if it was last changed then.
        if_at: Option<Timestamp>,
    },
    /// No such group any more.
    Delete {
        /// Which one.
        name: GroupName,
        /// Only if it was last changed then.
        if_at: Option<Timestamp>,
    },
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This group, under its name.
    Put(Group),
    /// Nothing under this name any more.
    Remove(GroupName),
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is one of this name.
    #[error("a group named `{0}` exists already")]
    NameTaken(GroupName),
    /// There is none of this name.
    #[error("there is no group `{0}`")]
    NotFound(GroupName),
    /// Somebody changed it since.
    #[error("`{0}` has been changed since you read it")]
    Changed(GroupName),
    /// Other groups name it.
    #[error("`{name}` is named by {}; change those first", quoted(.by))]
    InUse {
        /// The group.
        name: GroupName,
        /// Those that name it.
        by: Vec<String>,
    },
    /// What it would come to.
    #[error(transparent)]
    Undrawable(#[from] Undrawable),
    /// What another group would come to.
    #[error("then `{group}`, which names it, would draw in more groups than one expression may")]
    TooManyFor {
        /// The other group.
        group: String,
    },
    /// There are [`GROUPS_MAX`].
    #[error("there are {GROUPS_MAX} groups, which is the most there may be")]
    Full,
}

fn quoted(names: &[String]) -> String {
    let shown = names.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown} and {} more", names.len() - 5) } else { shown }
}

impl Groups {
    /// What `change`, wanted by `by` at `at`, makes of these groups.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn decide(&self, change: Change, by: &str, at: Timestamp) -> Result<Effect, Refused> {
        match change {
            Change::Create { name, expr, description } => {
                if self.get(name.as_str()).is_some() {
                    return Err(Refused::NameTaken(name));
                }
                if self.len() >= GROUPS_MAX {
                    return Err(Refused::Full);
                }
                let (created_by, changed_by) = (by.to_owned(), by.to_owned());
                let group = Group { name, expr, description, created_by, created_at: at, changed_by, changed_at: at };
                self.admit(&group)?;
                Ok(Effect::Put(group))
            }
            Change::Edit { name, expr, description, if_at } => {
                let before = self.unchanged(&name, if_at)?;
                let group = Group {
                    expr: expr.unwrap_or_else(|| before.expr.clone()),
                    description: description.unwrap_or_else(|| before.description.clone()),
                    changed_by: by.to_owned(),
                    // A clock that stands or is set back gives no instant twice.
                    changed_at: at.max(before.changed_at + Duration::from_micros(1)),
                    ..before.clone()
                };
                self.admit(&group)?;
                Ok(Effect::Put(group))
            }
            Change::Delete { name, if_at } => {
                self.unchanged(&name, if_at)?;
                let by: Vec<String> = self.users_of(name.as_str()).into_iter().map(str::to_owned).collect();
                if by.is_empty() { Ok(Effect::Remove(name)) } else { Err(Refused::InUse { name, by }) }
            }
        }
    }

    fn unchanged(&self, name: &GroupName, if_at: Option<Timestamp>) -> Result<&Group, Refused> {
        let group = self.get(name.as_str()).ok_or_else(|| Refused::NotFound(name.clone()))?;
        let same = if_at.is_none_or(|at| at == group.changed_at);
        if same { Ok(group) } else { Err(Refused::Changed(name.clone())) }
    }

    /// Whether all groups can be drawn when `group` is as it is here.
    fn admit(&self, group: &Group) -> Result<(), Refused> {
        let mut then = self.clone();
        then.0.insert(group.name.as_str().to_owned(), group.clone());
        let alone = |name: &str| -> Result<Drawn, Undrawable> { then.drawn(&Expression::Group(name.to_owned())) };
        alone(group.name.as_str())?;
        for other in self.iter() {
            // Only a group that leads here comes to something else, and one that leads here in a circle
            // was found above.
            if let Err(Undrawable::TooMany) = alone(other.name.as_str()) {
                return Err(Refused::TooManyFor { group: other.name.as_str().to_owned() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::DRAWN_MAX;
    use super::super::tests::{group, groups};
    use super::*;

    fn name(text: &str) -> GroupName {
        GroupName::parse(text).expect("a name")
    }

    fn create(text: &str, expr: &str) -> Change {
        Change::Create { name: name(text), expr: Written::parse(expr).expect("an expression"), description: "x".into() }
    }

    fn edit(text: &str, expr: &str) -> Change {
        let expr = Some(Written::parse(expr).expect("an expression"));
        Change::Edit { name: name(text), expr, description: None, if_at: None }
    }

    fn delete(text: &str) -> Change {
        Change::Delete { name: name(text), if_at: None }
    }

    #[test]
    fn each_change_is_made_or_refused_for_one_reason() {
        let all = groups(&[("base", "site = eu"), ("web", "@base and agent = web-*"), ("top", "@web")]);
        let refused = |change: Change| all.decide(change, "eve", Timestamp(9)).expect_err("refused").to_string();
        assert!(matches!(all.decide(create("new", "@top"), "eve", Timestamp(9)), Ok(Effect::Put(_))));
        assert_eq!(refused(create("web", "all")), "a group named `web` exists already");
        assert_eq!(refused(create("new", "@wb")), "there is no group `wb`");
        assert_eq!(refused(create("new", "@new")), "groups name each other in a circle: new -> new");
        assert_eq!(refused(edit("gone", "all")), "there is no group `gone`");
        assert_eq!(refused(edit("base", "@top")), "groups name each other in a circle: base -> top -> web -> base");
        assert_eq!(refused(delete("base")), "`base` is named by `web`; change those first");
        assert_eq!(refused(delete("gone")), "there is no group `gone`");
        assert_eq!(all.decide(delete("top"), "eve", Timestamp(9)), Ok(Effect::Remove(name("top"))));
    }

    #[test]
    fn an_edit_keeps_what_it_does_not_name_and_who_made_it() {
        let all = groups(&[("web", "site = eu")]);
        let Ok(Effect::Put(after)) = all.decide(edit("web", "site = us"), "eve", Timestamp(9)) else {
            panic!("stored")
        };
        let expected = Group { changed_by: "eve".into(), changed_at: Timestamp(9), ..group("web", "site = us") };
        assert_eq!(after, expected);
        let change = Change::Edit { name: name("web"), expr: None, description: Some("d".into()), if_at: None };
        let Ok(Effect::Put(after)) = all.decide(change, "eve", Timestamp(9)) else { panic!("stored") };
        assert_eq!((after.expr.text(), after.description.as_str()), ("site = eu", "d"));
    }

    #[test]
    fn a_change_of_what_was_changed_since_is_refused_whatever_the_clock_says() {
        let all = groups(&[("web", "site = eu")]);
        let when = |at: i64| {
            let change = Change::Edit { name: name("web"), expr: None, description: None, if_at: Some(Timestamp(at)) };
            all.decide(change, "eve", Timestamp(0))
        };
        // The clock was set back: the instant still moves on.
        assert!(matches!(when(1), Ok(Effect::Put(group)) if group.changed_at == Timestamp(2)));
        assert_eq!(when(2), Err(Refused::Changed(name("web"))));
        let delete = Change::Delete { name: name("web"), if_at: Some(Timestamp(7)) };
        assert_eq!(all.decide(delete, "eve", Timestamp(0)), Err(Refused::Changed(name("web"))));
    }

    #[test]
    fn a_group_far_away_counts_what_is_put_below_it() {
        let last = DRAWN_MAX - 1;
        let rows: Vec<(String, String)> = (1..=last)
            .map(|n| (format!("g{n}"), if n == last { "all".into() } else { format!("@g{}", n + 1) }))
            .collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(name, expr)| (name.as_str(), expr.as_str())).collect();
        let mut all = groups(&rows);
        for (name, expr) in [("x", "all"), ("y", "@x")] {
            all.0.insert(name.into(), group(name, expr));
        }
        let end = format!("g{last}");
        assert!(all.decide(edit(&end, "@x"), "eve", Timestamp(9)).is_ok());
        let far = all.decide(edit(&end, "@y"), "eve", Timestamp(9));
        assert_eq!(far, Err(Refused::TooManyFor { group: "g1".into() }));
    }

    #[test]
    fn there_is_an_end_of_groups() {
        let names: Vec<String> = (0..GROUPS_MAX).map(|n| format!("g{n}")).collect();
        let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "all")).collect();
        let all = groups(&rows);
        assert_eq!(all.decide(create("one-more", "all"), "eve", Timestamp(9)), Err(Refused::Full));
        assert!(all.decide(edit("g1", "@g2"), "eve", Timestamp(9)).is_ok());
    }
}
