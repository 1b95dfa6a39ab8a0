//! Plugin files: which serve, which were refused and why, and what operators want of them.

use std::cmp::Ordering;

use api::page::Page;
use api::plugin::{Plugin as PluginBody, PluginPassage};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use domain::plugin::Order;

use crate::app::App;
use crate::authorize::{Authorized, ManagePlugins, ReadPlugins};
use crate::body::Nothing;
use crate::doors::In;
use crate::doors::tags::{if_match, tagged};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /plugins`
pub async fn list(
    _: Authorized<ReadPlugins>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<PluginBody>>, Problem> {
    let asked = Asked::read(&query, "plugins")?;
    let mut plugins = app.plugins.plugins();
    // Two files may claim one name; their file names tell them apart.
    let key = |name: &str, file: &str| format!("{name}\n{file}");
    plugins.sort_by_key(|plugin| key(&plugin.name, &plugin.file));
    let page = asked.slice(plugins, Ordering::Less, |plugin| key(&plugin.name, &plugin.file));
    Ok(Json(Asked::shown(page, views::verb::plugin)))
}

/// `GET /plugins/{name}`
pub async fn show(_: Authorized<ReadPlugins>, State(app): State<App>, In(name): In<String>) -> Answer {
    found(&app, &name)
}

/// `POST /plugins/{name}/enable`
pub async fn enable(
    who: Authorized<ManagePlugins>,
    app: State<App>,
    name: In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Answer {
    give(who, app, name, headers, Order::Enable).await
}

/// `POST /plugins/{name}/disable`
pub async fn disable(
    who: Authorized<ManagePlugins>,
    app: State<App>,
    name: In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Answer {
    give(who, app, name, headers, Order::Disable).await
}

/// `POST /plugins/{name}/rollback`
pub async fn rollback(
    who: Authorized<ManagePlugins>,
    app: State<App>,
    name: In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Answer {
    give(who, app, name, headers, Order::Rollback).await
}

/// `POST /plugins/{name}/retry`
pub async fn retry(
    who: Authorized<ManagePlugins>,
    app: State<App>,
    name: In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Answer {
    give(who, app, name, headers, Order::Retry).await
}

/// `POST /plugins/{name}/approve`
pub async fn approve(
    who: Authorized<ManagePlugins>,
    app: State<App>,
    name: In<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Answer {
    give(who, app, name, headers, Order::Approve).await
}

/// How the plugin stands after the order.
type Answer = Result<Response, Problem>;

async fn give(
    who: Authorized<ManagePlugins>,
    State(app): State<App>,
    In(name): In<String>,
    headers: HeaderMap,
    order: Order,
) -> Answer {
    let given = app.orders.give(&who.caller, &name, order, if_match(&headers)?.as_deref(), &who.origin).await;
    given.map_err(|error| {
        let problem = Problem::from(error);
        let tag = app.orders.tag(&name).filter(|_| problem.is_stale());
        problem.as_it_is(tag)
    })?;
    found(&app, &name)
}

/// `GET /plugins/{name}/history`
pub async fn history(
    who: Authorized<ReadPlugins>,
    State(app): State<App>,
    In(name): In<String>,
    query: Query,
) -> Result<Json<Page<PluginPassage>>, Problem> {
    let asked = Asked::read(&query, "plugin_history")?;
    let history = app.orders.history(&who.caller, &name, asked.after()?, asked.fetch()).await?;
    let page = asked.page(history, |(id, _)| id.to_string());
    Ok(Json(Asked::shown(page, |(_, passage)| views::verb::passage(passage))))
}

fn found(app: &App, name: &str) -> Answer {
    let mut found: Vec<_> = app.plugins.plugins().into_iter().filter(|plugin| plugin.name == name).collect();
    // Of several files with one name, the one that serves is meant.
    found.sort_by_key(|plugin| plugin.active.is_none());
    let plugin = found.into_iter().next().ok_or_else(|| Problem::not_found("plugin"))?;
    let response = Json(views::verb::plugin(plugin)).into_response();
    Ok(match app.orders.tag(name) {
        Some(tag) => tagged(response, &tag),
        // Nothing is written of a file that was never let in.
        None => response,
    })
}
