//! Numbers of series with their units.

/// Units of bytes, each 1,024 of the one before.
const BYTES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of a series for people: `12.3%`, `1.5 GiB`, `0.50`.
pub(super) fn amount(series: &str, value: f64) -> String {
    let metric = series.split('{').next().unwrap_or(series);
    match metric {
        "cpu.total" | "cpu.core" | "container.cpu" => format!("{value:.1}%"),
        "mem.used" | "mem.total" | "swap.used" | "swap.total" | "disk.used" | "disk.total" | "container.mem"
        | "agent.rss" | "agent.spool" => bytes(value),
        "net.rx" | "net.tx" => format!("{}/s", bytes(value)),
        "load.1" | "load.5" | "load.15" => format!("{value:.2}"),
        _ if metric.ends_with("_pct") => format!("{value:.1}%"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn bytes(value: f64) -> String {
    let mut left = value;
    for unit in &BYTES[..BYTES.len() - 1] {
        if left.abs() < 1024.0 {
            let digits = usize::from(*unit != "B");
            return format!("{left:.digits$} {unit}");
        }
        left /= 1024.0;
    }
    format!("{left:.1} {}", BYTES[BYTES.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_units() {
        for (series, value, shown) in [
            ("cpu.total", 12.34, "12.3%"),
            ("disk.used_pct{/}", 90.0, "90.0%"),
            ("mem.used", 1_610_612_736.0, "1.5 GiB"),
            ("agent.rss", 512.0, "512 B"),
            ("net.rx{eth0}", 2048.0, "2.0 KiB/s"),
            ("disk.total{/}", 5.0e15, "4547.5 TiB"),
            ("load.1", 0.5, "0.50"),
            ("container.count", 3.0, "3"),
        ] {
            assert_eq!(amount(series, value), shown, "{series}");
        }
    }
}
