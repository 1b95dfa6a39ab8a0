//! Numbers as docker prints them for people, back to bytes and percent.
//!
//! Docker rounds to about four digits before it prints, so the bytes are as precise as that.

use viworks_sdk::outputs::cut;

/// Bytes of `732KiB`, `23.54GiB`, `1.99MB`, `0B`; `None` for `--` and what is no size.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(split)?;
    let factor = match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "PB" => 1e15,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        "PiB" => 1_125_899_906_842_624.0,
        _ => return None,
    };
    Some((decimal(number)? * factor + 0.5) as u64)
}

/// Both sizes of `732KiB / 23.54GiB`.
pub fn pair(text: &str) -> (Option<u64>, Option<u64>) {
    match cut(text, " / ") {
        Some((first, second)) => (bytes(first), bytes(second)),
        None => (None, None),
    }
}

/// The number of `2.29%`.
pub fn percent(text: &str) -> Option<f64> {
    decimal(text.trim().strip_suffix('%')?)
}

/// A short decimal number. The standard library's reading of floats would cost a component 20 KB.
fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || whole.len() + fraction.len() > 15 {
        return None;
    }
    let (mut digits, mut scale) = (0.0, 1.0);
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        digits = digits * 10.0 + f64::from(digit - b'0');
    }
    for _ in fraction.bytes() {
        scale *= 10.0;
    }
    Some(digits / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_become_bytes() {
        for (text, expected) in [
            ("0B", Some(0)),
            ("732KiB", Some(749_568)),
            ("23.54GiB", Some(25_275_882_537)),
            ("1.99MB", Some(1_990_000)),
            ("1.45kB", Some(1_450)),
            ("656B", Some(656)),
            ("1.2PiB", Some(1_351_079_888_211_149)),
            ("--", None),
            ("", None),
            ("MB", None),
            ("1.2.3MB", None),
            ("12XB", None),
            ("９MB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(pair("748KiB / 64MiB"), (Some(765_952), Some(67_108_864)));
        assert_eq!(pair("-- / --"), (None, None));
        assert_eq!(pair("0B"), (None, None));
    }

    #[test]
    fn percents_become_numbers() {
        for (text, expected) in
            [("2.29%", Some(2.29)), ("0.00%", Some(0.0)), ("801.55%", Some(801.55)), ("--", None), ("5", None)]
        {
            assert_eq!(percent(text), expected, "{text}");
        }
    }
}
