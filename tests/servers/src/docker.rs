//! A real container engine: `dockerd` with its containerd on a folder of its own.
//!
//! No bridge and no firewall rules are made, so containers have no network (`network: none`); images are
//! built from scratch with a static busybox.
//!
//! Invariant: no process, mount, control group or file of an engine outlives the program that started it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::need;
use crate::supervised::{Supervised, wait};

const SCRIPT: &str = include_str!("engine.sh");

/// One engine. Dropped, or when this program ends in any way, it is ended with all its containers.
pub struct Engine {
    supervised: Supervised,
    docker: PathBuf,
    busybox: PathBuf,
}

impl Engine {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When this is not root, a program is missing, or it does not answer in time; the text says what to do.
    pub fn start() -> anyhow::Result<Engine> {
        if !geteuid().is_root() {
            bail!("a container engine needs root");
        }
        let find = |name, package| need::find(name, package).map_err(anyhow::Error::msg);
        find("dockerd", "docker.io")?;
        let (docker, busybox) = (find("docker", "docker.io")?, find("busybox", "busybox-static")?);
        if is_dynamic(&busybox)? {
            bail!("{} is not static, so no image can hold it alone: install busybox-static", busybox.display());
        }
        let supervised = Supervised::start(SCRIPT, &[])?;
        // An own configuration file, so that this machine's is not read.
        std::fs::write(supervised.dir().join("daemon.json"), "{}").context("the engine's configuration")?;
        std::fs::create_dir(supervised.dir().join("cli")).context("the CLI's folder")?;
        let engine = Engine { supervised, docker, busybox };
        engine.restart()?;
        Ok(engine)
    }

    /// The one that all tests of this program share; `None` when it cannot be had, after [`need::skipped`].
    ///
    /// Whoever wants to kill an engine starts one of his own, see [`Engine::own`].
    pub fn shared() -> Option<&'static Engine> {
        static SHARED: OnceLock<Result<Engine, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Engine::start().map_err(|error| format!("{error:#}"))) {
            Ok(engine) => Some(engine),
            Err(why) => {
                need::skipped(why);
                None
            }
        }
    }

    /// One for this test alone; `None` when it cannot be had, after [`need::skipped`].
    pub fn own() -> Option<Engine> {
        Engine::start().map_err(|error| need::skipped(&format!("{error:#}"))).ok()
    }

    /// Value of `DOCKER_HOST`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("docker.sock")
    }

    /// Its folder, also for files that tests want to be gone with it.
    pub fn dir(&self) -> &Path {
        self.supervised.dir()
    }

    /// The real `docker`, speaking to this engine, with an own configuration and the classic builder.
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new(&self.docker);
        docker.args(args).stdin(Stdio::null()).env("DOCKER_HOST", self.endpoint());
        docker.env("DOCKER_CONFIG", self.dir().join("cli")).env("DOCKER_BUILDKIT", "0");
        docker.env_remove("DOCKER_CONTEXT");
        docker
    }

    /// Runs the real `docker` to its end; what it wrote to standard output, without the last line's end.
    ///
    /// # Errors
    /// When it fails; the text holds what it wrote to standard error.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let done = self.docker(args).output().context("`docker` does not start")?;
        if !done.status.success() {
            bail!("`docker {}` ended with {}: {}", args.join(" "), done.status, String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// Builds an image. The context holds `bin/`, which is busybox with a link for each of its programs,
    /// and `files` by name; one that begins with `#!` is executable, others are not.
    ///
    /// # Errors
    /// When a file cannot be written or the build fails.
    pub fn build_image(&self, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<()> {
        let context = self.context(dockerfile, files)?;
        self.run(&["build", "--network", "none", "--tag", name, &context.path().display().to_string()]).map(drop)
    }

    /// The folder of [`Engine::build_image`] without the build.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn context(&self, dockerfile: &str, files: &[(&str, &str)]) -> anyhow::Result<tempfile::TempDir> {
        let context = tempfile::Builder::new().prefix("context").tempdir_in(self.dir())?;
        let bin = context.path().join("bin");
        std::fs::create_dir(&bin)?;
        // Users in containers look into it, whatever is usual for files here.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&bin, open)?;
        std::fs::copy(&self.busybox, bin.join("busybox"))?;
        let list = Command::new(&self.busybox).arg("--list").output().context("busybox does not start")?;
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", bin.join(applet))?;
        }
        std::fs::write(context.path().join("Dockerfile"), dockerfile)?;
        for (name, text) in files {
            let path = context.path().join(name);
            std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            std::fs::write(&path, text)?;
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        Ok(context)
    }

    /// An image called `box:1` that is busybox and nothing else; built at the first call.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn busybox(&self) -> anyhow::Result<&'static str> {
        if self.run(&["image", "inspect", BOX]).is_err() {
            self.build_image(BOX, "FROM scratch\nCOPY bin /bin\nCMD [\"/bin/sh\"]\n", &[])?;
        }
        Ok(BOX)
    }

    /// `kill -9` of dockerd, and waits until it is gone. Its containers live on, unsupervised, until
    /// [`Engine::restart`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&self) -> anyhow::Result<()> {
        let pid = self.pid().context("dockerd does not run")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("dockerd cannot be killed")?;
        wait(|| (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).context("dockerd does not go away")
    }

    /// Starts dockerd, on the same folder, after [`Engine::kill9`], and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer in time; the text holds the end of its log.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.supervised.order_start()?;
        let socket = self.socket();
        wait(|| answers(&socket).then_some(())).with_context(|| {
            let (shell, engine) = (self.supervised.log("supervisor.log"), self.supervised.log("dockerd.log"));
            format!("dockerd does not answer\n{shell}\n{engine}")
        })
    }

    /// dockerd's process id, as seen from outside its namespace.
    pub fn pid(&self) -> Option<i32> {
        let endpoint = self.endpoint();
        processes().into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"dockerd"))
                && words.any(|word| word == endpoint.as_bytes())
        })
    }

    /// Ends it, and waits until all of it is gone.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.supervised.end()
    }
}

const BOX: &str = "box:1";

/// What is left of the engine that had this folder: processes, mounts, control groups, files.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn leftovers(dir: &Path) -> Vec<String> {
    let text = dir.display().to_string();
    let cgroup = format!("/viworks-{}", dir.file_name().unwrap_or_default().to_string_lossy());
    let mut left = Vec::new();
    let own = i32::try_from(std::process::id()).expect("process ids are small");
    for pid in processes().into_iter().filter(|pid| *pid != own) {
        let read = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        if read("cmdline").contains(&text) || read("cgroup").contains(&cgroup) {
            left.push(format!("process {pid}: {}", read("cmdline")));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("a Linux machine");
    left.extend(mounts.lines().filter(|line| line.contains(&text)).map(|line| format!("mount {line}")));
    let groups = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
    let roots = groups.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    let found = roots.map(|root| root.join(&cgroup[1..])).filter(|path| path.is_dir());
    left.extend(found.map(|path| format!("control group {}", path.display())));
    left.extend(dir.exists().then(|| format!("folder {text}")));
    left
}

/// Whether it answers `/_ping`.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// Ids of all processes.
fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("a Linux machine").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a program needs a loader, which an image from scratch does not have.
fn is_dynamic(program: &Path) -> anyhow::Result<bool> {
    let mut head = [0; 4096];
    let read = std::fs::File::open(program).and_then(|mut file| file.read(&mut head)).context("busybox")?;
    Ok(head[..read].windows(8).any(|word| word == b"ld-linux" || word == b"ld-musl-"))
}
