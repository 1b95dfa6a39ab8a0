//! Verbs: what there is, and what it would do.

use std::cmp::Ordering;

use api::page::Page;
use api::verb::{PlanPreview, PlanRequest, Verb as VerbBody};
use axum::Json;
use axum::extract::State;
use ports::plugins::ResolveError;
use serde_json::{Map, Value};
use services::submit::SubmitError;

use crate::app::App;
use crate::authorize::{Authorized, ReadVerbs, RunCommands};
use crate::body::Strict;
use crate::doors::In;
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /verbs`
pub async fn list(
    _: Authorized<ReadVerbs>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<VerbBody>>, Problem> {
    let asked = Asked::read(&query, "verbs")?;
    let mut verbs = app.plugins.verbs();
    verbs.sort_by(|a, b| a.traits().name.cmp(&b.traits().name));
    let page = asked.slice(verbs, Ordering::Less, |verb| verb.traits().name.to_string());
    Ok(Json(Asked::shown(page, |verb| views::verb::verb(verb.as_ref()))))
}

/// `GET /verbs/{verb}`
pub async fn show(
    _: Authorized<ReadVerbs>,
    State(app): State<App>,
    In(verb): In<String>,
) -> Result<Json<VerbBody>, Problem> {
    let found = app.plugins.resolve(&verb).map_err(in_path)?;
    Ok(Json(views::verb::verb(found.as_ref())))
}

/// `POST /verbs/{verb}/plan`
pub async fn plan(
    who: Authorized<RunCommands>,
    State(app): State<App>,
    In(verb): In<String>,
    Strict(body): Strict<PlanRequest>,
) -> Result<Json<PlanPreview>, Problem> {
    let PlanRequest { args, target } = body;
    let args = if args.is_null() { Value::Object(Map::new()) } else { args };
    let target = views::command::target_of(target)?;
    let preview = app.submit.preview(&who.caller, &verb, &args, &target).await.map_err(|error| match error {
        SubmitError::Verb(error) => in_path(error),
        other => other.into(),
    })?;
    views::verb::preview(verb, preview).map(Json)
}

/// A verb that is named in the path and is not there is not found; in a body it is unknown.
fn in_path(error: ResolveError) -> Problem {
    match error {
        ResolveError::Unknown { .. } => Problem::not_found("verb"),
        ResolveError::Unavailable { .. } | ResolveError::Quarantined { .. } => {
            Problem { errors: Vec::new(), ..error.into() }
        }
    }
}
