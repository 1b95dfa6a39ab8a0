//! `viworks-agent doctor`: why this machine would not do its work, looked at part by part.
//!
//! Invariant: it only looks. It sends no token, opens no session and changes no file, so that it may be run
//! beside the agent, and before it.

mod reach;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

use crate::clock;
use crate::config::Config;
use crate::document::DocumentError;
use crate::facts;
use crate::identity::{Identity, IdentityError};
use crate::line::Own;
use crate::policy::Policy;
use crate::socket::check_url;

pub use screen::report::{Check, Outcome, Report};

/// Beyond this the agent itself says that clocks differ.
const CLOCK_MAY_DIFFER: Duration = Duration::from_secs(30);
/// With less free space than this a journal cannot be kept.
const LEAST_FREE_BYTES: u64 = 64 << 20;

/// What to look at.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// Where identity, journal and output lie.
    pub data: PathBuf,
    /// The policy file; `policy.toml` in `data` when absent.
    pub policy: Option<PathBuf>,
    /// The settings file; `agent.toml` in `data` when absent.
    pub config: Option<PathBuf>,
}

/// Looks at everything. Takes half a minute at most, when a host or a container tool does not answer.
pub async fn examine(options: &DoctorOptions) -> Report {
    let mut report = Report::default();
    let DoctorOptions { data, policy, config } = options;
    let identity = identity(data, &mut report);
    let config = settings(config.as_deref(), data, &mut report);
    let policy = allowed(policy.as_deref(), data, &config, &mut report);
    if let Some(identity) = &identity {
        host(data, identity, &mut report).await;
    } else {
        report.look("host", "not looked for: nobody joined from here", "join first, then ask again");
    }
    disk(data, &config, &mut report);
    if let Some(policy) = policy {
        engine(&policy, &config, &mut report).await;
    }
    process(data, &mut report);
    report
}

fn identity(data: &Path, report: &mut Report) -> Option<Identity> {
    const SECTION: &str = "identity";
    match Identity::load(data) {
        Ok(identity) => {
            let (name, cluster) = (&identity.name, identity.cluster_id);
            report.well(SECTION, format!("joined cluster {cluster} as `{name}`; its key is its owner's alone"));
            if let Some(mode) =
                std::fs::metadata(data).ok().map(|folder| folder.mode() & 0o777).filter(|m| m & 0o022 != 0)
            {
                let hint = format!("chmod go-w {}", data.display());
                report.broken(SECTION, format!("others may write into {} (mode {mode:04o})", data.display()), hint);
            }
            Some(identity)
        }
        Err(error) => {
            let hint = match &error {
                IdentityError::NotJoined(_) => "on the host: viworks agent join-token create",
                IdentityError::Exposed { .. } => {
                    "who could read the key may have copied it: join anew if you cannot rule that out"
                }
                IdentityError::Malformed { .. } | IdentityError::Io { .. } => {
                    "mend the file, or revoke this agent and join anew"
                }
            };
            report.broken(SECTION, error.to_string(), hint);
            None
        }
    }
}

/// The file that was named, else the usual one if it is there.
fn chosen(named: Option<&Path>, usual: PathBuf) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| usual.exists().then_some(usual))
}

fn hint(error: &DocumentError) -> &'static str {
    match error {
        DocumentError::Unreadable { .. } => {
            "is the path right, and may this user read it? the agent runs as its own user"
        }
        DocumentError::Exposed { .. } => "who may write it decides what runs here",
        DocumentError::Faulty { .. } => "mend that line; the agent does not start with it",
    }
}

fn settings(named: Option<&Path>, data: &Path, report: &mut Report) -> Config {
    const SECTION: &str = "settings";
    let Some(path) = chosen(named, data.join("agent.toml")) else {
        report.well(SECTION, "no settings file: the defaults hold".to_owned());
        return Config::default();
    };
    match Config::load(&path) {
        Ok(config) => {
            report.well(SECTION, format!("{} can be used", path.display()));
            config
        }
        Err(error) => {
            report.broken(SECTION, error.to_string(), hint(&error));
            Config::default()
        }
    }
}

fn allowed(named: Option<&Path>, data: &Path, config: &Config, report: &mut Report) -> Option<Policy> {
    const SECTION: &str = "policy";
    let Some(path) = chosen(named, data.join("policy.toml")) else {
        let hint = "without one every command is refused: write policy.toml, see docs/security.md";
        report.look(SECTION, "there is no policy file, so nothing is allowed", hint);
        return None;
    };
    match Policy::load(&path) {
        Ok(mut policy) => {
            policy.engine_env = config.engine_env.clone();
            let (programs, effects) = (policy.rules.programs.len(), policy.rules.effects.len());
            if programs == 0 || effects == 0 {
                let what = format!("{} allows nothing: {effects} effects, {programs} programs", path.display());
                report.look(SECTION, what, "add effects and [programs.NAME], see docs/security.md");
            } else {
                report.well(SECTION, format!("{}: {programs} programs, every one found", path.display()));
            }
            Some(policy)
        }
        Err(error) => {
            report.broken(SECTION, error.to_string(), hint(&error));
            None
        }
    }
}

async fn host(data: &Path, identity: &Identity, report: &mut Report) {
    const SECTION: &str = "host";
    let url = match check_url(&identity.ws_url) {
        Ok(url) => url,
        Err(why) => return report.broken(SECTION, why, "correct ws_url in identity.json, or join anew"),
    };
    let trust = match (&identity.host.pin, &identity.host.ca) {
        _ if url.scheme_str() == Some("ws") => "plain, without TLS".to_owned(),
        (Some(_), _) => "TLS with the pinned key".to_owned(),
        (None, Some(ca)) => format!("TLS, vouched for by {}", ca.display()),
        (None, None) => "TLS, vouched for by this machine's authorities".to_owned(),
    };
    let own = Own { data: data.to_owned(), key: identity.key.clone() };
    match reach::reach(&url, &identity.host, &own).await {
        Ok(reached) => {
            report.well(SECTION, format!("{url} answers in {} ms ({trust})", reached.took.as_millis()));
            agree(reached.host_time, report);
        }
        Err(why) => {
            let hint = "does the host run, is a firewall between, has its certificate changed (then join anew)?";
            report.broken(SECTION, format!("{url} cannot be reached: {why}"), hint);
        }
    }
}

fn agree(host_time: Option<SystemTime>, report: &mut Report) {
    const SECTION: &str = "clock";
    let Some(host_time) = host_time else {
        return report.look(SECTION, "the host did not say what time it has", "is a proxy between?");
    };
    let host_ms = host_time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let own_ms = u128::try_from(clock::now().wall_ms).unwrap_or(0);
    let apart = Duration::from_millis(u64::try_from(own_ms.abs_diff(host_ms)).unwrap_or(u64::MAX));
    if apart > CLOCK_MAY_DIFFER {
        let what = format!("this machine and the host are {} s apart", apart.as_secs());
        report.look(SECTION, what, "deadlines follow the host's clock; run NTP on both");
    } else {
        // The host says whole seconds.
        report.well(SECTION, format!("this machine and the host agree to {} s", apart.as_secs() + 1));
    }
}

fn disk(data: &Path, config: &Config, report: &mut Report) {
    const SECTION: &str = "disk";
    let free = match statvfs(data) {
        Ok(found) => found.blocks_available().saturating_mul(found.fragment_size()),
        Err(error) => {
            return report.broken(SECTION, format!("{}: {error}", data.display()), "name the folder with --data");
        }
    };
    let what = format!("{} MiB free for journal and output in {}", free >> 20, data.display());
    if free < LEAST_FREE_BYTES {
        report.broken(SECTION, what, "make room: without it the agent takes no work");
    } else if free < config.spool.max_bytes {
        let hint = format!("spool.max_bytes lets output take {} MiB", config.spool.max_bytes >> 20);
        report.look(SECTION, what, hint);
    } else {
        report.well(SECTION, what);
    }
}

async fn engine(policy: &Policy, config: &Config, report: &mut Report) {
    const SECTION: &str = "container engine";
    let found = facts::gather(policy, config, &Default::default()).await;
    match found.container_engine {
        None if policy.file("docker").is_none() => {
            report.well(SECTION, "none: the policy lists no `docker`".to_owned());
        }
        None => report.broken(SECTION, "`docker` does not say its version", "run it by hand as the agent's user"),
        Some(engine) if engine.starts_with("docker unreachable") => {
            let hint =
                "does the engine run, and may the agent's user use its socket? see container_engine in agent.toml";
            report.broken(SECTION, engine, hint);
        }
        Some(engine) => {
            let compose = found.compose.map_or_else(|| "no compose".to_owned(), |flavour| format!("compose {flavour}"));
            report.well(SECTION, format!("{engine}, {compose}"));
        }
    }
}

fn process(data: &Path, report: &mut Report) {
    const SECTION: &str = "process";
    // Not asked of the lock itself: whoever tries it, holds it for a moment, and an agent that starts then would not.
    let pid = std::fs::read_to_string(data.join("agent.lock")).unwrap_or_default();
    let line = pid.trim().parse::<u32>().ok().and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    let running = line.is_some_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"run"));
    if running {
        report.well(SECTION, "the agent runs".to_owned());
    } else {
        let hint = format!("viworks-agent run --data {}", data.display());
        report.look(SECTION, "the agent does not run", hint);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn outcomes(report: &Report) -> Vec<(&'static str, Outcome)> {
        report.checks.iter().map(|check| (check.section, check.outcome)).collect()
    }

    #[tokio::test]
    async fn a_machine_that_never_joined_learns_what_is_missing() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = DoctorOptions { data: dir.path().to_owned(), policy: None, config: None };
        let report = examine(&options).await;
        assert_eq!(
            outcomes(&report),
            [
                ("identity", Outcome::Broken),
                ("settings", Outcome::Well),
                ("policy", Outcome::Look),
                ("host", Outcome::Look),
                ("disk", Outcome::Well),
                ("process", Outcome::Look),
            ]
        );
        assert!(report.is_broken());
    }

    #[tokio::test]
    async fn a_policy_that_others_may_write_or_that_names_nothing_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, "effects = [\"read\"]\n[programs.nothing]\npath = \"/nonexistent/nothing\"\n")
            .expect("written");
        let options = DoctorOptions { data: dir.path().to_owned(), policy: Some(file.clone()), config: None };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).expect("changed");
        let text = examine(&options).await.page("The agent's part", false);
        assert!(text.contains("× ") && text.contains("may be written by others"), "{text}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
        let text = examine(&options).await.page("The agent's part", false);
        assert!(text.contains("mine.toml:3: programs.nothing"), "{text}");
    }
}
