//! Requests, counted as they are answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use services::meter::Spans;

use super::{Family, counter, spans};

/// The row of the route table that answered; put into the answer by the table.
#[derive(Clone, Copy, Debug)]
pub struct Route(pub &'static str);

/// What no row answered.
const NO_ROUTE: &str = "(none)";

/// Requests so far.
#[derive(Default)]
pub struct Http(Mutex<Counted>);

#[derive(Clone, Default)]
struct Counted {
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    took: Spans,
}

impl Http {
    /// One was answered.
    pub fn answered(&self, method: &Method, route: Option<Route>, status: StatusCode, took: Duration) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let route = route.map_or(NO_ROUTE, |Route(path)| path);
        *counted.requests.entry((name(method), route, status.as_u16())).or_default() += 1;
        counted.took.add(took);
    }

    /// All of them.
    pub fn read(&self) -> [Family; 2] {
        let Counted { requests, took } = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests = requests.into_iter().map(|((method, route, status), count)| {
            let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
            (labels.to_vec(), count)
        });
        [
            counter("viworks_http_requests", "Requests answered, by method, route and status.", requests.collect()),
            spans("viworks_http_request_seconds", "From a request's headers to those of its answer.", took),
        ]
    }
}

/// Anybody can make up a method; only those that there are have a name here.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "(other)",
    }
}
