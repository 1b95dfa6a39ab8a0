//! Telemetry as bytes: one packed row a report, one a bucket. Written and read by both databases alike.
//!
//! A row is a version, then its series one after another: the metric's number; its form; when the form says so a
//! label, its length and its bytes; then its numbers, as the form says. A bucket has its count before its last
//! number, and the rest only when that is not one. Whoever reads needs to know no metric to find the next one:
//! hosts of two versions write to one store, and each takes the metrics that it knows.

use domain::telemetry::metric::{Metric, Series};
use domain::telemetry::report::Reading;
use domain::telemetry::rollup::{Bucket, Level, Summary};
use domain::time::Timestamp;

const VERSION: u8 = 2;
/// Whole numbers below this are exact as they are.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// How numbers are written: the lower two bits of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// Four bytes each.
    Rough,
    /// Whole ones, one to ten bytes each.
    Whole,
    /// Eight bytes each.
    Exact,
}

/// Where the label is: the two bits above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// There is none.
    None,
    /// Its length and its bytes come next.
    Own,
    /// That of the last series before that has one.
    Same,
}

/// A report's numbers.
pub(crate) fn report(readings: &[Reading]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + readings.len() * 8);
    out.push(VERSION);
    let mut before = "";
    for Reading { series, value } in readings {
        let numbers = put_series(&mut out, series, &mut before, &[*value]);
        put_number(&mut out, numbers, *value);
    }
    out
}

/// A bucket's numbers. Public for whoever fills a store by the million.
pub fn bucket(bucket: &Bucket) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + bucket.series.len() * 24);
    out.push(VERSION);
    let mut before = "";
    for (series, Summary { min, max, sum, last, count }) in &bucket.series {
        let numbers = put_series(&mut out, series, &mut before, &[*last, *min, *max]);
        put_whole(&mut out, *count);
        put_number(&mut out, numbers, *last);
        if *count != 1 {
            put_number(&mut out, numbers, *min);
            put_number(&mut out, numbers, *max);
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }
    out
}

/// Reads what [`report`] or [`bucket()`] wrote, here or in another version of this program: series of metrics that
/// this one does not know are left out.
pub(crate) fn read(level: Level, start: Timestamp, bytes: &[u8]) -> Result<Bucket, String> {
    let mut cursor = Cursor(bytes);
    match cursor.byte()? {
        VERSION => {}
        other => return Err(format!("telemetry of form {other}, and this program knows {VERSION}")),
    }
    let mut series = Vec::new();
    let mut before = "";
    while !cursor.0.is_empty() {
        let (code, (numbers, label)) = (cursor.byte()?, form(cursor.byte()?)?);
        if label == Label::Own {
            let length = usize::from(cursor.byte()?);
            before = std::str::from_utf8(cursor.take(length)?).map_err(|error| error.to_string())?;
        }
        let summary = match level {
            Level::Raw => Summary::of(cursor.number(numbers)?),
            Level::Minute | Level::Hour => cursor.summary(numbers)?,
        };
        if let Some(metric) = Metric::of_code(code) {
            let label = if label == Label::None { String::new() } else { before.to_owned() };
            series.push((Series { metric, label }, summary));
        }
    }
    Ok(Bucket { start, series })
}

/// Which form these two make.
fn form_of(numbers: Numbers, label: Label) -> u8 {
    let numbers = match numbers {
        Numbers::Rough => 0,
        Numbers::Whole => 1,
        Numbers::Exact => 2,
    };
    let label = match label {
        Label::None => 0,
        Label::Own => 1,
        Label::Same => 2,
    };
    numbers | label << 2
}

/// What [`form_of`] made.
fn form(byte: u8) -> Result<(Numbers, Label), String> {
    let numbers = match byte & 3 {
        0 => Numbers::Rough,
        1 => Numbers::Whole,
        2 => Numbers::Exact,
        _ => return Err(format!("no numbers have the form {byte}")),
    };
    let label = match byte >> 2 {
        0 => Label::None,
        1 => Label::Own,
        2 => Label::Same,
        _ => return Err(format!("no series has the form {byte}")),
    };
    Ok((numbers, label))
}

/// Writes which series it is, and answers how its numbers are to be written.
fn put_series<'a>(out: &mut Vec<u8>, series: &'a Series, before: &mut &'a str, values: &[f64]) -> Numbers {
    let is_whole = |value: &f64| (0.0..WHOLE).contains(value) && value.fract() == 0.0;
    let numbers = if series.metric.unit().is_rough() {
        Numbers::Rough
    } else if values.iter().all(is_whole) {
        Numbers::Whole
    } else {
        Numbers::Exact
    };
    // Labels were checked when they came; a longer one could not be said here.
    let length = u8::try_from(series.label.len()).ok();
    let own = if length.is_some() { series.label.as_str() } else { "" };
    let label = if series.metric.label().is_empty() {
        Label::None
    } else if own == *before {
        Label::Same
    } else {
        Label::Own
    };
    out.extend_from_slice(&[series.metric.code(), form_of(numbers, label)]);
    if label == Label::Own {
        out.push(length.unwrap_or(0));
        out.extend_from_slice(own.as_bytes());
        *before = own;
    }
    numbers
}

fn put_number(out: &mut Vec<u8>, numbers: Numbers, value: f64) {
    match numbers {
        Numbers::Rough => out.extend_from_slice(&(value as f32).to_le_bytes()),
        Numbers::Whole => put_whole(out, value as u64),
        Numbers::Exact => out.extend_from_slice(&value.to_le_bytes()),
    }
}

/// Seven bits a byte, the lowest first.
fn put_whole(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("telemetry ends in the middle")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "telemetry ends in the middle".to_owned())
    }

    fn whole(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a whole number does not end".to_owned())
    }

    fn number(&mut self, numbers: Numbers) -> Result<f64, String> {
        Ok(match numbers {
            Numbers::Rough => f64::from(f32::from_le_bytes(self.array()?)),
            Numbers::Whole => self.whole()? as f64,
            Numbers::Exact => f64::from_le_bytes(self.array()?),
        })
    }

    fn summary(&mut self, numbers: Numbers) -> Result<Summary, String> {
        let count = self.whole()?;
        let last = self.number(numbers)?;
        if count == 1 {
            return Ok(Summary::of(last));
        }
        let (min, max) = (self.number(numbers)?, self.number(numbers)?);
        let sum = f64::from_le_bytes(self.array()?);
        Ok(Summary { min, max, sum, last, count })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::telemetry::rollup::roll;
    use plan::id::AgentId;

    use super::*;
    use crate::tiers::{Row, rolled};

    fn readings(n: f64) -> Vec<Reading> {
        vec![
            Reading::new(Metric::CpuTotal, 12.5 + n),
            Reading::labelled(Metric::DiskUsedPct, "/", 50.0),
            Reading::labelled(Metric::DiskUsed, "/", 123_456_789_012.0 + n),
            Reading::labelled(Metric::DiskTotal, "/", 0.0),
            Reading::labelled(Metric::DiskUsed, "/var/löb", 1.0),
            Reading::labelled(Metric::ContainerExitCode, "job", -1.0),
            Reading::new(Metric::AgentRss, 9_007_199_254_740_993.0),
        ]
    }

    #[test]
    fn a_report_reads_back_as_it_was() {
        let bytes = report(&readings(0.0));
        let at = Timestamp(5);
        assert_eq!(read(Level::Raw, at, &bytes), Ok(Bucket::of(at, readings(0.0))));
        assert!(bytes.len() < 70, "{} bytes", bytes.len());
    }

    #[test]
    fn a_bucket_reads_back_as_it_was() {
        let reports = (0..3_i32).map(|n| Bucket::of(Timestamp(n.into()), readings(n.into())));
        for made in roll(reports, Duration::from_secs(60)) {
            assert_eq!(read(Level::Minute, made.start, &bucket(&made)), Ok(made));
        }
    }

    /// A series as another program may write it: any number for its metric, any form.
    fn series(code: u8, form: u8, label: Option<&str>, numbers: &[u8]) -> Vec<u8> {
        let label = label.map(|text| [&[text.len() as u8][..], text.as_bytes()].concat()).unwrap_or_default();
        [&[code, form][..], &label, numbers].concat()
    }

    /// A row of a program that knows metrics from 200 on, with and without labels, between those that are known here.
    fn row_of_tomorrow(level: Level) -> Vec<u8> {
        // A report has one number; a bucket its count, the last, the least and the most, and the sum.
        let numbers = |number: &[u8]| {
            if level == Level::Raw { number.to_vec() } else { [&[2][..], number, number, number, &[0; 8]].concat() }
        };
        let (rough, exact) = (numbers(&12.5_f32.to_le_bytes()), numbers(&0.1_f64.to_le_bytes()));
        let whole = numbers(&[0xac, 0x02]);
        [
            vec![VERSION],
            series(200, 0, None, &rough),
            series(Metric::CpuTotal.code(), 0, None, &rough),
            series(201, 2, None, &exact),
            series(202, 1 | 1 << 2, Some("/data"), &whole),
            series(Metric::DiskUsed.code(), 1 | 2 << 2, None, &whole),
            series(203, 2 << 2, None, &rough),
            series(Metric::AgentQueue.code(), 1, None, &whole),
            series(255, 2 | 1 << 2, Some("x"), &exact),
        ]
        .concat()
    }

    #[test]
    fn metrics_that_are_not_known_here_are_left_out_and_the_others_read_as_they_are() {
        for level in Level::ALL {
            let (start, bytes) = (Timestamp(5), row_of_tomorrow(level));
            let of = |value: f64| match level {
                Level::Raw => Summary::of(value),
                Level::Minute | Level::Hour => Summary { min: value, max: value, sum: 0.0, last: value, count: 2 },
            };
            let expected = vec![
                (Series::of(Metric::CpuTotal), of(12.5)),
                (Series { metric: Metric::DiskUsed, label: "/data".to_owned() }, of(300.0)),
                (Series::of(Metric::AgentQueue), of(300.0)),
            ];
            assert_eq!(read(level, start, &bytes), Ok(Bucket { start, series: expected }), "{level:?}");
        }
        // So they are in roll-ups, which are made of what can be read.
        let agent = AgentId(uuid::Uuid::from_u128(1));
        let row = |at: i64| Row { agent, at: Timestamp(at), report: row_of_tomorrow(Level::Raw) };
        let made = rolled(vec![row(1), row(2)], Level::Raw, Level::Minute.span());
        let minute = made[0].bucket(Level::Minute).expect("it can be read");
        let names: Vec<String> = minute.series.iter().map(|(series, _)| series.to_string()).collect();
        assert_eq!(names, ["cpu.total", "disk.used{/data}", "agent.queue"]);
        assert!(minute.series.iter().all(|(_, summary)| summary.count == 2), "{minute:?}");
    }

    #[test]
    fn a_row_with_fewer_metrics_or_none_reads_as_what_it_has() {
        for level in Level::ALL {
            assert_eq!(read(level, Timestamp(5), &[VERSION]), Ok(Bucket { start: Timestamp(5), series: vec![] }));
        }
        let yesterday = [vec![VERSION], series(Metric::Load1.code(), 0, None, &0.5_f32.to_le_bytes())].concat();
        let known = vec![Reading::new(Metric::Load1, 0.5)];
        assert_eq!(read(Level::Raw, Timestamp(5), &yesterday), Ok(Bucket::of(Timestamp(5), known.clone())));
        assert_eq!(report(&known), yesterday, "as it is written today");
    }

    #[test]
    fn what_is_cut_off_anywhere_or_of_another_form_is_an_error_and_no_panic() {
        for level in Level::ALL {
            for bytes in [report(&readings(0.0)), row_of_tomorrow(level)] {
                for end in 0..bytes.len() {
                    _ = read(level, Timestamp(0), &bytes[..end]);
                }
            }
        }
        assert!(read(Level::Raw, Timestamp(0), &[]).is_err());
        assert!(read(Level::Raw, Timestamp(0), &[VERSION + 1]).is_err());
        for no_form in [3, 3 << 2, 1 << 4] {
            assert!(read(Level::Raw, Timestamp(0), &[VERSION, 1, no_form, 0, 0, 0, 0]).is_err(), "{no_form}");
        }
        assert!(read(Level::Hour, Timestamp(0), &[&[VERSION, 1, 0][..], &[0xff; 12]].concat()).is_err());
    }
}
