//! What the host says of an agent, and an operator may say otherwise: its site, its labels, its maintenance.

use std::collections::BTreeMap;

use api::agent::{Agent, AgentPatch};
use clap::{Args, ValueEnum};
use viworks_client::Client;

use super::label;
use crate::failure::Failure;

/// How often labels are read again that somebody else changed in between.
const TRIES: u32 = 5;

/// What to change of an agent.
#[derive(Clone, Debug, Args)]
pub struct ChangeAgent {
    /// Its name or id
    pub agent: String,
    /// The site it belongs to from now on
    #[arg(short, long, value_name = "SITE")]
    pub site: Option<String>,
    /// A label it has from now on; may be repeated, and others stay
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// A label it has no longer; may be repeated
    #[arg(long = "remove-label", value_name = "KEY")]
    pub removed: Vec<String>,
    /// on: it takes only what names it; off: it is as all others
    #[arg(long, value_name = "ON|OFF", hide_possible_values = true)]
    pub maintenance: Option<Switch>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Changes it.
pub(super) async fn change(options: &ChangeAgent, client: &Client) -> Result<Agent, Failure> {
    let ChangeAgent { agent, site, labels, removed, maintenance } = options;
    let maintenance = maintenance.map(|switch| switch == Switch::On);
    let relabels = !labels.is_empty() || !removed.is_empty();
    if site.is_none() && maintenance.is_none() && !relabels {
        return Err(Failure::usage("nothing to change: give --site, --label, --remove-label or --maintenance"));
    }
    let added = labels.iter().map(|text| label(text)).collect::<Result<Vec<_>, _>>()?;
    let mut patch = AgentPatch { site: site.clone(), labels: None, maintenance };
    if !relabels {
        return Ok(client.change_agent(agent, &patch, None).await?);
    }
    let mut tries = 1;
    loop {
        // The host takes labels as a whole, so they are changed as they were read or not at all.
        let read = client.agent_tagged(agent).await?;
        patch.labels = Some(relabelled(read.value.labels, &added, removed)?);
        match client.change_agent(agent, &patch, read.tag.as_deref()).await {
            Err(error) if error.status() == Some(412) && tries < TRIES => tries += 1,
            answer => return Ok(answer?),
        }
    }
}

fn relabelled(
    mut labels: BTreeMap<String, String>,
    added: &[(String, String)],
    removed: &[String],
) -> Result<BTreeMap<String, String>, Failure> {
    for key in removed {
        if labels.remove(key).is_none() {
            return Err(Failure::usage(format!("--remove-label: it has no label `{key}`")));
        }
    }
    labels.extend(added.iter().cloned());
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_not_spoken_of_stay() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let had = labels(&[("env", "prod"), ("rack", "a1"), ("tier", "web")]);
        let added = [("env".to_owned(), "test".to_owned()), ("owner".to_owned(), "ada".to_owned())];
        let has = relabelled(had.clone(), &added, &["rack".to_owned()]).map_err(|failure| failure.message);
        assert_eq!(has, Ok(labels(&[("env", "test"), ("owner", "ada"), ("tier", "web")])));
        assert!(relabelled(had, &[], &["gone".to_owned()]).is_err());
    }
}
