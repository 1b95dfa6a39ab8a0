//! How many of something, in words.

use std::fmt::Display;

/// `1 fault`, `2 faults`, `0 faults`.
pub fn of<N: Display + From<u8> + PartialEq>(n: N, one: &str, more: &str) -> String {
    let word = if n == N::from(1) { one } else { more };
    format!("{n} {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let said = [0_u64, 1, 2, 11].map(|n| of(n, "entry", "entries"));
        assert_eq!(said, ["0 entries", "1 entry", "2 entries", "11 entries"]);
    }
}
