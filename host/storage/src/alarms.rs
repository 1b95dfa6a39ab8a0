//! The parts of alerts and silences that both databases keep as JSON text.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::alert::Severity;
use domain::alert::channel::{Kind, Settings};
use domain::alert::mute::Matcher;
use domain::alert::standing::Owner;
use domain::time::Timestamp;
use plan::id::AgentId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text;

/// Stands for no agent: no agent ever has it.
pub(crate) fn agent(agent: Option<AgentId>) -> Uuid {
    agent.map_or(Uuid::nil(), |agent| agent.0)
}

/// Reads what [`agent()`] wrote.
pub(crate) fn agent_of(written: Uuid) -> Option<AgentId> {
    Some(AgentId(written)).filter(|agent| !agent.0.is_nil())
}

#[derive(Serialize, Deserialize)]
struct WrittenOwner {
    name: String,
    note: String,
    /// Microseconds since 1970-01-01 UTC.
    at: i64,
}

/// Who took an alert.
pub(crate) fn owner_text(Owner { name, note, at }: &Owner) -> String {
    text::json(&WrittenOwner { name: name.clone(), note: note.clone(), at: at.0 })
}

/// Reads what [`owner_text`] wrote.
pub(crate) fn owner(written: &str) -> Result<Owner, String> {
    let WrittenOwner { name, note, at } = text::parse(written)?;
    Ok(Owner { name, note, at: Timestamp(at) })
}

/// Instants as an array of microseconds since 1970-01-01 UTC.
pub(crate) fn instants_text(instants: &[Timestamp]) -> String {
    text::json(&instants.iter().map(|at| at.0).collect::<Vec<_>>())
}

/// Reads what [`instants_text`] wrote.
pub(crate) fn instants(written: &str) -> Result<Vec<Timestamp>, String> {
    Ok(text::parse::<Vec<i64>>(written)?.into_iter().map(Timestamp).collect())
}

#[derive(Serialize, Deserialize)]
struct WrittenMatcher {
    rules: Vec<String>,
    agents: Vec<String>,
    sites: Vec<String>,
    labels: BTreeMap<String, String>,
    key: Option<String>,
    at_most: Option<String>,
}

/// What a silence is about.
pub(crate) fn matcher_text(matcher: &Matcher) -> String {
    text::json(&written(matcher))
}

fn written(Matcher { rules, agents, sites, labels, key, at_most }: &Matcher) -> WrittenMatcher {
    WrittenMatcher {
        rules: rules.clone(),
        agents: agents.clone(),
        sites: sites.clone(),
        labels: labels.clone(),
        key: key.clone(),
        at_most: at_most.map(|severity| severity.as_str().to_owned()),
    }
}

/// Reads what [`matcher_text`] wrote.
pub(crate) fn matcher(text: &str) -> Result<Matcher, String> {
    read(text::parse(text)?)
}

fn read(WrittenMatcher { rules, agents, sites, labels, key, at_most }: WrittenMatcher) -> Result<Matcher, String> {
    let severity = |word: String| Severity::parse(&word).ok_or_else(|| format!("`{word}` is not a severity"));
    Ok(Matcher { rules, agents, sites, labels, key, at_most: at_most.map(severity).transpose()? })
}

#[derive(Serialize, Deserialize)]
struct WrittenSettings {
    kind: String,
    url: String,
    matcher: WrittenMatcher,
    at_least: String,
    template: Option<String>,
    per_minute: u32,
}

/// What an operator says of a channel.
pub(crate) fn settings_text(settings: &Settings) -> String {
    let Settings { kind, url, matcher, at_least, template, per_minute } = settings;
    text::json(&WrittenSettings {
        kind: kind.as_str().to_owned(),
        url: url.clone(),
        matcher: written(matcher),
        at_least: at_least.as_str().to_owned(),
        template: template.clone(),
        per_minute: *per_minute,
    })
}

/// Reads what [`settings_text`] wrote.
pub(crate) fn settings(text: &str) -> Result<Settings, String> {
    let WrittenSettings { kind, url, matcher, at_least, template, per_minute } = text::parse(text)?;
    Ok(Settings {
        kind: Kind::parse(&kind).ok_or_else(|| format!("`{kind}` is not a kind of channel"))?,
        url,
        matcher: read(matcher)?,
        at_least: Severity::parse(&at_least).ok_or_else(|| format!("`{at_least}` is not a severity"))?,
        template,
        per_minute,
    })
}

/// News that are dated so far ahead are those of a host whose clock is wrong.
const AHEAD: Duration = Duration::from_secs(60);

/// Of news by their numbers, which come in the order of commits, those that may be told: all up to the first that was
/// not there before `before`. Whoever reads on begins behind the last number told, so what is older and has a higher one
/// waits with it. A host whose clock is far ahead holds nobody up for longer than [`AHEAD`].
pub(crate) fn settled(news: Vec<(u64, Timestamp, String)>, before: Timestamp) -> Vec<(u64, String)> {
    let is_settled = |at: Timestamp| at < before || at > before + AHEAD;
    let settled = news.into_iter().take_while(|(_, at, _)| is_settled(*at));
    settled.map(|(number, _, subject)| (number, subject)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let taken = Owner { name: "anna".into(), note: "on it".into(), at: Timestamp(7) };
        assert_eq!(owner(&owner_text(&taken)), Ok(taken));
        assert_eq!(instants(&instants_text(&[Timestamp(1), Timestamp(2)])), Ok(vec![Timestamp(1), Timestamp(2)]));
        let full = Matcher {
            rules: vec!["cpu".into()],
            labels: BTreeMap::from([("tier".into(), "db".into())]),
            key: Some("/".into()),
            at_most: Some(Severity::Warning),
            ..Matcher::default()
        };
        assert_eq!(matcher(&matcher_text(&full)), Ok(full.clone()));
        let channel = Settings {
            kind: Kind::Slack,
            url: "https://hooks.example.org/x".into(),
            matcher: full,
            at_least: Severity::Critical,
            template: Some("{{ count }}".into()),
            per_minute: 6,
        };
        assert_eq!(settings(&settings_text(&channel)), Ok(channel));
        assert_eq!(agent_of(agent(None)), None);
    }

    #[test]
    fn news_behind_fresh_ones_wait_with_them_whatever_the_clock_of_their_host_says() {
        let told = |ats: &[i64]| {
            let news = ats.iter().zip(1..).map(|(at, number)| (number, Timestamp::from_millis(*at), String::new()));
            let settled = settled(news.collect(), Timestamp::from_millis(10_000));
            settled.into_iter().map(|(number, _)| number).collect::<Vec<u64>>()
        };
        assert_eq!(told(&[7_000, 9_999, 10_000, 9_000]), [1, 2], "the last one is read with the third");
        assert_eq!(told(&[7_000, 3_600_000, 9_000]), [1, 2, 3]);
        assert_eq!(told(&[12_000]), [0_u64; 0]);
    }
}
