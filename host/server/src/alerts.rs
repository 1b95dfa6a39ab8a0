//! Builds what has to do with alerts.

use std::sync::Arc;
use std::time::Duration;

use ports::alerts::{Alerts as AlertRows, Silences};
use ports::channels::Channels as ChannelRows;
use ports::clock::{Clock, Ids};
use ports::journal::Journal;
use ports::seal::Vault;
use services::alerting::{Alerting, Memory};
use services::alerts::Alerts;
use services::backtest::Backtests;
use services::channels::Channels;
use services::directory::Directory;
use services::failing::Word;
use services::feed::Feed;
use services::history::History;
use services::notify::{Notifier, Tries};
use tokio::sync::{Mutex, Semaphore};

use crate::config::Config;
use crate::courier::HttpCourier;

/// What it is built of.
pub struct Parts {
    /// Where alerts are kept.
    pub rows: Arc<dyn AlertRows>,
    /// Where silences are kept.
    pub silences: Arc<dyn Silences>,
    /// Where channels are kept.
    pub channels: Arc<dyn ChannelRows>,
    /// Where it is put on record that a channel was tried.
    pub journal: Arc<dyn Journal>,
    /// Rules and plugins.
    pub plugins: Arc<runtime::Handle>,
    /// Whether other hosts judge by the same store.
    pub is_shared: bool,
    /// What is to be judged.
    pub feed: Arc<Feed>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// The past.
    pub history: Arc<History>,
    /// Keeps secrets.
    pub vault: Arc<dyn Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
}

/// What comes of it.
pub struct Built {
    /// Makes alerts of what rules find.
    pub alerting: Alerting,
    /// Tells of them.
    pub notifier: Arc<Notifier>,
    /// Alerts, for people.
    pub alerts: Arc<Alerts>,
    /// Channels, for people.
    pub channels: Arc<Channels>,
    /// Rules on trial.
    pub backtests: Arc<Backtests>,
}

/// So long other hosts believe that a rule fails on this one: agents that send seldom are judged seldom.
fn word_lasts(config: &Config) -> Duration {
    (Duration::from_millis(config.telemetry.interval_ms) * 4).max(Duration::from_secs(60))
}

/// Builds it and starts nothing.
pub fn build(config: &Config, parts: Parts) -> Built {
    let Parts { rows, silences, channels, journal, plugins, is_shared, feed, directory, history, vault, clock, ids } =
        parts;
    let courier = Arc::new(HttpCourier { private: config.notifications.private_networks });
    let notifier = Arc::new(Notifier {
        channels: channels.clone(),
        courier: courier.clone(),
        vault: vault.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        tries: Tries::default(),
    });
    Built {
        alerting: Alerting {
            rules: plugins.clone(),
            plugins: plugins.clone(),
            feed,
            alerts: rows.clone(),
            silences: silences.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            grace: Duration::from_millis(config.agent_management.heartbeat_ms) * 3,
            word: is_shared.then(|| Word::new(&ids.command().to_string(), word_lasts(config))),
            memory: Memory::default(),
        },
        alerts: Arc::new(Alerts {
            alerts: rows,
            silences,
            rules: plugins.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            counted: Mutex::default(),
        }),
        channels: Arc::new(Channels { channels, courier, journal, notifier: notifier.clone(), vault, clock, ids }),
        notifier,
        backtests: Arc::new(Backtests { rules: plugins, history, directory, one: Semaphore::new(1) }),
    }
}
