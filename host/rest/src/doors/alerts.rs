//! Alerts: see, take, give back. Rules: see, try on the past.

use std::cmp::Ordering;

use api::alert::{Alert, AlertRule, AnswerAlert, Backtest, NewBacktest};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use domain::alert::Severity;
use domain::alert::life;
use plan::id::AlertId;
use ports::alerts::{AlertFilter, Kept};
use services::alerts::Answer;
use services::backtest::Request;

use crate::app::App;
use crate::authorize::{AnswerAlerts, Authorized, ReadAlerts};
use crate::body::Strict;
use crate::doors::{In, Whom, id};
use crate::instant;
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::{Query, one_of};
use crate::views::alert as views;

/// `GET /alerts`
pub async fn list(
    who: Authorized<ReadAlerts>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<Alert>>, Problem> {
    let asked = Asked::read(&query, "alerts")?;
    let state = |text: &str| life::State::WORDS.into_iter().find(|word| *word == text);
    let severities = one_of(Severity::ALL.map(Severity::as_str));
    let sites = query.several("site", "a site", |text| (!text.is_empty()).then(|| text.to_owned()))?;
    let whom = Whom::asked(&app, &who.caller, &query)?;
    let filter = AlertFilter {
        states: query.several("state", one_of(life::State::WORDS), state)?,
        severity: query.parsed("severity", severities, Severity::parse)?,
        rule: query.parsed("rule", "a rule's name", |text| (!text.is_empty()).then(|| text.to_owned()))?,
        agent: whom.agent(),
        sites: (!sites.is_empty()).then_some(sites),
    };
    if whom == Whom::Nobody {
        return Ok(Json(Page { items: Vec::new(), next_cursor: None }));
    }
    let found = app.alerts.list(&who.caller, filter, asked.after::<AlertId>()?, asked.fetch()).await?;
    let page = asked.page(found, |kept: &Kept| kept.id.to_string());
    Ok(Json(Asked::shown(page, |kept| views::alert(kept, None))))
}

/// `GET /alerts/{id}`
pub async fn show(
    who: Authorized<ReadAlerts>,
    State(app): State<App>,
    In(text): In<String>,
) -> Result<Json<Alert>, Problem> {
    let (kept, timeline) = app.alerts.show(&who.caller, id(&text, "alert")?).await?;
    Ok(Json(views::alert(kept, Some(timeline))))
}

/// `POST /alerts/{id}/ack`
pub async fn acknowledge(
    who: Authorized<AnswerAlerts>,
    State(app): State<App>,
    In(text): In<String>,
    Strict(body): Strict<AnswerAlert>,
) -> Result<Json<Alert>, Problem> {
    answer(who, app, &text, Answer::Acknowledge, body).await
}

/// `POST /alerts/{id}/release`
pub async fn release(
    who: Authorized<AnswerAlerts>,
    State(app): State<App>,
    In(text): In<String>,
    Strict(body): Strict<AnswerAlert>,
) -> Result<Json<Alert>, Problem> {
    answer(who, app, &text, Answer::Release, body).await
}

async fn answer(
    who: Authorized<AnswerAlerts>,
    app: App,
    text: &str,
    answer: Answer,
    AnswerAlert { note }: AnswerAlert,
) -> Result<Json<Alert>, Problem> {
    let note = note.unwrap_or_default();
    let (kept, timeline) = app.alerts.answer(&who.caller, id(text, "alert")?, answer, &note, &who.origin).await?;
    Ok(Json(views::alert(kept, Some(timeline))))
}

/// `GET /alert-rules`
pub async fn rules(
    who: Authorized<ReadAlerts>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<AlertRule>>, Problem> {
    let asked = Asked::read(&query, "alert-rules")?;
    let page = asked.slice(app.alerts.rules(&who.caller)?, Ordering::Less, |rule| rule.plugin().name.clone());
    let (mut failing, passed_over) = (app.alerts.failing(&who.caller).await?, app.ingest.tally().passed_over);
    Ok(Json(Asked::shown(page, |rule| views::rule(rule.as_ref(), failing.remove(&rule.plugin().name), passed_over))))
}

/// `GET /alert-rules/{rule}`
pub async fn rule(
    who: Authorized<ReadAlerts>,
    State(app): State<App>,
    In(name): In<String>,
) -> Result<Json<AlertRule>, Problem> {
    let rules = app.alerts.rules(&who.caller)?;
    let rule = rules.iter().find(|rule| rule.plugin().name == name).ok_or_else(|| Problem::not_found("rule"))?;
    let failing = app.alerts.failing(&who.caller).await?.remove(&name);
    Ok(Json(views::rule(rule.as_ref(), failing, app.ingest.tally().passed_over)))
}

/// `POST /alert-rules/{rule}/backtest`
pub async fn backtest(
    who: Authorized<AnswerAlerts>,
    State(app): State<App>,
    In(rule): In<String>,
    Strict(body): Strict<NewBacktest>,
) -> Result<Json<Backtest>, Problem> {
    let NewBacktest { config, agents, sites, from, to } = body;
    let (from, to) = (read_instant("/from", from.as_deref())?, read_instant("/to", to.as_deref())?);
    let request = Request { rule: rule.clone(), config, agents, sites, from, to };
    let tried = app.backtests.run(&who.caller, request).await?;
    Ok(Json(views::backtest(&rule, tried)))
}

/// An instant of a body, if there is one.
pub fn read_instant(pointer: &str, text: Option<&str>) -> Result<Option<domain::time::Timestamp>, Problem> {
    let refuse = || Problem::at(Code::InvalidBody, pointer, "not a time such as 2025-01-31T12:00:00Z (RFC 3339)");
    text.map(|text| instant::parse(text).ok_or_else(refuse)).transpose()
}
