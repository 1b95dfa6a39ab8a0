//! Who may do what: three roles, one permission table, and grants that narrow where a role reaches.
//!
//! Invariant: a permission that no row of [`Permission::least_role`] names cannot exist, and an
//! empty list in a grant is nobody and nothing.

use std::fmt;

use plan::effect::Effect;
use plan::id::UserId;

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
    /// See oneself, change one's password, log out.
    OwnAccount,
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
}

impl Permission {
    /// All permissions.
    pub const ALL: [Permission; 14] = [
        Permission::OwnAccount,
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
    ];

    /// The least role that has it.
    pub fn least_role(self) -> Role {
        match self {
            Permission::OwnAccount
            | Permission::ReadAgents
            | Permission::ReadGroups
            | Permission::ReadVerbs
            | Permission::ReadCommands
            | Permission::ReadPlugins
            | Permission::ReadStatistics => Role::Viewer,
            Permission::RunCommands => Role::Operator,
            Permission::ManageAgents
            | Permission::EnrolAgents
            | Permission::ManageGroups
            | Permission::ManagePlugins
            | Permission::ManageUsers
            | Permission::ReadAudit => Role::Admin,
        }
    }

    /// The name used in audit and problems.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::OwnAccount => "own_account",
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

    fn covers_site(&self, site: &str) -> bool {
        self.sites.iter().any(|pattern| matches(pattern, site))
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its grants; empty means nothing, see [`Grant::ordinary`] for the usual one.
    pub grants: Vec<Grant>,
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
    /// Whether the role has `permission`.
    ///
    /// # Errors
    /// [`Forbidden::Role`].
    pub fn may(&self, permission: Permission) -> Result<(), Forbidden> {
        let needs = permission.least_role();
        if self.role >= needs { Ok(()) } else { Err(Forbidden::Role { role: self.role, needs, permission }) }
    }

    /// Whether anything at `site` exists for this caller. What is out of sight looks like 404.
    pub fn sees_site(&self, site: &str) -> bool {
        self.role == Role::Admin || self.grants.iter().any(|grant| grant.covers_site(site))
    }

    /// Whether this caller sees every site.
    pub fn sees_all_sites(&self) -> bool {
        self.role == Role::Admin || self.grants.iter().any(|grant| grant.sites.iter().any(|site| site == "*"))
    }

    /// Whether `verb` with `effect` may run at `site`.
    ///
    /// # Errors
    /// Which of role and grants says no.
    pub fn may_run(&self, verb: &VerbName, effect: Effect, site: &str) -> Result<(), Forbidden> {
        self.may(Permission::RunCommands)?;
        let covered = self.grants.iter().any(|grant| {
            grant.covers_site(site)
                && grant.effects.contains(&effect)
                && grant.verbs.iter().any(|pattern| matches(pattern, verb.as_str()))
        });
        if self.role == Role::Admin || covered {
            Ok(())
        } else {
            Err(Forbidden::Effect { verb: verb.to_string(), effect, site: site.to_owned() })
        }
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
        Caller { user: UserId(Uuid::from_u128(1)), name: "ada".into(), role, grants }
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
}
