//! A real service manager: systemd with units of ours and no other, apart from this machine's own.
//!
//! Invariant: no process, mount, control group or file of one outlives the program that started it, and nothing that
//! it does to files outside of temporary folders is seen by anybody else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

use crate::need;
use crate::supervised::{Supervised, wait};

const SCRIPT: &str = include_str!("manager.sh");
/// What it starts: nothing.
const TARGET: &str = "[Unit]\nDescription=What tests add\nDefaultDependencies=no\n";

/// One manager. Dropped, or when this program ends in any way, it is ended with all that it runs.
pub struct Manager {
    supervised: Supervised,
    nsenter: PathBuf,
    pid: i32,
}

impl Manager {
    /// One for this test alone, see [`Manager::start`]; `None` when it cannot be had, after [`need::skipped`].
    pub fn own(programs: &Path) -> Option<Manager> {
        Manager::start(programs).map_err(|error| need::skipped(&format!("{error:#}"))).ok()
    }

    /// Starts one and waits until it answers. Those inside see temporary files and the folder of `programs` as they are.
    ///
    /// # Errors
    /// When this is not root, a program is missing, or it does not answer in time; the text says what to do.
    pub fn start(programs: &Path) -> anyhow::Result<Manager> {
        if !geteuid().is_root() {
            bail!("a service manager needs root");
        }
        let find = |name, package| need::find(name, package).map_err(anyhow::Error::msg);
        find("systemctl", "systemd")?;
        if !Path::new("/lib/systemd/systemd").exists() {
            bail!("no `/lib/systemd/systemd` here: apt-get install systemd");
        }
        let nsenter = find("nsenter", "util-linux")?;
        let named = |folder: &Path| folder.to_str().map(str::to_owned).context("a folder's name is not UTF-8");
        let (temporary, programs) = (named(&std::env::temp_dir())?, named(programs)?);
        let supervised = Supervised::start(SCRIPT, &[&temporary, &programs])?;
        std::fs::create_dir(supervised.dir().join("units")).context("its units")?;
        std::fs::write(supervised.dir().join("units/viworks.target"), TARGET).context("its first unit")?;
        supervised.order_start()?;
        let mut manager = Manager { supervised, nsenter, pid: 0 };
        let answers = wait(|| {
            manager.pid = manager.first_process()?;
            manager.systemctl(&["show", "--property=Version"]).ok()
        });
        if answers.is_none() {
            bail!("systemd does not answer: {}", manager.supervised.log("supervisor.log"));
        }
        Ok(manager)
    }

    /// The process id, as it is outside, of what is process 1 inside.
    fn first_process(&self) -> Option<i32> {
        let unshare = std::fs::read_to_string(self.supervised.dir().join("unshare")).ok()?;
        let unshare = unshare.trim();
        std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?.trim().parse().ok()
    }

    /// Adds a unit, or changes it.
    ///
    /// # Errors
    /// When its file cannot be written, or systemd does not read it.
    pub fn add(&self, unit: &str, text: &str) -> anyhow::Result<()> {
        let file = self.supervised.dir().join("units").join(unit);
        std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
        self.systemctl(&["daemon-reload"]).map(drop)
    }

    /// Runs the real `systemctl` inside to its end; what it wrote to standard output, without the last line's end.
    ///
    /// # Errors
    /// When it fails; the text holds what it wrote to standard error.
    pub fn systemctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut systemctl = Command::new(&self.nsenter);
        systemctl.args(["--target", &self.pid.to_string()]).current_dir("/");
        systemctl.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd", "--"]);
        let done = systemctl.arg("systemctl").args(args).stdin(Stdio::null()).output().context("no `nsenter`")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("`systemctl {}` ended with {}: {said}", args.join(" "), done.status);
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }
}
