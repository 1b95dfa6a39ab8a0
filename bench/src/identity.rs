//! Who the simulated agents are: each joins as a machine does, with a token made through the API and
//! a key of its own. A file keeps them for the next run.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::envelope::{join_parts, key_text, parse_key, sign};
use plan::id::{AgentId, ClusterId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use wire::join::{Join, Joined, PATH};

use crate::http::{Client, Origin};
use crate::operator::{Operator, post};

/// Joins under way at once.
const JOINERS: usize = 32;

/// One simulated agent.
#[derive(Clone)]
pub struct Identity {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: SigningKey,
}

/// A fleet that belongs to one installation.
#[derive(Clone)]
pub struct Identities {
    /// The installation.
    pub cluster: ClusterId,
    /// The key that signs its commands.
    pub cluster_key: VerifyingKey,
    /// The agents.
    pub agents: Vec<Arc<Identity>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    cluster_id: ClusterId,
    cluster_key: String,
    agents: Vec<KeptAgent>,
}

#[derive(Serialize, Deserialize)]
struct KeptAgent {
    id: AgentId,
    name: String,
    seed: String,
}

#[derive(Deserialize)]
struct JoinToken {
    token: Option<String>,
}

impl Identities {
    /// `count` agents: those in `file`, if there is one, and as many new ones as are missing.
    ///
    /// # Errors
    /// When the file is not of this kind, or a join is refused.
    pub async fn obtain(
        operator: &Arc<Operator>,
        agents: &Arc<Origin>,
        count: usize,
        file: Option<&Path>,
    ) -> Result<Identities> {
        let kept = match file {
            Some(path) if path.exists() => Some(Identities::load(path)?),
            _ => None,
        };
        let have = kept.as_ref().map_or(0, |kept| kept.agents.len());
        let mut all = match kept {
            Some(mut kept) if have >= count => {
                kept.agents.truncate(count);
                return Ok(kept);
            }
            Some(mut kept) => {
                let fresh = enrol(operator, agents, count - have).await?;
                if fresh.cluster != kept.cluster {
                    bail!("the identities belong to installation {}, the host is {}", kept.cluster, fresh.cluster);
                }
                kept.agents.extend(fresh.agents);
                kept
            }
            None => enrol(operator, agents, count).await?,
        };
        if let Some(path) = file {
            all.save(path)?;
        }
        all.agents.truncate(count);
        Ok(all)
    }

    fn load(path: &Path) -> Result<Identities> {
        let text = std::fs::read_to_string(path).with_context(|| format!("identities {}", path.display()))?;
        let kept: Kept = serde_json::from_str(&text).with_context(|| format!("identities {}", path.display()))?;
        let agents = kept.agents.into_iter().map(|agent| {
            let seed = URL_SAFE_NO_PAD.decode(&agent.seed).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
            let seed = seed.with_context(|| format!("seed of agent {} is not 32 bytes of base64url", agent.name))?;
            Ok(Arc::new(Identity { id: agent.id, name: agent.name, key: SigningKey::from_bytes(&seed) }))
        });
        let cluster_key = parse_key(&kept.cluster_key).context("cluster key")?;
        Ok(Identities { cluster: kept.cluster_id, cluster_key, agents: agents.collect::<Result<_>>()? })
    }

    /// Writes the file so that only its owner can read it: it holds keys.
    fn save(&self, path: &Path) -> Result<()> {
        let agents = self.agents.iter().map(|agent| KeptAgent {
            id: agent.id,
            name: agent.name.clone(),
            seed: URL_SAFE_NO_PAD.encode(agent.key.to_bytes()),
        });
        let kept =
            Kept { cluster_id: self.cluster, cluster_key: key_text(&self.cluster_key), agents: agents.collect() };
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        serde_json::to_writer(file.with_context(|| format!("identities {}", path.display()))?, &kept)?;
        Ok(())
    }
}

/// Joins `count` new agents, some at a time.
async fn enrol(operator: &Arc<Operator>, agents: &Arc<Origin>, count: usize) -> Result<Identities> {
    let run: [u8; 4] = rand::random();
    let run = u32::from_be_bytes(run);
    let next = Arc::new(AtomicUsize::new(0));
    let mut joiners = JoinSet::new();
    for _ in 0..JOINERS.min(count) {
        let (operator, agents, next) = (operator.clone(), agents.clone(), next.clone());
        joiners.spawn(async move {
            let (mut api, mut door) = (operator.client(), Client::new(agents));
            let mut joined = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok::<_, anyhow::Error>(joined);
                }
                let name = format!("bench-{run:08x}-{index:05}");
                joined.push((
                    index,
                    join(&operator, &mut api, &mut door, &name).await.with_context(|| format!("join of {name}"))?,
                ));
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(joined) = joiners.join_next().await {
        all.extend(joined.context("a joiner panicked")??);
    }
    all.sort_by_key(|(index, _)| *index);
    let mut cluster: Option<(ClusterId, VerifyingKey)> = None;
    let mut identities = Vec::with_capacity(count);
    for (_, (identity, id, key)) in all {
        if *cluster.get_or_insert((id, key)) != (id, key) {
            bail!("the host answered joins in the name of two installations");
        }
        identities.push(Arc::new(identity));
    }
    let (cluster, cluster_key) = cluster.context("at least one agent is needed")?;
    Ok(Identities { cluster, cluster_key, agents: identities })
}

async fn join(
    operator: &Operator,
    api: &mut Client,
    door: &mut Client,
    name: &str,
) -> Result<(Identity, ClusterId, VerifyingKey)> {
    let made: JoinToken = operator.post(api, "/api/v1/join-tokens", b"{}").await?;
    let token = made.token.context("the new join token has no secret")?;
    let key = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    let proof = sign(&key, &[&join_parts(&token, name)]);
    let pin = token.rsplit('_').next().unwrap_or_default().to_owned();
    let body = Join { token, name: name.to_owned(), public_key: key_text(&key.verifying_key()), proof };
    let joined: Joined = post(door, PATH, None, &serde_json::to_vec(&body)?).await?;
    let cluster_key = parse_key(&joined.cluster_key).context("cluster key")?;
    let hash = Sha256::digest(cluster_key.as_bytes());
    let found = HEXLOWER.encode(&hash[..8]);
    if found != pin {
        bail!("the cluster key's hash {found} is not the token's pin {pin}");
    }
    let identity = Identity { id: joined.agent_id.parse()?, name: name.to_owned(), key };
    Ok((identity, joined.cluster_id.parse()?, cluster_key))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn identities_read_back_as_they_were_kept_and_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("identities.json");
        let key = SigningKey::from_bytes(&[9; 32]);
        let agent = Identity { id: AgentId(Uuid::from_u128(5)), name: "bench-1".into(), key: key.clone() };
        let cluster_key = SigningKey::from_bytes(&[8; 32]).verifying_key();
        let all = Identities { cluster: ClusterId(Uuid::from_u128(1)), cluster_key, agents: vec![Arc::new(agent)] };
        all.save(&path).expect("saved");
        let read = Identities::load(&path).expect("loaded");
        assert_eq!((read.cluster, read.cluster_key), (all.cluster, all.cluster_key));
        assert_eq!((read.agents[0].id, read.agents[0].key.to_bytes()), (AgentId(Uuid::from_u128(5)), key.to_bytes()));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_another_kind_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("other.json");
        std::fs::write(&path, "{}").expect("written");
        let error = Identities::load(&path).err().expect("refused").to_string();
        assert!(error.contains("other.json"), "{error}");
    }
}
