//! The routes of agents, of how they join, and of groups of them.

use api::agent::{Agent, AgentPatch, JoinToken, MadeJoinToken, NewJoinToken, Telemetry};
use api::group::{Group, GroupPatch, NewGroup};
use api::page::Page;
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::list::Items;
use crate::request::{Ask, Tagged};

impl Client {
    /// `GET /agents`, all that pass the query.
    ///
    /// # Errors
    /// As every call.
    pub async fn agents(&self, query: Vec<(&str, String)>) -> Result<Page<Agent>, ClientError> {
        self.list(&["agents"], query, usize::MAX).await
    }

    /// `GET /agents`, item by item.
    pub fn each_agent(&self, query: Vec<(&str, String)>) -> Items<Agent> {
        self.each(&["agents"], query)
    }

    /// `GET /agents/{agent}`.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn agent(&self, agent: &str) -> Result<Agent, ClientError> {
        self.get(&["agents", agent]).await
    }

    /// `GET /agents/{agent}`, with the tag that [`change_agent`](Self::change_agent) takes.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn agent_tagged(&self, agent: &str) -> Result<Tagged<Agent>, ClientError> {
        self.get_tagged(&["agents", agent]).await
    }

    /// `PATCH /agents/{agent}` as it was when `tag` was read; as it is when absent.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none; 412 when it has changed since.
    pub async fn change_agent(&self, agent: &str, patch: &AgentPatch, tag: Option<&str>) -> Result<Agent, ClientError> {
        let ask = Ask::new(Method::PATCH, self.server.route(&["agents", agent], &[])).json(patch);
        self.fetch(&ask.header("if-match", tag.unwrap_or("*").to_owned())).await
    }

    /// `GET /agents/{agent}/telemetry`: its latest sample.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn telemetry(&self, agent: &str) -> Result<Telemetry, ClientError> {
        self.get(&["agents", agent, "telemetry"]).await
    }

    /// `POST /agents/{agent}/revoke`: its key is worth nothing afterwards.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn revoke_agent(&self, agent: &str) -> Result<(), ClientError> {
        self.act(&["agents", agent, "revoke"]).await
    }

    /// `POST /agents/{agent}/approve`: it waits no longer.
    ///
    /// # Errors
    /// 403 unless an admin asks, 409 when it is revoked.
    pub async fn approve_agent(&self, agent: &str) -> Result<(), ClientError> {
        self.act(&["agents", agent, "approve"]).await
    }

    /// `POST /agents/{agent}/rotate-key`: it makes another key.
    ///
    /// # Errors
    /// 403 unless an admin asks, 409 when it is revoked.
    pub async fn rotate_agent_key(&self, agent: &str) -> Result<(), ClientError> {
        self.act(&["agents", agent, "rotate-key"]).await
    }

    /// `DELETE /agents/{agent}`: its key is worth nothing afterwards, and its name is free.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn delete_agent(&self, agent: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["agents", agent], &[]))).await.map(drop)
    }

    /// `POST /join-tokens`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Result<MadeJoinToken, ClientError> {
        self.post(&["join-tokens"], token).await
    }

    /// `GET /join-tokens`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn join_tokens(&self) -> Result<Page<JoinToken>, ClientError> {
        self.list(&["join-tokens"], Vec::new(), usize::MAX).await
    }

    /// `DELETE /join-tokens/{id}`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn revoke_join_token(&self, id: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["join-tokens", id], &[]))).await.map(drop)
    }

    /// `GET /groups`, all of them.
    ///
    /// # Errors
    /// As every call.
    pub async fn groups(&self) -> Result<Page<Group>, ClientError> {
        self.list(&["groups"], Vec::new(), usize::MAX).await
    }

    /// `GET /groups/{group}`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn group(&self, group: &str) -> Result<Group, ClientError> {
        self.get(&["groups", group]).await
    }

    /// `POST /groups`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the name is taken; 422 when the expression names what there is not.
    pub async fn create_group(&self, group: &NewGroup) -> Result<Group, ClientError> {
        self.post(&["groups"], group).await
    }

    /// `PATCH /groups/{group}`.
    ///
    /// # Errors
    /// As [`create_group`](Self::create_group), and 404 when there is none.
    pub async fn change_group(&self, group: &str, patch: &GroupPatch) -> Result<Group, ClientError> {
        self.fetch(&Ask::new(Method::PATCH, self.server.route(&["groups", group], &[])).json(patch)).await
    }

    /// `DELETE /groups/{group}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when another group names it.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["groups", group], &[]))).await.map(drop)
    }
}
