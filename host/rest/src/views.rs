//! What callers are shown: domain types turned into DTOs, field by field, so that a new field below
//! does not build until it is decided here.

pub mod access;
pub mod alert;
pub mod audit;
pub mod channel;
pub mod command;
pub mod delivery;
pub mod group;
pub mod telemetry;
pub mod statistics;
pub mod verb;

use std::collections::BTreeMap;

use api::agent::{Agent as AgentBody, JoinToken as JoinTokenBody};
use domain::agent::{Agent, Facts};
use domain::counts::Counts;
use domain::target::Candidate;
use ports::agents::JoinToken;

use crate::instant;

/// An agent.
pub fn agent(candidate: &Candidate) -> AgentBody {
    let Candidate { agent, status, last_seen } = candidate;
    let labels = agent.effective_labels();
    let Agent {
        id,
        name,
        site,
        labels: _,
        public_key,
        facts,
        maintenance,
        awaits_approval,
        revoked_at,
        deleted_at: _,
        rotation_asked_at,
        created_at,
        last_seen: _,
        session_epoch: _,
        maybe_sent: _,
    } = agent.as_ref();
    let Facts { version, os, kernel, arch, hostname, container_engine, compose, capabilities, labels: _, boot_id: _ } =
        facts;
    AgentBody {
        id: id.to_string(),
        name: name.clone(),
        site: site.clone(),
        status: status.as_str().to_owned(),
        labels,
        capabilities: capabilities.clone(),
        version: version.clone(),
        os: os.clone(),
        kernel: kernel.clone(),
        arch: arch.clone(),
        hostname: hostname.clone(),
        container_engine: container_engine.clone(),
        compose: compose.clone(),
        maintenance: *maintenance,
        awaits_approval: *awaits_approval,
        public_key: public_key.clone(),
        rotation_asked_at: rotation_asked_at.map(instant::text),
        created_at: instant::text(*created_at),
        last_seen: last_seen.map(instant::text),
        revoked_at: revoked_at.map(instant::text),
    }
}

/// A join token; `secret` is its text, right after it was made.
pub fn join_token(token: JoinToken, secret: Option<String>) -> JoinTokenBody {
    let JoinToken {
        id,
        secret_sha256: _,
        site,
        labels,
        needs_approval,
        created_by,
        created_at,
        expires_at,
        used_at,
        used_by,
        revoked_at,
    } = token;
    JoinTokenBody {
        id: id.to_string(),
        token: secret,
        site,
        labels,
        needs_approval,
        created_by,
        created_at: instant::text(created_at),
        expires_at: instant::text(expires_at),
        used_at: used_at.map(instant::text),
        used_by: used_by.map(|agent| agent.to_string()),
        revoked_at: revoked_at.map(instant::text),
    }
}

/// How many invocations are in each state.
pub fn counts(counts: &Counts) -> BTreeMap<String, u32> {
    counts.iter().map(|(state, n)| (state.as_str().to_owned(), n)).collect()
}
