//! Volumes: which of them are the engine's own, and which show the machine to a container.

use super::{Judge, Walk, is_object_name};
use crate::file::Node;

const BIND: &str = "mounts a path of the machine";
const UNCLEAR: &str = "may mount a path of the machine";

/// One item of a service's `volumes`.
pub(super) fn mount(walk: &mut Walk, item: &Node) {
    match item {
        Node::Text { text, .. } => short(text, walk),
        Node::Map(_) => long(item, walk),
        Node::List(_) => walk.unknown(),
    }
}

/// `name:/path`, `name:/path:ro` or `/path` alone are the engine's own; every other form raises.
fn short(text: &str, walk: &mut Walk) {
    if text.contains(['$', '\\']) {
        return walk.raise(UNCLEAR);
    }
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(target), None, None, None) if target.starts_with('/') => {}
        (Some(source), Some(target), mode, None) if is_object_name(source) => {
            let harmless = ["ro", "rw", "nocopy", "z", "Z"];
            if !target.starts_with('/') || !mode.unwrap_or("rw").split(',').all(|word| harmless.contains(&word)) {
                walk.raise(UNCLEAR);
            }
        }
        (Some(source), Some(_), ..) if source.starts_with(['/', '.', '~']) => walk.raise(BIND),
        _ => walk.raise(UNCLEAR),
    }
}

fn long(item: &Node, walk: &mut Walk) {
    let kind = item.get("type").and_then(Node::text).unwrap_or_default();
    if !matches!(kind, "volume" | "tmpfs") {
        return walk.at("type", &mut |walk| walk.raise(if kind == "bind" { BIND } else { UNCLEAR }));
    }
    walk.keys(item, &|walk, key, value| match key {
        "type" | "target" | "read_only" | "consistency" => {}
        "source" => {
            if !value.is_null() && !value.text().is_some_and(is_object_name) {
                walk.raise(UNCLEAR);
            }
        }
        "volume" => walk.only(value, &["nocopy", "subpath", "labels"]),
        "tmpfs" => walk.only(value, &["size", "mode"]),
        _ => walk.unknown(),
    });
}

/// One volume of the file's own `volumes`.
pub(super) fn volume(volume: &Node, walk: &mut Walk) {
    walk.keys(volume, &|walk, key, value| match key {
        "labels" => {}
        "name" => named(value, walk),
        "external" => walk.keys_if_map(value, &|walk, key, value| match key {
            "name" => named(value, walk),
            _ => walk.unknown(),
        }),
        "driver" => walk.one_of(value, &["", "local", "default"], UNCLEAR),
        "driver_opts" => walk.nothing(value, UNCLEAR),
        _ => walk.unknown(),
    });
}

/// Compose hands a volume's name on where the engine would take a path as well.
fn named(name: &Node, walk: &mut Walk) {
    if !name.is_null() && !name.text().is_some_and(is_object_name) {
        walk.raise(UNCLEAR);
    }
}

impl Walk {
    fn keys_if_map(&mut self, node: &Node, judge: Judge<'_>) {
        if let Node::Map(_) = node {
            self.keys(node, judge);
        }
    }
}
