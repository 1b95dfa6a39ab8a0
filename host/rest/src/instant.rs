//! Instants as RFC 3339 text and back. Microseconds are kept, so a time read here can be asked for
//! again without missing its own row.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::time::Timestamp;

/// RFC 3339 in UTC, with microseconds.
pub fn text(at: Timestamp) -> String {
    let instant = DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads RFC 3339 with any offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| Timestamp(instant.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_back_to_the_microsecond() {
        let at = Timestamp(1_700_000_000_123_456);
        assert_eq!(text(at), "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse(&text(at)), Some(at));
        assert_eq!(parse("2023-11-14T23:13:20.123456+01:00"), Some(at));
        for bad in ["", "now", "2023-11-14", "2023-11-14T22:13:20", "1700000000"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_end_of_time_is_still_text() {
        assert!(text(Timestamp(i64::MAX)).ends_with('Z'));
        assert!(text(Timestamp(i64::MIN)).ends_with('Z'));
    }
}
