//! The audit log.

use api::page::Page;
use api::system::AuditEntry;
use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::authorize::{Authorized, ReadAudit};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// `GET /audit`
pub async fn list(
    who: Authorized<ReadAudit>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let asked = Asked::read(&query, "audit")?;
    let entries = app.accounts.audit_log(&who.caller, asked.after()?, asked.fetch()).await?;
    let page = asked.page(entries, |(id, _)| id.to_string());
    Ok(Json(Asked::shown(page, |(id, entry)| views::audit(id, entry))))
}
