//! What becomes of an agent after it joined: approved, given another key, revoked, deleted.

use std::sync::Arc;

use domain::access::{Caller, Permission};
use domain::agent::Agent;
use plan::envelope::{parse_key, rotate_parts, verify};
use plan::id::AgentId;
use ports::agents::{Order, Rotation};
use ports::error::StoreError;
use serde_json::json;

use crate::enrol::{Enrol, EnrolError, expected};
use crate::origin::Origin;

impl Enrol {
    /// Lets in an agent that waits for it; one that does not wait is left as it is.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn approve_agent(
        &self,
        caller: &Caller,
        agent: AgentId,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<Agent, EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let known = self.in_sight(caller, agent)?;
        let expected = expected(&known, if_match)?;
        if known.revoked_at.is_some() {
            return Err(EnrolError::Revoked(known.name.clone()));
        }
        let mut audit = origin.entry(self.clock.now(), "agents.approve", Some(&caller.name));
        audit.resource = Some(("agent", agent.to_string()));
        let approved = self.agents.approve(agent, expected, audit).await?.ok_or(EnrolError::NotFound)?;
        self.directory.put(approved.clone());
        Ok(approved)
    }

    /// Revokes an agent's key for ever and cuts its session.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn revoke_agent(
        &self,
        caller: &Caller,
        agent: AgentId,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<Agent, EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let known = self.in_sight(caller, agent)?;
        let expected = expected(&known, if_match)?;
        let now = self.clock.now();
        let mut audit = origin.entry(now, "agents.revoke", Some(&caller.name));
        audit.resource = Some(("agent", agent.to_string()));
        let revoked =
            self.agents.revoke(Order { agent, expected, at: now, audit }).await?.ok_or(EnrolError::NotFound)?;
        self.directory.put(revoked.clone());
        self.link.cut(agent, "revoked");
        Ok(revoked)
    }

    /// Revokes an agent's key for ever, cuts its session, and gives its name free. What was sent to it is ended by
    /// [`crate::census`]; its history stays.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn delete_agent(
        &self,
        caller: &Caller,
        agent: AgentId,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<(), EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let known = self.in_sight(caller, agent)?;
        let expected = expected(&known, if_match)?;
        let now = self.clock.now();
        let mut audit = origin.entry(now, "agents.delete", Some(&caller.name));
        audit.resource = Some(("agent", agent.to_string()));
        audit.details = json!({ "name": known.name, "site": known.site }).to_string();
        let deleted =
            self.agents.delete_agent(Order { agent, expected, at: now, audit }).await?.ok_or(EnrolError::NotFound)?;
        self.directory.put(deleted);
        self.link.cut(agent, "deleted");
        Ok(())
    }

    /// Asks an agent to make another key: at once when it is connected, else when it is the next time.
    ///
    /// # Errors
    /// See [`EnrolError`].
    pub async fn ask_key(
        &self,
        caller: &Caller,
        agent: AgentId,
        if_match: Option<&str>,
        origin: &Origin,
    ) -> Result<Agent, EnrolError> {
        caller.may(Permission::EnrolAgents)?;
        let known = self.in_sight(caller, agent)?;
        let expected = expected(&known, if_match)?;
        if known.revoked_at.is_some() {
            return Err(EnrolError::Revoked(known.name.clone()));
        }
        let now = self.clock.now();
        let mut audit = origin.entry(now, "agents.ask_key", Some(&caller.name));
        audit.resource = Some(("agent", agent.to_string()));
        let asked =
            self.agents.ask_rotation(Order { agent, expected, at: now, audit }).await?.ok_or(EnrolError::NotFound)?;
        self.directory.put(asked.clone());
        self.link.ask_key(agent);
        Ok(asked)
    }

    /// Puts the key that a connected agent made in the place of the one it has; `proofs` are by that one and by the
    /// new one. Once more with the same key changes nothing.
    ///
    /// # Errors
    /// [`EnrolError::ProofRefused`], [`EnrolError::KeyRetired`] (or another agent's), and the store's.
    pub async fn rotate_key(&self, agent: AgentId, to: &str, proofs: [&str; 2]) -> Result<(), EnrolError> {
        let known = self.directory.get(agent).ok_or(EnrolError::NotFound)?.agent;
        if known.public_key == to {
            return Ok(());
        }
        if known.rotation_asked_at.is_none() {
            return Err(EnrolError::ProofRefused);
        }
        let said = rotate_parts(self.seal.cluster().id, agent, &known.public_key, to);
        for (key, proof) in [known.public_key.as_str(), to].into_iter().zip(proofs) {
            let key = parse_key(key).map_err(|_| EnrolError::ProofRefused)?;
            verify(&key, &[&said], proof).map_err(|_| EnrolError::ProofRefused)?;
        }
        let now = self.clock.now();
        let mut audit = Origin::default().entry(now, "agents.rotate_key", Some(&known.name));
        audit.resource = Some(("agent", agent.to_string()));
        audit.details = json!({ "from": known.public_key, "to": to }).to_string();
        let keys = Rotation { from: known.public_key.clone(), to: to.to_owned() };
        if let Some(rotated) = self.agents.rotate_key(agent, keys, now, audit).await? {
            self.directory.put(rotated);
            return Ok(());
        }
        // A commit that seemed to fail may have been one.
        self.look_up(agent).await?;
        let counts = self.directory.get(agent).is_some_and(|known| known.agent.public_key == to);
        if counts { Ok(()) } else { Err(EnrolError::KeyRetired) }
    }

    /// Takes over what the store holds about an agent: another host may have enrolled or approved it.
    ///
    /// # Errors
    /// The store's; what was known stays so.
    pub async fn look_up(&self, agent: AgentId) -> Result<(), StoreError> {
        // Told only when it is news: everybody who waits looks up then.
        if let Some(found) = self.agents.agent(agent).await?
            && self.directory.get(agent).is_none_or(|known| *known.agent != found)
        {
            self.directory.put(found);
        }
        Ok(())
    }

    pub(crate) fn in_sight(&self, caller: &Caller, agent: AgentId) -> Result<Arc<Agent>, EnrolError> {
        let known = self.directory.get(agent).map(|known| known.agent);
        known.filter(|agent| agent.deleted_at.is_none() && caller.sees_site(&agent.site)).ok_or(EnrolError::NotFound)
    }
}
