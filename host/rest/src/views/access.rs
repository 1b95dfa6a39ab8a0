//! Users, grants and keys as callers are shown them, and what callers say of them.

use api::access::{ApiKey as ApiKeyBody, Grants as GrantsBody, Me as MeBody};
use api::auth::{Grant as GrantBody, User as UserBody};
use domain::access::{Grant, Permission, Principal, Role};
use plan::effect::Effect;
use ports::api_keys::ApiKey;
use ports::users::User;

use crate::instant;
use crate::problem::{Code, Problem};
use crate::sessions::Known;

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

/// The caller, and what they may truly do.
pub fn me(known: &Known) -> MeBody {
    let Known { caller, user, key, payer: _, expires_at: _ } = known;
    let kind = match caller.principal {
        Principal::User(_) => "user",
        Principal::Key { .. } => "api_key",
        Principal::Guest => "guest",
    };
    // Whoever runs nothing causes no effect: their grants say what they see.
    let runs = caller.may(Permission::RunCommands).is_ok();
    let shown = |grants: &[Grant]| -> Vec<GrantBody> {
        let bounded = |one: &Grant| if runs { grant(one) } else { GrantBody { effects: Vec::new(), ..grant(one) } };
        grants.iter().map(bounded).collect()
    };
    MeBody {
        kind: kind.to_owned(),
        id: user.as_ref().map(|user| user.id.to_string()),
        name: caller.name.clone(),
        role: caller.role.as_str().to_owned(),
        permissions: caller.permissions().map(|permission| permission.as_str().to_owned()).collect(),
        grants: shown(&caller.held()),
        within: caller.within.as_deref().map(shown),
        api_key: known.key_id().map(|key| key.to_string()),
        expires_at: key.as_ref().map(|key| instant::text(key.expires_at)),
        created_at: user.as_ref().map(|user| instant::text(user.created_at)),
    }
}

/// A user's grants.
pub fn grants(user: &User) -> GrantsBody {
    let User { id, name, password_hash: _, role, grants, token_version: _, created_at: _ } = user;
    GrantsBody {
        user: id.to_string(),
        name: name.clone(),
        role: role.as_str().to_owned(),
        grants: grants.iter().map(grant).collect(),
    }
}

/// An API key.
pub fn api_key(key: &ApiKey) -> ApiKeyBody {
    let ApiKey {
        id,
        owner,
        owner_name,
        name,
        sha256: _,
        role,
        grants,
        created_at,
        expires_at,
        last_used_at,
        revoked_at,
    } = key;
    ApiKeyBody {
        id: id.to_string(),
        name: name.clone(),
        user: owner.to_string(),
        user_name: owner_name.clone(),
        role: role.as_str().to_owned(),
        grants: grants.as_ref().map(|grants| grants.iter().map(grant).collect()),
        created_at: instant::text(*created_at),
        expires_at: instant::text(*expires_at),
        last_used_at: last_used_at.map(instant::text),
        revoked_at: revoked_at.map(instant::text),
    }
}
