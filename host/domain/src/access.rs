//! Who may do what: three roles, one permission table, grants that narrow where a role reaches, and keys that
//! narrow what their owner may.
//!
//! Invariant: a permission that no row of [`Permission::least_role`] names cannot exist, and an
//! empty list in a grant is nobody and nothing.

use std::fmt;

use plan::effect::Effect;
use plan::id::{KeyId, UserId};

use crate::verb::VerbName;

/// From least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Submits `read` and `change` verbs on granted sites.
    Operator,
    /// Manages; holds every grant.
    Admin,
}

impl Role {
    /// All roles, least first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything a route may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See oneself and one's API keys, and revoke those.
    OwnAccount,
    /// Change one's password, log out, make API keys: for users who logged in, and nobody else.
    OwnLogin,
    /// See agents and their telemetry.
    ReadAgents,
    /// Change an agent's site, labels and maintenance.
    ManageAgents,
    /// Create, list and revoke join tokens; revoke and delete agents.
    EnrolAgents,
    /// See saved groups.
    ReadGroups,
    /// Create, change and delete saved groups. As much as changing labels, it decides who other people's
    /// targets mean.
    ManageGroups,
    /// See verbs and their schemas.
    ReadVerbs,
    /// Submit, cancel and preview commands. Which verbs and where is the grants' matter.
    RunCommands,
    /// See commands, their output and events.
    ReadCommands,
    /// See plugins.
    ReadPlugins,
    /// Enable, disable, roll back plugins.
    ManagePlugins,
    /// See and manage users and grants.
    ManageUsers,
    /// See statistics and metrics.
    ReadStatistics,
    /// Read, verify and export the audit log.
    ReadAudit,
    /// See alerts, rules and silences.
    ReadAlerts,
    /// Take alerts and give them back, silence, try rules on the past.
    AnswerAlerts,
    /// Say where people are told.
    ManageChannels,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Permission; 18] = [
        Permission::OwnAccount,
        Permission::OwnLogin,
        Permission::ReadAgents,
        Permission::ManageAgents,
        Permission::EnrolAgents,
        Permission::ReadGroups,
        Permission::ManageGroups,
        Permission::ReadVerbs,
        Permission::RunCommands,
        Permission::ReadCommands,
        Permission::ReadPlugins,
        Permission::ManagePlugins,
        Permission::ManageUsers,
        Permission::ReadStatistics,
        Permission::ReadAudit,
        Permission::ReadAlerts,
        Permission::AnswerAlerts,
        Permission::ManageChannels,
    ];

    /// The least role that has it.
    pub fn least_role(self) -> Role {
        match self {
            Permission::OwnAccount
            | Permission::OwnLogin
            | Permission::ReadAgents
            | Permission::ReadGroups
            | Permission::ReadVerbs
            | Permission::ReadCommands
            | Permission::ReadPlugins
            | Permission::ReadStatistics
            | Permission::ReadAlerts => Role::Viewer,
            Permission::RunCommands | Permission::AnswerAlerts => Role::Operator,
            Permission::ManageAgents
            | Permission::EnrolAgents
            | Permission::ManageGroups
            | Permission::ManagePlugins
            | Permission::ManageUsers
            | Permission::ReadAudit
            | Permission::ManageChannels => Role::Admin,
        }
    }

    /// Whether only a user who logged in has it, whatever the role: a key that makes keys would outlive its own
    /// revocation.
    pub fn takes_a_login(self) -> bool {
        self == Permission::OwnLogin
    }

    /// Whether no key has it, whatever the role: with a user or a password that a key made, its thief would stay when the
    /// key is revoked.
    pub fn takes_a_person(self) -> bool {
        matches!(self, Permission::OwnLogin | Permission::ManageUsers)
    }

    /// Whether it reaches every site, so that who is held to some of them does not have it.
    pub fn is_of_every_site(self) -> bool {
        matches!(
            self,
            Permission::ManageGroups
                | Permission::ManagePlugins
                | Permission::ManageUsers
                | Permission::ReadAudit
                | Permission::ManageChannels
        )
    }

    /// The name used in audit and problems.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::OwnAccount => "own_account",
            Permission::OwnLogin => "own_login",
            Permission::ReadAgents => "read_agents",
            Permission::ManageAgents => "manage_agents",
            Permission::EnrolAgents => "enrol_agents",
            Permission::ReadGroups => "read_groups",
            Permission::ManageGroups => "manage_groups",
            Permission::ReadVerbs => "read_verbs",
            Permission::RunCommands => "run_commands",
            Permission::ReadCommands => "read_commands",
            Permission::ReadPlugins => "read_plugins",
            Permission::ManagePlugins => "manage_plugins",
            Permission::ManageUsers => "manage_users",
            Permission::ReadStatistics => "read_statistics",
            Permission::ReadAudit => "read_audit",
            Permission::ReadAlerts => "read_alerts",
            Permission::AnswerAlerts => "answer_alerts",
            Permission::ManageChannels => "manage_channels",
        }
    }
}

/// Where a user may act and with what. `*` in sites or verbs stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Sites, as patterns.
    pub sites: Vec<String>,
    /// Verbs, as patterns, e.g. `docker.*`.
    pub verbs: Vec<String>,
    /// Effect classes.
    pub effects: Vec<Effect>,
}

impl Grant {
    /// All sites and verbs, `read` and `change`: what a user without grants of its own has.
    pub fn ordinary() -> Grant {
        Grant { sites: vec!["*".into()], verbs: vec!["*".into()], effects: vec![Effect::Read, Effect::Change] }
    }

    /// All there is: what an admin holds.
    pub fn all() -> Grant {
        Grant { effects: Effect::ALL.to_vec(), ..Grant::ordinary() }
    }

    fn covers_site(&self, site: &str) -> bool {
        self.sites.iter().any(|pattern| matches(pattern, site))
    }
}

/// What a caller's authority is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A user who logged in.
    User(UserId),
    /// An API key, which can never do more than its owner.
    Key {
        /// The key.
        key: KeyId,
        /// Whose it is.
        owner: UserId,
    },
    /// Somebody another issuer vouches for; nothing is stored of them.
    Guest,
}

impl Principal {
    /// The user who is answerable.
    pub fn user(self) -> Option<UserId> {
        match self {
            Principal::User(user) | Principal::Key { key: _, owner: user } => Some(user),
            Principal::Guest => None,
        }
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What they are known by.
    pub principal: Principal,
    /// The user's name; a guest's begins with `oidc:`, which no user's can.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its grants; empty means nothing, see [`Grant::ordinary`] for the usual one. An admin holds every grant
    /// whatever stands here.
    pub grants: Vec<Grant>,
    /// A key's own grants, or what another issuer says of an admin: what is not covered here as well may not be done.
    /// Absent = no narrower than `grants`.
    pub within: Option<Vec<Grant>>,
}

/// Why a caller may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The role does not have the permission.
    #[error("role `{role}` may not {permission}; it takes `{needs}`", permission = permission.as_str())]
    Role {
        /// The caller's.
        role: Role,
        /// The least that has it.
        needs: Role,
        /// What was asked for.
        permission: Permission,
    },
    /// The caller did not log in.
    #[error("{permission} takes a login with name and password, not a key or another issuer's token", permission = permission.as_str())]
    Login {
        /// What was asked for.
        permission: Permission,
    },
    /// The caller is a key.
    #[error("{permission} takes somebody who logged in, not a key", permission = permission.as_str())]
    Key {
        /// What was asked for.
        permission: Permission,
    },
    /// The caller is held to some sites.
    #[error("{permission} reaches every site, and you are held to some of them", permission = permission.as_str())]
    Sites {
        /// What was asked for.
        permission: Permission,
    },
    /// No grant covers it.
    #[error("no grant of yours covers effect `{effect}` of `{verb}` at site `{site}`")]
    Effect {
        /// The verb.
        verb: String,
        /// The effect.
        effect: Effect,
        /// The site.
        site: String,
    },
}

impl Caller {
    /// A user.
    pub fn user(user: UserId, name: &str, role: Role, grants: &[Grant]) -> Caller {
        let principal = Principal::User(user);
        Caller { principal, name: name.to_owned(), role, grants: grants.to_vec(), within: None }
    }

    /// The same user by a key of theirs: at most the key's role, and within its grants if it has any.
    pub fn by_key(self, key: KeyId, role: Role, within: Option<Vec<Grant>>) -> Caller {
        let principal = match self.principal.user() {
            Some(owner) => Principal::Key { key, owner },
            None => self.principal,
        };
        let grants = self.held();
        Caller { principal, role: role.min(self.role), grants, within, ..self }
    }

    /// Whether it has `permission`.
    ///
    /// # Errors
    /// [`Forbidden::Role`], [`Forbidden::Login`], [`Forbidden::Key`], [`Forbidden::Sites`].
    pub fn may(&self, permission: Permission) -> Result<(), Forbidden> {
        let needs = permission.least_role();
        if self.role < needs {
            return Err(Forbidden::Role { role: self.role, needs, permission });
        }
        match self.principal {
            Principal::Key { .. } | Principal::Guest if permission.takes_a_login() => {
                Err(Forbidden::Login { permission })
            }
            Principal::Key { .. } if permission.takes_a_person() => Err(Forbidden::Key { permission }),
            _ if permission.is_of_every_site() && !self.sees_all_sites() => Err(Forbidden::Sites { permission }),
            Principal::User(_) | Principal::Key { .. } | Principal::Guest => Ok(()),
        }
    }

    /// What it may do at all, in the order of [`Permission::ALL`].
    pub fn permissions(&self) -> impl Iterator<Item = Permission> + '_ {
        Permission::ALL.into_iter().filter(|permission| self.may(*permission).is_ok())
    }

    /// Its grants as they are in force: an admin holds every grant.
    pub fn held(&self) -> Vec<Grant> {
        if self.role == Role::Admin { vec![Grant::all()] } else { self.grants.clone() }
    }

    /// Whether anything at `site` exists for this caller. What is out of sight looks like 404.
    pub fn sees_site(&self, site: &str) -> bool {
        self.is_covered(|grant| grant.covers_site(site))
    }

    /// Whether this caller sees every site.
    pub fn sees_all_sites(&self) -> bool {
        self.is_covered(|grant| grant.sites.iter().any(|site| site == "*"))
    }

    /// Whether `verb` with `effect` may run at `site`.
    ///
    /// # Errors
    /// Which of role and grants says no.
    pub fn may_run(&self, verb: &VerbName, effect: Effect, site: &str) -> Result<(), Forbidden> {
        self.may(Permission::RunCommands)?;
        let covered = self.is_covered(|grant| {
            grant.covers_site(site)
                && grant.effects.contains(&effect)
                && grant.verbs.iter().any(|pattern| matches(pattern, verb.as_str()))
        });
        if covered { Ok(()) } else { Err(Forbidden::Effect { verb: verb.to_string(), effect, site: site.to_owned() }) }
    }

    /// Whether one of its grants covers it, and if it is a key with grants of its own, one of those does too.
    fn is_covered(&self, covers: impl Fn(&Grant) -> bool) -> bool {
        (self.role == Role::Admin || self.grants.iter().any(&covers))
            && self.within.as_ref().is_none_or(|within| within.iter().any(&covers))
    }
}

/// `*` stands for any run of characters; names are short, so plain recursion is enough.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            rest.is_empty()
                || tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn caller(role: Role, grants: Vec<Grant>) -> Caller {
        Caller::user(UserId(Uuid::from_u128(1)), "ada", role, &grants)
    }

    fn verb(name: &str) -> VerbName {
        VerbName::parse(name).expect("verb name")
    }

    #[test]
    fn roles_hold_what_the_table_says_and_all_below() {
        for permission in Permission::ALL {
            for role in Role::ALL {
                assert_eq!(caller(role, vec![]).may(permission).is_ok(), role >= permission.least_role());
            }
        }
    }

    #[test]
    fn an_operator_without_a_grant_runs_nothing() {
        let docker_ps = verb("docker.ps");
        assert!(caller(Role::Operator, vec![]).may_run(&docker_ps, Effect::Read, "eu").is_err());
        let ordinary = caller(Role::Operator, vec![Grant::ordinary()]);
        assert!(ordinary.may_run(&docker_ps, Effect::Change, "eu").is_ok());
        assert!(ordinary.may_run(&docker_ps, Effect::Destroy, "eu").is_err());
        assert!(ordinary.may_run(&verb("exec.run"), Effect::Host, "eu").is_err());
        assert!(caller(Role::Viewer, vec![Grant::ordinary()]).may_run(&docker_ps, Effect::Read, "eu").is_err());
        assert!(caller(Role::Admin, vec![]).may_run(&verb("exec.run"), Effect::Host, "eu").is_ok());
    }

    #[test]
    fn a_grant_reaches_its_sites_and_verbs_and_no_further() {
        let grant = Grant { sites: vec!["eu-*".into()], verbs: vec!["docker.*".into()], effects: vec![Effect::Read] };
        let caller = caller(Role::Operator, vec![grant]);
        assert!(caller.may_run(&verb("docker.ps"), Effect::Read, "eu-1").is_ok());
        assert!(caller.may_run(&verb("docker.ps"), Effect::Read, "us-1").is_err());
        assert!(caller.may_run(&verb("compose.ps"), Effect::Read, "eu-1").is_err());
        assert!(caller.sees_site("eu-9") && !caller.sees_site("us-1") && !caller.sees_all_sites());
    }

    #[test]
    fn a_key_does_no_more_than_its_owner_and_no_more_than_itself() {
        let key = KeyId(Uuid::from_u128(9));
        let (docker_ps, exec) = (verb("docker.ps"), verb("exec.run"));
        let eu = Grant { sites: vec!["eu".into()], ..Grant::ordinary() };
        let wide = caller(Role::Operator, vec![eu.clone()]).by_key(key, Role::Admin, Some(vec![Grant::all()]));
        assert_eq!(wide.role, Role::Operator, "never above its owner, also when that one was demoted since");
        assert!(wide.may_run(&docker_ps, Effect::Read, "eu").is_ok());
        assert!(wide.may_run(&exec, Effect::Host, "eu").is_err() && !wide.sees_site("us") && !wide.sees_all_sites());

        let narrow = caller(Role::Admin, vec![]).by_key(key, Role::Operator, Some(vec![eu]));
        assert!(narrow.may_run(&docker_ps, Effect::Read, "eu").is_ok() && narrow.may(Permission::ManageUsers).is_err());
        assert!(narrow.may_run(&docker_ps, Effect::Read, "us").is_err() && !narrow.sees_site("us"));
        let whole = caller(Role::Admin, vec![]).by_key(key, Role::Admin, None);
        assert!(whole.may_run(&exec, Effect::Host, "us").is_ok() && whole.may(Permission::ManagePlugins).is_ok());
        let bounded = caller(Role::Admin, vec![]).by_key(key, Role::Admin, Some(vec![]));
        assert!(bounded.may_run(&docker_ps, Effect::Read, "eu").is_err() && !bounded.sees_site("eu"));
    }

    #[test]
    fn what_takes_a_person_is_not_done_with_a_key() {
        let admin = caller(Role::Admin, vec![]);
        assert_eq!(admin.permissions().count(), Permission::ALL.len());
        let key = admin.clone().by_key(KeyId(Uuid::from_u128(9)), Role::Admin, None);
        let guest = Caller { principal: Principal::Guest, ..admin };
        for permission in Permission::ALL {
            assert_eq!(key.may(permission).is_err(), permission.takes_a_person(), "{}", permission.as_str());
            assert_eq!(guest.may(permission).is_err(), permission.takes_a_login(), "{}", permission.as_str());
        }
    }

    #[test]
    fn who_is_held_to_some_sites_does_nothing_that_reaches_all() {
        let all = Grant { effects: vec![Effect::Read], ..Grant::all() };
        let eu = Grant { sites: vec!["eu".into()], ..Grant::all() };
        let held = |within: Vec<Grant>| Caller { within: Some(within), ..caller(Role::Admin, vec![]) };
        for permission in Permission::ALL {
            assert_eq!(held(vec![eu.clone(), all.clone()]).may(permission), Ok(()), "{}", permission.as_str());
            let every = permission.is_of_every_site();
            let refused = if every { Err(Forbidden::Sites { permission }) } else { Ok(()) };
            assert_eq!(held(vec![eu.clone()]).may(permission), refused);
        }
    }
}
