//! How this host loads plugins.

use std::sync::Arc;

use anyhow::Context as _;
use ports::clock::{Clock, Ids};
use runtime::{CacheOptions, Compile, DefaultGrants, Signatures};

use crate::config::{self, Config};
use crate::keys;

/// What the configuration says of plugins, with folders of the host's own for what is compiled and kept.
///
/// # Errors
/// A folder cannot be made.
pub fn options(config: &Config, clock: &Arc<dyn Clock>, ids: &Arc<dyn Ids>) -> anyhow::Result<runtime::Options> {
    let folder = config.plugin_dir();
    if !folder.exists() {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("plugin folder {} cannot be made", folder.display()))?;
    }
    let (cache, kept) = (config.data.dir.join("compiled"), config.data.dir.join("plugin-versions"));
    keys::private_dir(&cache)?;
    keys::private_dir(&kept)?;
    let mut options = runtime::Options::new(folder, clock.clone());
    options.default_grants = match config.plugins.default_grants {
        config::DefaultGrants::None => DefaultGrants::None,
        config::DefaultGrants::Requested => DefaultGrants::Requested,
    };
    options.signatures = match config.plugins.signatures {
        config::Signatures::Off => Signatures::Off,
        config::Signatures::Warn => Signatures::Warn,
        config::Signatures::Enforce => Signatures::Enforce,
    };
    options.trust_file = config.plugins.trust_file.clone();
    let program = std::env::current_exe().context("this program does not know where it is")?;
    options.compile = Compile::Child { program, args: vec!["compile-worker".to_owned()] };
    options.cache = Some(CacheOptions { dir: cache, fresh_key: ids.secret() });
    options.kept = Some(kept);
    options.poll = config.plugins.poll;
    options.threads = Some(config.plugins.threads).filter(|threads| *threads > 0);
    Ok(options)
}
