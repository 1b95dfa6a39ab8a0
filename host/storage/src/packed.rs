//! Telemetry as bytes: one packed row a report, one a bucket. Written and read by both databases alike.
//!
//! A row is a version, then its series one after another: the metric's number; of a metric with a label its
//! length and its bytes, or 255 when it is that of the series before; then its numbers. A rough number is four
//! bytes, another eight, or one to ten when it is whole. A bucket has its count first, and the rest only when
//! that is not one.

use domain::telemetry::metric::{Metric, Series};
use domain::telemetry::report::Reading;
use domain::telemetry::rollup::{Bucket, Level, Summary};
use domain::time::Timestamp;

const VERSION: u8 = 1;
/// The label of the series before.
const SAME: u8 = 255;
/// Whole numbers below this are exact as they are.
const WHOLE: f64 = 9_007_199_254_740_992.0;
/// What follows is whole, or is not.
const IS_WHOLE: u8 = 1;
const IS_NOT: u8 = 0;

/// A report's numbers.
pub(crate) fn report(readings: &[Reading]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + readings.len() * 8);
    out.push(VERSION);
    let mut before = "";
    for Reading { series, value } in readings {
        put_series(&mut out, series, &mut before);
        put_number(&mut out, series.metric, *value);
    }
    out
}

/// A bucket's numbers. Public for whoever fills a store by the million.
pub fn bucket(bucket: &Bucket) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + bucket.series.len() * 24);
    out.push(VERSION);
    let mut before = "";
    for (series, Summary { min, max, sum, last, count }) in &bucket.series {
        put_series(&mut out, series, &mut before);
        put_whole(&mut out, *count);
        put_number(&mut out, series.metric, *last);
        if *count != 1 {
            put_number(&mut out, series.metric, *min);
            put_number(&mut out, series.metric, *max);
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }
    out
}

/// Reads what [`report`] or [`bucket()`] wrote.
pub(crate) fn read(level: Level, start: Timestamp, bytes: &[u8]) -> Result<Bucket, String> {
    let mut cursor = Cursor(bytes);
    match cursor.byte()? {
        VERSION => {}
        other => return Err(format!("telemetry of form {other}, and this program knows {VERSION}")),
    }
    let mut series = Vec::new();
    let mut before = String::new();
    while !cursor.0.is_empty() {
        let code = cursor.byte()?;
        let metric = Metric::of_code(code).ok_or_else(|| format!("no metric has the number {code}"))?;
        let mut label = String::new();
        if !metric.label().is_empty() {
            match cursor.byte()? {
                SAME => label.clone_from(&before),
                length => {
                    let text = std::str::from_utf8(cursor.take(usize::from(length))?);
                    text.map_err(|error| error.to_string())?.clone_into(&mut label);
                    before.clone_from(&label);
                }
            }
        }
        let summary = match level {
            Level::Raw => Summary::of(cursor.number(metric)?),
            Level::Minute | Level::Hour => cursor.summary(metric)?,
        };
        series.push((Series { metric, label }, summary));
    }
    Ok(Bucket { start, series })
}

fn put_series<'a>(out: &mut Vec<u8>, series: &'a Series, before: &mut &'a str) {
    out.push(series.metric.code());
    if series.metric.label().is_empty() {
        return;
    }
    if series.label == *before {
        out.push(SAME);
        return;
    }
    // Labels were checked when they came; a longer one could not be said here.
    let length = u8::try_from(series.label.len()).ok().filter(|length| *length < SAME).unwrap_or(0);
    out.push(length);
    out.extend_from_slice(&series.label.as_bytes()[..usize::from(length)]);
    *before = &series.label;
}

fn put_number(out: &mut Vec<u8>, metric: Metric, value: f64) {
    if metric.unit().is_rough() {
        out.extend_from_slice(&(value as f32).to_le_bytes());
    } else if (0.0..WHOLE).contains(&value) && value.fract() == 0.0 {
        out.push(IS_WHOLE);
        put_whole(out, value as u64);
    } else {
        out.push(IS_NOT);
        out.extend_from_slice(&value.to_le_bytes());
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

    fn number(&mut self, metric: Metric) -> Result<f64, String> {
        if metric.unit().is_rough() {
            return Ok(f64::from(f32::from_le_bytes(self.array()?)));
        }
        match self.byte()? {
            IS_WHOLE => Ok(self.whole()? as f64),
            _ => Ok(f64::from_le_bytes(self.array()?)),
        }
    }

    fn summary(&mut self, metric: Metric) -> Result<Summary, String> {
        let count = self.whole()?;
        let last = self.number(metric)?;
        if count == 1 {
            return Ok(Summary::of(last));
        }
        let (min, max) = (self.number(metric)?, self.number(metric)?);
        let sum = f64::from_le_bytes(self.array()?);
        Ok(Summary { min, max, sum, last, count })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::telemetry::rollup::roll;

    use super::*;

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

    #[test]
    fn what_is_cut_off_anywhere_or_of_another_form_is_an_error_and_no_panic() {
        let bytes = report(&readings(0.0));
        for level in Level::ALL {
            for end in 0..bytes.len() {
                _ = read(level, Timestamp(0), &bytes[..end]);
            }
        }
        assert!(read(Level::Raw, Timestamp(0), &[]).is_err());
        assert!(read(Level::Raw, Timestamp(0), &[2]).is_err());
        assert!(read(Level::Raw, Timestamp(0), &[VERSION, 200]).is_err());
        assert!(read(Level::Hour, Timestamp(0), &[&[VERSION, 1][..], &[0xff; 12]].concat()).is_err());
    }
}
