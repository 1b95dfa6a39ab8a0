//! Alerts for people: they see them, take them, give them back, and want silence.
//!
//! What is not over is where its machine is; its row, by which lists go, follows with the next sweep. What is over stays
//! at the site where it ended, like a command that ran there, whatever becomes of its machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::access::{Caller, Forbidden, Permission};
use domain::alert::flap::Limits;
use domain::alert::life::State;
use domain::alert::mute::{Matcher, Silence};
use domain::alert::standing::{NotNow, Owner};
use domain::time::Timestamp;
use plan::id::{AlertId, SilenceId};
use ports::alerts::{self, AlertFilter, AlertShare, Kept, KeptSilence, Moment};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::replies::Once;
use ports::rules::{Rule, Rules};
use serde_json::json;
use tokio::sync::Mutex;

use crate::alerting::RULE_ERROR;
use crate::directory::Directory;
use crate::origin::Origin;
use crate::replays::{Keep, kept};
use crate::telling::{About, Quiet};

/// Lines of a timeline that are shown with its alert.
pub const TIMELINE: u32 = 100;
/// Most characters of a note.
const NOTE_MAX: usize = 1_000;
/// A silence ends within a year.
const SILENCE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Tries to write what somebody else writes, too.
const TRIES: usize = 5;
/// How long a count of what is not over is good enough.
const FRESH: Duration = Duration::from_secs(1);

/// The use cases.
pub struct Alerts {
    /// Where alerts are kept.
    pub alerts: Arc<dyn alerts::Alerts>,
    /// What is silenced.
    pub silences: Arc<dyn alerts::Silences>,
    /// The rules that are loaded.
    pub rules: Arc<dyn Rules>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
    /// The latest count of what is not over.
    pub counted: Mutex<Option<(Timestamp, Arc<Vec<AlertShare>>)>>,
}

/// What somebody says to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They take it.
    Acknowledge,
    /// They give it back.
    Release,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AlertError {
    /// No such alert, silence or rule, or out of sight.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It makes no sense as the alert stands.
    #[error("the alert is {}", .0.as_str())]
    NotNow(State),
    /// A value that cannot be.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request.
        pointer: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Alerts {
    /// A page of alerts in the caller's sight, newest ids first. `sites` are those asked for; all when empty.
    ///
    /// # Errors
    /// [`AlertError::Forbidden`]; the store's.
    pub async fn list(
        &self,
        caller: &Caller,
        mut filter: AlertFilter,
        before: Option<AlertId>,
        limit: u32,
    ) -> Result<Vec<Kept>, AlertError> {
        caller.may(Permission::ReadAlerts)?;
        if !caller.sees_all_sites() {
            let mut sites = filter.sites.take().unwrap_or_else(|| self.sites(caller));
            sites.retain(|site| caller.sees_site(site));
            filter.sites = Some(sites);
        }
        // Rows whose machine was moved a moment ago do not count, or a page could be short with more to come.
        let (mut in_sight, mut before) = (Vec::new(), before);
        while in_sight.len() < limit as usize {
            let page = self.alerts.alerts(&filter, before, limit).await?;
            let ended = page.len() < limit as usize;
            before = page.last().map(|kept| kept.id).or(before);
            in_sight.extend(page.into_iter().filter(|kept| self.sees(caller, kept)));
            if ended {
                break;
            }
        }
        in_sight.truncate(limit as usize);
        Ok(in_sight)
    }

    /// How many alerts are not over, by rule and how they stand; counted at most once a second however many ask.
    ///
    /// # Errors
    /// The store's.
    pub async fn counts(&self, now: Timestamp) -> Result<Arc<Vec<AlertShare>>, StoreError> {
        let mut counted = self.counted.lock().await;
        if let Some((at, shares)) = counted.as_ref()
            && now.is_soon_after(*at, FRESH)
        {
            return Ok(shares.clone());
        }
        let shares = Arc::new(self.alerts.alert_shares().await?);
        *counted = Some((now, shares.clone()));
        Ok(shares)
    }

    /// Why rules fail, by name. How many agents that leaves unjudged is told to who sees them all.
    ///
    /// # Errors
    /// The store's.
    pub async fn failing(&self, caller: &Caller) -> Result<BTreeMap<String, String>, StoreError> {
        let failing = |kept: &Kept| kept.rule == RULE_ERROR && !kept.alert.state.is_over();
        let why = |kept: Kept| if caller.sees_all_sites() { kept.alert.message } else { "it fails".to_owned() };
        let alerts = self.alerts.alerts_of(&[]).await?;
        Ok(alerts.into_iter().filter(failing).map(|kept| (kept.key.clone(), why(kept))).collect())
    }

    /// One alert and the end of its timeline, newest first.
    ///
    /// # Errors
    /// [`AlertError::NotFound`], [`AlertError::Forbidden`]; the store's.
    pub async fn show(&self, caller: &Caller, id: AlertId) -> Result<(Kept, Vec<Moment>), AlertError> {
        caller.may(Permission::ReadAlerts)?;
        let kept = self.in_sight(caller, id).await?;
        let timeline = self.alerts.timeline(id, None, TIMELINE).await?;
        Ok((kept, timeline.into_iter().map(|(_, moment)| moment).collect()))
    }

    /// Takes an alert or gives it back.
    ///
    /// # Errors
    /// [`AlertError::NotNow`], [`AlertError::NotFound`], [`AlertError::Invalid`], [`AlertError::Forbidden`]; the store's.
    pub async fn answer(
        &self,
        caller: &Caller,
        id: AlertId,
        answer: Answer,
        note: &str,
        origin: &Origin,
    ) -> Result<(Kept, Vec<Moment>), AlertError> {
        caller.may(Permission::AnswerAlerts)?;
        said("/note", note)?;
        for _ in 0..TRIES {
            let now = self.clock.now();
            let mut kept = self.in_sight(caller, id).await?;
            let action = match answer {
                Answer::Acknowledge => "alerts.acknowledge",
                Answer::Release => "alerts.release",
            };
            let lines = match answer {
                Answer::Acknowledge => {
                    let owner = Owner { name: caller.name.clone(), note: note.to_owned(), at: now };
                    kept.alert.acknowledge(owner, Limits::default())
                }
                Answer::Release => kept.alert.release(Limits::default(), now),
            };
            let lines = lines.map_err(|NotNow(state)| AlertError::NotNow(state))?;
            let about = kept.agent.and_then(|agent| self.directory.get(agent)).map(|found| About::agent(&found));
            let about = about.unwrap_or_else(|| About::like(&kept));
            let quiet = Quiet { silences: self.silences.silences(now).await?, now };
            let change = quiet.change(kept, &about, &lines, Some((&caller.name, note)));
            let mut audit = origin.entry(now, action, Some(&caller.name));
            audit.resource = Some(("alert", id.to_string()));
            if self.alerts.keep_alerts(vec![change], Vec::new(), Some(audit)).await?.is_empty() {
                return self.show(caller, id).await;
            }
        }
        Err(StoreError::Conflict("the alert keeps changing".to_owned()).into())
    }

    /// Silences in the caller's sight that have not ended, newest first.
    ///
    /// # Errors
    /// [`AlertError::Forbidden`]; the store's.
    pub async fn silences(&self, caller: &Caller) -> Result<Vec<KeptSilence>, AlertError> {
        caller.may(Permission::ReadAlerts)?;
        let mut silences = self.silences.silences(self.clock.now()).await?;
        silences.retain(|kept| reaches(caller, &kept.silence.matcher));
        Ok(silences)
    }

    /// Wants silence.
    ///
    /// # Errors
    /// [`AlertError::Invalid`], [`AlertError::Forbidden`]; the store's.
    pub async fn silence(
        &self,
        caller: &Caller,
        silence: Silence,
        comment: &str,
        keep: Option<Keep<KeptSilence>>,
        origin: &Origin,
    ) -> Result<KeptSilence, AlertError> {
        caller.may(Permission::AnswerAlerts)?;
        said("/comment", comment)?;
        let invalid = |pointer, message: &str| AlertError::Invalid { pointer, message: message.to_owned() };
        let now = self.clock.now();
        if silence.matcher.is_empty() {
            return Err(invalid("/matcher", "says nothing, and would silence everything: name a rule, a site or more"));
        }
        if !reaches(caller, &silence.matcher) {
            return Err(invalid("/matcher/sites", "name sites in your sight"));
        }
        if silence.until <= silence.from || silence.until <= now {
            return Err(invalid("/until", "must be later than now and than it begins"));
        }
        if silence.until > now + SILENCE_MAX {
            return Err(invalid("/until", "at most a year from now"));
        }
        let silence = KeptSilence {
            id: SilenceId(self.ids.command().0),
            silence,
            created_by: caller.name.clone(),
            created_at: now,
            comment: comment.to_owned(),
        };
        let mut audit = origin.entry(now, "silences.create", Some(&caller.name));
        audit.resource = Some(("silence", silence.id.to_string()));
        audit.details = json!({ "until_ms": silence.silence.until.as_millis(), "comment": comment }).to_string();
        let once: Option<Once> = kept(keep.as_ref(), &silence);
        self.silences.add_silence(silence.clone(), audit, once).await?;
        Ok(silence)
    }

    /// Ends a silence.
    ///
    /// # Errors
    /// [`AlertError::NotFound`], [`AlertError::Forbidden`]; the store's.
    pub async fn end_silence(&self, caller: &Caller, id: SilenceId, origin: &Origin) -> Result<(), AlertError> {
        caller.may(Permission::AnswerAlerts)?;
        if !self.silences(caller).await?.iter().any(|kept| kept.id == id) {
            return Err(AlertError::NotFound("silence"));
        }
        let now = self.clock.now();
        let mut audit = origin.entry(now, "silences.end", Some(&caller.name));
        audit.resource = Some(("silence", id.to_string()));
        let ended = self.silences.end_silence(id, now, audit).await?;
        if ended { Ok(()) } else { Err(AlertError::NotFound("silence")) }
    }

    /// The rules that judge now, by name.
    ///
    /// # Errors
    /// [`AlertError::Forbidden`].
    pub fn rules(&self, caller: &Caller) -> Result<Vec<Arc<dyn Rule>>, AlertError> {
        caller.may(Permission::ReadAlerts)?;
        Ok(self.rules.rules())
    }

    async fn in_sight(&self, caller: &Caller, id: AlertId) -> Result<Kept, AlertError> {
        let kept = self.alerts.alert(id).await?;
        kept.filter(|kept| self.sees(caller, kept)).ok_or(AlertError::NotFound("alert"))
    }

    /// Whether an alert is in the caller's sight, whichever way they ask for it.
    fn sees(&self, caller: &Caller, kept: &Kept) -> bool {
        let Some(agent) = kept.agent else { return caller.sees_all_sites() };
        if kept.alert.state.is_over() {
            return caller.sees_site(&kept.site);
        }
        self.directory.get(agent).map_or(caller.sees_all_sites(), |found| caller.sees_site(&found.agent.site))
    }

    /// The sites there are, and those that the caller's grants name: what is over may be at one without machines.
    fn sites(&self, caller: &Caller) -> Vec<String> {
        let mut sites: Vec<String> = self.directory.all().iter().map(|found| found.agent.site.clone()).collect();
        let grants = caller.grants.iter().chain(caller.within.iter().flatten());
        sites.extend(grants.flat_map(|grant| grant.sites.iter().cloned()));
        sites.sort();
        sites.dedup();
        sites
    }
}

/// Whether it is about nothing that the caller does not see.
fn reaches(caller: &Caller, matcher: &Matcher) -> bool {
    caller.sees_all_sites() || (!matcher.sites.is_empty() && matcher.sites.iter().all(|site| caller.sees_site(site)))
}

fn said(pointer: &'static str, text: &str) -> Result<(), AlertError> {
    if text.chars().count() <= NOTE_MAX {
        return Ok(());
    }
    Err(AlertError::Invalid { pointer, message: format!("at most {NOTE_MAX} characters") })
}

/// When a silence begins and ends: from the instant named, or now; until another, or for so long.
///
/// # Errors
/// [`AlertError::Invalid`] unless it is said once when it ends.
pub fn span(
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    lasts: Option<Duration>,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), AlertError> {
    let from = from.unwrap_or(now);
    match (until, lasts) {
        (Some(until), None) => Ok((from, until)),
        (None, Some(lasts)) if (Duration::from_secs(1)..=SILENCE_MAX).contains(&lasts) => Ok((from, from + lasts)),
        (None, Some(_)) => {
            let message = format!("1 to {} seconds, which is a year", SILENCE_MAX.as_secs());
            Err(AlertError::Invalid { pointer: "/for_s", message })
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(AlertError::Invalid { pointer: "/until", message: "say `until` or `for_s`, one of them".to_owned() })
        }
    }
}
