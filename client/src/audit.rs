//! The audit log's routes.

use api::audit::AuditReport;
use api::page::Page;
use api::system::AuditEntry;
use reqwest::{Method, Response};

use crate::Client;
use crate::error::ClientError;
use crate::list::Items;
use crate::request::Ask;

/// The whole log as NDJSON, to be read as it comes.
#[derive(Debug)]
pub struct AuditExport {
    response: Response,
}

impl AuditExport {
    /// The next octets; `None` at the end. Its last line says that it is whole.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let chunk = self.response.chunk().await.map_err(|error| ClientError::NotTheApi {
            url: self.response.url().to_string(),
            status: self.response.status().as_u16(),
            detail: format!("the export broke off: {error}"),
        })?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }
}

impl Client {
    /// `GET /audit`, newest first, at most `limit`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn audit(&self, query: Vec<(&str, String)>, limit: usize) -> Result<Page<AuditEntry>, ClientError> {
        self.list(&["audit"], query, limit).await
    }

    /// `GET /audit`, newest first, item by item.
    pub fn each_audit_entry(&self, query: Vec<(&str, String)>) -> Items<AuditEntry> {
        self.each(&["audit"], query)
    }

    /// `GET /audit/verify`; the host reads its whole log for it.
    ///
    /// # Errors
    /// 403 unless an admin asks; 503 while somebody else's is under way.
    pub async fn verify_audit(&self) -> Result<AuditReport, ClientError> {
        let ask = Ask::new(Method::GET, self.server.route(&["audit", "verify"], &[])).stream();
        self.fetch(&ask).await
    }

    /// `GET /audit/export`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn export_audit(&self) -> Result<AuditExport, ClientError> {
        let ask = Ask::new(Method::GET, self.server.route(&["audit", "export"], &[])).stream();
        Ok(AuditExport { response: self.send(&ask).await? })
    }
}
