//! Verbs, plans and plugins.

use api::plugin::{Plugin as PluginBody, PluginPassage, PluginRefusal, PluginSignature, PluginVersion};
use api::target::TargetIn;
use api::verb::{GrantVerdict, PlanPreview, PreviewedTarget, ProfilePlan, Verb as VerbBody};
use domain::plugin::{Passage, Version};
use domain::verb::{Profile, VerbTraits};
use plan::step::Plan;
use ports::plugins::{PluginIdentity, PluginStatus, Refusal, Signature, Verb, VerbContract};
use services::digest::sha256_hex;
use services::preview::{Preview, Verdict};

use crate::instant;
use crate::problem::Problem;
use crate::views;

/// A verb with its schemas.
pub fn verb(verb: &dyn Verb) -> VerbBody {
    let VerbTraits { name, summary, effect, idempotent, cancel, default_timeout_ms, needs } = verb.traits().clone();
    let VerbContract { args_schema, result_schema, examples } = verb.contract().clone();
    let PluginIdentity { name: plugin, version, digest } = verb.plugin().clone();
    VerbBody {
        name: name.to_string(),
        summary,
        effect: effect.as_str().to_owned(),
        idempotent,
        cancel: cancel.as_str().to_owned(),
        default_timeout_ms,
        needs,
        plugin,
        plugin_version: version,
        plugin_digest: digest,
        args_schema,
        result_schema,
        examples,
    }
}

/// What a command would do.
///
/// # Errors
/// 500 when a plan has no JSON form, which the runtime would have refused.
pub fn preview(verb: String, preview: Preview) -> Result<PlanPreview, Problem> {
    let Preview { effect, resolution, verdicts, plans } = preview;
    let (targets, excluded) = views::command::resolved(&resolution);
    let plans = plans.into_iter().map(|(profile, plan, agents)| profile_plan(profile, plan, agents));
    Ok(PlanPreview {
        verb,
        effect: effect.as_str().to_owned(),
        allowed: verdicts.iter().all(|verdict| verdict.refused.is_none()),
        targets: targets.into_iter().zip(verdicts).map(|(target, verdict)| previewed(target, verdict)).collect(),
        excluded,
        plans: plans.collect::<Result<_, _>>()?,
    })
}

fn previewed(target: TargetIn, verdict: Verdict) -> PreviewedTarget {
    let TargetIn { agent, agent_name, site, status, groups } = target;
    let Verdict { effect, refused } = verdict;
    let grant = GrantVerdict {
        allowed: refused.is_none(),
        effect: effect.as_str().to_owned(),
        reason: refused.map(|refused| refused.to_string()),
    };
    PreviewedTarget { agent, agent_name, site, status, groups, grant }
}

fn profile_plan(profile: Profile, plan: Plan, agents: u64) -> Result<ProfilePlan, Problem> {
    let Profile { os, arch, container_engine, compose } = profile;
    let text = serde_json::to_vec(&plan).map_err(|error| Problem::internal(error.to_string()))?;
    let plan_hash = sha256_hex(&text);
    Ok(ProfilePlan { os, arch, container_engine, compose, agents, plan_hash, plan })
}

/// A plugin file.
pub fn plugin(status: PluginStatus) -> PluginBody {
    let PluginStatus { name, kind, state, active, file, verbs, grant, faults, refusal, record, signature } = status;
    let (version, digest) = active.map(|PluginIdentity { name: _, version, digest }| (version, digest)).unzip();
    let refusal =
        refusal.map(|Refusal { gate, code, cause, cure, digest }| PluginRefusal { gate, code, cause, cure, digest });
    let signature = signature.map(|Signature { standing, key_id, signer, comment }| PluginSignature {
        standing: standing.to_owned(),
        key_id,
        signer,
        comment,
    });
    let enabled = record.as_ref().is_none_or(|record| record.enabled);
    let versions = record.into_iter().flat_map(|record| record.versions).map(plugin_version).collect();
    let (kind, state) = (kind.map(str::to_owned), state.to_owned());
    PluginBody { name, kind, state, file, version, digest, verbs, grant, faults, refusal, enabled, versions, signature }
}

fn plugin_version(known: Version) -> PluginVersion {
    let Version { digest, version, verbs: _, life, since, why, proven: _, grant: _, approved } = known;
    PluginVersion { version, digest, state: life.to_string(), since: instant::text(since), why, approved }
}

/// One change in the life of a plugin.
pub fn passage(passage: Passage) -> PluginPassage {
    let Passage { at, plugin: _, version, from, to, why, actor } = passage;
    let (version, digest) = version.unzip();
    PluginPassage { at: instant::text(at), version, digest, from, to, why, actor }
}
