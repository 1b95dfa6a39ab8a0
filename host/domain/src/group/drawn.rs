//! What the groups in an expression come to: each of them once, those that others build on first, so that
//! asking costs no more however often they name each other.

use super::{DRAWN_MAX, Group, Groups};
use crate::expression::{Expression, Written};
use crate::nearest::nearest;

/// The groups that an expression draws in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Names and expressions; a group stands behind those that it names.
    groups: Vec<(String, Written)>,
}

/// Why an expression comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undrawable {
    /// A name that no group has.
    #[error("there is no group `{name}`")]
    Unknown {
        /// The name, cut where none is so long.
        name: String,
        /// Groups with a name like it.
        nearest: Vec<String>,
    },
    /// A group that comes back to itself.
    #[error("groups name each other in a circle: {}", .0.join(" -> "))]
    Circle(Vec<String>),
    /// More than [`DRAWN_MAX`] groups.
    #[error("it draws in more than {DRAWN_MAX} groups, counting those that groups name")]
    TooMany,
}

impl Groups {
    /// What the groups in `expr` come to.
    ///
    /// # Errors
    /// See [`Undrawable`].
    pub fn drawn(&self, expr: &Expression) -> Result<Drawn, Undrawable> {
        let mut done = Vec::new();
        self.draw(expr, &mut Vec::new(), &mut done)?;
        let named = |group: &Group| (group.name.as_str().to_owned(), group.expr.clone());
        Ok(Drawn { groups: done.into_iter().map(named).collect() })
    }

    /// Adds to `done` what `expr` draws in; `path` is the way to it.
    fn draw<'g>(
        &'g self,
        expr: &Expression,
        path: &mut Vec<&'g Group>,
        done: &mut Vec<&'g Group>,
    ) -> Result<(), Undrawable> {
        for name in expr.groups() {
            if done.iter().any(|group| group.name.as_str() == name) {
                continue;
            }
            if let Some(from) = path.iter().position(|group| group.name.as_str() == name) {
                let circle = path[from..].iter().map(|group| group.name.as_str()).chain([name]);
                return Err(Undrawable::Circle(circle.map(str::to_owned).collect()));
            }
            let Some(group) = self.get(name) else { return Err(self.unknown(name)) };
            if path.len() + done.len() == DRAWN_MAX {
                return Err(Undrawable::TooMany);
            }
            path.push(group);
            self.draw(group.expr.tree(), path, done)?;
            path.pop();
            done.push(group);
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Undrawable {
        let nearest = nearest(name, self.iter().map(|group| group.name.as_str()));
        Undrawable::Unknown { name: name.chars().take(super::NAME_MAX + 1).collect(), nearest }
    }
}

impl Drawn {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Names and expressions, those that others build on first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.iter().map(|(name, expr)| (name.as_str(), expr.text()))
    }

    /// The groups that hold, given whether single tests do.
    pub fn held(&self, test: &impl Fn(&Expression) -> bool) -> Vec<&str> {
        let mut held: Vec<&str> = Vec::new();
        for (name, expr) in &self.groups {
            let holds = expr.tree().holds(&|one| match one {
                Expression::Group(inner) => held.contains(&inner.as_str()),
                other => test(other),
            });
            if holds {
                held.push(name);
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::groups;
    use super::*;

    fn drawn(groups: &Groups, expr: &str) -> Result<Vec<String>, Undrawable> {
        let drawn = groups.drawn(Written::parse(expr).expect("an expression").tree())?;
        Ok(drawn.iter().map(|(name, _)| name.to_owned()).collect())
    }

    #[test]
    fn each_group_comes_once_and_behind_those_it_names() {
        let all = groups(&[("a", "@b and @c"), ("b", "@d"), ("c", "@d or @b"), ("d", "all"), ("e", "all")]);
        assert_eq!(drawn(&all, "@a or @b"), Ok(vec!["d".into(), "b".into(), "c".into(), "a".into()]));
        assert_eq!(drawn(&all, "site = eu"), Ok(vec![]));
    }

    #[test]
    fn an_unknown_name_is_told_with_its_neighbours() {
        let all = groups(&[("web-eu", "all"), ("web-us", "all"), ("db", "@gone")]);
        let unknown = |expr: &str| match drawn(&all, expr) {
            Err(Undrawable::Unknown { name, nearest }) => (name, nearest),
            other => panic!("{expr}: {other:?}"),
        };
        assert_eq!(unknown("@web-ue"), ("web-ue".into(), vec!["web-eu".into(), "web-us".into()]));
        assert_eq!(unknown("site = eu and @db").0, "gone");
        assert_eq!(unknown("@'no name'"), ("no name".into(), vec![]));
        assert_eq!(unknown(&format!("@{}", "x".repeat(300))).0.len(), 64);
    }

    #[test]
    fn a_circle_is_told_and_what_leads_to_it_is_not_part_of_it() {
        let all = groups(&[("a", "@b"), ("b", "@c"), ("c", "site = eu or @b"), ("me", "not @me")]);
        let circle = |names: &[&str]| Err(Undrawable::Circle(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(drawn(&all, "@a"), circle(&["b", "c", "b"]));
        assert_eq!(drawn(&all, "@me"), circle(&["me", "me"]));
    }

    #[test]
    fn what_is_drawn_in_is_bounded_in_length_and_in_breadth() {
        let rows: Vec<(String, String)> =
            (1..=40).map(|n| (format!("g{n}"), if n == 40 { "all".into() } else { format!("@g{}", n + 1) })).collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(name, expr)| (name.as_str(), expr.as_str())).collect();
        let chain = groups(&rows);
        assert_eq!(drawn(&chain, "@g9").map(|all| all.len()), Ok(DRAWN_MAX));
        assert_eq!(drawn(&chain, "@g8"), Err(Undrawable::TooMany));
        let flat: Vec<(&str, &str)> = rows.iter().map(|(name, _)| (*name, "all")).collect();
        let many = |n: usize| (1..=n).map(|n| format!("@g{n}")).collect::<Vec<_>>().join(" or ");
        assert_eq!(drawn(&groups(&flat), &many(DRAWN_MAX)).map(|all| all.len()), Ok(DRAWN_MAX));
        assert_eq!(drawn(&groups(&flat), &many(DRAWN_MAX + 1)), Err(Undrawable::TooMany));
    }

    #[test]
    fn groups_that_name_each_other_again_and_again_are_asked_once_each() {
        let rows: Vec<(String, String)> = (1..=30)
            .map(|n| (format!("g{n}"), if n == 30 { "label.x".into() } else { format!("@g{0} or @g{0}", n + 1) }))
            .collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(name, expr)| (name.as_str(), expr.as_str())).collect();
        let drawn = groups(&rows).drawn(&Expression::Group("g1".into())).expect("drawn");
        let asked = std::cell::Cell::new(0);
        let held = drawn.held(&|_| {
            asked.set(asked.get() + 1);
            true
        });
        assert_eq!((held.len(), asked.get()), (30, 1), "two to the thirtieth would never come back");
    }

    #[test]
    fn a_group_holds_by_what_its_groups_do() {
        let all =
            groups(&[("prod", "label.env"), ("web", "site = eu"), ("both", "@prod and @web"), ("rest", "not @both")]);
        let drawn = all.drawn(Written::parse("@both or @rest").expect("an expression").tree()).expect("drawn");
        let held =
            |env: bool, eu: bool| drawn.held(&|test| if matches!(test, Expression::HasLabel(_)) { env } else { eu });
        assert_eq!(held(true, true), ["prod", "web", "both"]);
        assert_eq!(held(true, false), ["prod", "rest"]);
        assert_eq!(held(false, false), ["rest"]);
    }
}
