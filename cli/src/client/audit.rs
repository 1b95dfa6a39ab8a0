//! The audit log's routes.

use api::audit::AuditReport;
use api::page::Page;
use api::system::AuditEntry;
use reqwest::{Method, Response};

use super::Client;
use super::error::ClientError;
use super::request::Ask;

impl Client {
    /// `GET /audit`, newest first, at most `limit`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn audit(&self, query: Vec<(&str, String)>, limit: usize) -> Result<Page<AuditEntry>, ClientError> {
        self.list(&["audit"], query, limit).await
    }

    /// `GET /audit/verify`; the host reads its whole log for it.
    ///
    /// # Errors
    /// 403 unless an admin asks; 503 while somebody else's is under way.
    pub async fn verify_audit(&self) -> Result<AuditReport, ClientError> {
        let ask = Ask::new(Method::GET, self.server.route(&["audit", "verify"], &[])).stream();
        self.fetch(&ask).await
    }

    /// `GET /audit/export`: NDJSON to be read as it comes.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn export_audit(&self) -> Result<Response, ClientError> {
        self.send(&Ask::new(Method::GET, self.server.route(&["audit", "export"], &[])).stream()).await
    }
}
