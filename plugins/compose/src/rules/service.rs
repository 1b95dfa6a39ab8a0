//! One service: key by key.

use viworks_sdk::outputs::cut;

use super::{Walk, is_off, mounts};
use crate::file::Node;

/// Says of every key of a service what it raises.
pub(super) fn judge(service: &Node, walk: &mut Walk) {
    if !matches!(service, Node::Map(_)) {
        return walk.unknown();
    }
    walk.keys(service, &key);
}

fn key(walk: &mut Walk, key: &str, value: &Node) {
    match key {
        // About the process inside the container.
        "image" | "command" | "entrypoint" | "environment" | "working_dir" | "user" | "group_add" | "tty"
        | "stdin_open" | "init" | "healthcheck" | "hostname" | "domainname" | "container_name" | "labels"
        | "stop_signal" | "stop_grace_period" | "ulimits" | "sysctls" | "cap_drop" | "read_only" | "tmpfs" => {}
        // About its share of the machine.
        "cpus" | "cpu_count" | "cpu_percent" | "cpu_period" | "cpu_quota" | "cpu_shares" | "cpuset" | "mem_limit"
        | "mem_reservation" | "mem_swappiness" | "memswap_limit" | "pids_limit" | "shm_size" => {}
        // About the project, and about names and ports.
        "depends_on" | "dns" | "dns_opt" | "dns_search" | "expose" | "external_links" | "extra_hosts" | "links"
        | "mac_address" | "platform" | "ports" | "profiles" | "pull_policy" | "restart" | "scale" | "attach" => {}
        "privileged" => {
            if !is_off(value) {
                walk.raise("gives the container every capability and device");
            }
        }
        "network_mode" => {
            let reason = "joins the machine's own network, or another container's";
            own_namespace(value, &["none", "bridge", "default"], reason, walk);
        }
        "pid" => own_namespace(value, &[], "shows processes outside the container", walk),
        "ipc" => own_namespace(value, &["none", "private", "shareable"], "shares memory outside the container", walk),
        "uts" => own_namespace(value, &[], "shares the machine's name", walk),
        "userns_mode" => own_namespace(value, &[], "makes root inside root outside", walk),
        "cgroup" => own_namespace(value, &["private"], "joins the machine's control groups", walk),
        "cgroup_parent" => own_namespace(value, &[], "leaves the container's control group", walk),
        "runtime" => walk.one_of(value, &["", "runc"], "runs under another runtime"),
        "isolation" => walk.one_of(value, &["", "default"], "runs under another isolation"),
        "devices" => walk.nothing(value, "gives devices of the machine"),
        "device_cgroup_rules" => walk.nothing(value, "gives devices of the machine"),
        "gpus" => walk.nothing(value, "gives devices of the machine"),
        "cap_add" => walk.nothing(value, "adds capabilities"),
        "security_opt" => walk.items(value, &|walk, item| {
            let harmless = ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"];
            walk.one_of(item, &harmless, "loosens the container's confinement");
        }),
        "volumes" => walk.items(value, &mounts::mount),
        "volumes_from" => walk.items(value, &|walk, item| {
            let own = item.text().is_some_and(|text| !text.starts_with("container:") && !text.contains('$'));
            if !own {
                walk.raise("takes the mounts of a container outside the project");
            }
        }),
        "networks" => match value {
            Node::Map(_) => walk.members(value, &|walk, _, network| {
                let harmless = [
                    "aliases",
                    "ipv4_address",
                    "ipv6_address",
                    "link_local_ips",
                    "priority",
                    "gw_priority",
                    "mac_address",
                ];
                walk.only(network, &harmless);
            }),
            Node::List(_) | Node::Text { .. } => walk.items(value, &|_, _| {}),
        },
        "configs" | "secrets" => walk.items(value, &|walk, item| {
            if let Node::Map(_) = item {
                walk.only(item, &["source", "target", "uid", "gid", "mode"]);
            }
        }),
        "logging" => walk.keys(value, &|walk, key, value| match key {
            "driver" => walk.one_of(value, &["", "none", "local", "json-file"], "is not known to be harmless"),
            "options" => {}
            _ => walk.unknown(),
        }),
        "deploy" => walk.keys(value, &deploy),
        "build" => build(value, walk),
        "env_file" => walk.unseen("reads a file of the machine"),
        "extends" => {
            let own = match value {
                Node::Text { .. } => true,
                Node::Map(entries) => entries.iter().all(|(key, _)| key == "service"),
                Node::List(_) => false,
            };
            if !own {
                walk.unseen("brings in another file, which is not seen here");
            }
        }
        "provider" => walk.unseen("runs a program of the machine"),
        _ => walk.unknown(),
    }
}

/// A namespace of the container's own, or of a sibling in this file, which is judged too.
fn own_namespace(value: &Node, harmless: &[&str], reason: &'static str, walk: &mut Walk) {
    let sibling = value.text().and_then(|text| text.strip_prefix("service:"));
    let empty = value.text() == Some("");
    if !empty && sibling.is_none_or(|name| name.contains('$')) {
        walk.one_of(value, harmless, reason);
    }
}

fn deploy(walk: &mut Walk, key: &str, value: &Node) {
    match key {
        "mode" | "replicas" | "labels" | "restart_policy" | "update_config" | "rollback_config" | "placement"
        | "endpoint_mode" => {}
        "resources" => walk.keys(value, &|walk, key, value| match key {
            "limits" => walk.only(value, &["cpus", "memory", "pids"]),
            "reservations" => walk.keys(value, &|walk, key, value| match key {
                "cpus" | "memory" => {}
                "devices" | "generic_resources" => walk.nothing(value, "gives devices of the machine"),
                _ => walk.unknown(),
            }),
            _ => walk.unknown(),
        }),
        _ => walk.unknown(),
    }
}

/// Without a remote context a build takes a directory of the machine, and with some options more of it.
fn build(build: &Node, walk: &mut Walk) {
    let context = |walk: &mut Walk, value: &Node| {
        let remote = value.text().is_some_and(|text| text.starts_with("https://") && !text.contains('$'));
        if !remote {
            walk.unseen("builds from a directory of the machine");
        }
    };
    match build {
        Node::Text { .. } => context(walk, build),
        Node::Map(_) => {
            if build.get("context").is_none() {
                walk.unseen("builds from a directory of the machine");
            }
            walk.keys(build, &|walk, key, value| match key {
                "context" => context(walk, value),
                "dockerfile" => {
                    if value.text().is_none_or(|text| {
                        text.starts_with(['/', '~']) || text.contains(['$', '\\']) || cut(text, "..").is_some()
                    }) {
                        walk.unseen("builds from a file of the machine");
                    }
                }
                "dockerfile_inline" | "args" | "labels" | "no_cache" | "platforms" | "pull" | "shm_size" | "tags"
                | "target" => {}
                "network" => walk.one_of(value, &["", "none", "default"], "builds on the machine's own network"),
                "privileged" => {
                    if !is_off(value) {
                        walk.raise("gives the build every capability and device");
                    }
                }
                _ => walk.unknown(),
            });
        }
        Node::List(_) => walk.unknown(),
    }
}
