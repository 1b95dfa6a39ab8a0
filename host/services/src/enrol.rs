//! Machines in: join tokens, joining, and changing agents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use domain::access::{Caller, Forbidden, Permission};
use domain::agent::{Agent, is_agent_name, is_label_text};
use plan::envelope::{join_parts, parse_key, verify};
use plan::id::{AgentId, TokenId};
use ports::agents::{AgentChange, Agents, Expected, JoinToken, Joined, NewAgent};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::link::Link;
use ports::seal::Seal;
use serde_json::json;

use crate::digest::sha256_hex;
use crate::directory::Directory;
use crate::doubt::Doubts;
use crate::origin::Origin;
use crate::refusals::Refusals;
use crate::replays::{Keep, kept};
use crate::tag;

/// A token's life when nobody says.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3600);
/// Shortest life of a token.
pub const TOKEN_TTL_MIN: Duration = Duration::from_secs(60);
/// Longest life of a token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The use case.
pub struct Enrol {
    /// Where agents are kept.
    pub agents: Arc<dyn Agents>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Where refused joins are recorded.
    pub refusals: Arc<Refusals>,
    /// What may be stored although the store did not answer.
    pub doubts: Arc<Doubts>,
    /// The cluster's key, which agents pin.
    pub seal: Arc<dyn Seal>,
    /// What agents pin of the host's TLS key, if they are to; it travels in join tokens.
    pub tls_pin: Option<String>,
    /// Whether every agent that joins waits for approval.
    pub approval: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub ids: Arc<dyn Ids>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// A field is not what it should be.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// No such agent or token, or out of the caller's sight.
    #[error("not found")]
    NotFound,
    /// The token is not good (any more); which way is for the log only.
    #[error("join token refused")]
    TokenRefused,
    /// The proof is not the key's signature over token and name.
    #[error("proof does not match the public key")]
    ProofRefused,
    /// The key was revoked, or another took its place.
    #[error("this key counts no more: it was revoked, or another took its place")]
    KeyRetired,
    /// Nothing can be changed about a key that is revoked.
    #[error("the key of agent `{0}` is revoked")]
    Revoked(String),
    /// Another agent has the name, or a revoked one had it.
    #[error("agent name `{0}` is taken")]
    NameTaken(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a join token is to be good for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The site its agent will belong to; `default` when absent.
    pub site: Option<String>,
    /// Labels its agent will have.
    pub labels: BTreeMap<String, String>,
    /// How long it may be used; [`TOKEN_TTL_DEFAULT`] when absent.
    pub ttl: Option<Duration>,
    /// Its agent waits for approval.
    pub needs_approval: bool,
}

impl Enrol {
    /// Makes a join token; its text is answered once and never again.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn create_token(
        &self,
        caller: &Caller,
        wanted: Wanted,
        keep: Option<Keep<JoinToken>>,
        origin: &Origin,
    ) -> Result<(JoinToken, String), EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let Wanted { site, labels, ttl, needs_approval } = wanted;
        let site = site.unwrap_or_else(|| "default".to_owned());
        check_site(&site)?;
        may_place(caller, &site)?;
        check_labels(&labels)?;
        let ttl = life(ttl)?;
        let now = self.clock.now();
        let id = self.ids.token();
        let secret = HEXLOWER.encode(&self.ids.secret());
        let token = JoinToken {
            id,
            secret_sha256: sha256_hex(secret.as_bytes()),
            site,
            labels,
            needs_approval,
            created_by: caller.name.clone(),
            created_at: now,
            expires_at: now + ttl,
            used_at: None,
            used_by: None,
            revoked_at: None,
        };
        let mut audit = origin.entry(now, "agents.create_join_token", Some(&caller.name));
        audit.resource = Some(("join_token", id.to_string()));
        audit.details = json!({ "site": token.site, "needs_approval": needs_approval }).to_string();
        self.agents.create_token(token.clone(), audit, kept(keep.as_ref(), &token)).await?;
        let tls_pin = self.tls_pin.as_ref().map(|pin| format!("_{pin}")).unwrap_or_default();
        Ok((token, format!("vwj_{}_{secret}_{}{tls_pin}", id.0.simple(), self.seal.pin())))
    }

    /// All tokens for sites in sight, newest first, without their secrets.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn tokens(&self, caller: &Caller) -> Result<Vec<JoinToken>, EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let mut tokens = self.agents.tokens().await?;
        tokens.retain(|token| caller.sees_site(&token.site));
        Ok(tokens)
    }

    /// Makes a token useless.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn revoke_token(&self, caller: &Caller, token: TokenId, origin: &Origin) -> Result<(), EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let known = self.agents.token(token).await?;
        // What is out of sight looks like what is not there.
        if !known.is_some_and(|known| caller.sees_site(&known.site)) {
            return Err(EnrolError::NotFound);
        }
        let now = self.clock.now();
        let mut audit = origin.entry(now, "agents.revoke_join_token", Some(&caller.name));
        audit.resource = Some(("join_token", token.to_string()));
        let found = self.agents.revoke_token(token, now, audit).await?;
        if found { Ok(()) } else { Err(EnrolError::NotFound) }
    }

    /// Enrols the machine that brings `token` and proves that it holds `public_key`. Who is refused is on
    /// record, too.
    ///
    /// # Errors
    /// See [`EnrolError`]; the token is used up only when this succeeds.
    pub async fn join(
        &self,
        token: &str,
        name: &str,
        public_key: &str,
        proof: &str,
        origin: &Origin,
    ) -> Result<Arc<Agent>, EnrolError> {
        let joined = self.admit(token, name, public_key, proof, origin).await;
        let code = match &joined {
            Err(EnrolError::TokenRefused) => "token",
            Err(EnrolError::ProofRefused) => "proof",
            Err(EnrolError::NameTaken(_)) => "name",
            Err(EnrolError::KeyRetired) => "key",
            _ => return joined,
        };
        let mut audit = origin.entry(self.clock.now(), "agents.join_refused", None);
        audit.resource = is_agent_name(name).then(|| ("agent", name.to_owned()));
        let token = split_token(token).map(|(id, _)| id.to_string());
        audit.details = json!({ "refused": code, "token": token }).to_string();
        self.refusals.record(audit).await?;
        joined
    }

    async fn admit(
        &self,
        token: &str,
        name: &str,
        public_key: &str,
        proof: &str,
        origin: &Origin,
    ) -> Result<Arc<Agent>, EnrolError> {
        let (id, secret) = split_token(token).ok_or(EnrolError::TokenRefused)?;
        if !is_agent_name(name) {
            let rule = "a name is 1 to 63 of [a-z0-9._-], starts with a letter or digit, and is no UUID";
            return Err(invalid("/name", rule.to_owned()));
        }
        let key = parse_key(public_key)
            .map_err(|_| invalid("/public_key", "not an Ed25519 public key in base64url".to_owned()))?;
        verify(&key, &[&join_parts(token, name)], proof).map_err(|_| EnrolError::ProofRefused)?;
        let now = self.clock.now();
        let fresh = self.ids.agent();
        let mut audit = origin.entry(now, "agents.join", Some(name));
        audit.resource = Some(("agent", fresh.to_string()));
        audit.details = json!({ "token": id.to_string() }).to_string();
        let join = NewAgent {
            token: id,
            secret_sha256: sha256_hex(secret.as_bytes()),
            id: fresh,
            name: name.to_owned(),
            public_key: public_key.to_owned(),
            needs_approval: self.approval,
            at: now,
            audit,
        };
        let joined = self.agents.join(join).await.inspect_err(|error| {
            if matches!(error, StoreError::Unavailable(_)) {
                self.doubts.enrolment(self.clock.now());
            }
        })?;
        match joined {
            Joined::Enrolled(agent) => {
                self.directory.put(Agent::clone(&agent));
                Ok(Arc::new(*agent))
            }
            Joined::TokenRefused(why) => {
                tracing::warn!(token = %id, why, "join token refused");
                Err(EnrolError::TokenRefused)
            }
            Joined::KeyRetired => Err(EnrolError::KeyRetired),
            Joined::NameTaken => Err(EnrolError::NameTaken(name.to_owned())),
        }
    }

    /// Changes site, labels or maintenance. Both the old and the new site must be in sight.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn change_agent(
        &self,
        caller: &Caller,
        agent: AgentId,
        mut change: AgentChange,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<Agent, EnrolError> {
        caller.may(Permission::ManageAgents)?;
        let known = self.in_sight(caller, agent)?;
        if let Some(site) = &change.site {
            check_site(site)?;
            may_place(caller, site)?;
        }
        change.labels.as_ref().map_or(Ok(()), check_labels)?;
        change.expected = expected(&known, if_match)?;
        let mut audit = origin.entry(self.clock.now(), "agents.change", Some(&caller.name));
        audit.resource = Some(("agent", agent.to_string()));
        audit.details =
            json!({ "site": change.site, "labels": change.labels, "maintenance": change.maintenance }).to_string();
        let changed = self.agents.change(agent, change, audit).await?.ok_or(EnrolError::NotFound)?;
        self.directory.put(changed.clone());
        Ok(changed)
    }
}

/// Whether `caller` may bring an agent to `site`.
fn may_place(caller: &Caller, site: &str) -> Result<(), EnrolError> {
    if caller.sees_site(site) {
        return Ok(());
    }
    Err(invalid("/site", format!("site `{site}` is not among those granted to you")))
}

/// `vwj_<id>_<secret>_<pin>`, and `_<pin of the TLS key>` where there is one, to id and secret.
fn split_token(text: &str) -> Option<(TokenId, &str)> {
    let mut parts = text.strip_prefix("vwj_")?.split('_');
    let (id, secret, pin) = (parts.next()?, parts.next()?, parts.next()?);
    let id: u128 = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32)?;
    let hyphenated = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        (id >> 80) & 0xffff,
        (id >> 64) & 0xffff,
        (id >> 48) & 0xffff,
        id & 0xffff_ffff_ffff
    );
    let tls_pin = parts.next().is_none_or(|pin| pin.len() == 64);
    let complete = secret.len() == 64 && pin.len() == 16 && tls_pin && parts.next().is_none();
    hyphenated.parse().ok().filter(|_| complete).map(|id| (id, secret))
}

/// What the store is to find an agent as, if whoever asks has said which state of it they have read.
pub(crate) fn expected(known: &Agent, if_match: Option<&str>) -> Result<Expected, EnrolError> {
    let Some(read) = if_match else { return Ok(None) };
    let placed = known.placed();
    if tag::of(&placed) == read {
        Ok(Some(Box::new(placed)))
    } else {
        Err(StoreError::Stale(format!("agent `{}`", known.id)).into())
    }
}

fn check_site(site: &str) -> Result<(), EnrolError> {
    if is_label_text(site) {
        return Ok(());
    }
    Err(invalid("/site", format!("`{site}` is no site: 1 to 63 of [A-Za-z0-9._/-]")))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), EnrolError> {
    if labels.len() > 64 {
        return Err(invalid("/labels", format!("{} labels; at most 64", labels.len())));
    }
    match labels.iter().find(|(key, value)| !is_label_text(key) || !is_label_text(value)) {
        None => Ok(()),
        Some((key, value)) => {
            let rule = "keys and values are 1 to 63 of [A-Za-z0-9._/-]";
            Err(invalid("/labels", format!("`{key}={value}` is no label: {rule}")))
        }
    }
}

fn invalid(pointer: &str, message: String) -> EnrolError {
    EnrolError::Invalid { pointer: pointer.to_owned(), message }
}

fn life(asked: Option<Duration>) -> Result<Duration, EnrolError> {
    let life = asked.unwrap_or(TOKEN_TTL_DEFAULT);
    if (TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&life) {
        return Ok(life);
    }
    Err(invalid("/ttl_s", format!("{} s is out of range: 60 to 604800", life.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_held_to_its_edges() {
        assert_eq!(life(None).ok(), Some(TOKEN_TTL_DEFAULT));
        for (seconds, fits) in [(0, false), (59, false), (60, true), (604_800, true), (604_801, false)] {
            assert_eq!(life(Some(Duration::from_secs(seconds))).is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn only_whole_tokens_are_split() {
        let id = "0193f2a47c1e7abc8def0123456789ab";
        let good = format!("vwj_{id}_{}_{}", "a".repeat(64), "b".repeat(16));
        let (found, secret) = split_token(&good).expect("a token");
        assert_eq!((found.to_string().replace('-', ""), secret.len()), (id.to_owned(), 64));
        let pinned = format!("{good}_{}", "c".repeat(64));
        assert_eq!(split_token(&pinned).map(|(id, _)| id), Some(found));
        for bad in [&format!("{pinned}_x"), &pinned[..pinned.len() - 1]] {
            assert!(split_token(bad).is_none(), "{bad}");
        }
        for bad in ["", "vwj_", &good[1..], &good[..good.len() - 1], &format!("{good}_x"), &good.replace('a', "")] {
            assert!(split_token(bad).is_none(), "{bad}");
        }
    }
}
