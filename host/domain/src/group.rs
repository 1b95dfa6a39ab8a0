//! Saved groups: expressions with a name, which other expressions take up as `@name`.
//!
//! Groups may name groups. A group and all that it draws in are at most [`DRAWN_MAX`], and none of them comes
//! back to itself. That is seen to when a group is saved, and once more when a target is resolved: rows may
//! have been changed by other hands since.
//!
//! Invariant: a group says who is meant, never who may be reached.

mod change;
mod drawn;

use std::collections::BTreeMap;
use std::fmt;

pub use change::{Change, Effect, Refused};
pub use drawn::{Drawn, Undrawable};

use crate::expression::Written;
use crate::time::Timestamp;

/// Most letters of a name.
pub const NAME_MAX: usize = 63;
/// Most letters of a description.
pub const DESCRIPTION_MAX: usize = 200;
/// Most groups there are.
pub const GROUPS_MAX: usize = 1000;
/// Most groups that one expression draws in, directly or through others.
pub const DRAWN_MAX: usize = 32;

/// What expressions are made of cannot be a name: `@all` would read as everybody.
const WORDS: [&str; 5] = ["all", "and", "or", "not", "in"];

/// A group's unique name, which it keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

impl GroupName {
    /// What a name is, for people.
    pub const RULE: &'static str = "a group's name is 1 to 63 of a-z, 0-9, . _ and -, starting with a letter or digit, \
                                    and none of all, and, or, not, in";

    /// The name `text`, if it is one.
    pub fn parse(text: &str) -> Option<GroupName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let good = (1..=NAME_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with(['.', '_', '-'])
            && !WORDS.contains(&text);
        good.then(|| GroupName(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One saved group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Who is meant.
    pub expr: Written,
    /// What it is for, in a line; may be empty.
    pub description: String,
    /// Name of the user who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Name of the user who changed it last.
    pub changed_by: String,
    /// When it was changed last. No two states of one name have the same instant.
    pub changed_at: Timestamp,
}

/// All groups there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<String, Group>);

impl Groups {
    /// These groups.
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Groups {
        Groups(groups.into_iter().map(|group| (group.name.0.clone(), group)).collect())
    }

    /// The group called `name`.
    pub fn get(&self, name: &str) -> Option<&Group> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The groups that name `name` themselves, by name.
    pub fn users_of(&self, name: &str) -> Vec<&str> {
        let names = |group: &&Group| group.expr.tree().groups().contains(&name);
        self.iter().filter(names).map(|group| group.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group as it is stored.
    pub(super) fn group(name: &str, expr: &str) -> Group {
        Group {
            name: GroupName::parse(name).expect("a name"),
            expr: Written::parse(expr).expect("an expression"),
            description: String::new(),
            created_by: "ada".into(),
            created_at: Timestamp(1),
            changed_by: "ada".into(),
            changed_at: Timestamp(1),
        }
    }

    /// Groups of these names and expressions.
    pub(super) fn groups(rows: &[(&str, &str)]) -> Groups {
        Groups::new(rows.iter().map(|(name, expr)| group(name, expr)))
    }

    #[test]
    fn names_are_short_lower_case_and_no_words_of_expressions() {
        for good in ["web", "0", "eu-1.web_2", "alles", "in-house", &"a".repeat(NAME_MAX)] {
            assert!(GroupName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "Web", "-a", ".a", "a b", "a*", "ä", "a/b", "all", "and", "or", "not", "in", &"a".repeat(64)] {
            assert!(GroupName::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_name_can_be_written_without_quotes() {
        for name in ["web", "0", "eu-1.web_2"] {
            let written = Written::parse(&format!("not @{name}")).expect("an expression");
            assert_eq!(written.tree().groups(), [name]);
        }
    }

    #[test]
    fn a_group_knows_who_names_it() {
        let all = groups(&[("a", "site = eu"), ("b", "@a or @c"), ("c", "not @a"), ("d", "agent = a")]);
        assert_eq!(all.users_of("a"), ["b", "c"]);
        assert_eq!(all.users_of("d"), Vec::<&str>::new());
    }
}
