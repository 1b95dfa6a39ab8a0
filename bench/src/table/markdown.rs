//! The same table for a page: both stores side by side, figures in units that people read.

use super::{Goal, Row, Table};

/// Under which names stores stand in the results; what has no store stands under the first.
const STORES: [&str; 2] = ["sqlite", "postgres"];

/// Rows of one kind under either store.
struct Line<'r> {
    axis: &'r str,
    what: &'r str,
    stores: [Option<&'r Row>; 2],
}

impl Table {
    /// The table in Markdown: a line for each axis.
    pub fn markdown(&self) -> String {
        let mut lines: Vec<Line<'_>> = Vec::new();
        for row in &self.rows {
            // A3 is what A1 is on the other store.
            let is_same = |line: &Line<'_>| line.what == row.what && (line.axis == row.axis || row.axis == "A3");
            let place = usize::from(row.store == STORES[1]);
            match lines.iter_mut().find(|line| is_same(line) && line.stores[place].is_none()) {
                Some(line) => line.stores[place] = Some(row),
                None => {
                    let mut line = Line { axis: &row.axis, what: &row.what, stores: [None, None] };
                    line.stores[place] = Some(row);
                    lines.push(line);
                }
            }
        }
        let mut text = "| id | axis | SQLite: ours | beside | ratio | PostgreSQL: ours | beside | ratio | gate |\n\
                        |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for line in lines {
            let cells: Vec<String> = line.stores.iter().flat_map(|row| cells(*row)).collect();
            text += &format!("| {} | {} | {} | {} |\n", line.axis, line.what, cells.join(" | "), gate(line.stores));
        }
        text
    }
}

fn cells(row: Option<&Row>) -> [String; 3] {
    let Some(row) = row else { return ["–", "–", ""].map(str::to_owned) };
    if row.ours.is_none() && !row.skipped.is_empty() {
        return [row.skipped.clone(), "–".to_owned(), String::new()];
    }
    let ratio = row.ratio();
    let ratio = match ratio {
        _ if !ratio.is_finite() => String::new(),
        _ if ratio.abs() < 20.0 => format!("{ratio:.2}"),
        _ => grouped(ratio),
    };
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| figure(value, &row.unit));
    [figure(row.ours), figure(row.beside), ratio]
}

/// What is demanded, and of which store that was met.
fn gate(stores: [Option<&Row>; 2]) -> String {
    let judged = |row: &&Row| row.goal != Goal::Told;
    let [sqlite, postgres] = stores.map(|row| row.filter(judged));
    match (sqlite, postgres) {
        (None, None) => String::new(),
        (Some(row), Some(other)) if row.goal == other.goal => match (row.verdict(), other.verdict()) {
            (both, same) if both == same => format!("{}, both {both}", row.goal),
            (one, other) => format!("{}, {one} / {other}", row.goal),
        },
        (Some(row), Some(other)) => {
            format!("{}, {} / {}, {}", row.goal, row.verdict(), other.goal, other.verdict())
        }
        (Some(row), None) if stores[1].is_some() => format!("{} on SQLite, {}", row.goal, row.verdict()),
        (None, Some(row)) if stores[0].is_some() => format!("{} on PostgreSQL, {}", row.goal, row.verdict()),
        (Some(row), None) | (None, Some(row)) => format!("{}, {}", row.goal, row.verdict()),
    }
}

/// A figure in the unit of its size.
fn figure(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "µs" if value >= 1_000.0 => (value / 1_000.0, "ms"),
        "B" if value >= 1_048_576.0 => (value / 1_048_576.0, "MiB"),
        "B" if value >= 1_024.0 => (value / 1_024.0, "KiB"),
        _ => (value, unit),
    };
    let number = match (value, unit) {
        _ if value.fract() == 0.0 || value.abs() >= 100.0 => grouped(value),
        (_, "of a core") => format!("{value:.3}"),
        (_, "" | "s") => format!("{value:.2}"),
        _ if value.abs() >= 10.0 && matches!(unit, "µs" | "/s") => grouped(value),
        _ => format!("{value:.1}"),
    };
    match unit {
        "" => number,
        "/s" => format!("{number}/s"),
        _ => format!("{number} {unit}"),
    }
}

/// Without a fraction, its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stores_stand_side_by_side_and_each_says_whether_it_is_enough() {
        let row =
            |axis: &str, what: &str, goal: Goal, ours: f64, beside: f64| Row::new(axis, what, "/s", goal, ours, beside);
        let least = Goal::AtLeast(0.2);
        let rows = vec![
            row("A1", "done", least, 10_000.0, 40_000.0).on("sqlite"),
            row("C1", "stored", least, 1.0, 2.0).on("sqlite"),
            Row::new("G2", "memory", "B", Goal::AtMost(3.5), 41_943_040.0, 10_485_760.0),
            row("A3", "done", least, 4_000.0, 40_000.0).on("postgres"),
            row("C1", "stored", Goal::Told, 1.0, 4.0).on("postgres"),
            Row::new("B3", "idle", "of a core", Goal::Told, 0.055, f64::NAN),
            Row::skipped("I1", "half an hour", "left out").on("postgres"),
        ];
        let table = Table { rows, conditions: None };
        let lines: Vec<String> = table.markdown().lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "| A1 | done | 10,000/s | 40,000/s | 0.25 | 4,000/s | 40,000/s | 0.10 | ≥ 0.2, met / missed |",
                "| C1 | stored | 1/s | 2/s | 0.50 | 1/s | 4/s | 0.25 | ≥ 0.2 on SQLite, met |",
                "| G2 | memory | 40 MiB | 10 MiB | 4.00 | – | – |  | ≤ 3.5, missed |",
                "| B3 | idle | 0.055 of a core | – |  | – | – |  |  |",
                "| I1 | half an hour | – | – |  | left out | – |  |  |",
            ]
        );
    }

    #[test]
    fn figures_are_told_in_the_unit_of_their_size() {
        let told = |value: f64, unit: &str| figure(value, unit);
        assert_eq!(told(999.4, "µs"), "999 µs");
        assert_eq!(told(2_812.0, "µs"), "2.8 ms");
        assert_eq!(told(548_410.0, "µs"), "548 ms");
        assert_eq!(told(9_905.0, "B"), "9.7 KiB");
        assert_eq!(told(257_949_696.0, "B"), "246 MiB");
        assert_eq!(told(1_331_959.0, "/s"), "1,331,959/s");
        assert_eq!(told(3.4, "/s"), "3.4/s");
        assert_eq!(told(0.037, ""), "0.04");
        assert_eq!(told(68_908.0, ""), "68,908");
        assert_eq!(told(1.5, "s"), "1.50 s");
    }
}
