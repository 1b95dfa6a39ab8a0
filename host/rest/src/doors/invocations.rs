//! A command's invocations and their output.

use api::command::{Invocation as InvocationBody, KeptOutput};
use api::page::Page;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use domain::access::Caller;
use domain::attempt::State as AttemptState;
use domain::command::Invocation;
use domain::output::Remains;
use futures_util::{StreamExt, TryStreamExt, stream};
use plan::id::AgentId;
use plan::outcome::{End, Outcome, Stream};
use ports::commands::Chunk;

use crate::app::App;
use crate::authorize::{Authorized, ReadCommands};
use crate::doors::{In, id};
use crate::page::Asked;
use crate::problem::Problem;
use crate::query::{Query, one_of};
use crate::views;
use crate::views::command::Shown;

/// Most bytes of each stream shown inside an invocation.
const SHOWN_BYTES: u64 = 64 * 1024;
/// Most bytes of one answer of raw output.
const RAW_BYTES: u64 = 1024 * 1024;
/// Invocations whose output is read at the same time.
const READERS: usize = 8;
/// Names the ranges that were produced but are not kept: `first-last`, between commas; `none`.
const GAPS: HeaderName = HeaderName::from_static("x-output-gaps");
/// Where in the stream the body's first byte stands.
const OFFSET: HeaderName = HeaderName::from_static("x-output-offset");
/// Where to go on reading.
const NEXT_OFFSET: HeaderName = HeaderName::from_static("x-output-next-offset");
/// Bytes produced, kept or not; once that is known.
const TOTAL: HeaderName = HeaderName::from_static("x-output-total");

/// `GET /commands/{id}/invocations`
pub async fn list(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In(command): In<String>,
    query: Query,
) -> Result<Json<Page<InvocationBody>>, Problem> {
    let command = id(&command, "command")?;
    let asked = Asked::read(&query, "invocations")?;
    let names = one_of(AttemptState::ALL.map(AttemptState::as_str));
    let state = query.parsed("state", names, AttemptState::parse)?;
    let found = app.browse.invocations(&who.caller, command, state, asked.after()?, asked.fetch()).await?;
    let Page { items, next_cursor } = asked.page(found, |invocation| invocation.agent.to_string());
    let trace = app.browse.trace(command).await?;
    let shown = stream::iter(items).map(|invocation| show_one(&app, invocation, trace.clone())).buffered(READERS);
    Ok(Json(Page { items: shown.try_collect().await?, next_cursor }))
}

/// `GET /commands/{id}/invocations/{agent}`
pub async fn show(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In((command, agent)): In<(String, String)>,
) -> Result<Json<InvocationBody>, Problem> {
    let invocation = find(&app, &who.caller, &command, &agent).await?;
    let trace = app.browse.trace(invocation.command).await?;
    show_one(&app, invocation, trace).await.map(Json)
}

/// `GET /commands/{id}/invocations/{agent}/output`
pub async fn output(
    who: Authorized<ReadCommands>,
    State(app): State<App>,
    In((command, agent)): In<(String, String)>,
    query: Query,
) -> Result<Response, Problem> {
    let stream = query.parsed("stream", "stdout or stderr", Stream::parse)?.unwrap_or(Stream::Stdout);
    let offset = query.number("offset")?.unwrap_or(0);
    let invocation = find(&app, &who.caller, &command, &agent).await?;
    let total = total(&invocation, stream);
    let raw = Raw::of(app.browse.output(&invocation, stream, offset, RAW_BYTES).await?, offset, total);
    let gaps: Vec<String> = raw.gaps.iter().map(|(from, to)| format!("{from}-{}", to - 1)).collect();
    let gaps = if gaps.is_empty() { "none".to_owned() } else { gaps.join(",") };
    let mut response = Body::from(raw.bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(GAPS, HeaderValue::from_str(&gaps).map_err(|error| Problem::internal(error.to_string()))?);
    headers.insert(OFFSET, HeaderValue::from(raw.start));
    headers.insert(NEXT_OFFSET, HeaderValue::from(raw.next));
    if let Some(total) = total {
        headers.insert(TOTAL, HeaderValue::from(total));
    }
    Ok(response)
}

/// One invocation in sight. Its agent may be named by id, or by name while the agent is known.
async fn find(app: &App, caller: &Caller, command: &str, agent: &str) -> Result<Invocation, Problem> {
    let command = id(command, "command")?;
    let named = || app.directory.find(agent).map(|candidate| candidate.agent.id);
    let agent: AgentId = agent.parse().ok().or_else(named).ok_or_else(|| Problem::not_found("invocation"))?;
    Ok(app.browse.invocation(caller, command, agent).await?)
}

async fn show_one(app: &App, invocation: Invocation, trace: Option<String>) -> Result<InvocationBody, Problem> {
    let shown = Shown {
        stdout: beginning(app, &invocation, Stream::Stdout).await?,
        stderr: beginning(app, &invocation, Stream::Stderr).await?,
        kept: kept(app, &invocation).await?,
    };
    Ok(views::command::invocation(invocation, shown, trace))
}

/// What is here of the output of an attempt that is over.
pub async fn kept(app: &App, invocation: &Invocation) -> Result<Option<KeptOutput>, Problem> {
    let Some(outcome) = &invocation.outcome else { return Ok(None) };
    let stdout = remains(app, invocation, outcome, Stream::Stdout).await?;
    let stderr = remains(app, invocation, outcome, Stream::Stderr).await?;
    Ok(Some(KeptOutput { stdout: views::command::kept(stdout), stderr: views::command::kept(stderr) }))
}

async fn remains(app: &App, invocation: &Invocation, outcome: &Outcome, stream: Stream) -> Result<Remains, Problem> {
    let silent = total(invocation, stream) == Some(0) && !matches!(outcome.end, End::Interrupted { .. });
    let stored = if silent { Vec::new() } else { app.browse.stored(invocation, stream).await? };
    Ok(Remains::of(outcome, stream, &stored))
}

/// The beginning of a stream as text; what is not UTF-8 is replaced.
async fn beginning(app: &App, invocation: &Invocation, stream: Stream) -> Result<String, Problem> {
    // Nothing is stored of what never started, nor of what ended without a word.
    if total(invocation, stream) == Some(0) || (invocation.started_at.is_none() && invocation.outcome.is_none()) {
        return Ok(String::new());
    }
    let chunks = app.browse.output(invocation, stream, 0, SHOWN_BYTES).await?;
    let mut bytes = Vec::new();
    for chunk in chunks {
        if chunk.offset != bytes.len() as u64 {
            break;
        }
        bytes.extend(chunk.data);
    }
    Ok(text_of(bytes))
}

fn text_of(mut bytes: Vec<u8>) -> String {
    if bytes.len() as u64 > SHOWN_BYTES {
        bytes.truncate(SHOWN_BYTES as usize);
    }
    // A character cut in two by the limit is left out rather than shown broken.
    let cut = std::str::from_utf8(&bytes).err().filter(|error| error.error_len().is_none());
    if let Some(error) = cut {
        bytes.truncate(error.valid_up_to());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes produced on a stream, kept or not; `None` until the attempt is over.
fn total(invocation: &Invocation, stream: Stream) -> Option<u64> {
    let outcome = invocation.outcome.as_ref()?;
    Some(match stream {
        Stream::Stdout => outcome.stdout.bytes,
        Stream::Stderr => outcome.stderr.bytes,
    })
}

/// Kept bytes one after the other, and what lies between them.
#[derive(Debug, PartialEq, Eq)]
struct Raw {
    bytes: Vec<u8>,
    start: u64,
    next: u64,
    /// From, and up to but not with.
    gaps: Vec<(u64, u64)>,
}

impl Raw {
    fn of(chunks: Vec<Chunk>, offset: u64, total: Option<u64>) -> Raw {
        let mut raw = Raw { bytes: Vec::new(), start: offset, next: offset, gaps: Vec::new() };
        for chunk in chunks {
            if chunk.offset > raw.next {
                raw.gaps.push((raw.next, chunk.offset));
            }
            raw.next = chunk.offset + chunk.data.len() as u64;
            raw.bytes.extend(chunk.data);
        }
        if let Some((from, to)) = raw.gaps.first().copied().filter(|(from, _)| *from == offset) {
            raw.start = if raw.bytes.is_empty() { from } else { to };
        }
        // A full page may have more behind it; a short one has shown all there is.
        let complete = (raw.bytes.len() as u64) < RAW_BYTES;
        if let Some(total) = total.filter(|total| complete && *total > raw.next) {
            raw.gaps.push((raw.next, total));
            raw.next = total;
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;
    use plan::id::{AttemptKey, CommandId};
    use uuid::Uuid;

    use super::*;

    fn chunk(offset: u64, data: &[u8]) -> Chunk {
        let key = AttemptKey { command: CommandId(Uuid::from_u128(1)), number: 1 };
        let agent = AgentId(Uuid::from_u128(2));
        Chunk { key, agent, stream: Stream::Stdout, offset, data: data.to_vec(), at: Timestamp(0) }
    }

    #[test]
    fn gaps_are_named_wherever_they_are() {
        let raw = |chunks: &[(u64, &[u8])], offset, total| {
            let raw = Raw::of(chunks.iter().map(|(at, data)| chunk(*at, data)).collect(), offset, total);
            (String::from_utf8(raw.bytes).expect("text"), raw.start, raw.next, raw.gaps)
        };
        assert_eq!(raw(&[], 0, None), (String::new(), 0, 0, vec![]));
        assert_eq!(raw(&[(0, b"ab"), (2, b"c")], 0, Some(3)), ("abc".into(), 0, 3, vec![]));
        assert_eq!(raw(&[(0, b"ab"), (9, b"z")], 0, Some(10)), ("abz".into(), 0, 10, vec![(2, 9)]));
        assert_eq!(raw(&[(9, b"z")], 4, Some(10)), ("z".into(), 9, 10, vec![(4, 9)]));
        assert_eq!(raw(&[(0, b"ab")], 0, Some(5)), ("ab".into(), 0, 5, vec![(2, 5)]));
        assert_eq!(raw(&[(0, b"ab")], 0, None), ("ab".into(), 0, 2, vec![]));
        assert_eq!(raw(&[], 7, Some(5)), (String::new(), 7, 7, vec![]));
    }

    #[test]
    fn a_character_cut_by_the_limit_is_left_out_and_broken_ones_are_replaced() {
        assert_eq!(text_of("héé".as_bytes()[..4].to_vec()), "hé");
        assert_eq!(text_of(b"a\xffb".to_vec()), "a\u{fffd}b");
        assert_eq!(text_of(vec![b'x'; SHOWN_BYTES as usize + 5]).len(), SHOWN_BYTES as usize);
    }
}
