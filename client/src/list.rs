//! Lists, whole or item by item.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::page::{MAX_LIMIT, Page};
use futures_util::stream::{BoxStream, Stream, StreamExt as _, try_unfold};
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::Client;
use crate::error::ClientError;
use crate::request::Ask;

/// The items of a list, page after page, as they are asked for.
///
/// A [`Stream`]; [`Items::next`] serves those who need nothing else of one.
///
/// ```no_run
/// # async fn example(client: viworks_client::Client) -> Result<(), viworks_client::ClientError> {
/// let mut agents = client.each_agent(vec![("status", "online".to_owned())]);
/// while let Some(agent) = agents.next().await {
///     println!("{}", agent?.name);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Items<T> {
    inner: BoxStream<'static, Result<T, ClientError>>,
}

impl<T> Items<T> {
    /// The next item; `None` at the end. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        self.inner.next().await
    }
}

impl<T> Stream for Items<T> {
    type Item = Result<T, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

/// What comes in pages: its items, and where there are more.
pub(crate) trait Paged: DeserializeOwned {
    /// What it is a list of.
    type Item;

    /// Its items, and the cursor of the next page.
    fn parts(&mut self) -> (&mut Vec<Self::Item>, &mut Option<String>);
}

impl<T: DeserializeOwned> Paged for Page<T> {
    type Item = T;

    fn parts(&mut self) -> (&mut Vec<T>, &mut Option<String>) {
        (&mut self.items, &mut self.next_cursor)
    }
}

/// Where walking a list stands.
struct Walk<T> {
    client: Client,
    route: Vec<String>,
    query: Vec<(String, String)>,
    per_page: u32,
    ready: VecDeque<T>,
    /// `None` before the first page; then the cursor of the next, or that there is none.
    next: Option<Option<String>>,
}

impl<T: DeserializeOwned> Walk<T> {
    async fn step(mut self) -> Result<Option<(T, Walk<T>)>, ClientError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some((item, self)));
            }
            let cursor = match self.next.take() {
                None => None,
                Some(Some(cursor)) => Some(cursor),
                Some(None) => return Ok(None),
            };
            let route: Vec<&str> = self.route.iter().map(String::as_str).collect();
            let query: Vec<(&str, String)> =
                self.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            let page: Page<T> = self.client.page(&route, &query, self.per_page, cursor).await?;
            // A page may be empty and not be the last: only its cursor says.
            self.next = Some(page.next_cursor);
            self.ready = page.items.into();
        }
    }
}

impl Client {
    /// The items of the list at `route` that pass the query. The typed ones name their route.
    pub fn each<T: DeserializeOwned + Send + 'static>(&self, route: &[&str], query: Vec<(&str, String)>) -> Items<T> {
        self.each_by(route, query, MAX_LIMIT)
    }

    pub(crate) fn each_by<T: DeserializeOwned + Send + 'static>(
        &self,
        route: &[&str],
        query: Vec<(&str, String)>,
        per_page: u32,
    ) -> Items<T> {
        let walk = Walk {
            client: self.clone(),
            route: route.iter().map(|part| (*part).to_owned()).collect(),
            query: query.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            per_page,
            ready: VecDeque::new(),
            next: None,
        };
        Items { inner: try_unfold(walk, Walk::step).boxed() }
    }

    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        route: &[&str],
        query: Vec<(&str, String)>,
        limit: usize,
    ) -> Result<Page<T>, ClientError> {
        self.pages(route, &query, limit, MAX_LIMIT).await
    }

    /// Walks the pages of a list until `limit` items or its end. What the first page says besides is kept.
    pub(crate) async fn pages<P: Paged>(
        &self,
        route: &[&str],
        query: &[(&str, String)],
        limit: usize,
        per_page: u32,
    ) -> Result<P, ClientError> {
        let left = |have: usize| u32::try_from(limit.saturating_sub(have)).unwrap_or(u32::MAX).min(per_page);
        let mut all: P = self.page(route, query, left(0), None).await?;
        loop {
            let (items, next_cursor) = all.parts();
            // A page may be empty and not be the last: only its cursor says.
            let Some(cursor) = next_cursor.take_if(|_| items.len() < limit) else { return Ok(all) };
            let mut page: P = self.page(route, query, left(items.len()), Some(cursor)).await?;
            let (more, then) = page.parts();
            items.append(more);
            *next_cursor = then.take();
        }
    }

    /// One page; what comes after `cursor`.
    async fn page<P: Paged>(
        &self,
        route: &[&str],
        query: &[(&str, String)],
        limit: u32,
        cursor: Option<String>,
    ) -> Result<P, ClientError> {
        let mut pairs = query.to_vec();
        pairs.push(("limit", limit.to_string()));
        pairs.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
        let url = self.server.route(route, &pairs);
        let mut page: P = self.fetch(&Ask::new(Method::GET, url.clone())).await?;
        // It would be asked for again without end.
        if cursor.is_some() && *page.parts().1 == cursor {
            let detail = "its `next_cursor` leads to itself".to_owned();
            return Err(ClientError::NotTheApi { url: url.to_string(), status: 200, detail });
        }
        Ok(page)
    }
}
