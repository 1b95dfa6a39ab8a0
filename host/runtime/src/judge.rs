//! Whether a build may serve: under its operator's file, by what people decided, beside its neighbours.
//!
//! Invariant: looks only; what follows is for the assembly.

use std::sync::Arc;

use domain::plugin::Record;
use domain::plugin::life::Life;
use domain::time::Timestamp;
use plan::policy::Rules;
use ports::plugins::Refusal;

use crate::build::Build;
use crate::claims::Claims;
use crate::gates::operator::{self, DefaultGrants, Operator};
use crate::refusal::Code;
use crate::registry::Found;
use crate::tier::Tier;

/// What a look at a build says.
pub(crate) enum Verdict {
    /// It may.
    Serve(Serves),
    /// Its plugin is switched off.
    Off,
    /// Not before somebody consents: for want of a grant, or for what the refusal says.
    Wait { refusal: Option<Refusal> },
    /// It was sent back.
    Held { refusal: Refusal, grant: Option<Arc<Rules>> },
    /// The operator's file is no use; whatever serves goes on.
    Unclear(Refusal),
    /// No.
    Refuse(Refusal),
    /// Nobody has said yet what it would break.
    Ask,
}

/// How it may serve.
pub(crate) struct Serves {
    pub(crate) operator: Operator,
    pub(crate) grant: Arc<Rules>,
    /// Whether the grant is what the build asked for, rather than what its operator wrote.
    pub(crate) as_requested: bool,
}

/// What is known when builds are judged.
pub(crate) struct Bench<'a> {
    pub(crate) found: &'a Found,
    pub(crate) defaults: DefaultGrants,
    /// Whether somebody can be asked what waits.
    pub(crate) asks: bool,
}

impl Bench<'_> {
    /// Judges `build`, of `file`, of which `record` is known. `predecessor` serves in its place now.
    pub(crate) fn judge(
        &self,
        file: &str,
        build: &Arc<Build>,
        record: &Record,
        predecessor: Option<&Arc<Build>>,
        claims: &Claims,
    ) -> Verdict {
        let (name, digest) = (&build.identity.name, &build.identity.digest);
        let refuse = |code: Code, cause: String| code.refuse(cause, digest);
        let text = self.found.operators.get(name).map(String::as_str);
        let operator = match operator::read(build, text) {
            Ok(operator) => operator,
            Err((code, cause)) => return Verdict::Unclear(refuse(code, cause)),
        };
        if !operator.enabled || !record.enabled {
            return Verdict::Off;
        }
        let version = record.version(digest);
        let approved = version.is_some_and(|version| version.approved);
        let consent = self.consent(build, record, &operator, approved);
        if let Some(version) = version.filter(|version| version.life.is_held_back()) {
            let code = if version.life == Life::Quarantined { Code::Quarantined } else { Code::RolledBack };
            let why = version.why.as_deref().unwrap_or("it failed too often");
            let cause = format!("version {} was sent back at {}: {why}", version.version, moment(version.since));
            return Verdict::Held { refusal: refuse(code, cause), grant: consent.ok() };
        }
        if build.tier == Tier::Compat && operator.tier != Tier::Compat {
            let cause = format!("`{name}.toml` does not say `tier = \"compat\"` any more");
            return Verdict::Wait { refusal: Some(refuse(Code::CompatTier, cause)) };
        }
        if operator.excludes(build) {
            let pin = operator.pin.as_deref().unwrap_or_default();
            let cause = format!("`{name}.toml` pins `{pin}`, and this is {} ({digest})", build.identity.version);
            return Verdict::Refuse(refuse(Code::Pinned, cause));
        }
        let grant = match consent {
            Ok(grant) => grant,
            Err(None) => return Verdict::Wait { refusal: None },
            Err(Some(beyond)) => {
                let cause =
                    format!("version {} asks for more than was granted: {}", build.identity.version, beyond.join("; "));
                return Verdict::Wait { refusal: Some(refuse(Code::GrantsWidened, cause)) };
            }
        };
        if let Err(refusal) = claims.free(file, build) {
            return Verdict::Refuse(refusal);
        }
        let is_new = !approved && version.is_none_or(|version| !version.life.serves());
        if is_new && self.asks && predecessor.is_some_and(|old| narrows(old, build)) {
            match self.found.breaks.get(digest).map(String::as_str) {
                None => return Verdict::Ask,
                Some("") => {}
                Some(broken) => return Verdict::Wait { refusal: Some(refuse(Code::BreaksQueued, broken.to_owned())) },
            }
        }
        Verdict::Serve(Serves { as_requested: operator.grant.is_none(), operator, grant })
    }

    /// What `build` may plan; else what it asks beyond what was granted before, if anything was.
    fn consent(
        &self,
        build: &Build,
        record: &Record,
        operator: &Operator,
        approved: bool,
    ) -> Result<Arc<Rules>, Option<Vec<String>>> {
        if let Some(grant) = &operator.grant {
            return Ok(Arc::clone(grant));
        }
        let requested = || Arc::new(build.manifest.grants.clone());
        if approved {
            return Ok(requested());
        }
        let by_itself = self.defaults == DefaultGrants::Requested;
        match record.granted(!by_itself) {
            Some(granted) => match build.manifest.grants.beyond(granted) {
                beyond if beyond.is_empty() => Ok(requested()),
                beyond => Err(Some(beyond)),
            },
            // A rule can ask for nothing, so there is nothing to consent to.
            None if by_itself || build.manifest.rule.is_some() => Ok(requested()),
            None => Err(None),
        }
    }
}

/// Whether arguments that `old` took might not be taken by `new`.
pub(crate) fn narrows(old: &Build, new: &Build) -> bool {
    old.verbs.iter().any(|verb| {
        let same = new.verbs.iter().find(|same| same.traits.name == verb.traits.name);
        same.is_none_or(|same| same.contract.args_schema != verb.contract.args_schema)
    })
}

/// An instant for a sentence.
pub(crate) fn moment(at: Timestamp) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at.0).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
