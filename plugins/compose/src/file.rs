//! A compose file as a tree: read once, judged as it is, and handed to compose in a form that no two
//! YAML readers take differently.
//!
//! Invariant: what compose gets is written from the tree that was judged, never the caller's text. So
//! it does not matter where our reader and compose's would part ways over that text.

pub mod read;
mod scan;
pub mod variables;
pub mod write;

/// One value of a compose file. Anchors, aliases and merge keys are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A scalar.
    Text {
        /// Its characters, without quotes and escapes.
        text: String,
        /// Whether it stood without quotes, so that a reader may take it for a number, a boolean or nothing.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file. No key comes twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A quoted scalar.
    pub fn quoted(text: impl Into<String>) -> Node {
        Node::Text { text: text.into(), plain: false }
    }

    /// Nothing: an empty plain scalar, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Node::Text { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The scalar's characters.
    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Text { text, .. } => Some(text),
            Node::List(_) | Node::Map(_) => None,
        }
    }

    /// The members of a mapping; none of anything else.
    pub fn entries(&self) -> &[(String, Node)] {
        match self {
            Node::Map(entries) => entries,
            Node::Text { .. } | Node::List(_) => &[],
        }
    }

    /// As [`Node::entries`].
    pub fn entries_mut(&mut self) -> &mut [(String, Node)] {
        match self {
            Node::Map(entries) => entries,
            Node::Text { .. } | Node::List(_) => &mut [],
        }
    }

    /// The member `key` of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// As [`Node::get`].
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries_mut().iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}
