//! The table of goals: each a ratio of product to bare, both from one repetition; the median over the
//! repetitions is what counts, never a ratio of medians.

use serde_json::{Map, Value, json};

use crate::report::{Measured, round};
use crate::suite::bare::Bare;
use crate::suite::product::Product;
use crate::table::{FAILED, Goal, Row};

/// The share of latencies that may lie where a delayed acknowledgement would put a mode.
const MODE: f64 = 0.05;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    goal: Goal,
    /// Product and bare, one pair for each repetition.
    pairs: Vec<(f64, f64)>,
}

impl Figure {
    fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = self.pairs.iter().map(|(product, bare)| product / bare).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    fn median(&self) -> f64 {
        median(&self.ratios())
    }

    /// `holds`, `missed`, or `unclear` when repetitions disagree.
    fn verdict(&self) -> &'static str {
        let ratios = self.ratios();
        match ratios.iter().filter(|ratio| self.goal.holds(**ratio)).count() {
            0 => "missed",
            all if all == ratios.len() => "holds",
            _ => "unclear",
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// All lines.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    lines: Vec<Figure>,
}

impl Figures {
    /// Adds one repetition: the bare figures from before and after the product's are averaged.
    pub fn add(&mut self, before: &Bare, product: &Product, after: &Bare) {
        let bare = |of: fn(&Bare) -> f64| f64::midpoint(of(before), of(after));
        let noted = |name| product.idle.noted(name).unwrap_or(f64::NAN);
        // What does not count has no figures.
        let counts = |found: &Measured, value: f64| if found.faults.is_empty() { value } else { f64::NAN };
        let floor = bare(Bare::floor_us);
        self.pair(
            "A1",
            "durable commands ÷ store's whole life × 64",
            "/s",
            Goal::AtLeast(0.20),
            counts(&product.commands, product.commands.rate),
            bare(|b| b.life_64.rate),
        );
        let commits = product.commands.noted("commits_per_op").unwrap_or(f64::NAN);
        self.pair("A1", "commits per command at saturation ÷ 1", "", Goal::Told, commits, 1.0);
        let cpu = counts(&product.commands, product.commands.server_us().unwrap_or(f64::NAN));
        self.pair("A4", "host CPU per command ÷ route + life + hub", "µs", Goal::AtMost(2.0), cpu, bare(Bare::cpu_us));
        let light = |value| counts(&product.light, value);
        let p50 = light(product.light.latency.p50_us);
        self.pair("A5", "50/s: p50 ÷ (hub round trip + 2 commits)", "µs", Goal::AtMost(2.0), p50, floor);
        let p99 = light(product.light.latency.p99_us);
        self.pair("A5", "50/s: p99 ÷ the same", "µs", Goal::AtMost(6.0), p99, floor);
        let commits = light(product.light.noted("commits_per_op").unwrap_or(f64::NAN));
        self.pair("A5", "50/s: commits per command ÷ 1", "", Goal::Told, commits, 1.0);
        // A round trip and commits that follow on each other find a machine awake; under light load nobody does.
        let idle = bare(Bare::rare_floor_us);
        let what = "50/s: p50 ÷ the same parts, each at 50/s";
        self.pair("A5", what, "µs", Goal::Told, p50, idle);
        for (what, goal, ours, hub) in [
            ("half of saturation: p99 ÷ hub's at that rate", Goal::AtMost(5.0), &product.half, &after.hub_half),
            ("0.8 of saturation: p99 ÷ hub's at that rate", Goal::Told, &product.most, &after.hub_most),
        ] {
            if let Some(hub) = hub {
                self.pair("A7", what, "µs", goal, counts(ours, ours.latency.p99_us), hub.latency.p99_us);
            }
        }
        let what = "half of saturation: share between 35 and 55 ms ÷ what no mode there leaves";
        self.pair("A7", what, "", Goal::AtMost(1.0), counts(&product.half, product.half.latency.mode_40ms_share), MODE);
        let memory = bare(|b| b.hub_idle.noted("memory_per_agent_bytes").unwrap_or(f64::NAN));
        // So few agents bear what a host takes once: the goal is held with thousands of them.
        self.pair("B1", "memory per idle agent ÷ hub", "B", Goal::Told, noted("memory_per_agent_bytes"), memory);
        let route = bare(|b| b.route.rate);
        self.pair("E1", "GET one agent ÷ bare route + JWT", "/s", Goal::AtLeast(0.6), product.read_agent.rate, route);
        self.pair(
            "E2",
            "GET one command ÷ bare route + JWT",
            "/s",
            Goal::AtLeast(0.3),
            product.read_command.rate,
            route,
        );
        let fan_out = bare(|b| b.hub_fan_out.latency.p50_us);
        self.pair(
            "F1",
            "one command to all ÷ hub's fan-out",
            "µs",
            Goal::AtMost(2.5),
            product.broadcast.latency.p50_us,
            fan_out,
        );
    }

    fn pair(&mut self, id: &'static str, what: &'static str, unit: &'static str, goal: Goal, product: f64, bare: f64) {
        // What could not be measured, or does not count, is a line without figures.
        let pair = (product.is_finite() && bare.is_finite()).then_some((product, bare));
        match self.lines.iter_mut().find(|line| line.what == what) {
            Some(line) => line.pairs.extend(pair),
            None => self.lines.push(Figure { id, what, unit, goal, pairs: pair.into_iter().collect() }),
        }
    }

    /// Whether every median is on the right side of its goal.
    pub fn hold(&self) -> bool {
        self.lines.iter().all(|line| line.goal.holds(line.median()))
    }

    /// Its lines for the table of all axes, each with the pair whose ratio is the median one.
    pub fn rows(&self, store: &str) -> Vec<Row> {
        let row = |line: &Figure| {
            let mut pairs = line.pairs.clone();
            pairs.sort_by(|(ours, bare), (other, beside)| (ours / bare).total_cmp(&(other / beside)));
            // On PostgreSQL the same axis has a name of its own.
            let axis = if (line.id, store) == ("A1", "postgres") { "A3" } else { line.id };
            match pairs.get(pairs.len() / 2) {
                Some((ours, bare)) => Row::new(axis, line.what, line.unit, line.goal, *ours, *bare).on(store),
                None => Row::skipped(axis, line.what, format!("{FAILED}no repetition of it counts")).on(store),
            }
        };
        self.lines.iter().map(row).collect()
    }

    /// The table as JSON, one entry for each line.
    pub fn summary(&self) -> Map<String, Value> {
        let entry = |line: &Figure| {
            let pairs: Vec<Value> =
                line.pairs.iter().map(|(product, bare)| json!([round(*product), round(*bare)])).collect();
            let (kind, goal) = match line.goal {
                Goal::AtLeast(least) => ("at_least", least),
                Goal::AtMost(most) => ("at_most", most),
                Goal::Told => ("told", f64::NAN),
            };
            json!({ "id": line.id, "unit": line.unit, kind: goal, "median": round(line.median()), "pairs": pairs, "verdict": line.verdict() })
        };
        self.lines.iter().map(|line| (line.what.to_owned(), entry(line))).collect()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:<3} {:<46} {:>12} {:>12} {:>8} {:>15}  {:<8} verdict",
            "id", "what", "product", "bare", "ratio", "spread", "gate"
        )?;
        for line in &self.lines {
            let middle = |of: fn(&(f64, f64)) -> f64| {
                let mut all: Vec<f64> = line.pairs.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                median(&all)
            };
            let ratios = line.ratios();
            let (least, most) =
                (ratios.first().copied().unwrap_or(f64::NAN), ratios.last().copied().unwrap_or(f64::NAN));
            let gate = line.goal;
            let product = format!("{:.0} {}", middle(|pair| pair.0), line.unit);
            let bare = format!("{:.0} {}", middle(|pair| pair.1), line.unit);
            let spread = format!("{least:.3}–{most:.3}");
            let ratio = line.median();
            writeln!(
                f,
                "{:<3} {:<46} {product:>12} {bare:>12} {ratio:>8.3} {spread:>15}  {gate:<8} {}",
                line.id,
                line.what,
                line.verdict()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(f64, f64)], goal: Goal) -> Figures {
        let mut figures = Figures::default();
        pairs.iter().for_each(|(product, bare)| figures.pair("A1", "x ÷ y", "/s", goal, *product, *bare));
        figures
    }

    #[test]
    fn the_median_of_ratios_counts_and_not_the_ratio_of_medians() {
        // Ratios 1, 0.1, 0.5: the median is 0.5; the ratio of medians would be 0.1.
        let found = figures(&[(10.0, 10.0), (10.0, 100.0), (100.0, 200.0)], Goal::AtLeast(0.4));
        assert!((found.lines[0].median() - 0.5).abs() < 1e-9);
        assert!(found.hold());
        assert_eq!(found.lines[0].verdict(), "unclear");
    }

    #[test]
    fn goals_have_a_right_side() {
        assert!(figures(&[(2.0, 1.0)], Goal::AtMost(2.0)).hold());
        assert!(!figures(&[(2.1, 1.0)], Goal::AtMost(2.0)).hold());
        assert_eq!(figures(&[(1.0, 10.0)], Goal::AtLeast(0.2)).lines[0].verdict(), "missed");
        // What could not be measured does not pass.
        assert!(!figures(&[(f64::NAN, 1.0)], Goal::AtMost(2.0)).hold());
        assert!(!figures(&[(f64::NAN, 1.0)], Goal::AtLeast(0.1)).hold());
    }

    #[test]
    fn the_table_shows_both_sides_and_the_verdict() {
        let text = figures(&[(10_000.0, 50_000.0)], Goal::AtLeast(0.2)).to_string();
        assert!(text.contains("10000 /s") && text.contains("50000 /s") && text.contains("0.200"), "{text}");
        assert!(text.contains("≥ 0.2") && text.contains("holds"), "{text}");
    }
}
