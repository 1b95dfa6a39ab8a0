//! From when to when, how far apart and from what the past is told. What a question leaves open is chosen by its
//! first page, and the cursor of each page carries it: the pages after it go on with the same, however late they are
//! asked for and whatever has been said or rolled up since.

use std::time::Duration;

use domain::telemetry::history::{STEP, Window};
use domain::telemetry::rollup::Level;
use domain::time::Timestamp;

use crate::app::App;
use crate::instant;
use crate::page::{Asked, no_cursor};
use crate::problem::{Code, Problem};
use crate::query::{Query, backwards};

/// A span when none is asked for.
const DAY: Duration = Duration::from_secs(86_400);
/// Nobody can ask for an instant that is further from 1970 in microseconds, and what is reckoned with one stays one.
const FARTHEST: u64 = 1 << 60;
/// Points of a trend, and of a history whose step is not given.
const POINTS: u64 = 288;

/// Reads `from`, `to` and `step`, or what the cursor holds of them. What is left of the page that is `asked` for is
/// after which key it begins.
///
/// # Errors
/// 400 when one of them cannot be, or is another than the cursor's.
pub fn read(app: &App, query: &Query, mut asked: Asked) -> Result<(Window, Asked), Problem> {
    let span = query.between("from", "to")?;
    let step = step(query)?;
    let Some(key) = asked.after.take() else { return Ok((begin(app, span, step)?, asked)) };
    let (window, after) = parse(&key).ok_or_else(no_cursor)?;
    goes_on(&window, span, step)?;
    asked.after = Some(after.to_owned());
    Ok((window, asked))
}

/// The cursor of what comes after `after` in the same window.
pub fn cursor(asked: &Asked, window: &Window, after: &str) -> String {
    asked.cursor(&key(window, after))
}

fn key(window: &Window, after: &str) -> String {
    let Window { from, to, step, level } = window;
    format!("{} {} {} {} {after}", from.0, to.0, step.as_secs(), level.as_str())
}

fn parse(key: &str) -> Option<(Window, &str)> {
    let mut parts = key.splitn(5, ' ');
    let mut next = || parts.next();
    let [from, to] = [next()?, next()?].map(|text| text.parse().ok().map(Timestamp));
    let step = Duration::from_secs(next()?.parse().ok()?);
    let word = next()?;
    let level = Level::ALL.into_iter().find(|level| level.as_str() == word)?;
    let window = Window { from: from?, to: to?, step, level };
    let is_near = |at: Timestamp| at.0.unsigned_abs() <= FARTHEST;
    let is_span = window.from <= window.to && is_near(window.from) && is_near(window.to);
    let can_be = is_span && STEP.contains(&step) && window.has_step(step);
    Some((window, next()?)).filter(|_| can_be)
}

/// The first page's choice: the last day, and as many points as a chart is wide.
fn begin(
    app: &App,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    step: Option<Duration>,
) -> Result<Window, Problem> {
    let to = to.unwrap_or_else(|| app.clock.now());
    let from = from.unwrap_or(to - DAY);
    if from > to {
        return Err(backwards("from", "to"));
    }
    let usual = || Duration::from_secs((to.since(from).as_secs() / POINTS).clamp(60, STEP.end().as_secs()));
    Ok(app.history.window((from, to), step.unwrap_or_else(usual)))
}

/// Whether what stands beside a cursor is what it holds.
fn goes_on(
    window: &Window,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    step: Option<Duration>,
) -> Result<(), Problem> {
    let other = |name: &str, held: String| {
        let rule =
            format!("the cursor goes on with {held}; give that, or leave it out, or begin anew without `cursor`");
        Problem::at(Code::InvalidCursor, format!("?{name}"), rule)
    };
    for (name, asked, held) in [("from", from, window.from), ("to", to, window.to)] {
        if asked.is_some_and(|asked| asked != held) {
            return Err(other(name, instant::text(held)));
        }
    }
    match step {
        Some(step) if !window.has_step(step) => Err(other("step", window.step.as_secs().to_string())),
        Some(_) | None => Ok(()),
    }
}

/// `step`, if it is given.
fn step(query: &Query) -> Result<Option<Duration>, Problem> {
    let (least, most) = (STEP.start().as_secs(), STEP.end().as_secs());
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs).filter(|step| STEP.contains(step));
    query.parsed("step", format!("whole seconds, {least} to {most}"), seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cursor_holds_reads_back_and_nothing_else_is_one() {
        let window =
            Window { from: Timestamp(-5), to: Timestamp(7), step: Duration::from_secs(60), level: Level::Minute };
        for after in ["1700000000000000", "web-1"] {
            assert_eq!(parse(&key(&window, after)), Some((window, after)));
        }
        for bad in [
            "",
            "1700000000000000",
            "-5 7 60 minute",
            "7 -5 60 minute 1",
            "-5 7 0 raw 1",
            "-5 7 59 minute 1",
            "-5 7 90 minute 1",
            "-5 7 2678401 hour 1",
            "-5 7 60 day 1",
            "-5 x 60 minute 1",
            "-9223372036854775808 7 60 minute 1",
            "-5 9223372036854775807 60 minute 1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
