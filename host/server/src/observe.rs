//! Structured logs, to standard error.

use anyhow::Context as _;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Logging};

/// Starts logging as configured. Escape sequences in values are escaped by both formats.
///
/// # Errors
/// The filter cannot be read.
pub fn start(logging: &Logging) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&logging.level)
        .with_context(|| format!("logging.level: `{}` is no filter", logging.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter_fn(is_sayable)).init(),
        LogFormat::Text => builder.with_ansi(false).finish().with(filter_fn(is_sayable)).init(),
    }
    Ok(())
}

/// At `trace` the WebSocket library says whole frames, and in those are the keys of secret arguments.
fn is_sayable(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || !metadata.target().starts_with("tungstenite")
}
