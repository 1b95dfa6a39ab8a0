//! Who a command is for. Resolved once, at acceptance; the answer says who is in, and who was meant
//! but is out, and why.
//!
//! Invariant: an empty target is nobody, never everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::id::AgentId;

use crate::agent::{Agent, AgentStatus};
use crate::expression::{Expression, Field, Pattern};
use crate::group::Drawn;
use crate::time::Timestamp;

/// Which agents are meant. Lists are combined with *and*; inside a list any match counts, but all
/// labels and all capabilities must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Every agent not in maintenance.
    pub all: bool,
    /// Ids or names.
    pub agents: Vec<String>,
    /// Sites.
    pub sites: Vec<String>,
    /// Labels, all of which must match.
    pub labels: BTreeMap<String, String>,
    /// Capabilities, all of which the agent must have.
    pub capabilities: Vec<String>,
    /// Operating systems.
    pub os: Vec<String>,
    /// Container engines, without version.
    pub container_engine: Vec<String>,
    /// Statuses.
    pub status: Vec<AgentStatus>,
    /// What must hold besides.
    pub expr: Option<Expression>,
}

/// One agent as targets see it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Its status now.
    pub status: AgentStatus,
    /// When it was last heard, as far as is known here; later than what is stored while it is in session.
    pub last_seen: Option<Timestamp>,
}

/// Why an agent that was meant is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// In maintenance, and not named itself.
    Maintenance,
    /// It has no such capability.
    Lacks(String),
    /// It joined, and nobody has approved it yet.
    AwaitsApproval,
    /// It has not said yet what machine it is.
    NeverConnected,
}

impl Out {
    /// A sentence for people.
    pub fn explain(&self) -> String {
        match self {
            Out::Maintenance => "in maintenance; name it to include it".to_owned(),
            Out::Lacks(capability) => format!("has no capability `{capability}`"),
            Out::AwaitsApproval => "waits for approval; `viworks agent approve` lets it in".to_owned(),
            Out::NeverConnected => "has never connected, so its machine is not known".to_owned(),
        }
    }
}

/// Who is in and who is out.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// To run on, by name.
    pub included: Vec<Candidate>,
    /// Meant but not run on, by name.
    pub excluded: Vec<(Candidate, Out)>,
    /// Named, but no such agent is in the caller's sight.
    pub unknown: Vec<String>,
    /// The groups of the target that each of them is in; who is in none is left out.
    pub groups: BTreeMap<AgentId, Vec<String>>,
    /// Groups of the target that nobody who was looked at is in.
    pub empty: Vec<String>,
}

impl Target {
    /// Whether it names nobody at all.
    pub fn is_empty(&self) -> bool {
        !self.all
            && self.agents.is_empty()
            && self.sites.is_empty()
            && self.labels.is_empty()
            && self.capabilities.is_empty()
            && self.os.is_empty()
            && self.container_engine.is_empty()
            && self.status.is_empty()
            && self.expr.is_none()
    }

    /// Whether it names single agents only, so that nobody else need be looked at.
    pub fn names_agents(&self) -> bool {
        !self.agents.is_empty()
    }

    /// Resolves against `candidates`, which hold everyone in the caller's sight (or, when
    /// [`names_agents`](Self::names_agents), at least everyone named). `needs` is the verb's capability,
    /// `drawn` what the groups in the expression come to.
    pub fn resolve(&self, candidates: &[Candidate], needs: Option<&str>, drawn: &Drawn) -> Resolution {
        let mut resolution = Resolution::default();
        if self.is_empty() {
            return resolution;
        }
        let own: BTreeSet<&str> = self.expr.iter().flat_map(Expression::groups).collect();
        let mut peopled: BTreeSet<&str> = BTreeSet::new();
        let named: BTreeSet<&str> = self.agents.iter().map(String::as_str).collect();
        let mut found: BTreeSet<&str> = BTreeSet::new();
        for candidate in candidates {
            let agent = &candidate.agent;
            let id = agent.id.to_string();
            let by_name = named.get(agent.name.as_str()).or_else(|| named.get(id.as_str())).copied();
            found.extend(by_name);
            if agent.revoked_at.is_some() || (!named.is_empty() && by_name.is_none()) {
                continue;
            }
            let held = groups_of(candidate, drawn);
            let groups: Vec<&str> = held.iter().copied().filter(|name| own.contains(name)).collect();
            peopled.extend(&groups);
            if !self.matches(candidate, &held) {
                continue;
            }
            if !groups.is_empty() {
                resolution.groups.insert(agent.id, groups.into_iter().map(str::to_owned).collect());
            }
            match self.out(candidate, needs, by_name.is_some()) {
                Some(out) => resolution.excluded.push((candidate.clone(), out)),
                None => resolution.included.push(candidate.clone()),
            }
        }
        resolution.unknown = named.difference(&found).map(|name| (*name).to_owned()).collect();
        resolution.empty = own.difference(&peopled).map(|name| (*name).to_owned()).collect();
        resolution.included.sort_by(|a, b| a.agent.name.cmp(&b.agent.name));
        resolution.excluded.sort_by(|a, b| a.0.agent.name.cmp(&b.0.agent.name));
        resolution
    }

    fn matches(&self, candidate: &Candidate, groups: &[&str]) -> bool {
        let agent = &candidate.agent;
        let facts = &agent.facts;
        let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        let labels = agent.effective_labels();
        let engine = facts.container_engine.as_deref().and_then(|text| text.split_whitespace().next());
        any(&self.sites, &agent.site)
            && any(&self.os, &facts.os)
            && (self.container_engine.is_empty() || engine.is_some_and(|name| any(&self.container_engine, name)))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.capabilities.iter().all(|capability| facts.capabilities.contains(capability))
            && (self.status.is_empty() || self.status.contains(&candidate.status))
            && self.expr.as_ref().is_none_or(|expr| expr.holds(&|test| tested(candidate, test, groups)))
    }

    fn out(&self, candidate: &Candidate, needs: Option<&str>, named: bool) -> Option<Out> {
        let agent = &candidate.agent;
        if agent.awaits_approval {
            return Some(Out::AwaitsApproval);
        }
        if agent.maintenance && !named && !self.status.contains(&AgentStatus::Maintenance) {
            return Some(Out::Maintenance);
        }
        if agent.facts.os.is_empty() {
            return Some(Out::NeverConnected);
        }
        let lacking = needs.filter(|need| !agent.facts.capabilities.iter().any(|has| has == need));
        lacking.map(|need| Out::Lacks(need.to_owned()))
    }
}

/// The groups that the candidate is in, of those that were drawn.
pub fn groups_of<'d>(candidate: &Candidate, drawn: &'d Drawn) -> Vec<&'d str> {
    drawn.held(&|test| tested(candidate, test, &[]))
}

/// One test of an expression, for a candidate that is in `groups`.
fn tested(candidate: &Candidate, test: &Expression, groups: &[&str]) -> bool {
    let agent = &candidate.agent;
    let any = |values: &[Pattern], text: &str| values.iter().any(|value| value.matches(text));
    match test {
        Expression::Test(field, values) => match field {
            Field::Agent => any(values, &agent.name) || any(values, &agent.id.to_string()),
            Field::Site => any(values, &agent.site),
            Field::Os => any(values, &agent.facts.os),
            Field::Arch => any(values, &agent.facts.arch),
            Field::Engine => {
                let engine = agent.facts.container_engine.as_deref();
                engine.and_then(|text| text.split_whitespace().next()).is_some_and(|name| any(values, name))
            }
            Field::Status => any(values, candidate.status.as_str()),
            Field::Capability => agent.facts.capabilities.iter().any(|has| any(values, has)),
            Field::Label(key) => agent.effective_labels().get(key).is_some_and(|value| any(values, value)),
        },
        Expression::HasLabel(key) => agent.effective_labels().contains_key(key),
        Expression::All => true,
        Expression::Group(name) => groups.contains(&name.as_str()),
        Expression::Not(_) | Expression::And(_) | Expression::Or(_) => false,
    }
}

impl Resolution {
    /// Ids of those in.
    pub fn ids(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.included.iter().map(|candidate| candidate.agent.id)
    }

    /// The groups of the target that an agent is in.
    pub fn groups_of(&self, agent: AgentId) -> &[String] {
        self.groups.get(&agent).map_or(&[], Vec::as_slice)
    }

    /// A sentence for people: why somebody who was meant is out, and by which groups they were meant.
    pub fn explain(&self, candidate: &Candidate, out: &Out) -> String {
        let why = out.explain();
        match self.groups_of(candidate.agent.id) {
            [] => why,
            [group] => format!("in group `{group}`, but {why}"),
            groups => format!("in groups `{}`, but {why}", groups.join("`, `")),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::agent::Facts;
    use crate::expression::Written;
    use crate::group::{Group, GroupName, Groups};

    fn candidate(number: u128, name: &str, site: &str, change: impl FnOnce(&mut Agent)) -> Candidate {
        let facts = Facts { os: "linux".into(), capabilities: vec!["exec".into()], ..Facts::default() };
        let mut agent = Agent {
            id: AgentId(Uuid::from_u128(number)),
            name: name.into(),
            site: site.into(),
            labels: BTreeMap::new(),
            public_key: String::new(),
            facts,
            maintenance: false,
            awaits_approval: false,
            revoked_at: None,
            deleted_at: None,
            rotation_asked_at: None,
            created_at: Timestamp(0),
            last_seen: None,
            session_epoch: 0,
            maybe_sent: false,
        };
        change(&mut agent);
        Candidate { agent: Arc::new(agent), status: AgentStatus::Online, last_seen: None }
    }

    fn fleet() -> Vec<Candidate> {
        vec![
            candidate(1, "web-1", "eu", |_| ()),
            candidate(2, "web-2", "us", |a| _ = a.labels.insert("env".into(), "prod".into())),
            candidate(3, "db-1", "eu", |a| a.facts.capabilities.clear()),
            candidate(4, "old", "eu", |a| a.revoked_at = Some(Timestamp(1))),
            candidate(5, "idle", "us", |a| a.maintenance = true),
            candidate(6, "new", "ap", |a| a.awaits_approval = true),
        ]
    }

    #[track_caller]
    fn check(target: Target, included: &[&str], excluded: &[&str], unknown: &[&str]) {
        let found = target.resolve(&fleet(), Some("exec"), &Drawn::default());
        let names = |list: Vec<&Candidate>| list.into_iter().map(|c| c.agent.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(found.included.iter().collect()), included);
        assert_eq!(names(found.excluded.iter().map(|(c, _)| c).collect()), excluded);
        assert_eq!(found.unknown, unknown);
    }

    #[test]
    fn an_empty_target_is_nobody() {
        check(Target::default(), &[], &[], &[]);
    }

    #[test]
    fn all_leaves_out_maintenance_and_says_so() {
        check(Target { all: true, ..Target::default() }, &["web-1", "web-2"], &["db-1", "idle", "new"], &[]);
    }

    #[test]
    fn maintenance_is_left_out_by_site_and_label_and_in_when_it_is_named_or_asked_for() {
        let labels = BTreeMap::from([("env".to_owned(), "idle".to_owned())]);
        let fleet = [candidate(5, "idle", "us", |agent| {
            agent.maintenance = true;
            agent.labels.clone_from(&labels);
        })];
        let out = |target: Target| {
            let found = target.resolve(&fleet, Some("exec"), &Drawn::default());
            assert_eq!(found.included.len() + found.excluded.len(), 1);
            found.excluded.first().map(|(_, out)| out.clone())
        };
        let by_expr = |text: &str| Expression::parse(text).expect("reads");
        for left_out in [
            Target { all: true, ..Target::default() },
            Target { sites: vec!["us".into()], ..Target::default() },
            Target { labels: labels.clone(), ..Target::default() },
            Target { expr: Some(by_expr("site = us")), ..Target::default() },
        ] {
            assert_eq!(out(left_out), Some(Out::Maintenance));
        }
        let named = Target { agents: vec!["idle".into()], ..Target::default() };
        assert_eq!(out(named), None);
        let id = Target { agents: vec![Uuid::from_u128(5).to_string()], ..Target::default() };
        assert_eq!(out(id), None);
    }

    #[test]
    fn who_waits_for_approval_is_out_even_when_named() {
        for target in [
            Target { agents: vec!["new".into()], ..Target::default() },
            Target { sites: vec!["ap".into()], ..Target::default() },
        ] {
            check(target, &[], &["new"], &[]);
        }
    }

    #[test]
    fn lists_are_combined_with_and() {
        let sites = vec!["us".to_owned()];
        check(Target { sites: sites.clone(), ..Target::default() }, &["web-2"], &["idle"], &[]);
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        check(Target { sites, labels: labels.clone(), ..Target::default() }, &["web-2"], &[], &[]);
        check(Target { sites: vec!["eu".into()], labels, ..Target::default() }, &[], &[], &[]);
    }

    #[test]
    fn an_expression_is_one_more_condition() {
        let by = |text: &str| Target { expr: Some(Expression::parse(text).expect("reads")), ..Target::default() };
        check(by("all"), &["web-1", "web-2"], &["db-1", "idle", "new"], &[]);
        check(by("site = eu or label.env = prod"), &["web-1", "web-2"], &["db-1"], &[]);
        check(by("agent = web-* and label.env != prod"), &["web-1"], &[], &[]);
        check(by("os = linux and not label.env and status = online"), &["web-1"], &["db-1", "idle", "new"], &[]);
        check(Target { sites: vec!["us".into()], ..by("agent = *-1") }, &[], &[], &[]);
    }

    #[test]
    fn groups_decide_who_is_meant_and_are_named_to_those_in_and_out() {
        let group = |name: &str, expr: &str| Group {
            name: GroupName::parse(name).expect("a name"),
            expr: Written::parse(expr).expect("reads"),
            description: String::new(),
            created_by: "ada".into(),
            created_at: Timestamp(0),
            changed_by: "ada".into(),
            changed_at: Timestamp(0),
        };
        let rows = [group("prod", "label.env = prod"), group("us", "site = us"), group("far", "@us and not @prod")];
        let groups = Groups::new(rows.into_iter().chain([group("none", "os = plan9")]));
        let resolve = |text: &str, rest: Target| {
            let expr = Expression::parse(text).expect("reads");
            let drawn = groups.drawn(&expr).expect("drawn");
            Target { expr: Some(expr), ..rest }.resolve(&fleet(), Some("exec"), &drawn)
        };
        let names = |list: &[Candidate]| list.iter().map(|one| one.agent.name.clone()).collect::<Vec<_>>();

        let found = resolve("@us", Target::default());
        assert_eq!(names(&found.included), ["web-2"]);
        assert_eq!(found.groups_of(AgentId(Uuid::from_u128(2))), ["us"]);
        let (idle, out) = &found.excluded[0];
        assert_eq!(found.explain(idle, out), "in group `us`, but in maintenance; name it to include it");
        // Only what the target names itself is told, not what its groups are made of.
        let found = resolve("@far or @none", Target::default());
        assert_eq!((found.groups_of(AgentId(Uuid::from_u128(5))), found.included.len()), (&["far".to_owned()][..], 0));
        assert_eq!(found.empty, ["none"]);
        let found = resolve("@us and @prod", Target { sites: vec!["us".into()], ..Target::default() });
        assert_eq!(found.groups_of(AgentId(Uuid::from_u128(2))), ["us", "prod"]);
        let found = resolve("not @us", Target::default());
        assert_eq!((names(&found.included), found.groups.len()), (vec!["web-1".to_owned()], 0));
    }

    #[test]
    fn agents_are_named_by_id_or_name_and_the_unknown_are_told() {
        let agents = vec!["web-1".to_owned(), Uuid::from_u128(5).to_string(), "ghost".to_owned()];
        check(Target { agents, ..Target::default() }, &["idle", "web-1"], &[], &["ghost"]);
        check(Target { agents: vec!["old".into()], ..Target::default() }, &[], &[], &[]);
    }
}
