//! What agents show when they connect, where the host gives them certificates: asked for before anything of
//! theirs is read, and renewed while they are here.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::seal::{Authority, Badge, Certificate};
use services::directory::Directory;

use crate::problem::problem;

/// Between two looks at the dates of an agent that stays.
pub const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How this host goes about certificates.
pub struct Certificates {
    /// Makes and reads them.
    pub authority: Arc<dyn Authority>,
    /// Who shows none gets no session.
    pub required: bool,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What was shown in the TLS handshake, DER.
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Arc<[u8]>);

/// A certificate that is good.
pub struct Shown {
    /// Whom it speaks for.
    pub badge: Badge,
    /// Itself, DER.
    pub certificate: Vec<u8>,
}

impl Certificates {
    /// Whether a socket may be opened with what was shown; `None`: nothing that counts was, and nothing need be.
    ///
    /// # Errors
    /// It may not; the answer to that.
    pub fn judge(&self, shown: Option<PeerCertificate>) -> Result<Option<Shown>, Box<Response>> {
        let good = shown.and_then(|PeerCertificate(der)| {
            let badge = self.authority.read(&der, self.clock.now())?;
            Some(Shown { badge, certificate: der.to_vec() })
        });
        match good {
            // HELLO would find out as well; there is no need to hear it.
            Some(shown) if self.is_revoked(shown.badge.agent) => {
                let detail = "this agent's key was revoked; join again with another key";
                Err(Box::new(problem(StatusCode::FORBIDDEN, "revoked", detail)))
            }
            None if self.required => Err(Box::new(problem(
                StatusCode::FORBIDDEN,
                "certificate_required",
                "agents show a certificate here that this installation made and that is not over; join again, or \
                 have the host offer certificates for a while (tls.agent_certificates)",
            ))),
            good => Ok(good),
        }
    }

    fn is_revoked(&self, agent: AgentId) -> bool {
        self.directory.get(agent).is_some_and(|known| known.agent.revoked_at.is_some())
    }

    /// Whether an agent with this certificate (DER) is to get another.
    pub fn is_wanted(&self, certificate: Option<&[u8]>) -> bool {
        let badge = certificate.and_then(|der| self.authority.read(der, self.clock.now()));
        badge.is_none_or(|badge| badge.renew)
    }

    /// A certificate for this key of this agent.
    pub fn made(&self, agent: AgentId, public_key: &str) -> Option<Certificate> {
        let made = self.authority.certify(agent, public_key, self.clock.now());
        if made.is_none() {
            tracing::error!(%agent, "no certificate could be made for the agent's key");
        }
        made
    }
}
