//! From where on a number is too high or too low, and for how long it must be.

/// Two levels, how far below them it is well again, and for how long it must last.
///
/// ```
/// use viworks_sdk::rule::Levels;
///
/// let levels = Levels::new(80.0, 95.0).clear_by(5.0).after(300).saying("the processor is {value} % busy");
/// # let _ = levels;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    pub(super) warning: f64,
    pub(super) critical: f64,
    pub(super) clear_by: f64,
    pub(super) after_ms: u64,
    pub(super) saying: &'static str,
}

impl Levels {
    /// A warning from `warning` on, critical from `critical` on: at once, and well again just before.
    ///
    /// ```
    /// use viworks_sdk::rule::Levels;
    ///
    /// Levels::new(80.0, 95.0);
    /// // Never critical:
    /// Levels::new(80.0, f64::INFINITY);
    /// ```
    pub fn new(warning: f64, critical: f64) -> Levels {
        Levels { warning, critical, clear_by: 0.0, after_ms: 0, saying: "{metric} is {value}" }
    }

    /// What was told of is well again only when it is so far back behind its level: a number that swings about
    /// the level is told of once.
    ///
    /// ```
    /// use viworks_sdk::rule::Levels;
    ///
    /// // A warning at 80 that goes at 75.
    /// Levels::new(80.0, 95.0).clear_by(5.0);
    /// ```
    pub fn clear_by(self, clear_by: f64) -> Levels {
        Levels { clear_by, ..self }
    }

    /// Pending for so many seconds: only what lasts is told of.
    ///
    /// ```
    /// use viworks_sdk::rule::Levels;
    ///
    /// Levels::new(80.0, 95.0).after(300);
    /// ```
    pub fn after(self, seconds: u64) -> Levels {
        Levels { after_ms: seconds.saturating_mul(1000), ..self }
    }

    /// The line for people. `{value}`, `{label}` and `{metric}` stand for those of the reading.
    ///
    /// ```
    /// use viworks_sdk::rule::Levels;
    ///
    /// Levels::new(85.0, 95.0).saying("{label} is {value} % full");
    /// ```
    pub fn saying(self, saying: &'static str) -> Levels {
        Levels { saying, ..self }
    }

    /// How bad `value` is, 0 to 2, if `held` is what was told of until now. High is bad.
    pub(super) fn above(&self, value: f64, held: u8) -> u8 {
        let reaches = |level: f64, told: bool| value >= level || (told && value > level - self.clear_by);
        if reaches(self.critical, held >= 2) { 2 } else { u8::from(reaches(self.warning, held >= 1)) }
    }

    /// The same where low is bad.
    pub(super) fn below(&self, value: f64, held: u8) -> u8 {
        let mirrored = Levels { warning: -self.warning, critical: -self.critical, clear_by: self.clear_by, ..*self };
        mirrored.above(-value, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_of_stays_until_it_is_well_behind_its_level() {
        let levels = Levels::new(80.0, 95.0).clear_by(5.0);
        for (value, held, expected) in [
            (79.9, 0, 0),
            (80.0, 0, 1),
            (95.0, 0, 2),
            (75.1, 0, 0),
            (75.1, 1, 1),
            (75.0, 1, 0),
            (90.1, 1, 1),
            (90.1, 2, 2),
            (90.0, 2, 1),
            (75.1, 2, 1),
            (75.0, 2, 0),
        ] {
            assert_eq!(levels.above(value, held), expected, "{value} after {held}");
        }
    }

    #[test]
    fn low_numbers_are_bad_the_other_way_round() {
        let levels = Levels::new(20.0, 5.0).clear_by(5.0);
        for (value, held, expected) in
            [(20.1, 0, 0), (20.0, 0, 1), (5.0, 0, 2), (24.9, 1, 1), (25.0, 1, 0), (9.9, 2, 2)]
        {
            assert_eq!(levels.below(value, held), expected, "{value} after {held}");
        }
    }
}
