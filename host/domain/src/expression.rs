//! A target in one line: `site = eu-1 and (label.env = prod or os in (linux, darwin)) and not agent = web-*`.
//!
//! ```text
//! any     = every { "or" every }
//! every   = one { "and" one }
//! one     = "not" one | "(" any ")" | "all" | group | field test
//! group   = "@" name
//! field   = "agent" | "site" | "os" | "arch" | "engine" | "status" | "capability" | "label." key
//! test    = ( "=" | "!=" ) value | [ "not" ] "in" "(" value { "," value } ")" | nothing, for "label." key
//! value   = word | quoted        in which `*` stands for any characters, in a quoted one only for itself
//! ```
//!
//! `agent` is an id or a name, `@web` everyone in the [saved group](crate::group) `web`. `label.env` alone asks whether there is such a label. A field that an
//! agent has no value for matches no value, so `label.env != prod` also holds for agents without it.

mod read;

/// Most bytes of an expression.
pub const MAX_BYTES: usize = 4096;
/// Most levels of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Every agent.
    All,
    /// Everyone in a saved group.
    Group(String),
    /// One field against values, any of which may match.
    Test(Field, Vec<Pattern>),
    /// The label is there.
    HasLabel(String),
    /// The other way round.
    Not(Box<Expression>),
    /// All of them.
    And(Vec<Expression>),
    /// At least one of them.
    Or(Vec<Expression>),
}

/// An expression as it was written, and what that reads as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    text: String,
    tree: Expression,
}

impl Written {
    /// Reads an expression and keeps its text.
    ///
    /// # Errors
    /// As [`Expression::parse`].
    pub fn parse(text: &str) -> Result<Written, Fault> {
        Ok(Written { text: text.to_owned(), tree: Expression::parse(text)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it reads as.
    pub fn tree(&self) -> &Expression {
        &self.tree
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Id or name.
    Agent,
    /// Site.
    Site,
    /// Operating system.
    Os,
    /// Processor architecture.
    Arch,
    /// Container engine, without version.
    Engine,
    /// Status now.
    Status,
    /// Any of its capabilities.
    Capability,
    /// The value of one label.
    Label(String),
}

/// A value, in which `*` may stand for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this.
    Exact(String),
    /// These parts in this order, with anything between them.
    Parts(Vec<String>),
}

impl Pattern {
    /// Whether `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        let parts = match self {
            Pattern::Exact(exact) => return text == exact,
            Pattern::Parts(parts) => parts,
        };
        let [first, middle @ .., last] = parts.as_slice() else { return false };
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        // The leftmost place is always as good as any other: what is left over is the longest.
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// Why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {message}")]
pub struct Fault {
    /// Counted from 1.
    pub at: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first place that cannot be read.
    pub fn parse(text: &str) -> Result<Expression, Fault> {
        if text.len() > MAX_BYTES {
            let message = format!("{} bytes; an expression has at most {MAX_BYTES}", text.len());
            return Err(Fault { at: 1, message });
        }
        read::read(text)
    }

    /// Whether it holds, given whether single tests do. Whether a group does is asked like a test.
    pub fn holds(&self, test: &impl Fn(&Expression) -> bool) -> bool {
        match self {
            Expression::All => true,
            Expression::Group(_) | Expression::Test(..) | Expression::HasLabel(_) => test(self),
            Expression::Not(inner) => !inner.holds(test),
            Expression::And(list) => list.iter().all(|inner| inner.holds(test)),
            Expression::Or(list) => list.iter().any(|inner| inner.holds(test)),
        }
    }

    /// Names of the groups in it.
    pub fn groups(&self) -> Vec<&str> {
        match self {
            Expression::Group(name) => vec![name],
            Expression::All | Expression::Test(..) | Expression::HasLabel(_) => Vec::new(),
            Expression::Not(inner) => inner.groups(),
            Expression::And(list) | Expression::Or(list) => list.iter().flat_map(Expression::groups).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it holds for an agent `web-1` at `eu-1` with label `env=prod`.
    fn holds(text: &str) -> bool {
        let parsed = Expression::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        parsed.holds(&|test| match test {
            Expression::Test(Field::Agent, values) => values.iter().any(|value| value.matches("web-1")),
            Expression::Test(Field::Site, values) => values.iter().any(|value| value.matches("eu-1")),
            Expression::Test(Field::Label(key), values) => {
                key == "env" && values.iter().any(|value| value.matches("prod"))
            }
            Expression::HasLabel(key) => key == "env",
            Expression::Group(name) => name == "mine",
            _ => false,
        })
    }

    #[test]
    fn expressions_mean_what_they_say() {
        for yes in [
            "all",
            "site=eu-1",
            "site = eu-1 and label.env=prod",
            "site = us or site = eu-1",
            "site = us and site = x or agent = web-1",
            "not site = us",
            "site != us",
            "not (site = us or site = de)",
            "agent in (db-1, web-1)",
            "agent not in (db-1,db-2)",
            "agent = web-*",
            "agent = *-1",
            "agent = w*b*1",
            "site = 'eu-1'",
            "site == \"eu-1\"",
            "label.env",
            "label.tier != gold",
            "@mine and not not all",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "site = eu",
            "agent = db-*",
            "agent = 'web-*'",
            "label.tier",
            "@other",
            "site=eu-1 and agent=x",
            "os = linux",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        let parsed = Expression::parse("all or all and all").expect("an expression");
        assert!(matches!(parsed, Expression::Or(list) if matches!(list[1], Expression::And(_))));
    }

    #[test]
    fn stars_do_not_overlap() {
        let pattern = |text: &str| Pattern::Parts(text.split('*').map(str::to_owned).collect());
        assert!(pattern("a*a").matches("aa") && !pattern("a*a").matches("a"));
        assert!(pattern("*").matches("") && pattern("**").matches("x"));
        assert!(pattern("a*b*c").matches("a-b-b-c") && !pattern("a*b*c").matches("a-c"));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, at, part) in [
            ("", 1, "missing at the end"),
            ("sites = eu", 1, "`sites` is no field"),
            ("site", 5, "after `site`"),
            ("site = ", 8, "a value"),
            ("site = eu and", 14, "missing at the end"),
            ("site = eu site = us", 11, "expected `and`"),
            ("(site = eu", 11, "expected `)`"),
            ("site = eu)", 10, "closes none"),
            ("site in eu", 9, "expected `(`"),
            ("site in (eu us)", 13, "`,` or `)`"),
            ("site in ()", 10, "a value"),
            ("site ! eu", 6, "`!=`"),
            ("site = \"eu", 8, "no end"),
            ("é = x", 1, "stands for nothing"),
            ("site = é", 8, "stands for nothing"),
            ("label. = x", 1, "no field"),
            ("@", 2, "group's name"),
            ("site = a; drop", 9, "stands for nothing"),
        ] {
            let fault = Expression::parse(text).expect_err(text);
            assert!(fault.at == at && fault.message.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn depth_and_length_have_limits() {
        let nested = |depth: usize| format!("{}all{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Expression::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(Expression::parse(&nested(MAX_DEPTH + 1)).is_err());
        assert!(Expression::parse(&"not ".repeat(1000)).is_err());
        assert!(Expression::parse(&format!("all{}", " ".repeat(MAX_BYTES - 3))).is_ok());
        assert!(Expression::parse(&format!("all{}", " ".repeat(MAX_BYTES - 2))).is_err());
    }

    #[test]
    fn groups_are_named() {
        let parsed = Expression::parse("@a and (not @b or site = x)").expect("an expression");
        assert_eq!(parsed.groups(), ["a", "b"]);
    }
}
