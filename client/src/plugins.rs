//! The routes of verbs and of the plugins that provide them.

use api::page::Page;
use api::plugin::{Plugin, PluginPassage};
use api::verb::{PlanPreview, PlanRequest, Verb};
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;

impl Client {
    /// `GET /verbs`.
    ///
    /// # Errors
    /// As every call.
    pub async fn verbs(&self) -> Result<Page<Verb>, ClientError> {
        self.list(&["verbs"], Vec::new(), usize::MAX).await
    }

    /// `GET /verbs/{verb}`.
    ///
    /// # Errors
    /// 404 when no plugin provides it.
    pub async fn verb(&self, verb: &str) -> Result<Verb, ClientError> {
        self.get(&["verbs", verb]).await
    }

    /// `POST /verbs/{verb}/plan`: what a command would do, and whether its caller may; queues nothing.
    ///
    /// # Errors
    /// What submitting it would answer, but for a missing grant: that is part of the answer.
    pub async fn preview(&self, verb: &str, request: &PlanRequest) -> Result<PlanPreview, ClientError> {
        self.post(&["verbs", verb, "plan"], request).await
    }

    /// `GET /plugins`.
    ///
    /// # Errors
    /// As every call.
    pub async fn plugins(&self) -> Result<Page<Plugin>, ClientError> {
        self.list(&["plugins"], Vec::new(), usize::MAX).await
    }

    /// `GET /plugins/{name}`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn plugin(&self, name: &str) -> Result<Plugin, ClientError> {
        self.get(&["plugins", name]).await
    }

    /// `GET /plugins/{name}/history`, at most `limit`.
    ///
    /// # Errors
    /// 404 when nothing is known of it.
    pub async fn plugin_history(&self, name: &str, limit: usize) -> Result<Page<PluginPassage>, ClientError> {
        self.list(&["plugins", name, "history"], Vec::new(), limit).await
    }

    /// `POST /plugins/{name}/{order}`; how it stands afterwards.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the order makes no sense as it stands.
    pub async fn order_plugin(&self, name: &str, order: &str) -> Result<Plugin, ClientError> {
        self.fetch(&Ask::new(Method::POST, self.server.route(&["plugins", name, order], &[]))).await
    }
}
