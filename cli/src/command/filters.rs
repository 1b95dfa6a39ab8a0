//! What commands have in common, as one says it to list them and to end them.

use chrono::{DateTime, Utc};
use clap::Args;

use crate::failure::Failure;
use crate::instant::{in_order, instant};

/// Which commands are meant; all that is said must hold.
#[derive(Clone, Debug, Default, Args)]
pub struct Filters {
    /// Only of this verb
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Only those that run on this agent, be it among others
    #[arg(short, long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only those that run at this site, be it among others
    #[arg(short, long, value_name = "SITE")]
    pub site: Option<String>,
    /// Only of this priority
    #[arg(long, value_name = "LEVEL")]
    pub priority: Option<String>,
    /// Only accepted since then: RFC 3339, or a length of time ago like 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only accepted before then: RFC 3339, or a length of time ago like 30m
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

impl Filters {
    /// Their ids, for rules among options.
    pub(super) const IDS: [&'static str; 6] = ["verb", "agent", "site", "priority", "since", "until"];

    /// The same with times as the API takes them.
    ///
    /// # Errors
    /// When one is no time, or nothing lies between them.
    pub(super) fn read(self, now: DateTime<Utc>) -> Result<Filters, Failure> {
        let (since, until) = (instant(self.since, now)?, instant(self.until, now)?);
        in_order(since.as_deref(), until.as_deref())?;
        Ok(Filters { since, until, ..self })
    }
}
