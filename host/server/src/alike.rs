//! Hosts that share a store sign with the same keys: one with others would be refused by every agent and would
//! refuse everybody who is logged in, so it does not start.

use anyhow::{Context as _, bail};
use ports::hosts::Hosts;

use crate::agent_authority;
use crate::cluster_key::KeyFile;
use crate::config::Config;
use crate::token_keys;

/// Refuses to go on with keys that the other hosts do not have.
///
/// # Errors
/// There are such, and how to mend it.
pub async fn same_keys(hosts: &dyn Hosts, cluster_key: &KeyFile, config: &Config) -> anyhow::Result<()> {
    let mut kinds = vec![
        ("key:cluster", "cluster.key", cluster_key.keys(), false),
        // People may change a secret at will, as long as they change it for all.
        ("key:token", "token.key", token_keys::marks(config)?, true),
    ];
    kinds.extend(agent_authority::marks(config)?.map(|marks| ("key:agents", "agents-ca.key", marks, false)));
    for (what, file, mine, replace) in kinds {
        let other = hosts.agree(what, &mine, replace).await.context("the store does not say which keys are in use")?;
        if other.is_some() {
            let place = config.data.dir.join("keys");
            bail!(
                "the hosts of this database use another {file} than the one in {place}: copy the folder `keys` of one \
                 of them there, as private as it is (0600), with the same [auth] section",
                place = place.display()
            );
        }
    }
    Ok(())
}
