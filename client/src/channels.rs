//! The routes of channels: where people are told of alerts.

use api::channel::{Channel, ChannelMessage, ChannelPatch, ChannelTest, NewChannel};
use api::page::Page;
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;

impl Client {
    /// `GET /notification-channels`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn channels(&self) -> Result<Page<Channel>, ClientError> {
        self.list(&["notification-channels"], Vec::new(), usize::MAX).await
    }

    /// `POST /notification-channels`; only this answer has the secret.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the name is taken; 422 for an address that is not allowed.
    pub async fn create_channel(&self, channel: &NewChannel) -> Result<Channel, ClientError> {
        self.post(&["notification-channels"], channel).await
    }

    /// `PATCH /notification-channels/{channel}`; the answer has the secret if that is another now.
    ///
    /// # Errors
    /// 404 when there is none, 422 for what cannot be.
    pub async fn change_channel(&self, channel: &str, patch: &ChannelPatch) -> Result<Channel, ClientError> {
        self.fetch(&Ask::new(Method::PATCH, self.server.route(&["notification-channels", channel], &[])).json(patch))
            .await
    }

    /// `DELETE /notification-channels/{channel}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none.
    pub async fn delete_channel(&self, channel: &str) -> Result<(), ClientError> {
        let route = self.server.route(&["notification-channels", channel], &[]);
        self.send(&Ask::new(Method::DELETE, route)).await.map(drop)
    }

    /// `POST /notification-channels/{channel}/test`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none.
    pub async fn test_channel(&self, channel: &str) -> Result<ChannelTest, ClientError> {
        let route = self.server.route(&["notification-channels", channel, "test"], &[]);
        self.fetch(&Ask::new(Method::POST, route)).await
    }

    /// `GET /notification-channels/{channel}/messages` that pass the query.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none.
    pub async fn channel_messages(
        &self,
        channel: &str,
        query: Vec<(&str, String)>,
    ) -> Result<Page<ChannelMessage>, ClientError> {
        self.list(&["notification-channels", channel, "messages"], query, usize::MAX).await
    }
}
