//! Calls between hosts by Redis: "something waits", "something was written". A call only makes others look at the
//! store sooner than they would by themselves, so one that is lost, or a Redis that is away, costs latency. With
//! every other call at most goes a sign of life, and with that what agents have reported meanwhile.
//!
//! What is written while a call is under way shares the next one: an idle host calls at once, a busy one calls
//! as often as Redis answers.
//!
//! Invariant: no error of Redis reaches a caller, and nothing here is waited for by whoever wrote.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::attempt::State;
use domain::event::{Event, What};
use futures_util::StreamExt as _;
use plan::id::{AgentId, CommandId};
use ports::latest::Latest;
use ports::live::{Live, Subscription};
use redis::aio::MultiplexedConnection;
use redis::{Client, Pipeline, RedisError, TlsCertificates};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::reports::{self, Waiting};

/// Longest that Redis may take for an answer.
const WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest between two signs of life, which show that the line is still there; when there are calls to go with,
/// they are given at twice this pace.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A sign of life stands for this long, as long as the store believes a host without one.
const ALIVE_MS: u64 = 6_000;

/// Reports put into words before others are let through: thousands take as many times 20 µs.
const SAID_AT_ONCE: usize = 32;

/// Something was written.
const WRITTEN: u8 = 1;
/// Among it is what other hosts have to act on.
const WORK: u8 = 2;

/// Where it is, and what it is used for.
#[derive(Clone)]
pub struct Options {
    /// `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://…` for TLS.
    pub url: String,
    /// First part of every name used there: it keeps installations apart that share a Redis.
    pub prefix: String,
    /// Who signed its certificate, PEM; absent: the public ones.
    pub root_certificate: Option<Vec<u8>>,
}

/// What calls did so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests to Redis.
    pub requests: AtomicU64,
    /// Events that were written here.
    pub events: AtomicU64,
}

/// The near end: told of everything that is committed here.
pub struct Caller {
    live: Arc<dyn Live>,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// What is to be called out.
    wanted: AtomicU8,
    wake: Notify,
    /// Neither end hears Redis at the moment.
    mute: AtomicBool,
    deaf: AtomicBool,
    /// For requests besides calls, while it answers.
    line: Mutex<Option<MultiplexedConnection>>,
    /// What goes out with the next sign of life.
    reports: Mutex<Waiting>,
    counters: Counters,
}

impl Shared {
    /// The line, while Redis answers.
    pub(crate) fn line(&self) -> Option<MultiplexedConnection> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody is to use the line until Redis has given a sign of life.
    pub(crate) fn hang_up(&self) {
        self.answers(None);
    }

    pub(crate) fn reports(&self) -> MutexGuard<'_, Waiting> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counted(&self) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn answers(&self, line: Option<MultiplexedConnection>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

/// The far end, to be run.
pub struct Calls {
    client: Client,
    prefix: String,
    /// Tells this host's own calls from those of others.
    me: String,
    shared: Arc<Shared>,
    /// Rung when work may wait.
    pub work: Arc<Notify>,
    /// Rung when something was written.
    pub written: Arc<Notify>,
}

/// How the line to Redis is. Cheap to clone.
#[derive(Clone)]
pub struct Line {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prefix: String,
}

impl Line {
    /// Whether calls go out and come in.
    pub fn is_up(&self) -> bool {
        !self.shared.mute.load(Ordering::Relaxed) && !self.shared.deaf.load(Ordering::Relaxed)
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

/// Puts a caller before `live`; `me` tells this host from others.
///
/// # Errors
/// The URL or the certificate cannot be read. Whether Redis is there is seen later.
pub fn build(options: &Options, me: String, live: Arc<dyn Live>) -> Result<(Caller, Calls, Line), RedisError> {
    let client = match &options.root_certificate {
        None => Client::open(options.url.as_str())?,
        Some(_) => {
            let root_cert = options.root_certificate.clone();
            Client::build_with_tls(options.url.as_str(), TlsCertificates { client_tls: None, root_cert })?
        }
    };
    let shared = Arc::new(Shared {
        wanted: AtomicU8::new(0),
        wake: Notify::new(),
        mute: AtomicBool::new(true),
        deaf: AtomicBool::new(true),
        line: Mutex::default(),
        reports: Mutex::default(),
        counters: Counters::default(),
    });
    let prefix = options.prefix.clone();
    let (work, written) = (Arc::default(), Arc::default());
    let calls = Calls { client, prefix: prefix.clone(), me, shared: shared.clone(), work, written };
    Ok((Caller { live, shared: shared.clone() }, calls, Line { shared, prefix }))
}

impl Live for Caller {
    fn publish(&self, events: &[Arc<Event>]) {
        self.live.publish(events);
        let call = events.iter().fold(0, |call, event| call | wanted(&event.what));
        if call != 0 {
            self.shared.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
            self.shared.wanted.fetch_or(call, Ordering::AcqRel);
            self.shared.wake.notify_one();
        }
    }

    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription> {
        self.live.subscribe(command)
    }
}

/// What others are to do about it.
fn wanted(what: &What) -> u8 {
    match what {
        What::State { state: State::Queued, .. } | What::Agent { .. } => WRITTEN | WORK,
        // A command is accepted, or its status says so.
        What::Status { status, .. } if !status.is_terminal() => WRITTEN | WORK,
        What::State { .. } | What::Status { .. } | What::Output { .. } | What::Alert { .. } => WRITTEN,
        What::Plugins { .. } => 0,
    }
}

/// What is called, and by whom. Words of later programs call for everything.
fn call_of(words: &[u8]) -> Option<(u8, &str)> {
    let (call, from) = str::from_utf8(words).ok()?.split_once(' ')?;
    Some((call.parse().unwrap_or(WRITTEN | WORK), from))
}

/// An answer that does not come is an error like any other.
async fn in_time<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    timeout(WITHIN, answer).await.unwrap_or_else(|_| Err(late()))
}

impl Calls {
    /// Calls and listens until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.call() => {}
            () = self.listen() => {}
        }
    }

    async fn call(&self) {
        loop {
            let Err(error) = self.call_while_it_answers().await;
            self.shared.hang_up();
            tracing::debug!(%error, "Redis does not take calls");
            self.told(&self.shared.mute, true, "calls to other hosts do not go out; they look by themselves");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn call_while_it_answers(&self) -> Result<Infallible, RedisError> {
        let mut line = in_time(self.client.get_multiplexed_async_connection()).await?;
        self.told(&self.shared.mute, false, "calls to other hosts go out");
        self.shared.answers(Some(line.clone()));
        let mut last_sign: Option<Instant> = None;
        loop {
            // Also without anything to say, so that a line that is gone is found.
            let _ = timeout(PROBE_EVERY, self.shared.wake.notified()).await;
            let mut words = redis::pipe();
            let mut reports = Vec::new();
            if last_sign.is_none_or(|last| last.elapsed() >= PROBE_EVERY / 2) {
                last_sign = Some(Instant::now());
                reports = self.shared.reports().take();
                self.live(&mut words, &reports).await;
            }
            self.call_out(&mut words);
            if words.is_empty() {
                continue;
            }
            self.shared.counted();
            if let Err(error) = in_time(words.query_async::<()>(&mut line)).await {
                self.shared.reports().put_back(reports);
                return Err(error);
            }
            self.shared.answers(Some(line.clone()));
        }
    }

    /// After the reports are in words, so that what is written meanwhile is called out with the same request.
    fn call_out(&self, words: &mut Pipeline) {
        let call = self.shared.wanted.swap(0, Ordering::AcqRel);
        if call != 0 {
            words.cmd("PUBLISH").arg(self.channel()).arg(format!("{call} {}", self.me)).ignore();
        }
    }

    async fn live(&self, words: &mut Pipeline, reports: &[(AgentId, Arc<Latest>)]) {
        words.cmd("SET").arg(format!("{}:host:{}", self.prefix, self.me)).arg(1).arg("PX").arg(ALIVE_MS).ignore();
        for some in reports.chunks(SAID_AT_ONCE) {
            for (agent, latest) in some {
                reports::say(words, &self.prefix, *agent, latest);
            }
            tokio::task::yield_now().await;
        }
    }

    fn channel(&self) -> String {
        format!("{}:calls", self.prefix)
    }

    async fn listen(&self) {
        loop {
            if let Err(error) = self.heard().await {
                tracing::debug!(%error, "Redis does not bring calls");
            }
            self.told(&self.shared.deaf, true, "calls of other hosts do not come in; this one looks by itself");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn heard(&self) -> Result<(), RedisError> {
        let mut line = in_time(self.client.get_async_pubsub()).await?;
        in_time(line.subscribe(self.channel())).await?;
        self.told(&self.shared.deaf, false, "calls of other hosts come in");
        // What was called meanwhile was not heard.
        self.ring(WRITTEN | WORK);
        let mut calls = line.into_on_message();
        while let Some(message) = calls.next().await {
            // Whatever is no call was not said by a host, and is no reason not to hear the next.
            if let Some((call, from)) = call_of(message.get_payload_bytes())
                && from != self.me
            {
                self.ring(call);
            }
        }
        Ok(())
    }

    fn ring(&self, call: u8) {
        if call & WORK != 0 {
            self.work.notify_one();
        }
        if call & WRITTEN != 0 {
            self.written.notify_one();
        }
    }

    /// Notes how the line is, and says so when that changed.
    fn told(&self, what: &AtomicBool, broken: bool, words: &str) {
        if what.swap(broken, Ordering::Relaxed) != broken {
            tracing::info!(broken, "Redis: {words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::agent::AgentStatus;
    use domain::command::Status;
    use domain::counts::Counts;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn others_are_called_to_work_only_when_there_may_be_some() {
        let (command, agent) = (CommandId(Uuid::from_u128(1)), AgentId(Uuid::from_u128(2)));
        let state = |state| What::State { command, agent, attempt: 1, state, reason: None };
        let status = |status| What::Status { command, status, counts: Counts::default() };
        for (what, call) in [
            (state(State::Queued), WRITTEN | WORK),
            (state(State::Succeeded), WRITTEN),
            (status(Status::Pending), WRITTEN | WORK),
            (status(Status::Succeeded), WRITTEN),
            (What::Agent { agent, status: AgentStatus::Online }, WRITTEN | WORK),
            (What::Plugins { generation: 1 }, 0),
        ] {
            assert_eq!(wanted(&what), call, "{what:?}");
        }
    }

    #[test]
    fn what_is_no_call_is_not_heard_and_words_of_later_programs_call_for_everything() {
        for (words, call) in [
            (&b"1 me"[..], Some((WRITTEN, "me"))),
            (b"3 a b", Some((WRITTEN | WORK, "a b"))),
            (b"256 me", Some((WRITTEN | WORK, "me"))),
            (b"x ", Some((WRITTEN | WORK, ""))),
            (b"", None),
            (b"3", None),
            (b"3 \xff\xfe", None),
        ] {
            assert_eq!(call_of(words), call, "{words:?}");
        }
    }
}
