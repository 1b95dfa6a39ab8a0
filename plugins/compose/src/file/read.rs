//! From YAML text to a tree, with anchors, aliases and merge keys resolved.
//!
//! The bounds leave half of a host's time limit on one plan unused in the worst case that is known.
//!
//! Refused: more than one document, tags, keys that are not text on one line, a key twice in one mapping, aliases
//! before their anchor's end, and more nodes, depth or text than a compose file needs.

use viworks_sdk::prelude::*;

use super::{Node, scan};

/// Most nodes of the tree after aliases have been replaced by what they stand for.
pub const MAX_NODES: usize = 5_000;
/// Most bytes of text in it.
pub const MAX_TEXT: usize = 120 * 1024;
/// Most levels.
pub const MAX_DEPTH: usize = 32;
/// Most keys of one mapping.
pub const MAX_KEYS: usize = 256;
/// Most anchors.
pub const MAX_ANCHORS: usize = 256;
/// Most bytes of a key.
const MAX_KEY: usize = 512;

/// Reads the text of one compose file.
///
/// # Errors
/// An issue at `/file` naming line and column.
pub fn read(text: &str) -> Result<Node> {
    let mut tree = Tree::default();
    scan::document(text, &mut tree)?;
    tree.root.ok_or_else(|| Failure::issue("/file", "yaml", "the file is empty; write `services:` and at least one"))
}

/// A place in the file, from 1.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

pub(super) fn refuse(at: At, keyword: &str, message: &str) -> Failure {
    Failure::issue("/file", keyword, format!("line {}, column {}: {message}", at.line, at.column))
}

/// How much of the bounds a tree uses.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    text: usize,
}

impl Weight {
    fn plus(self, other: Weight) -> Weight {
        Weight { nodes: self.nodes + other.nodes, text: self.text + other.text }
    }
}

/// A collection that is not at its end yet.
struct Open {
    anchor: usize,
    weight: Weight,
    body: Body,
}

enum Body {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        merged: Vec<(String, Node)>,
        /// Whether `<<` stood there.
        merges: bool,
        key: Option<Key>,
    },
}

enum Key {
    Name(String),
    Merge,
}

/// The tree as far as it has been read.
#[derive(Default)]
pub(super) struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    /// All names of anchors so far; an anchor is its place among them, from 1.
    names: Vec<String>,
    anchors: Vec<(usize, Node, Weight)>,
    /// Of all finished and open nodes, aliases counted as what they stand for.
    total: Weight,
    /// Of what anchors keep. An anchor inside an anchor is kept twice.
    kept: Weight,
}

impl Tree {
    /// The next value is called `name`.
    pub(super) fn anchor(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len()
    }

    /// The value that was last called `name` stands here again.
    pub(super) fn alias(&mut self, name: &str, at: At) -> Result<()> {
        let Some(anchor) = self.names.iter().rposition(|known| known == name) else {
            return Err(refuse(at, "yaml", "an alias names nothing above it"));
        };
        let known = self.anchors.iter().rev().find(|(id, ..)| *id == anchor + 1);
        let Some((_, node, weight)) = known else {
            return Err(refuse(at, "alias", "an alias stands inside what it names"));
        };
        // Before the copy is made: the bomb must not go off while it is measured.
        let (node, weight) = (node, *weight);
        self.total = self.total.plus(weight);
        if self.total.nodes > MAX_NODES || self.total.text > MAX_TEXT {
            return Err(too_much(at));
        }
        let node = node.clone();
        self.put(node, weight, 0, at)
    }

    /// A key of the mapping that is open; its value follows.
    pub(super) fn key(&mut self, text: String, plain: bool, at: At) -> Result<()> {
        let Some(Open { body: Body::Map { entries, merges, key, .. }, weight, .. }) = self.open.last_mut() else {
            return Err(refuse(at, "key", "a key stands in a mapping"));
        };
        if text.is_empty() || text.len() > MAX_KEY {
            return Err(refuse(at, "key", &format!("a key is 1 to {MAX_KEY} bytes of text")));
        }
        if entries.iter().any(|(known, _)| *known == text) {
            return Err(refuse(at, "duplicate_key", &format!("`{text}` stands twice in one mapping")));
        }
        if entries.len() == MAX_KEYS {
            return Err(too_many_keys(at));
        }
        let own = Weight { nodes: 1, text: text.len() };
        *weight = weight.plus(own);
        self.total = self.total.plus(own);
        *key = Some(match (text.as_str(), plain) {
            ("<<", true) if !*merges => {
                *merges = true;
                Key::Merge
            }
            ("<<", true) => {
                return Err(refuse(at, "duplicate_key", "`<<` stands twice in one mapping; give it a list"));
            }
            ("<<", false) => return Err(refuse(at, "key", "write << without quotes to merge")),
            _ => Key::Name(text),
        });
        Ok(())
    }

    pub(super) fn scalar(&mut self, text: String, plain: bool, anchor: usize, at: At) -> Result<()> {
        let weight = Weight { nodes: 1, text: text.len() };
        self.total = self.total.plus(weight);
        self.put(Node::Text { text, plain }, weight, anchor, at)
    }

    pub(super) fn begin_list(&mut self, anchor: usize, at: At) -> Result<()> {
        self.begin(anchor, Body::List(Vec::new()), at)
    }

    pub(super) fn begin_map(&mut self, anchor: usize, at: At) -> Result<()> {
        self.begin(anchor, Body::Map { entries: Vec::new(), merged: Vec::new(), merges: false, key: None }, at)
    }

    /// The list or mapping that was begun last ends.
    pub(super) fn end(&mut self, at: At) -> Result<()> {
        let Some(Open { anchor, weight, body }) = self.open.pop() else { return Ok(()) };
        let node = match body {
            Body::List(items) => Node::List(items),
            Body::Map { mut entries, merged, merges: _, key: _ } => {
                // What the mapping says itself wins; of merged ones, the first.
                for (key, value) in merged {
                    if entries.iter().any(|(known, _)| *known == key) {
                        continue;
                    }
                    if entries.len() == MAX_KEYS {
                        return Err(too_many_keys(at));
                    }
                    entries.push((key, value));
                }
                Node::Map(entries)
            }
        };
        self.put(node, weight, anchor, at)
    }

    fn begin(&mut self, anchor: usize, body: Body, at: At) -> Result<()> {
        if self.open.len() >= MAX_DEPTH {
            return Err(refuse(at, "depth", &format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.total.nodes += 1;
        self.open.push(Open { anchor, weight: Weight { nodes: 1, text: 0 }, body });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node, weight: Weight, anchor: usize, at: At) -> Result<()> {
        if self.total.nodes > MAX_NODES || self.total.text > MAX_TEXT {
            return Err(too_much(at));
        }
        if anchor != 0 {
            self.kept = self.kept.plus(weight);
            if self.anchors.len() == MAX_ANCHORS || self.kept.nodes > MAX_NODES || self.kept.text > MAX_TEXT {
                let rule = format!("more than {MAX_ANCHORS} anchors, or anchors within anchors over many levels");
                return Err(refuse(at, "anchors", &rule));
            }
            self.anchors.push((anchor, node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.plus(weight);
        match &mut open.body {
            Body::List(items) => items.push(node),
            Body::Map { entries, merged, merges: _, key } => match key.take() {
                Some(Key::Name(name)) => {
                    entries.push((name, node));
                }
                Some(Key::Merge) => match node {
                    Node::Map(entries) => merged.extend(entries),
                    Node::List(items) if items.iter().all(|item| matches!(item, Node::Map(_))) => {
                        items.into_iter().for_each(|item| match item {
                            Node::Map(entries) => merged.extend(entries),
                            Node::Text { .. } | Node::List(_) => {}
                        });
                    }
                    Node::Text { .. } | Node::List(_) => {
                        return Err(refuse(at, "merge", "<< takes a mapping or a list of mappings"));
                    }
                },
                None => return Err(refuse(at, "key", "a key is text")),
            },
        }
        Ok(())
    }
}

fn too_much(at: At) -> Failure {
    let rule = format!("with its aliases replaced, the file is over {MAX_NODES} values or {MAX_TEXT} bytes");
    refuse(at, "size", &rule)
}

fn too_many_keys(at: At) -> Failure {
    refuse(at, "keys", &format!("a mapping has more than {MAX_KEYS} keys"))
}
