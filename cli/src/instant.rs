//! Points in time as people write them on the command line.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::failure::Failure;
use crate::output::moment::parse_length;

/// A point in time as the API takes it: RFC 3339 as it is; a length of time counted back from now.
///
/// # Errors
/// In words, with examples.
pub fn instant(text: Option<String>, now: DateTime<Utc>) -> Result<Option<String>, Failure> {
    let Some(text) = text else { return Ok(None) };
    if DateTime::parse_from_rfc3339(&text).is_ok() {
        return Ok(Some(text));
    }
    let back = parse_length(&text).ok().and_then(|length| now.checked_sub_signed(TimeDelta::from_std(length).ok()?));
    match back {
        Some(then) => Ok(Some(then.to_rfc3339_opts(SecondsFormat::Secs, true))),
        None => {
            Err(Failure::usage(format!("`{text}` is no time: write 2h for two hours ago, or 2026-01-31T12:00:00Z")))
        }
    }
}

/// Refuses a span that ends before it begins; the host would refuse it, too, but by other names.
///
/// # Errors
/// By the names that the options have everywhere.
pub fn in_order(since: Option<&str>, until: Option<&str>) -> Result<(), Failure> {
    let point = |text: Option<&str>| text.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match (point(since), point(until)) {
        (Some(since), Some(until)) if until < since => {
            Err(Failure::usage("--since is later than --until: nothing lies between"))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn times_are_points_or_lengths_ago() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T00:00:00Z").unwrap().to_utc();
        let read = |text: &str| instant(Some(text.to_owned()), now).map_err(|failure| failure.exit);
        assert_eq!(read("2026-01-01T12:00:00+01:00"), Ok(Some("2026-01-01T12:00:00+01:00".to_owned())));
        assert_eq!(read("2h"), Ok(Some("2026-01-01T22:00:00Z".to_owned())));
        assert_eq!(read("yesterday"), Err(Exit::Usage));
        assert_eq!(read("999999999999d"), Err(Exit::Usage));
    }
}
