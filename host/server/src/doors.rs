//! What the two doors are told of the settings.

use std::time::Duration;

use plan::id::ClusterId;
use rest::pace::Rate;

use crate::config::Config;

/// For the agents' door.
pub fn of_agents(config: &Config, ws_url: String) -> gateway::room::Options {
    gateway::room::Options {
        ws_url,
        heartbeat: Duration::from_millis(config.agent_management.heartbeat_ms),
        telemetry: Duration::from_millis(config.telemetry.interval_ms),
        telemetry_jitter: config.telemetry.jitter(),
        agent_concurrency: config.command.agent_concurrency,
        max_agents: config.agent_management.max_agents,
        max_unauthenticated: config.agent_management.max_unauthenticated,
    }
}

/// For the operators' door.
///
/// # Errors
/// Addresses of proxies that are none.
pub fn of_callers(
    config: &Config,
    cluster: ClusterId,
    join_url: String,
    tls_pin: Option<String>,
) -> anyhow::Result<rest::Options> {
    let mut options = rest::Options::new(env!("CARGO_PKG_VERSION"), cluster);
    options.agents_url = Some(join_url);
    options.hosts.clone_from(&config.server.allowed_hosts);
    options.origins.clone_from(&config.security.cors_origins);
    let security = &config.security;
    options.principal_rate = Rate { per_second: security.requests_per_second, burst: security.request_burst };
    options.address_rate = Rate { per_second: security.anonymous_per_second, burst: security.anonymous_burst };
    options.streams = security.streams_per_principal;
    options.proxies = config.server.proxies()?;
    options.tls_pin = tls_pin;
    Ok(options)
}
