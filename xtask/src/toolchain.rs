//! What must be on the machine: the WebAssembly target, a C compiler and `make`, and what tests need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::program::{find, read, run};

/// The target plugins are compiled for.
pub const WASM: &str = "wasm32-unknown-unknown";
/// Debian's compiler, the sources of its standard library, and what links them, for machines without
/// rustup. Its sources fit its own compiler only.
const DEBIAN_WASM: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22"];
/// Debian packages that tests need besides the above: add them here, with the program that tells
/// whether each is there already. With `CI=true` a missing one is a failure, else a named skip.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("docker.io", "dockerd"),
    ("docker-compose", "docker-compose"),
    ("docker-registry", "docker-registry"),
    ("busybox-static", "busybox"),
    ("postgresql", "postgres"),
    ("redis-server", "redis-server"),
    ("systemd", "systemctl"),
    ("strace", "strace"),
    ("iproute2", "ip"),
    ("minisign", "minisign"),
    ("slowhttptest", "slowhttptest"),
    ("prometheus", "promtool"),
    ("chromium", "chromium"),
    ("zsh", "zsh"),
    ("fish", "fish"),
];

/// Python packages that tests need, and the programs or modules that they bring. The same rule holds for them.
const PYTHON_PACKAGES: [(&str, &str); 5] = [
    ("kosoku==0.1.0", "kosoku"),
    ("openapi-spec-validator==0.9.0", "openapi-spec-validator"),
    ("openapi-python-client==0.29.1", "openapi-python-client"),
    ("schemathesis==4.32.5", "st"),
    ("standardwebhooks==1.1.0", "standardwebhooks"),
];

/// A compiler for plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wasm {
    /// The compiler in use has the target.
    Own,
    /// Debian's compiler, which builds the standard library itself.
    Debian,
}

impl Wasm {
    /// What to call it in the one line that says which was taken.
    pub fn describe(&self) -> &'static str {
        match self {
            Wasm::Own => "wasm32-unknown-unknown of the compiler in use",
            Wasm::Debian => "wasm32-unknown-unknown by Debian's rustc-web, standard library from its sources",
        }
    }

    /// Makes `command`, which will start Cargo for that target, use it.
    pub fn prepare(&self, command: &mut Command) {
        match self {
            Wasm::Own => {}
            Wasm::Debian => {
                command
                    .env("CARGO", "/usr/bin/cargo")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
                    .env_remove("RUSTUP_TOOLCHAIN");
            }
        }
    }
}

/// Finds or installs a compiler for plugins.
///
/// # Errors
/// When neither way works; the text says what to install.
pub fn wasm() -> anyhow::Result<Wasm> {
    if has_target() {
        return Ok(Wasm::Own);
    }
    let mut tried = Vec::new();
    if let Some(rustup) = find("rustup") {
        match run(Command::new(rustup).args(["target", "add", WASM])) {
            Ok(()) if has_target() => return Ok(Wasm::Own),
            Ok(()) => tried.push("rustup added the target to another compiler than the one in use".to_owned()),
            Err(error) => tried.push(format!("{error:#}")),
        }
    }
    if Path::new("/usr/lib/rustlib/src/rust/library").is_dir() || Path::new("/usr/src/rustc-web").is_dir() {
        return Ok(Wasm::Debian);
    }
    match apt_install(&DEBIAN_WASM) {
        Ok(()) => return Ok(Wasm::Debian),
        Err(error) => tried.push(format!("{error:#}")),
    }
    bail!(
        "no compiler for {WASM}: {}\nrun `rustup target add {WASM}`, or on Debian `apt-get install {}`",
        tried.join("; "),
        DEBIAN_WASM.join(" ")
    )
}

fn has_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = read(Command::new(rustc).args(["--print", "sysroot"]).current_dir(crate::program::root()));
    sysroot.is_ok_and(|path| PathBuf::from(path.trim()).join("lib/rustlib").join(WASM).join("lib").is_dir())
}

/// Looks for a C compiler, which the embedded database and the cryptography need, and for `make`, which builds the host's
/// allocator and is installed where that is possible. Answers with the compiler.
///
/// # Errors
/// When one of them is not there; the text says what to install.
pub fn c_tools() -> anyhow::Result<String> {
    installed("`make`", "make", "make")?;
    let named = std::env::var("CC").ok().filter(|name| !name.is_empty());
    let found =
        named.or_else(|| ["cc", "gcc", "clang"].into_iter().find(|name| find(name).is_some()).map(str::to_owned));
    found.context("no C compiler: install one, on Debian with `apt-get install gcc libc6-dev`, or name it in CC")
}

/// Installs what tests need. Answers with the names of what is missing and was not to be had.
///
/// # Errors
/// With `CI=true`, when anything is missing.
pub fn test_packages() -> anyhow::Result<Vec<&'static str>> {
    let missing = || TEST_PACKAGES.iter().filter(|(_, program)| find(program).is_none()).map(|(package, _)| *package);
    let wanted: Vec<&str> = missing().collect();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    if let Err(error) = apt_install(&wanted) {
        eprintln!("{error:#}");
    }
    let left: Vec<&str> = missing().collect();
    if !left.is_empty() && std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("tests need {}, and CI is true: install them", left.join(" "));
    }
    Ok(left)
}

/// Installs the Python programs that tests need into `target/python`. Answers with those that are missing.
///
/// # Errors
/// With `CI=true`, when anything is missing.
pub fn python_packages(target: &Path) -> anyhow::Result<Vec<&'static str>> {
    let place = target.join("python");
    let missing = || PYTHON_PACKAGES.iter().filter(|(_, brings)| !is_in(&place, brings));
    if missing().next().is_none() {
        return Ok(Vec::new());
    }
    let install = || {
        let make = || {
            let python = find("python3").context("no python3 on this machine")?;
            run(Command::new(python).args(["-m", "venv"]).arg(&place))
        };
        make().or_else(|_| apt_install(&["python3-venv"]).and_then(|()| make()))?;
        let packages = PYTHON_PACKAGES.iter().map(|(package, _)| package);
        let mut pip = Command::new(place.join("bin/python3"));
        run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))
    };
    if let Err(error) = install() {
        eprintln!("{error:#}");
    }
    let left: Vec<&str> = missing().map(|(package, _)| *package).collect();
    if !left.is_empty() && std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("tests need the Python packages {}, and CI is true: install python3 with its venv", left.join(" "));
    }
    Ok(left)
}

/// Whether a folder of Python packages has this program or module.
fn is_in(place: &Path, name: &str) -> bool {
    let libraries = std::fs::read_dir(place.join("lib")).into_iter().flatten().filter_map(Result::ok);
    let mut modules = libraries.map(|python| python.path().join("site-packages").join(name));
    place.join("bin").join(name).is_file() || modules.any(|module| module.is_dir())
}

fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    let Some(apt) = find("apt-get") else { bail!("no apt-get on this machine") };
    if !nix::unistd::geteuid().is_root() {
        bail!("apt-get needs root");
    }
    let install = || {
        let mut install = Command::new(&apt);
        install.args(["install", "-y", "--no-install-recommends"]).args(packages);
        run(install.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // A fresh machine has no lists of packages, and old lists name files that are gone.
    install().or_else(|_| run(Command::new(&apt).args(["update", "-q"])).and_then(|()| install()))
}

/// Looks for a PostgreSQL server, and installs one where that is possible.
///
/// # Errors
/// When there is none and none was to be had; the text says what to install.
pub fn postgres() -> anyhow::Result<()> {
    installed("PostgreSQL server", "postgres", "postgresql")
}

/// Looks for a Redis server, and installs one where that is possible.
///
/// # Errors
/// When there is none and none was to be had; the text says what to install.
pub fn redis() -> anyhow::Result<()> {
    installed("Redis server", "redis-server", "redis-server")
}

/// Looks for a NATS server, which benchmarks stand beside, and installs one where that is possible.
///
/// # Errors
/// When there is none and none was to be had; the text says what to install.
pub fn nats() -> anyhow::Result<()> {
    installed("NATS server", "nats-server", "nats-server")
}

/// Looks for what counts instructions, and installs it where that is possible.
///
/// # Errors
/// When there is none and none was to be had; the text says what to install.
pub fn valgrind() -> anyhow::Result<PathBuf> {
    installed("valgrind", "valgrind", "valgrind")?;
    find("valgrind").context("valgrind was installed and is not there")
}

fn installed(name: &str, program: &str, package: &str) -> anyhow::Result<()> {
    if find(program).is_some() {
        return Ok(());
    }
    let tried = apt_install(&[package]).err().map(|error| format!(" ({error:#})")).unwrap_or_default();
    find(program).map(drop).with_context(|| format!("no {name} here{tried}: on Debian `apt-get install {package}`"))
}
