//! What the schema of `docker.run` cannot say: which arguments exclude each other, and which hand the
//! machine over.

use viworks_sdk::failure::Issues;
use viworks_sdk::prelude::*;

use super::Run;
use crate::mounts::{self, Volume};
use crate::ports;

/// Security options that only take powers away.
const HARDENING: &[&str] = &["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"];

/// Variables, and beginnings of some, that say what the docker command does, or whom it does it to.
const DOCKERS_OWN: [&str; 14] = [
    "DOCKER_",
    "BUILDKIT_",
    "BUILDX_",
    "LD_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSH_",
    "SSL_",
    "GODEBUG",
    "HOME",
    "PATH",
    "XDG_",
];

impl Run {
    /// # Errors
    /// Everything that docker would refuse, or read otherwise than it is meant.
    pub(super) fn check(&self) -> Result<()> {
        let mut issues = Issues::default();
        each(&self.ports, "/ports", ports::check, &mut issues);
        each(&self.volumes, "/volumes", |spec| mounts::volume(spec).map(|_| ()), &mut issues);
        each(&self.tmpfs, "/tmpfs", mounts::tmpfs, &mut issues);
        for name in self.secret_env.keys() {
            let upper = name.to_ascii_uppercase();
            if DOCKERS_OWN.iter().any(|own| upper == *own || (own.ends_with('_') && upper.starts_with(own))) {
                let message = "docker itself, or what starts it, would heed this variable; give it in `env`";
                issues.add(format!("/secret_env/{name}"), "reserved", message);
            }
            if self.env.contains_key(name) {
                issues.add(format!("/secret_env/{name}"), "conflict", "it stands in `env`, too; leave one of both out");
            }
        }
        let mut exclude = |both: bool, pointer: &str, message: &str| {
            if both {
                issues.add(pointer, "conflict", message);
            }
        };
        let restarts = self.restart.as_deref().is_some_and(|policy| policy != "no");
        exclude(self.rm && restarts, "/rm", "a container that is started again cannot be removed at its end");
        exclude(
            self.detach && self.stdin.is_some(),
            "/stdin",
            "a container that is not waited for is given no standard input; set `detach` to false",
        );
        exclude(
            self.healthcheck.is_some() && self.no_healthcheck,
            "/no_healthcheck",
            "it excludes `healthcheck`; leave one of both out",
        );
        let network = self.network.as_deref().unwrap_or_default();
        let shared = network == "host" || network.starts_with("container:");
        exclude(
            shared && !self.ports.is_empty(),
            "/ports",
            "a container in another's network publishes no ports of its own",
        );
        exclude(shared && !self.network_aliases.is_empty(), "/network_aliases", "another's network knows no aliases");
        let borrowed = network.starts_with("container:");
        exclude(borrowed && self.hostname.is_some(), "/hostname", "the host name is that of the other container");
        exclude(borrowed && !self.dns.is_empty(), "/dns", "the name servers are those of the other container");
        exclude(borrowed && !self.extra_hosts.is_empty(), "/extra_hosts", "the hosts file is the other container's");
        exclude(
            self.uts.is_some() && self.hostname.is_some(),
            "/hostname",
            "the host name is the machine's with `uts`; leave one of both out",
        );
        issues.finish()
    }

    /// Whether the container could do to the machine what root can: see the list in `docs/verbs.md`.
    pub(super) fn owns_machine(&self) -> bool {
        // What another container's space holds is not known here, so it counts as the machine's.
        let shared = |space: &Option<String>| {
            space.as_deref().is_some_and(|space| space == "host" || space.starts_with("container:"))
        };
        self.privileged
            || shared(&self.network)
            || shared(&self.pid)
            || shared(&self.ipc)
            || shared(&self.uts)
            || shared(&self.userns)
            || shared(&self.cgroupns)
            || !self.devices.is_empty()
            || self.gpus.is_some()
            || !self.cap_add.is_empty()
            || self.security_opt.iter().any(|option| !HARDENING.contains(&option.as_str()))
            || self.volumes.iter().any(|spec| mounts::volume(spec) != Ok(Volume::Kept))
    }
}

fn each(specs: &[String], at: &str, check: impl Fn(&str) -> Result<(), String>, issues: &mut Issues) {
    for (index, spec) in specs.iter().enumerate() {
        if let Err(message) = check(spec) {
            issues.add(format!("{at}/{index}"), "format", message);
        }
    }
}
