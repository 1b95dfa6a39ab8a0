//! Query parameters: every one known, once, and with a value it can have.

use std::fmt::Display;

use api::page::{DEFAULT_LIMIT, MAX_LIMIT};
use axum::extract::Query as Pairs;
use axum::extract::{FromRequestParts, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use domain::time::Timestamp;

use crate::instant;
use crate::problem::{Code, Problem};

/// Most values of one parameter that takes several.
const MAX_VALUES: usize = 100;

/// A request's query parameters. Their names were checked against the route's row already.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::read(&parts.uri)
    }
}

impl Query {
    /// Refuses a request that has a parameter its route does not know.
    ///
    /// # Errors
    /// 400 with the parameter's name.
    pub fn check(request: &Request, known: &[&str]) -> Result<(), Problem> {
        let query = Query::read(request.uri())?;
        for (name, value) in &query.0 {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(bad(Code::UnknownParameter, name, format!("not known here; known are: {known}")));
            }
            if value.contains('\0') {
                return Err(bad(Code::NulByte, name, "holds a NUL"));
            }
        }
        Ok(())
    }

    fn read(uri: &Uri) -> Result<Query, Problem> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri);
        pairs.map(|Pairs(pairs)| Query(pairs)).map_err(|_| Problem::new(Code::InvalidParameter, "not a query string"))
    }

    /// A parameter that stands at most once.
    ///
    /// # Errors
    /// 400 when it stands twice.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(bad(Code::InvalidParameter, name, "stands twice; which one is meant?"));
        }
        Ok(first)
    }

    /// A parameter read by `parse`; `expected` says what it can be.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| refused(name, text, expected))
    }

    /// A parameter that may stand several times, or hold several values between commas.
    ///
    /// # Errors
    /// 400 when one of them cannot be.
    pub fn several<T>(
        &self,
        name: &str,
        expected: impl Display,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Problem> {
        let values = self.0.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        let mut parsed = Vec::new();
        for text in values {
            if parsed.len() == MAX_VALUES {
                return Err(bad(Code::InvalidParameter, name, format!("more than {MAX_VALUES} values")));
            }
            parsed.push(parse(text).ok_or_else(|| refused(name, text, &expected))?);
        }
        Ok(parsed)
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        self.parsed(name, "a whole number", digits)
    }

    /// An instant.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub fn instant(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let expected = "a time such as 2025-01-31T12:00:00Z (RFC 3339; write + as %2B)";
        self.parsed(name, expected, instant::parse)
    }

    /// Two instants between which something lies.
    ///
    /// # Errors
    /// 400 when one is something else, or nothing can lie between them; then both are named.
    pub fn between(&self, from: &str, to: &str) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
        let span = (self.instant(from)?, self.instant(to)?);
        match span {
            (Some(begin), Some(end)) if begin > end => Err(backwards(from, to)),
            (Some(_) | None, Some(_) | None) => Ok(span),
        }
    }

    /// How many items a page shall have.
    ///
    /// # Errors
    /// 400 when it is none that there is.
    pub fn limit(&self) -> Result<u32, Problem> {
        let fits = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        Ok(self.parsed("limit", format!("1 to {MAX_LIMIT}"), fits)?.unwrap_or(DEFAULT_LIMIT))
    }
}

fn bad(code: Code, name: &str, message: impl Into<String>) -> Problem {
    let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
    Problem::at(code, format!("?{name}"), message)
}

/// A span that ends before it begins, by the names of its ends.
pub fn backwards(from: &str, to: &str) -> Problem {
    let (late, early) = (format!("is later than `{to}`: nothing lies between"), format!("is earlier than `{from}`"));
    bad(Code::InvalidParameter, from, late).with(format!("?{to}"), early, Code::InvalidParameter.row().name)
}

fn refused(name: &str, text: &str, expected: impl Display) -> Problem {
    let shown: String = text.chars().take(64).collect();
    bad(Code::InvalidParameter, name, format!("`{}` is not {expected}", shown.escape_debug()))
}

/// Closed sets as people read them: `one of a, b, c`.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    format!("one of {}", names.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn query(text: &str) -> Query {
        Query::read(&format!("/x?{text}").parse().expect("a uri")).expect("a query")
    }

    #[test]
    fn a_limit_is_held_to_its_edges() {
        for (text, expected) in [("", Some(50)), ("limit=1", Some(1)), ("limit=500", Some(500))] {
            assert_eq!(query(text).limit().ok(), expected, "{text}");
        }
        for text in ["limit=", "limit=0", "limit=501", "limit=-1", "limit=x", "limit=1&limit=1", "limit=99999999999"] {
            assert_eq!(query(text).limit().expect_err(text).code, Code::InvalidParameter);
        }
    }

    #[test]
    fn unknown_parameters_are_refused_not_ignored() {
        let check = |uri: &str| {
            let request = Request::builder().uri(uri).body(Body::empty()).expect("a request");
            Query::check(&request, &["limit", "cursor"])
                .err()
                .map(|problem| (problem.code, problem.errors[0].pointer.clone()))
        };
        assert_eq!(check("/x?limit=5&cursor=a"), None);
        assert_eq!(check("/x"), None);
        assert_eq!(check("/x?sort=password_hash"), Some((Code::UnknownParameter, "?sort".into())));
        assert_eq!(check("/x?Limit=5"), Some((Code::UnknownParameter, "?Limit".into())));
        assert_eq!(check("/x?cursor=a%00"), Some((Code::NulByte, "?cursor".into())));
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_refused_by_both_its_names() {
        let (early, late) = ("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z");
        for good in [format!("from={early}&to={late}"), format!("from={early}&to={early}"), format!("from={late}")] {
            assert!(query(&good).between("from", "to").is_ok(), "{good}");
        }
        let refused = query(&format!("from={late}&to={early}")).between("from", "to").expect_err("backwards");
        assert_eq!(refused.code, Code::InvalidParameter);
        assert_eq!(refused.detail, "?from: is later than `to`: nothing lies between");
        let named: Vec<&str> = refused.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(named, ["?from", "?to"]);
    }

    #[test]
    fn several_values_stand_between_commas_or_apart() {
        let parse = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        assert_eq!(
            query("a=1,2&b=x&a=3").several("a", "a word", parse).ok(),
            Some(vec!["1".into(), "2".into(), "3".into()])
        );
        assert!(query("a=1,").several("a", "a word", parse).is_err());
        let many = |count: usize| query(&format!("a={}", vec!["1"; count].join(","))).several("a", "a word", parse);
        assert_eq!(many(MAX_VALUES).map(|values| values.len()).ok(), Some(MAX_VALUES));
        assert_eq!(many(MAX_VALUES + 1).expect_err("too many").code, Code::InvalidParameter);
    }
}
