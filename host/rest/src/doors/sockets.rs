//! Everything that happens, over a WebSocket: the same reader as for server-sent events, in frames.
//!
//! Out: `{"type": "READY", "cursor"}`, `{"type": "EVENT", "id", "event", "data"}`, and before a close for a
//! reason `{"type": "ERROR", "problem"}`. In: `{"type": "AUTH", "token"}` as the first frame of whoever could
//! not send the header; nothing else is read.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, FromRequestParts as _, State};
use axum::http::{HeaderMap, HeaderValue, Request, header};
use axum::response::Response;
use ports::place::Place;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use services::origin::Origin;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::authorize::{Anyone, Authorized, ReadCommands};
use crate::doors::events::{Reader, Told, cursor};
use crate::doors::samples::Samples;
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::request::Context;

/// How long a socket may stay without a token.
const AUTH_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes of a frame that is read.
const FRAME_MAX: usize = 16 * 1024;

/// The one frame that is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    r#type: String,
    token: String,
}

/// `GET /ws/events`
pub async fn events(
    Anyone { origin }: Anyone,
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    place: Option<Extension<Place>>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let from = cursor(&query, &headers)?;
    let samples = Samples::read(&query)?;
    // A token that is sent and not good is refused before there is a socket.
    let who = match headers.get(header::AUTHORIZATION) {
        Some(_) => Some(proven(&app, &origin, &headers).await?),
        None => None,
    };
    let upgrade = upgrade.max_message_size(FRAME_MAX).max_frame_size(FRAME_MAX);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        if let Err(problem) = converse(&mut socket, app, &origin, who, (from, samples)).await {
            refuse(&mut socket, &problem, &origin).await;
        }
        // Until here it is one of the listener's connections.
        drop(place);
    }))
}

/// Who sends these headers, with the same proof as for any other route.
async fn proven(app: &App, origin: &Arc<Origin>, headers: &HeaderMap) -> Result<Authorized<ReadCommands>, Problem> {
    let (mut parts, ()) = Request::new(()).into_parts();
    for value in headers.get_all(header::AUTHORIZATION) {
        parts.headers.append(header::AUTHORIZATION, value.clone());
    }
    parts.extensions.insert(Arc::new(Context::from(origin.clone())));
    Authorized::from_request_parts(&mut parts, app).await
}

async fn converse(
    socket: &mut WebSocket,
    app: App,
    origin: &Arc<Origin>,
    who: Option<Authorized<ReadCommands>>,
    (from, samples): (Option<u64>, Option<Samples>),
) -> Result<(), Problem> {
    let who = match who {
        Some(who) => who,
        None => {
            let Some(headers) = first_frame(socket).await? else { return Ok(()) };
            proven(&app, origin, &headers).await?
        }
    };
    let mut reader = Reader::open(app, who, from, samples).await?;
    if !say(socket, &json!({ "type": "READY", "cursor": reader.cursor() })).await {
        return Ok(());
    }
    loop {
        match next(socket, &mut reader).await {
            Next::Told(Some(Told::Event { id, name, data })) => {
                let data = RawValue::from_string(data).map_err(|error| Problem::internal(error.to_string()))?;
                let data = serde_json::to_value(data).map_err(|error| Problem::internal(error.to_string()))?;
                if !say(socket, &json!({ "type": "EVENT", "id": id, "event": name, "data": data })).await {
                    return Ok(());
                }
            }
            Next::Told(Some(Told::Nothing)) => {
                if socket.send(Message::Ping(Default::default())).await.is_err() {
                    return Ok(());
                }
            }
            Next::Told(None) => {
                return Err(Problem::new(Code::TokenExpired, "the stream is over; come back with its cursor"));
            }
            Next::Gone => return Ok(()),
        }
    }
}

enum Next {
    Told(Option<Told>),
    /// The other side closed.
    Gone,
}

/// What to tell next, while the socket is listened to.
async fn next(socket: &mut WebSocket, reader: &mut Reader) -> Next {
    // One future to its end: dropped half way through an event's look-ups, it would have passed that event over.
    let mut told = std::pin::pin!(reader.next());
    loop {
        tokio::select! {
            told = &mut told => return Next::Told(told),
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Next::Gone,
                // Pongs, and what nobody asked for.
                Some(Ok(_)) => {}
            },
        }
    }
}

/// The token of the first frame, as the header it stands for; `None` when the socket was closed instead.
async fn first_frame(socket: &mut WebSocket) -> Result<Option<HeaderMap>, Problem> {
    let wrong = || {
        let rule =
            "send `Authorization: Bearer …`, or `{\"type\": \"AUTH\", \"token\": …}` as the first frame within 5 s";
        Problem::new(Code::Unauthenticated, rule)
    };
    // Pings do not make it longer.
    let deadline = Instant::now() + AUTH_WITHIN;
    let text = loop {
        match timeout_at(deadline, socket.recv()).await.map_err(|_| wrong())? {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(wrong()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
        }
    };
    let auth: Auth = serde_json::from_str(&text).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(&format!("Bearer {}", auth.token)).ok().filter(|_| auth.r#type == "AUTH");
    Ok(Some(HeaderMap::from_iter([(header::AUTHORIZATION, value.ok_or_else(wrong)?)])))
}

/// Whether it could be said.
async fn say(socket: &mut WebSocket, frame: &Value) -> bool {
    socket.send(Message::Text(frame.to_string().into())).await.is_ok()
}

/// Says why and closes. A socket that is gone already does not hear it.
async fn refuse(socket: &mut WebSocket, problem: &Problem, origin: &Origin) {
    let told = problem.render(&origin.correlation_id);
    say(socket, &json!({ "type": "ERROR", "problem": told })).await;
    let code = if problem.code.row().status >= 500 { close_code::ERROR } else { close_code::POLICY };
    let close = CloseFrame { code, reason: problem.code.row().name.into() };
    let _ = socket.send(Message::Close(Some(close))).await;
}
