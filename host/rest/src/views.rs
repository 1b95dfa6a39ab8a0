//! What callers are shown: domain types turned into DTOs, field by field, so that a new field below
//! does not build until it is decided here.

pub mod audit;
pub mod command;
pub mod delivery;
pub mod group;
pub mod verb;

use std::collections::BTreeMap;

use api::agent::{Agent as AgentBody, JoinToken as JoinTokenBody};
use api::auth::{Grant as GrantBody, User as UserBody};
use domain::access::{Grant, Role};
use domain::agent::{Agent, Facts};
use domain::counts::Counts;
use domain::target::Candidate;
use plan::effect::Effect;
use ports::agents::JoinToken;
use ports::users::User;

use crate::instant;
use crate::problem::{Code, Problem};

/// An agent.
pub fn agent(candidate: &Candidate) -> AgentBody {
    let Candidate { agent, status } = candidate;
    let labels = agent.effective_labels();
    let Agent {
        id,
        name,
        site,
        labels: _,
        public_key: _,
        facts,
        maintenance,
        revoked_at,
        created_at,
        last_seen,
        session_epoch: _,
        maybe_sent: _,
    } = agent.as_ref().clone();
    let Facts { version, os, kernel, arch, hostname, container_engine, compose, capabilities, labels: _, boot_id: _ } =
        facts;
    AgentBody {
        id: id.to_string(),
        name,
        site,
        status: status.as_str().to_owned(),
        labels,
        capabilities,
        version,
        os,
        kernel,
        arch,
        hostname,
        container_engine,
        compose,
        maintenance,
        created_at: instant::text(created_at),
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
        created_by,
        created_at: instant::text(created_at),
        expires_at: instant::text(expires_at),
        used_at: used_at.map(instant::text),
        used_by: used_by.map(|agent| agent.to_string()),
        revoked_at: revoked_at.map(instant::text),
    }
}

/// A user.
pub fn user(user: &User) -> UserBody {
    let User { id, name, password_hash: _, role, grants, token_version: _, created_at } = user;
    UserBody {
        id: id.to_string(),
        name: name.clone(),
        role: role.as_str().to_owned(),
        grants: grants.iter().map(grant).collect(),
        created_at: instant::text(*created_at),
    }
}

fn grant(grant: &Grant) -> GrantBody {
    let Grant { sites, verbs, effects } = grant;
    let effects = effects.iter().map(|effect| effect.as_str().to_owned()).collect();
    GrantBody { sites: sites.clone(), verbs: verbs.clone(), effects }
}

/// A role by name.
///
/// # Errors
/// 422 when there is none of that name.
pub fn role_of(name: &str) -> Result<Role, Problem> {
    let refuse = || Problem::at(Code::InvalidBody, "/role", "a role is viewer, operator or admin");
    Role::parse(name).ok_or_else(refuse)
}

/// Grants as asked for.
///
/// # Errors
/// 422 when an effect has a name that there is not.
pub fn grants_of(grants: Vec<GrantBody>) -> Result<Vec<Grant>, Problem> {
    let one = |(index, grant): (usize, GrantBody)| {
        let GrantBody { sites, verbs, effects } = grant;
        let mut known = Vec::new();
        for (at, name) in effects.iter().enumerate() {
            let pointer = format!("/grants/{index}/effects/{at}");
            let refuse = || Problem::at(Code::InvalidBody, pointer, "an effect is read, change, destroy or host");
            known.push(Effect::parse(name).ok_or_else(refuse)?);
        }
        Ok(Grant { sites, verbs, effects: known })
    };
    grants.into_iter().enumerate().map(one).collect()
}

/// How many invocations are in each state.
pub fn counts(counts: &Counts) -> BTreeMap<String, u32> {
    counts.iter().map(|(state, n)| (state.as_str().to_owned(), n)).collect()
}
