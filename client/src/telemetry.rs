//! The routes of telemetry and health, and of what an operator asks first.

use api::page::Page;
use api::statistics::Statistics;
use api::telemetry::{
    HealthReport, LatestTelemetry, TelemetryAcross, TelemetryAcrossHistory, TelemetryHistory, TelemetryTrend,
};
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;

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

    /// `GET /telemetry/{agent}/history`, one page of it, oldest first.
    ///
    /// # Errors
    /// 400 when a filter is no filter; 404 when there is no such agent.
    pub async fn telemetry_history(
        &self,
        agent: &str,
        query: Vec<(&str, String)>,
    ) -> Result<TelemetryHistory, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(&["telemetry", agent, "history"], &query))).await
    }

    /// `GET /telemetry/across`: the latest of many agents together.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn telemetry_across(&self, query: Vec<(&str, String)>) -> Result<TelemetryAcross, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(&["telemetry", "across"], &query))).await
    }

    /// `GET /telemetry/across/history`, one page of it, oldest first: many agents together in the past.
    ///
    /// # Errors
    /// 400 when a filter is no filter, or when a step of so many agents is too much for one answer.
    pub async fn telemetry_across_history(
        &self,
        query: Vec<(&str, String)>,
    ) -> Result<TelemetryAcrossHistory, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(&["telemetry", "across", "history"], &query))).await
    }

    /// `GET /telemetry/trends` of all agents that pass the query.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn telemetry_trends(&self, query: Vec<(&str, String)>) -> Result<Page<TelemetryTrend>, ClientError> {
        let mut all = Page { items: Vec::new(), next_cursor: None };
        loop {
            let mut pairs = query.clone();
            pairs.extend(all.next_cursor.take().map(|cursor| ("cursor", cursor)));
            let ask = Ask::new(Method::GET, self.server.route(&["telemetry", "trends"], &pairs));
            let page: Page<TelemetryTrend> = self.fetch(&ask).await?;
            // A page counts agents, and one without a past has no trend: an empty one is not the last.
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            if all.next_cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// `GET /health-report`, with every agent that passes the query.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn health_report(&self, query: Vec<(&str, String)>) -> Result<HealthReport, ClientError> {
        let ask = |cursor: Option<String>| {
            let mut pairs = query.clone();
            pairs.extend(cursor.map(|cursor| ("cursor", cursor)));
            Ask::new(Method::GET, self.server.route(&["health-report"], &pairs))
        };
        let mut report: HealthReport = self.fetch(&ask(None)).await?;
        while let Some(cursor) = report.next_cursor.take() {
            let more: HealthReport = self.fetch(&ask(Some(cursor))).await?;
            report.items.extend(more.items);
            report.next_cursor = more.next_cursor;
        }
        Ok(report)
    }

    /// `GET /statistics`.
    ///
    /// # Errors
    /// As every call.
    pub async fn statistics(&self) -> Result<Statistics, ClientError> {
        self.get(&["statistics"]).await
    }
}
