//! Gate 9, second half: a plugin's name and its verbs belong to whoever had them first, and a second claimant
//! is refused, never silently preferred.

use std::collections::{BTreeMap, BTreeSet};

use ports::plugins::Refusal;

use crate::build::Build;
use crate::refusal::Code;
use crate::registry::{Found, Snapshot};

/// Who has which name, while a picture is made.
pub(crate) struct Claims {
    plugins: BTreeMap<String, String>,
    verbs: BTreeMap<String, (String, String)>,
}

impl Claims {
    /// What files that serve now, and still could, hold before anybody else is asked.
    pub(crate) fn of(before: &Snapshot, found: &Found) -> Claims {
        let mut claims = Claims { plugins: BTreeMap::new(), verbs: BTreeMap::new() };
        for (file, candidate) in &found.files {
            let (Some(serving), Some(build)) = (before.serving(file), candidate.newest()) else { continue };
            if build.identity.name == serving.build.identity.name {
                claims.take_name(file, build);
            }
            let served: BTreeSet<&str> = serving.build.verbs.iter().map(|verb| verb.traits.name.as_str()).collect();
            for name in build.verbs.iter().map(|verb| verb.traits.name.as_str()).filter(|name| served.contains(name)) {
                claims.verbs.insert(name.to_owned(), (file.clone(), build.identity.name.clone()));
            }
        }
        claims
    }

    pub(crate) fn free_name(&self, file: &str, build: &Build) -> Result<(), Refusal> {
        let name = &build.identity.name;
        match self.plugins.get(name) {
            Some(owner) if owner != file => Err(Code::PluginConflict
                .refuse(format!("plugin `{name}` is already provided by `{owner}`"), &build.identity.digest)),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn take_name(&mut self, file: &str, build: &Build) {
        self.plugins.insert(build.identity.name.clone(), file.to_owned());
    }

    /// Whether the plugin's name and all its verbs are free, or its own.
    pub(crate) fn free(&self, file: &str, build: &Build) -> Result<(), Refusal> {
        self.free_name(file, build)?;
        for verb in &build.verbs {
            let name = verb.traits.name.as_str();
            if let Some((owner, plugin)) = self.verbs.get(name).filter(|(owner, _)| owner != file) {
                let cause = format!("verb `{name}` is already provided by plugin `{plugin}` (`{owner}`)");
                return Err(Code::VerbConflict.refuse(cause, &build.identity.digest));
            }
        }
        Ok(())
    }

    /// Takes the plugin's name and all its verbs.
    pub(crate) fn take(&mut self, file: &str, build: &Build) {
        self.take_name(file, build);
        for verb in &build.verbs {
            let owner = (file.to_owned(), build.identity.name.clone());
            self.verbs.insert(verb.traits.name.to_string(), owner);
        }
    }
}
