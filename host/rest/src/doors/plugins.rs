//! Plugin files: which serve, which were refused and why.

use std::cmp::Ordering;

use api::page::Page;
use api::plugin::Plugin as PluginBody;
use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::authorize::{Authorized, ReadPlugins};
use crate::doors::In;
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
pub async fn show(
    _: Authorized<ReadPlugins>,
    State(app): State<App>,
    In(name): In<String>,
) -> Result<Json<PluginBody>, Problem> {
    let mut found: Vec<_> = app.plugins.plugins().into_iter().filter(|plugin| plugin.name == name).collect();
    // Of several files with one name, the one that serves is meant.
    found.sort_by_key(|plugin| plugin.active.is_none());
    let plugin = found.into_iter().next().ok_or_else(|| Problem::not_found("plugin"))?;
    Ok(Json(views::verb::plugin(plugin)))
}
