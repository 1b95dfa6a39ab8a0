//! The audit log: pages, whether it is whole, all of it.

use std::collections::VecDeque;

use api::audit::{AuditReport, ExportEnd, ExportHead};
use api::page::Page;
use api::system::AuditEntry;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ports::error::StoreError;
use ports::journal::AuditFilter;
use serde::Serialize;
use services::audit::{AuditError, Export};

use crate::app::App;
use crate::authorize::{Authorized, ReadAudit};
use crate::instant;
use crate::page::Asked;
use crate::problem::{Code, Problem};
use crate::query::Query;
use crate::views;

/// Longest name that is looked for.
const NAME_MAX: usize = 256;

/// `GET /audit`
pub async fn list(
    who: Authorized<ReadAudit>,
    State(app): State<App>,
    query: Query,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let asked = Asked::read(&query, "audit")?;
    let (since, until) = query.between("since", "until")?;
    let filter = AuditFilter { actor: name(&query, "actor")?, action: name(&query, "action")?, since, until };
    let entries = app.audit.list(&who.caller, &filter, asked.after()?, asked.fetch()).await?;
    let page = asked.page(entries, |(id, _)| id.to_string());
    Ok(Json(Asked::shown(page, |(id, entry)| views::audit::listed(id, entry))))
}

fn name(query: &Query, parameter: &str) -> Result<Option<String>, Problem> {
    query.parsed(parameter, "a name of 1 to 256 bytes", |text| {
        (1..=NAME_MAX).contains(&text.len()).then(|| text.to_owned())
    })
}

/// `GET /audit/verify`
pub async fn verify(who: Authorized<ReadAudit>, State(app): State<App>) -> Result<Json<AuditReport>, Problem> {
    let key = app.audit.public_key();
    match app.audit.verify(&who.caller).await {
        Ok(report) => Ok(Json(views::audit::report(report, key))),
        Err(AuditError::Store(error @ StoreError::Corrupt { .. })) => {
            Ok(Json(views::audit::unreadable(error.to_string(), key)))
        }
        Err(error) => Err(error.into()),
    }
}

/// `GET /audit/export`
pub async fn export(who: Authorized<ReadAudit>, State(app): State<App>) -> Result<Response, Problem> {
    let export = app.audit.export(&who.caller, &who.origin).await?;
    let head = ExportHead {
        kind: "export".to_owned(),
        format: 1,
        at: instant::text(app.clock.now()),
        cluster_id: app.options.cluster.to_string(),
        public_key: app.audit.public_key(),
    };
    let mut begin = VecDeque::from([line(&head)]);
    begin.extend(export.chains.iter().map(|chain| line(&views::audit::chain(chain))));
    let pages = Pages { begin, export: Some(export), entries: 0 };
    // Whoever reads an export that broke off finds no last line.
    let body = Body::from_stream(stream::try_unfold(pages, async |mut pages| {
        Ok::<_, StoreError>(pages.next().await?.map(|bytes| (bytes, pages)))
    }));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// What is left of an export.
struct Pages {
    begin: VecDeque<Vec<u8>>,
    /// `None` when the last line was given.
    export: Option<Export>,
    entries: u64,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(line) = self.begin.pop_front() {
            return Ok(Some(line.into()));
        }
        let Some(export) = &mut self.export else { return Ok(None) };
        Ok(Some(match export.next().await? {
            Some(page) => {
                self.entries += page.len() as u64;
                page.into_iter().flat_map(|linked| line(&views::audit::entry(linked))).collect()
            }
            None => {
                self.export = None;
                line(&ExportEnd { kind: "end".to_owned(), entries: self.entries }).into()
            }
        }))
    }
}

fn line(what: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(what).expect("text, numbers and lists of them are always JSON");
    line.push(b'\n');
    line
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Problem {
        match error {
            AuditError::Forbidden(error) => error.into(),
            AuditError::Busy => Problem { retry_after: Some(1), ..Problem::new(Code::Busy, error.to_string()) },
            AuditError::Store(error) => error.into(),
        }
    }
}
