//! Points and lengths of time in words.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// How long ago an RFC 3339 time is: `12s`, `5m`, `3h`, `40d`; as it is when it cannot be read.
pub fn age(rfc3339: &str, now: DateTime<Utc>) -> String {
    let Ok(then) = DateTime::parse_from_rfc3339(rfc3339) else {
        return rfc3339.to_owned();
    };
    let seconds = (now - then.to_utc()).num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// An RFC 3339 time without fractions of its second; as it is when it cannot be read.
pub fn to_the_second(rfc3339: &str) -> String {
    let read = DateTime::parse_from_rfc3339(rfc3339);
    read.map_or_else(|_| rfc3339.to_owned(), |at| at.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// A length as people say it: `0.4 s`, `12.0 s`, `3 min 20 s`, `2 h 5 min`.
pub fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Reads a length as people write it: a number and `ms`, `s`, `m`, `h` or `d`, several in a row, or 0.
///
/// # Errors
/// In words, with an example.
pub fn parse_length(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let refused = || format!("`{text}` is no length of time: write for example 30s, 5m, 1h30m or 250ms");
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refused()),
        };
        rest = &rest[letters..];
        total_ms = number.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(refused)?;
    }
    if text.is_empty() { Err(refused()) } else { Ok(Duration::from_millis(total_ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_their_unit() {
        for (text, ms) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("1m500ms", 60_500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_length(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "1.5h", "5y", "99999999999999999999s", "99999999999999999d"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_said_in_words() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T00:00:00Z").unwrap().to_utc();
        for (then, said) in [
            ("2026-01-02T00:00:00Z", "0s"),
            ("2026-01-01T23:59:18Z", "42s"),
            ("2026-01-01T23:00:01Z", "59m"),
            ("2026-01-01T00:00:00Z", "24h"),
            ("2025-12-01T00:00:00Z", "32d"),
            ("2026-01-03T00:00:00Z", "0s"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(age(then, now), said);
        }
        assert_eq!(to_the_second("2026-01-02T01:00:00.999+01:00"), "2026-01-02T00:00:00Z");
        assert_eq!(length(Duration::from_millis(4_230)), "4.2 s");
        assert_eq!(length(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(length(Duration::from_secs(7_500)), "2 h 5 min");
    }
}
