//! A loaded rule as the rest of the host sees it: every batch goes through the queue to a fresh guest.

use std::sync::Arc;

use async_trait::async_trait;
use ports::plugins::{PluginIdentity, Violation};
use ports::rules::{Answer, Batch, MAX_BATCH_BYTES, MAX_SUBJECTS, Override, Rule, RuleFault};
use serde_json::Value;

use crate::abi::Circumstances;
use crate::evaluate::evaluate;
use crate::pool::Overloaded;
use crate::verbs::PluginVersion;

/// The rule that one version is.
pub(crate) struct LoadedRule {
    pub(crate) version: Arc<PluginVersion>,
    config: Value,
    reads: Vec<String>,
    state_version: u32,
}

impl LoadedRule {
    /// The rule that `version` is, if it is one.
    pub(crate) fn of(version: &Arc<PluginVersion>) -> Option<LoadedRule> {
        let rule = version.build.manifest.rule.as_ref()?;
        // The operator's file was read and checked before this version came to serve.
        let config = serde_json::from_str(&version.config).unwrap_or_default();
        let (reads, state_version) = (rule.reads.clone(), rule.state_version);
        Some(LoadedRule { version: Arc::clone(version), config, reads, state_version })
    }
}

#[async_trait]
impl Rule for LoadedRule {
    fn plugin(&self) -> &PluginIdentity {
        &self.version.build.identity
    }

    fn summary(&self) -> &str {
        &self.version.build.manifest.summary
    }

    fn reads(&self) -> &[String] {
        &self.reads
    }

    fn config(&self) -> &Value {
        &self.config
    }

    fn overrides(&self) -> &[Override] {
        &self.version.overrides
    }

    fn config_schema(&self) -> Option<&Value> {
        self.version.build.manifest.config_schema.as_ref()
    }

    fn validate(&self, config: &Value) -> Result<(), Vec<Violation>> {
        self.version.build.config_schema.as_ref().map_or(Ok(()), |schema| schema.check(config))
    }

    async fn evaluate(&self, config: Option<&Value>, now_ms: u64, batch: Batch) -> Result<Vec<Answer>, RuleFault> {
        let (subjects, bytes) = (batch.subjects.len(), batch.weight());
        if subjects > MAX_SUBJECTS || bytes > MAX_BATCH_BYTES {
            return Err(RuleFault::TooMuch { subjects, bytes });
        }
        let config = config.map(Value::to_string);
        let state_version = self.state_version;
        let work = move |version: &PluginVersion| {
            let circumstances = Circumstances { now_ms, unhurried: false, tighter: version.tighter, state_version };
            let config = config.as_deref().unwrap_or(&version.config);
            let judged = evaluate(&version.machinery.sandbox, &version.build, circumstances, config, batch);
            version.note("evaluate", judged)
        };
        let failed = |message: String| RuleFault::Failed { plugin: self.plugin().name.clone(), message };
        match self.version.run(work).await {
            Ok(Ok(answer)) => answer.map_err(|fault| failed(fault.to_string())),
            Ok(Err(lost)) => Err(failed(lost.to_string())),
            Err(Overloaded) => Err(RuleFault::Overloaded),
        }
    }
}
