//! The routes of users, grants and API keys, one method each.

use api::access::{ApiKey, Grants, MadeApiKey, Me, NewApiKey, NewGrants, UserPatch};
use api::auth::{NewUser, User};
use api::page::Page;
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::request::{Ask, Tagged};

impl Client {
    /// `GET /me`.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.get(&["me"]).await
    }

    /// `GET /users`, all of them.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn users(&self) -> Result<Page<User>, ClientError> {
        self.list(&["users"], Vec::new(), usize::MAX).await
    }

    /// `POST /users`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the name is taken.
    pub async fn create_user(&self, user: &NewUser) -> Result<User, ClientError> {
        self.post(&["users"], user).await
    }

    /// `GET /users/{user}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none.
    pub async fn user(&self, user: &str) -> Result<User, ClientError> {
        self.get(&["users", user]).await
    }

    /// `PATCH /users/{user}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none; 409 when nobody would be an admin afterwards.
    pub async fn change_user(&self, user: &str, patch: &UserPatch) -> Result<User, ClientError> {
        self.fetch(&Ask::new(Method::PATCH, self.server.route(&["users", user], &[])).json(patch)).await
    }

    /// `DELETE /users/{user}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none; 409 when it is the last admin.
    pub async fn delete_user(&self, user: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["users", user], &[]))).await.map(drop)
    }

    /// `GET /grants/{user}`, with the tag that [`set_grants`](Self::set_grants) takes.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none.
    pub async fn grants(&self, user: &str) -> Result<Tagged<Grants>, ClientError> {
        self.get_tagged(&["grants", user]).await
    }

    /// `PUT /grants/{user}` in the place of the grants that `tag` stands for; of whatever there is when absent.
    ///
    /// # Errors
    /// 403 unless an admin asks; 404 when there is none; 412 when they have changed since; 422 when a grant is none.
    pub async fn set_grants(&self, user: &str, grants: &NewGrants, tag: Option<&str>) -> Result<Grants, ClientError> {
        let ask = Ask::new(Method::PUT, self.server.route(&["grants", user], &[])).json(grants);
        self.fetch(&ask.header("if-match", tag.unwrap_or("*").to_owned())).await
    }

    /// `GET /api-keys`, all of them.
    ///
    /// # Errors
    /// As every call.
    pub async fn api_keys(&self) -> Result<Page<ApiKey>, ClientError> {
        self.list(&["api-keys"], Vec::new(), usize::MAX).await
    }

    /// `POST /api-keys`; the key's text is told this once.
    ///
    /// # Errors
    /// 403 with a key; 409 when there are enough; 422 when it would do more than its owner.
    pub async fn create_api_key(&self, key: &NewApiKey) -> Result<MadeApiKey, ClientError> {
        self.post(&["api-keys"], key).await
    }

    /// `DELETE /api-keys/{id}`.
    ///
    /// # Errors
    /// 404 when there is none, or it is somebody else's.
    pub async fn revoke_api_key(&self, id: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["api-keys", id], &[]))).await.map(drop)
    }
}
