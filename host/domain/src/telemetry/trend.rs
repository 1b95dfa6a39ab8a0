//! Where a series is going: a straight line through it by least squares, and when that line meets a ceiling.

use std::time::Duration;

use crate::time::Timestamp;

/// Fewer points say nothing.
pub const MIN_POINTS: usize = 6;
/// Nobody plans further ahead.
const HORIZON: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Two standard errors either way: about 95 of 100 when the points scatter evenly.
const ERRORS: f64 = 2.0;

/// A straight line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Change per hour.
    pub per_hour: f64,
    /// How far off that may be, one standard error.
    pub error_per_hour: f64,
    /// Where the line is at the last point.
    pub now: f64,
    /// Share of the movement that the line explains, 0 to 1.
    pub fit: f64,
    /// How many points.
    pub points: usize,
    /// When the last point was.
    pub at: Timestamp,
}

/// When a ceiling is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// By the line.
    pub at: Timestamp,
    /// By the steepest line that the points allow.
    pub earliest: Timestamp,
    /// By the flattest; `None` when that one never meets it.
    pub latest: Option<Timestamp>,
}

/// The line through `points`, in the order of time. `None` when there are too few, or all at one instant.
pub fn trend(points: &[(Timestamp, f64)]) -> Option<Trend> {
    let (last, _) = *points.last().filter(|_| points.len() >= MIN_POINTS)?;
    // Hours before the last point, so that numbers stay small and the line's value there is its intercept.
    let hours = |at: Timestamp| (at.0 - last.0) as f64 / 3.6e9;
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(at, _)| hours(*at)).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, value)| value).sum::<f64>() / n;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (at, value) in points {
        let (x, y) = (hours(*at) - mean_x, value - mean_y);
        (xx, xy, yy) = (xx + x * x, xy + x * y, yy + y * y);
    }
    if xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let left = (yy - slope * xy).max(0.0);
    let error = (left / (n - 2.0) / xx).sqrt();
    let fit = if yy > 0.0 { (1.0 - left / yy).clamp(0.0, 1.0) } else { 1.0 };
    Some(Trend {
        per_hour: slope,
        error_per_hour: error,
        now: mean_y - slope * mean_x,
        fit,
        points: points.len(),
        at: last,
    })
}

impl Trend {
    /// When the line meets `ceiling`. `None` when it does not rise, or not within ten years, or when it may as
    /// well fall: a flat line with noise on it foretells nothing.
    pub fn meets(&self, ceiling: f64) -> Option<Forecast> {
        let left = (ceiling - self.now).max(0.0);
        let after = |per_hour: f64| {
            let seconds = (per_hour > 0.0).then(|| left / per_hour * 3_600.0)?;
            (seconds <= HORIZON.as_secs_f64()).then(|| self.at + Duration::from_secs_f64(seconds))
        };
        let spread = ERRORS * self.error_per_hour;
        if self.per_hour <= spread / 2.0 {
            return None;
        }
        let at = after(self.per_hour)?;
        Some(Forecast { at, earliest: after(self.per_hour + spread)?, latest: after(self.per_hour - spread) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: impl IntoIterator<Item = f64>) -> Vec<(Timestamp, f64)> {
        values.into_iter().enumerate().map(|(hour, value)| (Timestamp(hour as i64 * 3_600_000_000), value)).collect()
    }

    #[test]
    fn a_straight_line_is_found_as_it_is() {
        let found = trend(&points((0..24).map(|hour| 40.0 + 0.5 * f64::from(hour)))).expect("enough points");
        assert!((found.per_hour - 0.5).abs() < 1e-9 && found.error_per_hour < 1e-6 && found.fit > 0.999_999);
        assert!((found.now - 51.5).abs() < 1e-9);
        let full = found.meets(100.0).expect("it rises");
        assert_eq!(full.at.since(found.at).as_secs(), 97 * 3_600);
        let apart = |at: Timestamp| (at.0 - full.at.0).abs();
        assert!(apart(full.earliest) < 1_000_000 && full.latest.is_some_and(|latest| apart(latest) < 1_000_000));
    }

    #[test]
    fn noise_widens_the_interval_and_a_flat_line_foretells_nothing() {
        let noise = |hour: i32| if hour % 2 == 0 { 1.0 } else { -1.0 };
        let rising = trend(&points((0..48).map(|h| 50.0 + 0.5 * f64::from(h) + noise(h)))).expect("enough");
        let full = rising.meets(100.0).expect("it rises");
        assert!(full.earliest < full.at && full.latest.is_some_and(|latest| latest > full.at));
        let flat = trend(&points((0..48).map(|h| 50.0 + noise(h)))).expect("enough");
        assert_eq!(flat.meets(100.0), None);
        let falling = trend(&points((0..48).map(|h| 50.0 - f64::from(h)))).expect("enough");
        assert_eq!(falling.meets(100.0), None);
    }

    #[test]
    fn too_few_points_and_points_at_one_instant_have_no_trend() {
        assert_eq!(trend(&points([1.0; MIN_POINTS - 1])), None);
        assert_eq!(trend(&[(Timestamp(0), 1.0); 10]), None);
        let level = trend(&points([7.0; 10])).expect("a level line");
        assert_eq!((level.per_hour, level.meets(100.0)), (0.0, None));
    }

    #[test]
    fn what_is_over_the_ceiling_already_meets_it_now() {
        let found = trend(&points((0..10).map(|hour| 99.0 + f64::from(hour)))).expect("enough");
        assert_eq!(found.meets(100.0).map(|full| full.at), Some(found.at));
    }
}
