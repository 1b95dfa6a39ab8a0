//! A loaded verb as the rest of the host sees it: every call goes through the queue to a fresh guest.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use domain::plugin::breaker::Limits;
use domain::verb::{Profile, VerbTraits};
use plan::policy::Rules;
use plan::step::Plan;
use ports::plugins::{Interpretation, Outputs, PlanError, PluginIdentity, Verb, VerbContract, Violation};
use ports::rules::Override;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use crate::abi::{self, CallContext, Tighter};
use crate::build::{Build, VerbBuild};
use crate::engine::Sandbox;
use crate::execute::{self, Executed, Health};
use crate::fault::Fault;
use crate::guest::{Log, LogLine};
use crate::memo::Memo;
use crate::pool::{Overloaded, Pace, Pool};
use crate::tier::Tier;

/// Where guests run, who runs them, and who is told when one fails too often.
#[derive(Clone)]
pub(crate) struct Machinery {
    pub(crate) sandbox: Sandbox,
    pub(crate) pool: Arc<Pool>,
    pub(crate) alarm: Arc<Alarm>,
}

/// When it is too often, and the bell that is rung then.
pub(crate) struct Alarm {
    pub(crate) limits: Limits,
    pub(crate) bell: Notify,
    pub(crate) begun: Instant,
}

/// A build under one operator configuration and grant. Whoever holds it keeps it alive.
pub(crate) struct PluginVersion {
    pub(crate) build: Arc<Build>,
    /// Names its lane in the queue.
    pub(crate) name: Arc<str>,
    /// JSON text of the operator's configuration.
    pub(crate) config: String,
    pub(crate) grant: Arc<Rules>,
    pub(crate) tighter: Tighter,
    /// A rule's configurations for some agents.
    pub(crate) overrides: Vec<Override>,
    pub(crate) machinery: Machinery,
    pub(crate) memo: Memo,
}

impl PluginVersion {
    /// Queues `work` and waits for its answer; `None` when there is no room. A caller who stops waiting
    /// leaves no trace: work not yet begun is dropped, work begun runs to its deadline.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&PluginVersion) -> (T, Pace) + Send + 'static,
    ) -> Result<Result<T, Fault>, Overloaded> {
        let (answer, answered) = oneshot::channel();
        let version = Arc::clone(self);
        let job = move || {
            if answer.is_closed() {
                return Pace::InTime;
            }
            let (worked, pace) = work(&version);
            // Nobody may be waiting any more by the time the work is done.
            _ = answer.send(worked);
            pace
        };
        self.machinery.pool.submit(&self.name, Box::new(job))?;
        Ok(answered.await.map_err(|_| Fault::Lost))
    }

    /// Counts a fault of a call, of `verb` or of the rule, and passes the guest's log on.
    pub(crate) fn note<T>(&self, verb: &str, executed: Executed<T>) -> (T, Pace) {
        let Executed { answer, log, health } = executed;
        let alarm = &self.machinery.alarm;
        let tripped = match health {
            Health::NotCalled => false,
            Health::Well => self.build.faults.note(alarm.limits, true, alarm.begun.elapsed()),
            Health::Faulty | Health::Overran => self.build.faults.note(alarm.limits, false, alarm.begun.elapsed()),
        };
        if tripped {
            alarm.bell.notify_one();
        }
        self.publish(verb, log);
        (answer, if health == Health::Overran { Pace::Overran } else { Pace::InTime })
    }

    /// What a plan depends on besides this version; `None` when it may depend on more.
    fn question(&self, verb: &VerbBuild, profile: &Profile, args: &Value) -> Option<String> {
        let question = || format!("{}\0{}\0{args}", verb.traits.name.as_str(), abi::profile_text(profile));
        (self.build.tier == Tier::Native).then(question)
    }

    fn context(&self, verb: &VerbBuild, profile: &Profile) -> CallContext {
        CallContext { tighter: self.tighter, ..execute::context(verb, &self.config, profile) }
    }

    fn publish(&self, verb: &str, log: Log) {
        let plugin = self.name.as_ref();
        for LogLine { level, message, fields } in log.lines {
            match level.as_str() {
                "error" | "panic" => tracing::error!(target: "plugin", plugin, verb, fields, "{message}"),
                "warn" => tracing::warn!(target: "plugin", plugin, verb, fields, "{message}"),
                "info" => tracing::info!(target: "plugin", plugin, verb, fields, "{message}"),
                _ => tracing::debug!(target: "plugin", plugin, verb, fields, "{message}"),
            }
        }
        if log.dropped > 0 {
            tracing::warn!(target: "plugin", plugin, verb, dropped = log.dropped, "plugin logged more than is kept");
        }
    }
}

/// One verb of one version.
pub(crate) struct LoadedVerb {
    pub(crate) version: Arc<PluginVersion>,
    pub(crate) verb: Arc<VerbBuild>,
}

#[async_trait]
impl Verb for LoadedVerb {
    fn traits(&self) -> &VerbTraits {
        &self.verb.traits
    }

    fn contract(&self) -> &VerbContract {
        &self.verb.contract
    }

    fn plugin(&self) -> &PluginIdentity {
        &self.version.build.identity
    }

    fn validate(&self, args: &Value) -> Result<(), Vec<Violation>> {
        self.verb.args.check(args)
    }

    async fn plan(&self, profile: &Profile, args: &Value) -> Result<Arc<Plan>, PlanError> {
        let question = self.version.question(&self.verb, profile, args);
        if let Some(plan) = question.as_ref().and_then(|question| self.version.memo.get(question)) {
            return Ok(plan);
        }
        let (verb, profile, args) = (Arc::clone(&self.verb), profile.clone(), args.clone());
        let work = move |version: &PluginVersion| {
            let context = version.context(&verb, &profile);
            let planned =
                execute::plan(&version.machinery.sandbox, &version.build, &verb, context, &version.grant, &args);
            version.note(verb.traits.name.as_str(), planned)
        };
        let plan = match self.version.run(work).await {
            Ok(Ok(answer)) => Arc::new(answer?),
            Ok(Err(lost)) => {
                let plugin = self.version.build.identity.name.clone();
                return Err(PlanError::Failed { plugin, message: lost.to_string() });
            }
            Err(Overloaded) => return Err(PlanError::Overloaded),
        };
        if let Some(question) = question {
            self.version.memo.put(&question, &plan);
        }
        Ok(plan)
    }

    async fn interpret(&self, profile: &Profile, args: &Value, outputs: Outputs) -> Interpretation {
        let (verb, profile, args) = (Arc::clone(&self.verb), profile.clone(), args.clone());
        let outcome = outputs.outcome.clone();
        let work = move |version: &PluginVersion| {
            let context = version.context(&verb, &profile);
            let meant = execute::interpret(&version.machinery.sandbox, &version.build, &verb, context, &args, outputs);
            version.note(verb.traits.name.as_str(), meant)
        };
        match self.version.run(work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(lost)) => execute::unread(&outcome, &format!("plugin {lost}")),
            Err(Overloaded) => execute::unread(&outcome, "too many plugin calls were waiting"),
        }
    }
}
