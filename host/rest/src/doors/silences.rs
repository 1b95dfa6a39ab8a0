//! Silences: see, want, end.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use api::alert::{AlertMatcher, NewSilence, Silence as SilenceBody};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::alert::Severity;
use domain::alert::mute::{Matcher, Silence};
use ports::alerts::KeptSilence;
use services::alerts::span;

use crate::app::App;
use crate::authorize::{AnswerAlerts, Authorized, ReadAlerts};
use crate::body::Strict;
use crate::doors::alerts::read_instant;
use crate::doors::once::{self, Once};
use crate::doors::{In, id, located};
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::views::alert as views;

/// Most entries of one list of a matcher, and most characters of each.
const MATCH_MAX: usize = 500;
const MATCH_LENGTH: usize = 256;

/// `GET /silences`
pub async fn list(
    who: Authorized<ReadAlerts>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<SilenceBody>>, Problem> {
    let asked = Asked::read(&query, "silences")?;
    let page = asked.slice(app.alerts.silences(&who.caller).await?, Ordering::Greater, |kept| kept.id.to_string());
    Ok(Json(Asked::shown(page, views::silence)))
}

/// `POST /silences`
pub async fn create(
    who: Authorized<AnswerAlerts>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewSilence>,
) -> Result<Response, Problem> {
    let place = |kept: &KeptSilence| format!("/api/v1/silences/{}", kept.id);
    let made = move |kept: &KeptSilence| once::made(StatusCode::CREATED, place(kept), &views::silence(kept.clone()));
    let keep = match once::ask(&app, &who.caller, &headers, "POST /api/v1/silences", once::digest(&body)?, made).await?
    {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewSilence { matcher, from, until, for_s, comment } = body;
    let (from, until) = (read_instant("/from", from.as_deref())?, read_instant("/until", until.as_deref())?);
    let (from, until) = span(from, until, for_s.map(Duration::from_secs), app.clock.now())?;
    let silence = Silence { matcher: matched(matcher)?, from, until };
    let kept = app.alerts.silence(&who.caller, silence, &comment, keep, &who.origin).await?;
    Ok(located(StatusCode::CREATED, &place(&kept), views::silence(kept)))
}

/// `DELETE /silences/{id}`
pub async fn end(
    who: Authorized<AnswerAlerts>,
    State(app): State<App>,
    In(text): In<String>,
) -> Result<StatusCode, Problem> {
    app.alerts.end_silence(&who.caller, id(&text, "silence")?, &who.origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses what no alert can have, and more than anybody writes: each alert is held against all of it.
fn bounded(
    rules: &[String],
    agents: &[String],
    sites: &[String],
    labels: &BTreeMap<String, String>,
    key: Option<&str>,
) -> Result<(), Problem> {
    let fits = |text: &str| (1..=MATCH_LENGTH).contains(&text.chars().count());
    for (name, list) in [("rules", rules), ("agents", agents), ("sites", sites)] {
        if list.len() > MATCH_MAX {
            let message = format!("at most {MATCH_MAX}");
            return Err(Problem::at(Code::InvalidBody, format!("/matcher/{name}"), message));
        }
        if let Some(index) = list.iter().position(|text| !fits(text)) {
            let message = format!("1 to {MATCH_LENGTH} characters");
            return Err(Problem::at(Code::InvalidBody, format!("/matcher/{name}/{index}"), message));
        }
    }
    let fit = |(name, value): (&String, &String)| fits(name) && value.chars().count() <= MATCH_LENGTH;
    if labels.len() > MATCH_MAX || !labels.iter().all(fit) {
        let message = format!("at most {MATCH_MAX}, names of 1 to {MATCH_LENGTH} characters");
        return Err(Problem::at(Code::InvalidBody, "/matcher/labels", message));
    }
    if key.is_some_and(|key| !fits(key)) {
        return Err(Problem::at(Code::InvalidBody, "/matcher/key", format!("1 to {MATCH_LENGTH} characters")));
    }
    Ok(())
}

/// A matcher as it is meant.
pub fn matched(matcher: AlertMatcher) -> Result<Matcher, Problem> {
    let AlertMatcher { rules, agents, sites, labels, key, at_most } = matcher;
    let refuse = || Problem::at(Code::InvalidBody, "/matcher/at_most", "`warning` or `critical`");
    let at_most = at_most.map(|word| Severity::parse(&word).ok_or_else(refuse)).transpose()?;
    bounded(&rules, &agents, &sites, &labels, key.as_deref())?;
    Ok(Matcher { rules, agents, sites, labels, key, at_most })
}
