//! Files that a server reads because a setting names them: its certificate and key, who may log in.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use nix::unistd::chown;

use super::Postgres;

impl Postgres {
    /// Writes a file that only the server may read into the cluster's folder; answers its path, for a setting.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        file.write_all(text.as_bytes())?;
        if let Some(user) = &self.programs.user {
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path.to_str().context("the folder's path is not text")?.to_owned())
    }
}
