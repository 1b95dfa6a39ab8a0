//! `viworks man DIR`: a manual page for each command, for `man` and for packages.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Sink;
use crate::run;

/// Where the pages are to lie.
#[derive(Clone, Debug, Args)]
pub struct ManOptions {
    /// A folder, which is made if need be, e.g. ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Writes those of the command line `all`.
///
/// # Errors
/// When the folder cannot be written.
pub fn pages(options: &ManOptions, all: Command, sink: &Sink) -> Result<Exit, Failure> {
    let dir = &options.dir;
    let cannot = |error: std::io::Error| Failure::usage(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(cannot)?;
    // As `run` is before its verb is known; a verb's own page is `viworks verb show`.
    let tree = all.mut_subcommand("run", |_| run::base_command());
    let count = 1 + count(&tree);
    clap_mangen::generate_to(tree, dir).map_err(cannot)?;
    sink.say(&format!("{count} manual pages in {}: try `man {}/viworks.1`", dir.display(), dir.display()))?;
    Ok(Exit::Ok)
}

fn count(command: &Command) -> usize {
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).map(|inner| 1 + count(inner)).sum()
}
