//! Says what a command would do and whether its caller may, and does nothing.
//!
//! Invariant: a plugin is asked only on behalf of a caller who may run its verb on a machine of that kind. Else
//! whoever has no grant for a verb could make its plugin fail until it is sent back.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::target::{Resolution, Target};
use domain::verb::Profile;
use plan::effect::Effect;
use plan::step::Plan;
use ports::plugins::Verb;
use serde_json::Value;

use crate::submit::{Submit, SubmitError, may_raise};

/// What would be accepted, if it would be.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The highest effect of the plans; the verb's least when there is none.
    pub effect: Effect,
    /// Who is in and who is out.
    pub resolution: Resolution,
    /// What the caller's grants say of each of those in, in their order. A command that one of them refuses is
    /// refused whole.
    pub verdicts: Vec<Verdict>,
    /// One plan for each kind of machine with a target that the verb may run on, and how many targets are of it.
    pub plans: Vec<(Profile, Plan, u64)>,
}

/// What the caller's grants say of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was asked about: the plan's effect, or the verb's least when that one is not granted.
    pub effect: Effect,
    /// Why not; `None` when a grant covers it.
    pub refused: Option<Forbidden>,
}

impl Submit {
    /// Says what [`run`](Self::run) would do, and does nothing. That a grant is missing is part of the answer.
    ///
    /// # Errors
    /// As [`run`](Self::run)'s, but for [`Forbidden::Effect`].
    pub async fn preview(
        &self,
        caller: &Caller,
        verb: &str,
        args: &Value,
        target: &Target,
    ) -> Result<Preview, SubmitError> {
        caller.may(Permission::RunCommands)?;
        let verb = self.plugins.resolve(verb)?;
        let hidden = self.hide(verb.as_ref(), args)?;
        let groups = self.groups.drawn(target.expr.as_ref()).await?;
        let resolution = self.resolve(caller, verb.as_ref(), target, &groups)?;
        let (verdicts, plans) = self.judge(caller, verb.as_ref(), &hidden.args, &resolution).await?;
        let mut counts: BTreeMap<Profile, u64> = BTreeMap::new();
        for candidate in &resolution.included {
            *counts.entry(candidate.agent.profile()).or_default() += 1;
        }
        let effect = plans.values().map(|plan| plan.effect).max().unwrap_or(verb.traits().effect);
        let plans = plans.into_iter().map(|(profile, plan)| {
            let agents = counts.get(&profile).copied().unwrap_or(0);
            (profile, Plan::clone(&plan), agents)
        });
        Ok(Preview { effect, plans: plans.collect(), verdicts, resolution })
    }

    /// The grants' verdict on each target, and a plan for each kind of machine among those of which the verb's least
    /// effect is granted.
    async fn judge(
        &self,
        caller: &Caller,
        verb: &dyn Verb,
        args: &Value,
        resolution: &Resolution,
    ) -> Result<(Vec<Verdict>, BTreeMap<Profile, Arc<Plan>>), SubmitError> {
        let traits = verb.traits();
        let mut plans: BTreeMap<Profile, Arc<Plan>> = BTreeMap::new();
        let mut verdicts = Vec::with_capacity(resolution.included.len());
        for candidate in &resolution.included {
            let site = &candidate.agent.site;
            if let Err(refused) = caller.may_run(&traits.name, traits.effect, site) {
                verdicts.push(Verdict { effect: traits.effect, refused: Some(refused) });
                continue;
            }
            let profile = candidate.agent.profile();
            if !plans.contains_key(&profile) {
                plans.insert(profile.clone(), self.plan_for(verb, &profile, args).await?);
            }
            let effect = plans[&profile].effect;
            verdicts.push(Verdict { effect, refused: may_raise(caller, traits, effect, site).err() });
        }
        Ok((verdicts, plans))
    }
}
