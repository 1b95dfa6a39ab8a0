//! What a first start leaves behind: one administrator, whose credential is written once to a file
//! that only its owner can read. And what every start leaves: where it listens.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use services::accounts::Accounts;
use services::origin::Origin;

use crate::keys::write_private;

/// The first administrator's credential, in the data directory: the body of `POST /auth/login`.
pub const ADMIN_FILE: &str = "admin.json";
/// Where this host listens, in the data directory; there only while it does.
pub const LISTENING_FILE: &str = "listening.json";

/// Makes the first administrator if there is no user yet.
///
/// # Errors
/// The store is away, or the file cannot be written.
pub async fn first_admin(accounts: &Accounts, data: &Path) -> anyhow::Result<()> {
    let made = accounts.first_admin("admin", None, &Origin::default()).await.context("first administrator")?;
    if let Some(credential) = made {
        let path = data.join(ADMIN_FILE);
        let body = json!({ "name": credential.name, "password": credential.password });
        write_private(&path, body.to_string().as_bytes())?;
        tracing::info!(file = %path.display(), "first start: administrator made; move this file to a safe place");
    }
    Ok(())
}

/// Says where this host listens.
///
/// # Errors
/// The file cannot be written.
pub fn write_listening(data: &Path, api: SocketAddr, agents: SocketAddr) -> anyhow::Result<()> {
    let body = json!({ "api": api.to_string(), "agents": agents.to_string() });
    write_private(&data.join(LISTENING_FILE), body.to_string().as_bytes())
}

/// Takes back what [`write_listening`] said.
pub fn remove_listening(data: &Path) {
    _ = std::fs::remove_file(data.join(LISTENING_FILE));
}
