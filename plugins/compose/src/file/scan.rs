//! From YAML text to the parts of a tree: what a compose file is written in, and nothing that it is not.
//!
//! Refused although YAML has it: directives, tags, and keys that are not text on one line.
//!
//! Invariant: whoever recurses has begun a collection, and [`Tree`] bounds how deep those lie.

mod scalar;

use viworks_sdk::prelude::*;

use super::read::{At, Tree, refuse};

/// Reads `text`, one document, into `tree`.
///
/// # Errors
/// An issue at `/file` naming line and column.
pub(super) fn document(text: &str, tree: &mut Tree) -> Result<()> {
    let text = lines(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut scan = Scan { text, tree, cursor: Cursor::default(), flow: 0 };
    if let Some(at) = text.find('\0') {
        scan.cursor.at = at;
        return Err(scan.wrong("a character that no file has"));
    }
    scan.skip()?;
    let marked = scan.is_mark("---");
    if marked {
        scan.cursor.at += 3;
    } else if scan.is_over() {
        return Ok(());
    }
    scan.node(-1, Place::Document)?;
    scan.skip()?;
    if scan.is_mark("...") {
        scan.cursor.at += 3;
        scan.skip()?;
    }
    match scan.peek() {
        END if scan.cursor.at == text.len() => Ok(()),
        _ if scan.is_mark("---") => {
            Err(refuse(scan.place(), "documents", "a second document begins; give one file with one document"))
        }
        _ => Err(scan.wrong("what stands here belongs to nothing above it")),
    }
}

/// Every kind of line end is one. By hand: the search for text in text makes the plugin 3 KB larger.
fn lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut returned = false;
    for letter in text.chars() {
        match letter {
            '\r' => lines.push('\n'),
            '\n' if returned => {}
            other => lines.push(other),
        }
        returned = letter == '\r';
    }
    lines
}

/// Read behind the end.
const END: u8 = 0;

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Document,
    /// Behind `- `.
    Entry,
    /// Behind `key: `.
    Value,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    at: usize,
    /// From 0.
    line: usize,
    /// Where that line begins.
    begin: usize,
}

struct Scan<'a> {
    text: &'a str,
    tree: &'a mut Tree,
    cursor: Cursor,
    /// How many brackets and braces are open.
    flow: usize,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_gap(byte: u8) -> bool {
    matches!(byte, END | b' ' | b'\t' | b'\n')
}

fn is_bracket(byte: u8) -> bool {
    matches!(byte, b',' | b'[' | b']' | b'{' | b'}')
}

impl<'a> Scan<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.cursor.at + ahead).copied().unwrap_or(END)
    }

    fn peek(&self) -> u8 {
        self.byte(0)
    }

    fn column(&self) -> isize {
        (self.cursor.at - self.cursor.begin) as isize
    }

    fn place(&self) -> At {
        let Cursor { at, line, begin } = self.cursor;
        if at == self.text.len() && at > begin {
            // What is missing would stand behind the last line.
            return At { line: line + 2, column: 1 };
        }
        let before = self.text.get(begin..at).unwrap_or_default();
        At { line: line + 1, column: before.chars().count() + 1 }
    }

    fn wrong(&self, message: &str) -> Failure {
        refuse(self.place(), "yaml", message)
    }

    fn is_mark(&self, mark: &str) -> bool {
        let Cursor { at, begin, .. } = self.cursor;
        at == begin && self.text[at..].starts_with(mark) && is_gap(self.byte(3))
    }

    /// Whether the document ends here.
    fn is_over(&self) -> bool {
        self.cursor.at == self.text.len() || self.is_mark("---") || self.is_mark("...")
    }

    /// Whether `-`, `?` or `:` stands here as a sign of its own.
    fn is_sign(&self, sign: u8) -> bool {
        self.peek() == sign && (is_gap(self.byte(1)) || self.flow > 0 && is_bracket(self.byte(1)))
    }

    fn next_line(&mut self) {
        let Cursor { at, line, begin } = &mut self.cursor;
        *at += 1;
        *line += 1;
        *begin = *at;
    }

    fn blanks(&mut self) {
        while is_blank(self.peek()) {
            self.cursor.at += 1;
        }
    }

    /// Over blanks and a comment, to where the line goes on or ends.
    fn comment(&mut self) {
        self.blanks();
        let Cursor { at, begin, .. } = self.cursor;
        if self.peek() == b'#' && (at == begin || is_blank(self.text.as_bytes()[at - 1])) {
            while !matches!(self.peek(), END | b'\n') {
                self.cursor.at += 1;
            }
        }
    }

    /// Over blanks, comments and line ends.
    fn skip(&mut self) -> Result<()> {
        loop {
            self.comment();
            if self.peek() != b'\n' {
                break;
            }
            self.next_line();
        }
        let Cursor { at, begin, .. } = self.cursor;
        let indent = &self.text.as_bytes()[begin..at];
        if self.flow == 0 && at < self.text.len() && indent.contains(&b'\t') && indent.iter().all(|b| is_blank(*b)) {
            return Err(self.wrong("a tab does not indent; use blanks"));
        }
        Ok(())
    }

    /// What follows a value on its line: nothing.
    fn line_end(&mut self) -> Result<()> {
        self.comment();
        match self.peek() {
            END | b'\n' => Ok(()),
            b':' => Err(self.wrong("a `:` where no key can stand; a key is text on one line")),
            _ => Err(self.wrong("something follows a value on its line")),
        }
    }

    /// A value under `parent`, the column of what it belongs to.
    fn node(&mut self, parent: isize, place: Place) -> Result<()> {
        let line = self.cursor.line;
        self.skip()?;
        let (mut anchor, mut anchored) = (0, false);
        if self.peek() == b'&' && (self.cursor.line == line || self.column() > parent) {
            anchor = self.anchor()?;
            let line = self.cursor.line;
            self.skip()?;
            anchored = self.cursor.line == line;
        }
        let column = self.column();
        let below = self.cursor.line != line;
        if self.is_over() || below && column <= parent {
            // A list may stand right below its key.
            let list = place == Place::Value && column == parent && !self.is_over() && self.is_sign(b'-');
            if !list {
                return self.tree.scalar(String::new(), true, anchor, self.place());
            }
        }
        if below || place != Place::Value {
            let list = self.is_sign(b'-');
            if list || self.is_sign(b'?') || self.is_key()? {
                if anchored && list {
                    return Err(self.wrong("a list does not begin behind an anchor on its line"));
                }
                if anchored {
                    return Err(no_anchor(self.place()));
                }
                return if list { self.list(column, anchor) } else { self.map(column, anchor) };
            }
        }
        match self.peek() {
            b'|' | b'>' => {
                let at = self.place();
                let text = self.block(parent)?;
                return self.tree.scalar(text, false, anchor, at);
            }
            _ => self.inline(parent, anchor)?,
        }
        self.line_end()
    }

    fn list(&mut self, column: isize, anchor: usize) -> Result<()> {
        self.tree.begin_list(anchor, self.place())?;
        loop {
            self.cursor.at += 1;
            self.node(column, Place::Entry)?;
            self.skip()?;
            if self.is_over() || self.column() != column || !self.is_sign(b'-') {
                return self.tree.end(self.place());
            }
        }
    }

    fn map(&mut self, column: isize, anchor: usize) -> Result<()> {
        self.tree.begin_map(anchor, self.place())?;
        loop {
            let long = self.is_sign(b'?');
            self.key()?;
            if long {
                self.skip()?;
            } else {
                self.blanks();
            }
            if self.is_sign(b':') && (!long || self.column() == column) {
                self.cursor.at += 1;
                // Behind a long key's colon a collection may begin on the line.
                self.node(column, if long { Place::Entry } else { Place::Value })?;
            } else if long {
                self.tree.scalar(String::new(), true, 0, self.place())?;
            } else {
                return Err(self.wrong("a key and `: ` belong here"));
            }
            self.skip()?;
            if self.is_over() || self.column() < column {
                return self.tree.end(self.place());
            }
            if self.column() > column || !(self.is_sign(b'?') || self.is_key()?) {
                return Err(self.wrong("a key and `: ` belong here, as far in as the keys above"));
            }
        }
    }

    /// Whether a key on one line, and its colon, stand here.
    fn is_key(&mut self) -> Result<bool> {
        let before = self.cursor;
        let mut close = false;
        match self.peek() {
            b'"' | b'\'' => {
                self.quoted()?;
                close = self.flow > 0;
            }
            b'*' | b'!' => {
                while !is_gap(self.peek()) && !is_bracket(self.peek()) {
                    self.cursor.at += 1;
                }
            }
            _ if self.begins_plain() => drop(self.plain_line()),
            _ => {}
        }
        let same = self.cursor.line == before.line;
        self.blanks();
        let found = same && (self.is_sign(b':') || close && self.peek() == b':');
        self.cursor = before;
        Ok(found)
    }

    /// A key, with the `?` it may have in front.
    fn key(&mut self) -> Result<()> {
        if self.is_sign(b'?') {
            self.cursor.at += 1;
            self.blanks();
        }
        let at = self.place();
        let (text, plain) = match self.peek() {
            b'*' => return Err(refuse(at, "key", "a key is text, not an alias")),
            b'&' => return Err(no_anchor(at)),
            b'!' => return Err(no_tag(at)),
            b'[' | b'{' => return Err(refuse(at, "key", "a key is text, not a list or a mapping")),
            b'"' | b'\'' => (self.quoted()?, false),
            _ if self.begins_plain() => (self.plain_line().to_owned(), true),
            _ => (String::new(), true),
        };
        self.tree.key(text, plain, at)
    }

    /// A value that may stand on a line with others.
    fn inline(&mut self, parent: isize, anchor: usize) -> Result<()> {
        let at = self.place();
        match self.peek() {
            b'!' => Err(no_tag(at)),
            b'*' if anchor == 0 => {
                let name = self.name()?;
                self.tree.alias(name, at)
            }
            b'[' | b'{' => self.brackets(anchor),
            b'"' | b'\'' => {
                let text = self.quoted()?;
                self.tree.scalar(text, false, anchor, at)
            }
            _ if self.begins_plain() => {
                let text = self.plain(parent);
                self.tree.scalar(text, true, anchor, at)
            }
            _ => Err(self.wrong("a value cannot begin like this; put it into quotes")),
        }
    }

    /// `[…]` or `{…}`.
    fn brackets(&mut self, anchor: usize) -> Result<()> {
        let at = self.place();
        let is_map = self.peek() == b'{';
        let close = if is_map { b'}' } else { b']' };
        if is_map { self.tree.begin_map(anchor, at) } else { self.tree.begin_list(anchor, at) }?;
        self.flow += 1;
        self.cursor.at += 1;
        loop {
            self.skip()?;
            if self.peek() == close {
                break;
            }
            if self.is_over() {
                return Err(self.wrong("a bracket is not closed"));
            }
            if is_map {
                self.pair(close)?;
            } else if self.is_sign(b'?') || self.is_key()? {
                self.tree.begin_map(0, self.place())?;
                self.pair(close)?;
                self.tree.end(self.place())?;
            } else {
                self.member(close, false)?;
            }
            self.skip()?;
            if self.peek() == b',' {
                self.cursor.at += 1;
            } else if self.peek() != close {
                return Err(self.wrong("a comma or a closing bracket belongs here"));
            }
        }
        self.flow -= 1;
        self.cursor.at += 1;
        let at = self.place();
        let before = self.cursor;
        self.blanks();
        if self.flow == 0 && self.is_sign(b':') {
            return Err(refuse(at, "key", "a key is text, not a list or a mapping"));
        }
        self.cursor = before;
        self.tree.end(at)
    }

    /// `key: value` between brackets.
    fn pair(&mut self, close: u8) -> Result<()> {
        let quoted = matches!(self.peek(), b'"' | b'\'');
        self.key()?;
        self.skip()?;
        if !(self.is_sign(b':') || quoted && self.peek() == b':') {
            return self.tree.scalar(String::new(), true, 0, self.place());
        }
        self.cursor.at += 1;
        self.skip()?;
        self.member(close, true)
    }

    /// A value between brackets; `keyed` is one behind a key, of which nothing may be left.
    fn member(&mut self, close: u8, keyed: bool) -> Result<()> {
        let mut anchor = 0;
        if self.peek() == b'&' {
            anchor = self.anchor()?;
            self.skip()?;
        }
        if (keyed || anchor != 0) && (self.peek() == b',' || self.peek() == close) {
            return self.tree.scalar(String::new(), true, anchor, self.place());
        }
        self.inline(-1, anchor)
    }

    /// The name behind `&` or `*`.
    fn name(&mut self) -> Result<&'a str> {
        self.cursor.at += 1;
        let begin = self.cursor.at;
        while !is_gap(self.peek()) && !is_bracket(self.peek()) {
            self.cursor.at += 1;
        }
        if begin == self.cursor.at {
            return Err(self.wrong("a name belongs here"));
        }
        Ok(&self.text[begin..self.cursor.at])
    }

    fn anchor(&mut self) -> Result<usize> {
        let name = self.name()?;
        Ok(self.tree.anchor(name))
    }

    fn begins_plain(&self) -> bool {
        match self.peek() {
            sign @ (b'-' | b'?' | b':') => !self.is_sign(sign),
            END | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"' | b'%' | b'@' | b'`' => false,
            other => !is_gap(other) && !is_bracket(other),
        }
    }
}

fn no_anchor(at: At) -> Failure {
    refuse(at, "key", "a key is text without an anchor")
}

fn no_tag(at: At) -> Failure {
    refuse(at, "tag", "tags such as !reset or !!binary are not taken; write the value itself")
}
