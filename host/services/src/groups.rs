//! Saved groups: kept here, drawn in wherever an expression names one.

use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::audit::Entry;
use domain::expression::{Expression, Written};
use domain::group::{self, Change, DESCRIPTION_MAX, Drawn, Effect, Group, GroupName, Refused, Undrawable};
use domain::target::{Candidate, groups_of};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::groups::{self as rows, Changed};
use ports::replies::Once;
use serde_json::json;

use crate::digest::sha256_hex;
use crate::directory::Directory;
use crate::origin::Origin;
use crate::replays::{Keep, kept};

/// The use cases.
pub struct Groups {
    /// Where groups are kept.
    pub groups: Arc<dyn rows::Groups>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A group among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The group.
    pub group: Group,
    /// Groups that name it.
    pub used_by: Vec<String>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No such group.
    #[error("there is no such group")]
    NotFound,
    /// A value no group may have.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The other groups do not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an expression's groups come to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// What it names.
    #[error(transparent)]
    Undrawable(#[from] Undrawable),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Groups {
    /// All groups, by name.
    ///
    /// # Errors
    /// [`GroupError::Forbidden`]; the store's.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Shown>, GroupError> {
        caller.may(Permission::ReadGroups)?;
        let all = self.all().await?;
        Ok(all.iter().map(|group| shown(&all, group)).collect())
    }

    /// One group.
    ///
    /// # Errors
    /// [`GroupError::NotFound`], [`GroupError::Forbidden`]; the store's.
    pub async fn show(&self, caller: &Caller, name: &str) -> Result<Shown, GroupError> {
        caller.may(Permission::ReadGroups)?;
        let all = self.all().await?;
        all.get(name).map(|group| shown(&all, group)).ok_or(GroupError::NotFound)
    }

    /// Saves a new group.
    ///
    /// # Errors
    /// [`GroupError::Invalid`], [`GroupError::Refused`], [`GroupError::Forbidden`]; the store's.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        expr: &str,
        description: Option<String>,
        keep: Option<Keep<Shown>>,
        origin: &Origin,
    ) -> Result<Shown, GroupError> {
        caller.may(Permission::ManageGroups)?;
        let invalid = || GroupError::Invalid { pointer: "/name", message: GroupName::RULE.to_owned() };
        let name = GroupName::parse(name).ok_or_else(invalid)?;
        let description = described(description.unwrap_or_default())?;
        let audit = self.entry(caller, "groups.create", &name, Some(expr), origin);
        let meant = written(expr)?;
        // What is going to be written, as far as it is allowed to: nobody names a group that is not there yet.
        let group = Group {
            name: name.clone(),
            expr: meant.clone(),
            description: description.clone(),
            created_by: caller.name.clone(),
            created_at: audit.at,
            changed_by: caller.name.clone(),
            changed_at: audit.at,
        };
        let once = kept(keep.as_ref(), &Shown { group, used_by: Vec::new() });
        self.put(Change::Create { name, expr: meant, description }, audit, once).await
    }

    /// Changes what a group means or is described as; what is absent stays. With `if_at`, only if it was last
    /// changed then. Commands that were accepted before keep their targets.
    ///
    /// # Errors
    /// As [`create`](Self::create)'s, and [`GroupError::NotFound`].
    pub async fn change(
        &self,
        caller: &Caller,
        name: &str,
        expr: Option<&str>,
        description: Option<String>,
        if_at: Option<Timestamp>,
        origin: &Origin,
    ) -> Result<Shown, GroupError> {
        caller.may(Permission::ManageGroups)?;
        let name = GroupName::parse(name).ok_or(GroupError::NotFound)?;
        let description = description.map(described).transpose()?;
        let change = Change::Edit { name: name.clone(), expr: expr.map(written).transpose()?, description, if_at };
        let audit = self.entry(caller, "groups.change", &name, expr, origin);
        self.put(change, audit, None).await
    }

    /// Deletes a group that no other names. With `if_at`, only if it was last changed then.
    ///
    /// # Errors
    /// [`GroupError::NotFound`], [`GroupError::Refused`], [`GroupError::Forbidden`]; the store's.
    pub async fn delete(
        &self,
        caller: &Caller,
        name: &str,
        if_at: Option<Timestamp>,
        origin: &Origin,
    ) -> Result<(), GroupError> {
        caller.may(Permission::ManageGroups)?;
        let name = GroupName::parse(name).ok_or(GroupError::NotFound)?;
        let change = Change::Delete { name: name.clone(), if_at };
        let audit = self.entry(caller, "groups.delete", &name, None, origin);
        self.write(change, audit, None).await.map(drop)
    }

    /// What the groups in an expression come to now.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub async fn drawn(&self, expr: Option<&Expression>) -> Result<Drawn, DrawError> {
        match expr {
            // Most targets name no group, and those need not wait for the store.
            Some(expr) if !expr.groups().is_empty() => Ok(self.all().await?.drawn(expr)?),
            Some(_) | None => Ok(Drawn::default()),
        }
    }

    /// How many agents in the caller's sight a group means now.
    ///
    /// # Errors
    /// See [`DrawError`].
    pub async fn size(&self, caller: &Caller, name: &str) -> Result<u64, DrawError> {
        let drawn = self.drawn(Some(&Expression::Group(name.to_owned()))).await?;
        let means = |candidate: &Candidate| {
            candidate.agent.revoked_at.is_none()
                && caller.sees_site(&candidate.agent.site)
                && groups_of(candidate, &drawn).contains(&name)
        };
        Ok(self.directory.all().iter().filter(|candidate| means(candidate)).count() as u64)
    }

    async fn all(&self) -> Result<group::Groups, StoreError> {
        Ok(group::Groups::new(self.groups.saved_groups().await?))
    }

    /// Writes a change that leaves a group, and shows it as it was written.
    async fn put(&self, change: Change, audit: Entry, once: Option<Once>) -> Result<Shown, GroupError> {
        match self.write(change, audit, once).await? {
            Effect::Put(group) => Ok(shown(&self.all().await?, &group)),
            Effect::Remove(_) => Err(GroupError::NotFound),
        }
    }

    fn entry(
        &self,
        caller: &Caller,
        action: &'static str,
        name: &GroupName,
        expr: Option<&str>,
        origin: &Origin,
    ) -> Entry {
        let mut audit = origin.entry(self.clock.now(), action, Some(&caller.name));
        audit.resource = Some(("group", name.to_string()));
        if let Some(expr) = expr {
            audit.details = json!({ "expr_sha256": sha256_hex(expr.as_bytes()) }).to_string();
        }
        audit
    }

    async fn write(&self, change: Change, audit: Entry, once: Option<Once>) -> Result<Effect, GroupError> {
        match self.groups.change_group(change, audit, once).await? {
            Changed::Done(effect) => Ok(effect),
            Changed::Refused(Refused::NotFound(_)) => Err(GroupError::NotFound),
            Changed::Refused(refused) => Err(refused.into()),
        }
    }
}

fn shown(all: &group::Groups, group: &Group) -> Shown {
    let used_by = all.users_of(group.name.as_str()).into_iter().map(str::to_owned).collect();
    Shown { group: group.clone(), used_by }
}

fn written(expr: &str) -> Result<Written, GroupError> {
    Written::parse(expr).map_err(|fault| GroupError::Invalid { pointer: "/expr", message: fault.to_string() })
}

fn described(text: String) -> Result<String, GroupError> {
    if text.chars().count() <= DESCRIPTION_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let message = format!("a description is one line of at most {DESCRIPTION_MAX} characters");
    Err(GroupError::Invalid { pointer: "/description", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_one_line_of_its_length() {
        assert!(described("ö".repeat(DESCRIPTION_MAX)).is_ok());
        for bad in ["ö".repeat(DESCRIPTION_MAX + 1), "two\nlines".to_owned()] {
            assert!(matches!(described(bad), Err(GroupError::Invalid { pointer: "/description", .. })));
        }
    }
}
