//! The routes of alerts, silences and rules.

use api::alert::{Alert, AlertRule, AnswerAlert, Backtest, NewBacktest, NewSilence, Silence};
use api::page::Page;
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;

impl Client {
    /// `GET /alerts`, all that pass the query.
    ///
    /// # Errors
    /// As every call.
    pub async fn alerts(&self, query: Vec<(&str, String)>) -> Result<Page<Alert>, ClientError> {
        self.list(&["alerts"], query, usize::MAX).await
    }

    /// `GET /alerts/{id}`, with its timeline.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn alert(&self, id: &str) -> Result<Alert, ClientError> {
        self.get(&["alerts", id]).await
    }

    /// `POST /alerts/{id}/ack`.
    ///
    /// # Errors
    /// 409 when it is not wrong.
    pub async fn acknowledge_alert(&self, id: &str, answer: &AnswerAlert) -> Result<Alert, ClientError> {
        self.post(&["alerts", id, "ack"], answer).await
    }

    /// `POST /alerts/{id}/release`.
    ///
    /// # Errors
    /// 409 when nobody has taken it.
    pub async fn release_alert(&self, id: &str, answer: &AnswerAlert) -> Result<Alert, ClientError> {
        self.post(&["alerts", id, "release"], answer).await
    }

    /// `GET /silences` that have not ended.
    ///
    /// # Errors
    /// As every call.
    pub async fn silences(&self) -> Result<Page<Silence>, ClientError> {
        self.list(&["silences"], Vec::new(), usize::MAX).await
    }

    /// `POST /silences`.
    ///
    /// # Errors
    /// 422 when it matches everything, or lasts for no time or too long.
    pub async fn create_silence(&self, silence: &NewSilence) -> Result<Silence, ClientError> {
        self.post(&["silences"], silence).await
    }

    /// `DELETE /silences/{id}`.
    ///
    /// # Errors
    /// 404 when there is none that lasts.
    pub async fn end_silence(&self, id: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["silences", id], &[]))).await.map(drop)
    }

    /// `GET /alert-rules`.
    ///
    /// # Errors
    /// As every call.
    pub async fn alert_rules(&self) -> Result<Page<AlertRule>, ClientError> {
        self.list(&["alert-rules"], Vec::new(), usize::MAX).await
    }

    /// `POST /alert-rules/{rule}/backtest`.
    ///
    /// # Errors
    /// 404 when there is no such rule, 422 when the configuration does not fit it.
    pub async fn backtest_rule(&self, rule: &str, backtest: &NewBacktest) -> Result<Backtest, ClientError> {
        self.post(&["alert-rules", rule, "backtest"], backtest).await
    }
}
