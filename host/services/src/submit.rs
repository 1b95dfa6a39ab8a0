//! Accepts one command durably and says which agents it will run on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::access::{Caller, Forbidden, Permission};
use domain::command::{Command, NewInvocation, Status};
use domain::deadline::{self, OutOfRange, Unreasonable};
use domain::group::{Drawn, Undrawable};
use domain::priority::Priority;
use domain::target::{Candidate, Resolution, Target};
use domain::terms::{Terms, Wishes};
use domain::time::{Timestamp, millis};
use domain::verb::{Profile, VerbTraits};
use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, SignedEnvelope};
use plan::id::{AgentId, CommandId};
use plan::secret::{self, Hidden, SecretFault, Secrets};
use plan::step::Plan;
use ports::clock::{Clock, Ids};
use ports::commands::{Advance, Commands, Due, NewCommand, Word};
use ports::error::StoreError;
use ports::link::Link;
use ports::plugins::{PlanError, Plugins, ResolveError, Verb, Violation};
use ports::seal::{Seal, Vault};
use serde_json::{Value, json};

use crate::backlog::{Backlog, Full};
use crate::directory::Directory;
use crate::doubt::Doubts;
use crate::groups::{DrawError, Groups};
use crate::meter::{Call, Meter};
use crate::origin::Origin;
use crate::replays::{Keep, kept};
use crate::rollouts::Begun;
use crate::standing::Standing;

/// The use case.
pub struct Submit {
    /// Loaded verbs.
    pub plugins: Arc<dyn Plugins>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// What saved groups mean.
    pub groups: Arc<Groups>,
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// What may be stored although the store did not answer.
    pub doubts: Arc<Doubts>,
    /// How much waits.
    pub backlog: Arc<Backlog>,
    /// Told of rollouts.
    pub begun: Arc<Begun>,
    /// Told who submits.
    pub standing: Arc<Standing>,
    /// Signs envelopes.
    pub seal: Arc<dyn Seal>,
    /// Keeps secret arguments.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Counts.
    pub meter: Arc<Meter>,
}

/// What is asked for.
pub struct Request {
    /// The verb's name.
    pub verb: String,
    /// Its arguments.
    pub args: Value,
    /// Who it runs on.
    pub target: Target,
    /// The target as asked for, compact JSON text.
    pub target_json: String,
    /// Urgency.
    pub priority: Priority,
    /// Its clocks, retries and rollout.
    pub wishes: Wishes,
    /// An attempt is killed after this long.
    pub run_timeout_ms: Option<u64>,
    /// The command it follows up.
    pub parent: Option<CommandId>,
    /// With an idempotency key: the reply that is kept for it.
    pub once: Option<Keep<Accepted>>,
}

/// What was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The intent.
    pub command: Arc<Command>,
    /// `pending`, unless nobody could be reached in time.
    pub status: Status,
    /// Who is in and who is out.
    pub resolution: Resolution,
}

/// Why a command was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// No such verb now.
    #[error(transparent)]
    Verb(#[from] ResolveError),
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No plan for these arguments.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A deadline out of bounds.
    #[error("{field}: {error}")]
    Deadline {
        /// The request's field.
        field: &'static str,
        /// Its bounds.
        error: OutOfRange,
    },
    /// Terms out of bounds.
    #[error(transparent)]
    Terms(#[from] Unreasonable),
    /// Too much waits already.
    #[error(transparent)]
    Full(#[from] Full),
    /// Nobody would run it. An empty target is nobody, never everybody.
    #[error("the target matches no agent that could run this")]
    NoTarget {
        /// Named, but not there.
        unknown: Vec<String>,
        /// Meant, but out: name and why.
        excluded: Vec<(String, String)>,
        /// Groups of the target that nobody in the caller's sight is in.
        empty: Vec<String>,
    },
    /// The target's groups come to nothing.
    #[error(transparent)]
    Groups(#[from] Undrawable),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DrawError> for SubmitError {
    fn from(error: DrawError) -> SubmitError {
        match error {
            DrawError::Undrawable(error) => SubmitError::Groups(error),
            DrawError::Store(error) => SubmitError::Store(error),
        }
    }
}

/// Plans by kind of machine, and which targets are of which kind.
struct Planned {
    resolution: Resolution,
    groups: Drawn,
    plans: BTreeMap<Profile, Arc<Plan>>,
}

impl Submit {
    /// Accepts one command.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing was stored then.
    pub async fn run(&self, caller: &Caller, request: Request, origin: &Origin) -> Result<Accepted, SubmitError> {
        let verb = self.plugins.resolve(&request.verb)?;
        let now = self.clock.now();
        let terms = request.wishes.agree(verb.traits().idempotent, now)?;
        let run_timeout = deadline::run_timeout(request.run_timeout_ms, verb.traits().default_timeout_ms)
            .map_err(|error| SubmitError::Deadline { field: "/run_timeout_ms", error })?;
        let hidden = self.hide(verb.as_ref(), &request.args)?;
        let planned = self.plan(caller, verb.as_ref(), &hidden.args, &request.target).await?;

        // Before anything is signed: what there is no room for should cost little.
        let agents: Vec<AgentId> = planned.resolution.included.iter().map(|candidate| candidate.agent.id).collect();
        self.backlog.admit(&agents)?;

        let within = terms.start_within;
        let command = Arc::new(self.command(
            caller,
            &request,
            &hidden.args,
            verb.as_ref(),
            &planned,
            origin,
            now,
            terms,
            run_timeout,
        ));
        let secrets = self.seal_secrets(command.id, &hidden.values);
        let mut due = self.seal_all(&command, &planned, secrets.as_ref());
        let mut audit = origin.entry(now, "command.submit", Some(&caller.name));
        audit.resource = Some(("command", command.id.to_string()));
        let mut details = json!({ "verb": request.verb, "targets": due.len(), "plugin_digest": command.plugin_digest });
        if let Some(trace) = &origin.traceparent {
            details["traceparent"] = trace.as_str().into();
        }
        audit.details = details.to_string();
        let included = &planned.resolution.included;
        let first = command.terms.rollout.first(u32::try_from(due.len()).unwrap_or(u32::MAX)) as usize;
        let invocations = included.iter().zip(&due).enumerate().map(|(place, (candidate, due))| NewInvocation {
            agent: due.agent,
            agent_name: candidate.agent.name.clone(),
            site: candidate.agent.site.clone(),
            envelope: due.envelope.clone(),
            held: place >= first,
        });
        let invocations = invocations.collect();
        let mut accepted =
            Accepted { command: command.clone(), status: Status::Pending, resolution: planned.resolution };
        let once = kept(request.once.as_ref(), &accepted);
        let new = NewCommand { command: command.clone(), invocations, audit, once };
        if let Err(error) = self.commands.accept(new).await {
            self.backlog.forget(&agents);
            if matches!(error, StoreError::Unavailable(_)) {
                self.doubts.command(command.id, self.clock.now());
            }
            return Err(error.into());
        }
        let sites = accepted.resolution.included.iter().map(|candidate| candidate.agent.site.as_str());
        self.meter.accepted(command.id, &request.verb, sites, now);
        self.standing.note(caller);
        if due.len() > first {
            due.truncate(first);
            self.begun.tell(command.id);
        }
        let included = &accepted.resolution.included;
        accepted.status = if within.is_zero() {
            // The command is stored: an outage from here on is no reason to say that it was not. Its start
            // deadline, seconds away, ends what this could not.
            let expired = self.expire_unreachable(included, &command, now).await;
            expired.unwrap_or_else(|error| {
                tracing::warn!(command = %command.id, %error, "unreachable targets are left to their start deadline");
                Status::Pending
            })
        } else {
            Status::Pending
        };
        self.link.offer(due);
        Ok(accepted)
    }

    /// The arguments as everybody may see them, and their secrets apart. Nothing below knows the values.
    pub(crate) fn hide(&self, verb: &dyn Verb, args: &Value) -> Result<Hidden, SubmitError> {
        verb.validate(args).map_err(PlanError::Invalid)?;
        secret::hide(&verb.contract().args_schema, args).map_err(|SecretFault { pointer, message }| {
            let keyword = secret::KEYWORD.to_owned();
            SubmitError::Plan(PlanError::Invalid(vec![Violation { pointer, message, keyword }]))
        })
    }

    /// The values sealed for the way to the agents: each under a key of this command's own, which only a host can
    /// unwrap.
    fn seal_secrets(&self, command: CommandId, values: &BTreeMap<String, String>) -> Option<Secrets> {
        if values.is_empty() {
            return None;
        }
        let nonce = || -> [u8; 24] {
            let bytes = self.ids.secret();
            std::array::from_fn(|n| bytes[n])
        };
        let key = self.ids.secret();
        let sealed = values.iter().map(|(token, value)| {
            let context = secret::value_context(command, token);
            (token.clone(), secret::seal(&key, nonce(), &context, value.as_bytes()))
        });
        Some(Secrets { values: sealed.collect(), key: self.vault.wrap(command, &key, nonce()) })
    }

    /// Who is in, and one plan for each kind of machine among them; both within the caller's grants.
    async fn plan(
        &self,
        caller: &Caller,
        verb: &dyn Verb,
        args: &Value,
        target: &Target,
    ) -> Result<Planned, SubmitError> {
        caller.may(Permission::RunCommands)?;
        let groups = self.groups.drawn(target.expr.as_ref()).await?;
        let resolution = self.resolve(caller, verb, target, &groups)?;
        let traits = verb.traits();
        for candidate in &resolution.included {
            caller.may_run(&traits.name, traits.effect, &candidate.agent.site)?;
        }
        let mut plans: BTreeMap<Profile, Arc<Plan>> = BTreeMap::new();
        for candidate in &resolution.included {
            let profile = candidate.agent.profile();
            if !plans.contains_key(&profile) {
                plans.insert(profile.clone(), self.plan_for(verb, &profile, args).await?);
            }
            may_raise(caller, traits, plans[&profile].effect, &candidate.agent.site)?;
        }
        Ok(Planned { resolution, groups, plans })
    }

    /// The plan for one kind of machine, as the plugin makes it.
    pub(crate) async fn plan_for(
        &self,
        verb: &dyn Verb,
        profile: &Profile,
        args: &Value,
    ) -> Result<Arc<Plan>, PlanError> {
        let plan = verb.plan(profile, args).await;
        self.meter.called(Call::Plan, !matches!(plan, Err(PlanError::Failed { .. })));
        let plan = plan?;
        if let Some(pointer) = secret::exposed(&plan) {
            let message = "a secret may stand in env values and stdin only: others see everything else";
            return Err(PlanError::Denied { pointer, message: message.to_owned() });
        }
        Ok(plan)
    }

    pub(crate) fn resolve(
        &self,
        caller: &Caller,
        verb: &dyn Verb,
        target: &Target,
        groups: &Drawn,
    ) -> Result<Resolution, SubmitError> {
        let mut candidates =
            if target.names_agents() { self.directory.named(&target.agents) } else { self.directory.all() };
        candidates.retain(|candidate| caller.sees_site(&candidate.agent.site));
        candidates.sort_by_key(|candidate| candidate.agent.id);
        candidates.dedup_by_key(|candidate| candidate.agent.id);
        let resolution = target.resolve(&candidates, verb.traits().needs.as_deref(), groups);
        if resolution.included.is_empty() || !resolution.unknown.is_empty() {
            let excluded =
                resolution.excluded.iter().map(|(c, out)| (c.agent.name.clone(), resolution.explain(c, out)));
            let excluded = excluded.collect();
            // Of a target that names agents nobody else was looked at.
            let empty = if target.names_agents() { Vec::new() } else { resolution.empty };
            return Err(SubmitError::NoTarget { unknown: resolution.unknown, excluded, empty });
        }
        Ok(resolution)
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would only repeat these names")]
    fn command(
        &self,
        caller: &Caller,
        request: &Request,
        args: &Value,
        verb: &dyn Verb,
        planned: &Planned,
        origin: &Origin,
        now: Timestamp,
        terms: Terms,
        run_timeout: Duration,
    ) -> Command {
        let plugin = verb.plugin();
        Command {
            id: self.ids.command(),
            verb: verb.traits().name.clone(),
            plugin: plugin.name.clone(),
            plugin_version: plugin.version.clone(),
            plugin_digest: plugin.digest.clone(),
            args: args.to_string(),
            target: with_meanings(&request.target_json, &planned.groups),
            priority: request.priority,
            submitter: caller.name.clone(),
            principal: Some(caller.principal),
            created_at: now,
            start_by: terms.start_by(now),
            run_timeout_ms: millis(run_timeout),
            terms,
            parent: request.parent,
            summary: planned.plans.values().next().map(|plan| plan.summary.clone()).unwrap_or_default(),
            correlation_id: origin.correlation_id.clone(),
            traceparent: origin.traceparent.clone(),
        }
    }

    /// One signed envelope for each agent.
    fn seal_all(&self, command: &Arc<Command>, planned: &Planned, secrets: Option<&Secrets>) -> Vec<Due> {
        let limits = RunLimits {
            run_timeout_ms: command.run_timeout_ms,
            output_bytes: deadline::OUTPUT_BYTES_DEFAULT,
            grace_ms: u64::try_from(deadline::GRACE_DEFAULT.as_millis()).unwrap_or(u64::MAX),
        };
        let cluster = self.seal.cluster();
        let not_after = command.terms.not_after(command.created_at, Duration::from_millis(command.run_timeout_ms));
        let sealed = |candidate: &Candidate| -> SignedEnvelope {
            self.seal.seal(&Envelope {
                cluster_id: cluster.id,
                epoch: cluster.epoch,
                command_id: command.id,
                agent_id: candidate.agent.id,
                verb: command.verb.to_string(),
                plugin_digest: command.plugin_digest.clone(),
                plan: Plan::clone(&planned.plans[&candidate.agent.profile()]),
                limits,
                not_after_ms: not_after.as_millis(),
                max_attempts: command.terms.retry.max_attempts,
                submitter: command.submitter.clone(),
                secrets: secrets.cloned(),
            })
        };
        let due = planned.resolution.included.iter().map(|candidate| Due {
            command: command.clone(),
            agent: candidate.agent.id,
            attempt: 1,
            start_by: command.start_by,
            halted: false,
            envelope: sealed(candidate),
        });
        due.collect()
    }

    /// With `start_within` 0, agents without a session are not waited for. One that has a session at another
    /// host is left to that one.
    async fn expire_unreachable(
        &self,
        included: &[Candidate],
        command: &Command,
        now: Timestamp,
    ) -> Result<Status, StoreError> {
        let unreachable = included.iter().filter(|candidate| !self.directory.is_reachable(candidate.agent.id));
        let mut any = false;
        for candidate in unreachable {
            let key = plan::id::AttemptKey { command: command.id, number: 1 };
            let events = vec![domain::attempt::Event::Offline];
            let message = Some("the agent was not connected and the command asked not to wait".to_owned());
            let advance =
                Advance { key, agent: candidate.agent.id, events, at: now, message, end: None, word: Word::NeverSent };
            self.commands.advance(advance).await?;
            any = true;
        }
        if !any {
            return Ok(Status::Pending);
        }
        Ok(self.commands.command(command.id).await?.map_or(Status::Pending, |view| view.status))
    }
}

/// A plan may raise the effect above the verb's least, so the grant is asked again.
pub(crate) fn may_raise(caller: &Caller, traits: &VerbTraits, effect: Effect, site: &str) -> Result<(), Forbidden> {
    if effect > traits.effect { caller.may_run(&traits.name, effect, site) } else { Ok(()) }
}

/// The target as asked for, and what its groups meant: they may mean something else tomorrow.
fn with_meanings(target_json: &str, groups: &Drawn) -> String {
    if groups.is_empty() {
        return target_json.to_owned();
    }
    let meanings: BTreeMap<&str, &str> = groups.iter().collect();
    match serde_json::from_str(target_json) {
        Ok(Value::Object(mut target)) => {
            target.insert("groups".to_owned(), json!(meanings));
            Value::Object(target).to_string()
        }
        Ok(_) | Err(_) => target_json.to_owned(),
    }
}
