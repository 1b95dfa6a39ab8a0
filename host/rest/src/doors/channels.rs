//! Where people are told: see, make, try, drop, and what became of messages.

use std::cmp::Ordering;

use api::channel::{Channel as ChannelBody, ChannelMessage, ChannelPatch, ChannelTest, NewChannel};
use api::page::Page;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use domain::alert::Severity;
use domain::alert::channel::{Kind, Settings};
use domain::time::Timestamp;
use plan::id::NoticeId;
use ports::channels::{Channel, NoticeState};
use services::channels::Patch;
use services::notify::Carried;

use crate::app::App;
use crate::authorize::{Authorized, ManageChannels};
use crate::body::{Nothing, Strict};
use crate::doors::once::{self, Once};
use crate::doors::silences::matched;
use crate::doors::tags::{if_match, tagged};
use crate::doors::{In, located};
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::{Query, one_of};
use crate::views::channel as views;

/// `GET /notification-channels`
pub async fn list(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<ChannelBody>>, Problem> {
    let asked = Asked::read(&query, "notification-channels")?;
    let page = asked.slice(app.channels.list(&who.caller).await?, Ordering::Less, |channel| channel.name.clone());
    Ok(Json(Asked::shown(page, |channel| views::channel(channel, None))))
}

/// `GET /notification-channels/{channel}`
pub async fn show(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    In(channel): In<String>,
) -> Result<Response, Problem> {
    Ok(answer(app.channels.show(&who.caller, &channel).await?, None))
}

/// `POST /notification-channels`
pub async fn create(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    headers: HeaderMap,
    Strict(body): Strict<NewChannel>,
) -> Result<Response, Problem> {
    let route = "POST /api/v1/notification-channels";
    let made = |channel: &Channel| once::secret(location(channel));
    let keep = match once::ask(&app, &who.caller, &headers, route, once::digest(&body)?, made).await? {
        Once::Again(response) => return Ok(response),
        Once::First(keep) => keep,
    };
    let NewChannel { name, kind, url, matcher, at_least, template, per_minute } = body;
    let kinds = one_of(Kind::ALL.map(Kind::as_str));
    let settings = Settings {
        kind: Kind::parse(&kind).ok_or_else(|| Problem::at(Code::InvalidBody, "/kind", kinds))?,
        url,
        matcher: matched(matcher)?,
        at_least: severity(&at_least)?,
        template,
        per_minute,
    };
    let is_signed = settings.kind == Kind::Webhook;
    let (channel, secret) = app.channels.create(&who.caller, &name, settings, keep, &who.origin).await?;
    let location = location(&channel);
    Ok(located(StatusCode::CREATED, &location, views::channel(channel, is_signed.then_some(secret))))
}

/// `PATCH /notification-channels/{channel}`
pub async fn change(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    In(channel): In<String>,
    headers: HeaderMap,
    Strict(body): Strict<ChannelPatch>,
) -> Result<Response, Problem> {
    // A tag that was never given out is one of no state there is.
    let if_at = if_match(&headers)?.map(|tag| Timestamp(tag.parse().unwrap_or(i64::MIN)));
    let ChannelPatch { url, matcher, at_least, template, per_minute, new_secret } = body;
    let patch = Patch {
        url,
        matcher: matcher.map(matched).transpose()?,
        at_least: at_least.as_deref().map(severity).transpose()?,
        template,
        per_minute,
        new_secret,
    };
    match app.channels.change(&who.caller, &channel, &patch, if_at, &who.origin).await.map_err(Problem::from) {
        Ok((channel, secret)) => Ok(answer(channel, secret)),
        Err(problem) if problem.is_stale() => {
            let found = app.channels.show(&who.caller, &channel).await;
            Err(problem.as_it_is(found.ok().map(|channel| tag_of(&channel))))
        }
        Err(problem) => Err(problem),
    }
}

fn tag_of(channel: &Channel) -> String {
    channel.changed_at.0.to_string()
}

/// A channel with the tag of its state.
fn answer(channel: Channel, secret: Option<String>) -> Response {
    let tag = tag_of(&channel);
    tagged(Json(views::channel(channel, secret)).into_response(), &tag)
}

fn severity(text: &str) -> Result<Severity, Problem> {
    let expected = || Problem::at(Code::InvalidBody, "/at_least", one_of(Severity::ALL.map(Severity::as_str)));
    Severity::parse(text).ok_or_else(expected)
}

fn location(channel: &Channel) -> String {
    format!("/api/v1/notification-channels/{}", channel.id)
}

/// `DELETE /notification-channels/{channel}`
pub async fn delete(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    In(channel): In<String>,
) -> Result<StatusCode, Problem> {
    app.channels.delete(&who.caller, &channel, &who.origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /notification-channels/{channel}/test`
pub async fn test(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    In(channel): In<String>,
    _: Nothing,
) -> Result<Json<ChannelTest>, Problem> {
    let carried = app.channels.test(&who.caller, &channel, &who.origin).await?;
    Ok(Json(match carried {
        Carried::Well(status) => ChannelTest { delivered: true, status: Some(status), error: None },
        Carried::Not(status, why) => ChannelTest { delivered: false, status, error: Some(why) },
    }))
}

/// `GET /notification-channels/{channel}/messages`
pub async fn messages(
    who: Authorized<ManageChannels>,
    State(app): State<App>,
    In(channel): In<String>,
    query: Query,
) -> Result<Json<Page<ChannelMessage>>, Problem> {
    let asked = Asked::read(&query, "messages")?;
    let states = one_of(NoticeState::ALL.map(NoticeState::as_str));
    let state = query.parsed("state", states, NoticeState::parse)?;
    let before = asked.after::<NoticeId>()?;
    let found = app.channels.messages(&who.caller, &channel, state, before, asked.fetch()).await?;
    let page = asked.page(found, |notice| notice.id.to_string());
    Ok(Json(Asked::shown(page, views::message)))
}
