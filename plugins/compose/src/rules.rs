//! What in a compose file makes starting it root-equivalent. The lists name what is surely harmless;
//! everything else raises the effect to `host`, also what nobody has heard of yet.
//!
//! Invariant: a value is judged by what it may become. A `$` where the value matters counts as the worst.

mod mounts;
mod service;

use crate::file::Node;

/// Most findings told; one is enough to raise.
const MAX_FOUND: usize = 50;

/// One thing that raises the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// JSON Pointer into the file, after anchors and merge keys are resolved: `/services/web/privileged`.
    pub pointer: String,
    /// What it gives or hides.
    pub reason: &'static str,
    /// Whether it matters to `down` as well: something is read or run that is not seen here.
    pub unseen: bool,
}

/// Everything in `file` that raises.
pub fn findings(file: &Node) -> Vec<Raise> {
    let mut walk = Walk::default();
    walk.keys(file, &|walk, key, value| match key {
        "name" => {}
        "version" => {
            // As a mapping it would be a service to docker-compose, beside others without `services` above them.
            if !value.is_null() && !value.text().is_some_and(|text| text.starts_with(['2', '3'])) {
                walk.unknown();
            }
        }
        "services" => walk.members(value, &|walk, _, service| service::judge(service, walk)),
        "networks" => walk.members(value, &network),
        "volumes" => walk.members(value, &|walk, _, volume| mounts::volume(volume, walk)),
        "configs" | "secrets" => walk.members(value, &|walk, _, item| kept_text(item, walk)),
        "include" => walk.unseen("brings in another file, which is not seen here"),
        _ => walk.unknown(),
    });
    walk.found
}

/// Judges one member of a mapping. By reference: a copy of the walk for each list of keys would double it.
type Judge<'a> = &'a dyn Fn(&mut Walk, &str, &Node);

/// Where the walk stands and what it found.
#[derive(Default)]
struct Walk {
    pointer: String,
    found: Vec<Raise>,
}

impl Walk {
    fn raise(&mut self, reason: &'static str) {
        self.add(reason, false);
    }

    fn unseen(&mut self, reason: &'static str) {
        self.add(reason, true);
    }

    fn unknown(&mut self) {
        self.unseen("is not known to be harmless");
    }

    fn add(&mut self, reason: &'static str, unseen: bool) {
        if self.found.len() < MAX_FOUND {
            self.found.push(Raise { pointer: self.pointer.clone(), reason, unseen });
        }
    }

    /// Calls `judge` one level deeper for each key that compose defines; it ignores those named `x-…`.
    /// Nothing at all is fine; anything else than a mapping is not understood.
    fn keys(&mut self, node: &Node, judge: Judge<'_>) {
        self.members(node, &|walk, key, value| {
            if !key.starts_with("x-") {
                judge(walk, key, value);
            }
        });
    }

    /// As [`Walk::keys`], where keys are names that the author chose: a service may be called `x-…`.
    fn members(&mut self, node: &Node, judge: Judge<'_>) {
        match node {
            Node::Map(entries) => {
                for (key, value) in entries {
                    self.at(key, &mut |walk| judge(walk, key, value));
                }
            }
            other if other.is_null() => {}
            Node::Text { .. } | Node::List(_) => self.unknown(),
        }
    }

    /// As [`Walk::members`], for the items of a list.
    fn items(&mut self, node: &Node, judge: &dyn Fn(&mut Walk, &Node)) {
        match node {
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(&index.to_string(), &mut |walk| judge(walk, item));
                }
            }
            other if other.is_null() => {}
            Node::Text { .. } | Node::Map(_) => self.unknown(),
        }
    }

    fn at(&mut self, key: &str, body: &mut dyn FnMut(&mut Walk)) {
        let before = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        body(self);
        self.pointer.truncate(before);
    }

    /// Raises for every member of a mapping that is not among `harmless`.
    fn only(&mut self, node: &Node, harmless: &[&str]) {
        self.keys(node, &|walk, key, _| {
            if !harmless.contains(&key) {
                walk.unknown();
            }
        });
    }

    /// Raises unless `node` is one of `words`, or nothing.
    fn one_of(&mut self, node: &Node, words: &[&str], reason: &'static str) {
        if !node.is_null() && !node.text().is_some_and(|text| words.contains(&text)) {
            self.raise(reason);
        }
    }

    /// Raises unless `node` is an empty list or mapping, or nothing.
    fn nothing(&mut self, node: &Node, reason: &'static str) {
        let empty = match node {
            Node::List(items) => items.is_empty(),
            Node::Map(entries) => entries.is_empty(),
            Node::Text { .. } => node.is_null(),
        };
        if !empty {
            self.raise(reason);
        }
    }
}

/// Whether compose, of either flavour, reads this as false and as nothing else.
fn is_off(node: &Node) -> bool {
    let words = ["false", "no", "off", "n"];
    node.is_null() || node.text().is_some_and(|text| words.iter().any(|word| text.eq_ignore_ascii_case(word)))
}

fn network(walk: &mut Walk, name: &str, network: &Node) {
    const HOST: &str = "is the machine's own network";
    walk.keys(network, &|walk, key, value| match key {
        "labels" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6" => {}
        "name" => {
            if !value.text().is_some_and(is_object_name) || value.text() == Some("host") {
                walk.raise("may be the machine's own network");
            }
        }
        "external" => match value {
            Node::Map(entries) => {
                let named = entries.iter().all(|(key, name)| {
                    key == "name" && name.text().is_some_and(|name| is_object_name(name) && name != "host")
                });
                if !named {
                    walk.raise("may be the machine's own network");
                }
            }
            Node::Text { .. } | Node::List(_) => {
                if name == "host" && !is_off(value) && network.get("name").is_none() {
                    walk.raise(HOST);
                }
            }
        },
        "driver" => walk.one_of(value, &["", "bridge", "overlay", "default"], "may reach the machine's own network"),
        "driver_opts" => walk.nothing(value, "may reach the machine's own network"),
        "ipam" => walk.keys(value, &|walk, key, value| match key {
            "config" => {}
            "driver" => walk.one_of(value, &["", "default"], "is not known to be harmless"),
            _ => walk.unknown(),
        }),
        _ => walk.unknown(),
    });
}

/// A top-level config or secret.
fn kept_text(item: &Node, walk: &mut Walk) {
    walk.keys(item, &|walk, key, value| match key {
        "name" | "external" | "labels" | "content" | "environment" => {}
        "file" => {
            if !value.is_null() {
                walk.unseen("puts a file of the machine into containers");
            }
        }
        _ => walk.unknown(),
    });
}

/// A name that the engine takes for a volume or network, and for no path and no unknown.
fn is_object_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    // One letter alone may be a drive.
    text.len() > 1 && text.bytes().all(letters) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}
