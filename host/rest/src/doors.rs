//! One file an area: a handler reads its request, asks one service, and renders the answer.

pub mod accounts;
pub mod agents;
pub mod alerts;
pub mod api_keys;
pub mod audit;
pub mod bulk;
pub mod channels;
pub mod commands;
pub mod delivery;
pub mod description;
pub mod events;
pub mod groups;
pub mod invocations;
pub mod join_tokens;
pub mod live;
pub mod metrics;
mod once;
pub mod plugins;
pub mod samples;
pub mod silences;
pub mod sockets;
pub mod statistics;
pub mod system;
mod tags;
pub mod telemetry;
pub mod users;
pub mod verbs;
mod window;

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use domain::target::Candidate;
use plan::id::AgentId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::app::App;
use crate::problem::Problem;
use crate::query::Query;

/// Ticks of a stream that goes on: the first after a `period`, and none made up for.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The names in a route's path. What cannot even be read names nothing.
pub struct In<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for In<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(names)| In(names)).map_err(|_| Problem::not_found("page"))
    }
}

/// An answer with a status and the address of what it is about.
fn located<T: Serialize>(status: StatusCode, location: &str, body: T) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// An id in a path; text that is no id names nothing.
fn id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(what))
}

/// An agent in the caller's sight, by id or name.
fn agent_in_sight(app: &App, caller: &Caller, text: &str) -> Result<Candidate, Problem> {
    let found = app.directory.find(text).filter(|candidate| caller.sees_site(&candidate.agent.site));
    found.ok_or_else(|| Problem::not_found("agent"))
}

/// Whose things a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// Everybody's in sight.
    Anybody,
    /// One agent's.
    One(AgentId),
    /// Those of an agent that is not there, or out of sight: none.
    Nobody,
}

impl Whom {
    /// Reads `?agent=`, an id or a name.
    fn asked(app: &App, caller: &Caller, query: &Query) -> Result<Whom, Problem> {
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let text = query.parsed("agent", "an agent's id or name", named)?;
        Ok(text.map_or(Whom::Anybody, |text| {
            agent_in_sight(app, caller, &text).map_or(Whom::Nobody, |found| Whom::One(found.agent.id))
        }))
    }

    /// The one that a filter names.
    fn agent(self) -> Option<AgentId> {
        match self {
            Whom::One(agent) => Some(agent),
            Whom::Anybody | Whom::Nobody => None,
        }
    }
}
