//! Which compiler makes wasm on this machine. The first way that works is taken, and named.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one target that components are made from.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// A compiler for [`TARGET`] and how to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The compiler in use, with the target's standard library beside it.
    Own,
    /// The same, after `rustup` added the target.
    Added,
    /// The distribution's compiler, with the target's standard library beside it.
    System,
    /// The distribution's compiler, which builds the standard library from its own sources.
    SystemFromSource,
}

/// What is asked of the machine.
pub trait Machine {
    /// Whether whoever called us has already set cargo up to build the standard library.
    fn is_prepared(&self) -> bool;
    /// Where the compiler in use keeps its things; `None` when it does not run.
    fn own_sysroot(&self) -> Option<PathBuf>;
    /// Where the distribution's compiler keeps its things; `None` when there is none, or no cargo to it.
    fn system_sysroot(&self) -> Option<PathBuf>;
    /// Whether there is something at `path`.
    fn exists(&self, path: &Path) -> bool;
    /// Lets `rustup` add the target. Whether it could.
    fn add_target(&self) -> bool;
}

/// Where a distribution puts its compiler.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";
const SYSTEM_LINKER: &str = "/usr/bin/rust-lld";

impl Toolchain {
    /// The first way that works.
    ///
    /// # Errors
    /// What to install when none does.
    pub fn choose(machine: &impl Machine) -> Result<Toolchain, String> {
        let has_target = |sysroot: &Path| machine.exists(&sysroot.join("lib/rustlib").join(TARGET).join("lib"));
        let own = machine.own_sysroot();
        if machine.is_prepared() || own.as_deref().is_some_and(has_target) {
            return Ok(Toolchain::Own);
        }
        let system = machine.system_sysroot();
        if system.as_deref().is_some_and(has_target) {
            return Ok(Toolchain::System);
        }
        if own.is_some() && machine.add_target() {
            return Ok(Toolchain::Added);
        }
        let has_sources = |sysroot: &Path| machine.exists(&sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml"));
        if system.as_deref().is_some_and(has_sources) {
            // The distribution ships it as a link into a package of its own, so it may lead nowhere.
            if machine.exists(Path::new(SYSTEM_LINKER)) {
                return Ok(Toolchain::SystemFromSource);
            }
            return Err(format!(
                "the system's compiler in /usr/bin cannot link {TARGET}: `{SYSTEM_LINKER}` leads nowhere; \
                 `apt-get install` the lld that it points to, e.g. lld-22"
            ));
        }
        Err(format!(
            "no compiler here can make {TARGET}: run `rustup target add {TARGET}`, or on Debian \
             `apt-get install rustc-web cargo-web rust-web-src rust-web-llvm lld-22`"
        ))
    }

    /// Cargo, set up for this way.
    pub fn cargo(&self) -> Command {
        match self {
            Toolchain::Own | Toolchain::Added => Command::new(own_cargo()),
            Toolchain::System | Toolchain::SystemFromSource => {
                let mut cargo = Command::new(SYSTEM_CARGO);
                // rustup's compiler and the distribution's sources do not fit together.
                cargo.env("RUSTC", SYSTEM_RUSTC).env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }

    /// What a build adds to its arguments.
    pub fn build_arguments(&self) -> &'static [&'static str] {
        match self {
            Toolchain::Own | Toolchain::Added | Toolchain::System => &[],
            Toolchain::SystemFromSource => &["-Z", "build-std=std,panic_abort"],
        }
    }

    /// What a build adds to its environment.
    pub fn build_environment(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Toolchain::Own | Toolchain::Added | Toolchain::System => &[],
            // Building std is a matter of unstable flags, which a distribution's compiler refuses otherwise.
            Toolchain::SystemFromSource => &[("RUSTC_BOOTSTRAP", "1")],
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Toolchain::Own => "the compiler in use",
            Toolchain::Added => "the compiler in use, with the target added by rustup",
            Toolchain::System => "the system's compiler in /usr/bin",
            Toolchain::SystemFromSource => "the system's compiler in /usr/bin, building the standard library",
        })
    }
}

/// The cargo that called us, if one did: its directory may be the only one that has it.
pub(super) fn own_cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// This machine, asked from the plugin's directory, where a toolchain file may say which compiler it wants.
pub struct ThisMachine<'a> {
    /// The plugin's directory.
    pub directory: &'a Path,
}

impl ThisMachine<'_> {
    fn sysroot(&self, rustc: impl AsRef<OsStr>) -> Option<PathBuf> {
        let output = Command::new(rustc).args(["--print", "sysroot"]).current_dir(self.directory).output().ok()?;
        let path = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(PathBuf::from(path.trim()))
    }
}

impl Machine for ThisMachine<'_> {
    fn is_prepared(&self) -> bool {
        std::env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some_and(|crates| !crates.is_empty())
    }

    fn own_sysroot(&self) -> Option<PathBuf> {
        self.sysroot(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
    }

    fn system_sysroot(&self) -> Option<PathBuf> {
        self.sysroot(SYSTEM_RUSTC).filter(|_| Path::new(SYSTEM_CARGO).exists())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn add_target(&self) -> bool {
        let output = Command::new("rustup").args(["target", "add", TARGET]).current_dir(self.directory).output();
        output.is_ok_and(|output| output.status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as a list of what is there.
    struct Fake(&'static [&'static str]);

    impl Fake {
        fn has(&self, what: &str) -> bool {
            self.0.contains(&what)
        }
    }

    impl Machine for Fake {
        fn is_prepared(&self) -> bool {
            self.has("prepared")
        }

        fn own_sysroot(&self) -> Option<PathBuf> {
            self.has("own").then(|| "/rust".into())
        }

        fn system_sysroot(&self) -> Option<PathBuf> {
            self.has("system").then(|| "/usr".into())
        }

        fn exists(&self, path: &Path) -> bool {
            path.to_str().is_some_and(|path| self.has(path))
        }

        fn add_target(&self) -> bool {
            self.has("rustup")
        }
    }

    const OWN_TARGET: &str = "/rust/lib/rustlib/wasm32-unknown-unknown/lib";
    const SYSTEM_TARGET: &str = "/usr/lib/rustlib/wasm32-unknown-unknown/lib";
    const SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

    #[test]
    fn the_first_way_that_works_is_taken() {
        let check = |there: &'static [&'static str], expected: Option<Toolchain>| {
            assert_eq!(Toolchain::choose(&Fake(there)).ok(), expected, "{there:?}");
        };
        check(&["own", OWN_TARGET, "system", SYSTEM_TARGET, SOURCES, "rustup"], Some(Toolchain::Own));
        check(&["own", "system", SYSTEM_TARGET, SOURCES, "rustup"], Some(Toolchain::System));
        check(&["own", "system", SOURCES, "rustup"], Some(Toolchain::Added));
        check(&["own", "system", SOURCES, SYSTEM_LINKER], Some(Toolchain::SystemFromSource));
        check(&["system", SOURCES, SYSTEM_LINKER, "rustup"], Some(Toolchain::SystemFromSource));
        check(&["own", "system", SOURCES], None);
        check(&["own", "rustup"], Some(Toolchain::Added));
        check(&["own", "system", SOURCES, "prepared"], Some(Toolchain::Own));
        check(&["own", OWN_TARGET], Some(Toolchain::Own));
        check(&["own", SYSTEM_TARGET, SOURCES], None);
        check(&["rustup"], None);
        check(&[], None);
    }

    #[test]
    fn a_machine_without_a_way_is_told_what_to_install() {
        let message = Toolchain::choose(&Fake(&["own"])).expect_err("no way");
        assert!(message.contains("rustup target add") && message.contains("apt-get install rustc-web"), "{message}");
        let message = Toolchain::choose(&Fake(&["system", SOURCES])).expect_err("no linker");
        assert!(message.contains("/usr/bin/rust-lld") && message.contains("lld-22"), "{message}");
    }
}
