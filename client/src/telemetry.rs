//! The routes of telemetry and health, and of what an operator asks first.

use api::page::{MAX_LIMIT, Page};
use api::statistics::Statistics;
use api::telemetry::{
    AgentHealth, HealthReport, LatestTelemetry, TelemetryAcross, TelemetryAcrossHistory, TelemetryHistory,
    TelemetryMoment, TelemetryPoint, TelemetryTrend,
};
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::list::Paged;
use crate::request::Ask;

impl Paged for TelemetryHistory {
    type Item = TelemetryPoint;

    fn parts(&mut self) -> (&mut Vec<TelemetryPoint>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Paged for TelemetryAcrossHistory {
    type Item = TelemetryMoment;

    fn parts(&mut self) -> (&mut Vec<TelemetryMoment>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Paged for HealthReport {
    type Item = AgentHealth;

    fn parts(&mut self) -> (&mut Vec<AgentHealth>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

impl Client {
    /// `GET /telemetry`: the latest of all agents that pass the query.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn latest_telemetry(&self, query: Vec<(&str, String)>) -> Result<Page<LatestTelemetry>, ClientError> {
        self.list(&["telemetry"], query, usize::MAX).await
    }

    /// `GET /telemetry/{agent}`: the latest of one.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn latest_telemetry_of(&self, agent: &str) -> Result<LatestTelemetry, ClientError> {
        self.get(&["telemetry", agent]).await
    }

    /// `GET /telemetry/{agent}/history`, the oldest points of it, at most `limit`. What the query leaves open is as it
    /// was when its first page was asked for.
    ///
    /// # Errors
    /// 400 when a filter is no filter; 404 when there is no such agent.
    pub async fn telemetry_history(
        &self,
        agent: &str,
        query: Vec<(&str, String)>,
        limit: usize,
    ) -> Result<TelemetryHistory, ClientError> {
        self.pages(&["telemetry", agent, "history"], &query, limit, MAX_LIMIT).await
    }

    /// `GET /telemetry/across`: the latest of many agents together.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn telemetry_across(&self, query: Vec<(&str, String)>) -> Result<TelemetryAcross, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(&["telemetry", "across"], &query))).await
    }

    /// `GET /telemetry/across/history`, all of it, oldest first: many agents together in the past.
    ///
    /// # Errors
    /// 400 when a filter is no filter, or when so many agents are too much for one answer.
    pub async fn telemetry_across_history(
        &self,
        query: Vec<(&str, String)>,
    ) -> Result<TelemetryAcrossHistory, ClientError> {
        self.pages(&["telemetry", "across", "history"], &query, usize::MAX, MAX_LIMIT).await
    }

    /// `GET /telemetry/trends` of all agents that pass the query.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn telemetry_trends(&self, query: Vec<(&str, String)>) -> Result<Page<TelemetryTrend>, ClientError> {
        self.list(&["telemetry", "trends"], query, usize::MAX).await
    }

    /// `GET /health-report`, with every agent that passes the query.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn health_report(&self, query: Vec<(&str, String)>) -> Result<HealthReport, ClientError> {
        self.pages(&["health-report"], &query, usize::MAX, MAX_LIMIT).await
    }

    /// `GET /statistics`.
    ///
    /// # Errors
    /// As every call.
    pub async fn statistics(&self) -> Result<Statistics, ClientError> {
        self.get(&["statistics"]).await
    }
}
