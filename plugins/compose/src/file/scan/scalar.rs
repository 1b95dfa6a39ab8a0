//! Scalars: plain, quoted, and blocks behind `|` and `>`.

use viworks_sdk::prelude::*;

use super::{Scan, is_blank, is_bracket, is_gap};

impl<'a> Scan<'a> {
    /// What of a plain scalar stands on this line.
    pub(super) fn plain_line(&mut self) -> &'a str {
        let begin = self.cursor.at;
        let mut end = begin;
        loop {
            let (here, next) = (self.peek(), self.byte(1));
            let stops = match here {
                super::END | b'\n' => true,
                b':' => is_gap(next) || self.flow > 0 && is_bracket(next),
                b'#' => self.cursor.at > end,
                _ => self.flow > 0 && is_bracket(here),
            };
            if stops {
                return &self.text[begin..end];
            }
            self.cursor.at += 1;
            if !is_blank(here) {
                end = self.cursor.at;
            }
        }
    }

    /// A plain scalar, with the lines further in than `parent` that go on with it.
    pub(super) fn plain(&mut self, parent: isize) -> String {
        let mut text = self.plain_line().to_owned();
        while self.peek() == b'\n' {
            let before = self.cursor;
            let lines = self.empty_lines();
            let spaces = self.text[self.cursor.begin..].bytes().take_while(|b| *b == b' ').count();
            let goes_on = !self.is_over() && self.peek() != b'#' && (self.flow > 0 || spaces as isize > parent);
            let part = if goes_on { self.plain_line() } else { "" };
            if part.is_empty() {
                self.cursor = before;
                break;
            }
            fold(&mut text, lines);
            text.push_str(part);
        }
        text
    }

    /// Over the end of this line and empty ones, and the blanks before what comes then. How many ends.
    fn empty_lines(&mut self) -> usize {
        let mut lines = 0;
        while self.peek() == b'\n' {
            self.next_line();
            lines += 1;
            self.blanks();
        }
        lines
    }

    /// A scalar in quotes.
    pub(super) fn quoted(&mut self) -> Result<String> {
        let quote = self.peek();
        self.cursor.at += 1;
        let mut text = String::new();
        // What of it no line end takes away.
        let mut solid = 0;
        loop {
            let begin = self.cursor.at;
            while !matches!(self.peek(), super::END | b'\n' | b'\\') && self.peek() != quote {
                self.cursor.at += 1;
                if !is_blank(self.text.as_bytes()[self.cursor.at - 1]) {
                    solid = text.len() + self.cursor.at - begin;
                }
            }
            text.push_str(&self.text[begin..self.cursor.at]);
            match self.peek() {
                b'\n' => {
                    text.truncate(solid);
                    let lines = self.empty_lines();
                    fold(&mut text, lines);
                }
                b'\\' if quote == b'\'' => {
                    self.cursor.at += 1;
                    text.push('\\');
                }
                b'\\' if self.byte(1) == b'\n' => {
                    self.cursor.at += 1;
                    for _ in 1..self.empty_lines() {
                        text.push('\n');
                    }
                }
                b'\\' => text.push(self.escape()?),
                here if here == quote => {
                    self.cursor.at += 1;
                    if quote == b'"' || self.peek() != quote {
                        return Ok(text);
                    }
                    self.cursor.at += 1;
                    text.push('\'');
                }
                _ => return Err(self.wrong("a quote is not closed")),
            }
            if self.is_over() {
                return Err(self.wrong("a quote is not closed"));
            }
            solid = text.len();
        }
    }

    /// What stands for one character.
    fn escape(&mut self) -> Result<char> {
        let letter = self.byte(1);
        let digits = match letter {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        let code = self.text.get(self.cursor.at + 2..self.cursor.at + 2 + digits);
        let known = match letter {
            b'0' => Some('\0'),
            b'a' => Some('\x07'),
            b'b' => Some('\x08'),
            b't' | b'\t' => Some('\t'),
            b'n' => Some('\n'),
            b'v' => Some('\x0b'),
            b'f' => Some('\x0c'),
            b'r' => Some('\r'),
            b'e' => Some('\x1b'),
            b' ' | b'"' | b'/' | b'\\' => Some(char::from(letter)),
            b'N' => Some('\u{85}'),
            b'_' => Some('\u{a0}'),
            b'L' => Some('\u{2028}'),
            b'P' => Some('\u{2029}'),
            _ if digits > 0 => code
                .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|code| u32::from_str_radix(code, 16).ok())
                .and_then(char::from_u32),
            _ => None,
        };
        let Some(known) = known else { return Err(self.wrong("no character is written like this")) };
        self.cursor.at += 2 + digits;
        Ok(known)
    }

    /// The lines behind `|` or `>`, further in than `parent`.
    pub(super) fn block(&mut self, parent: isize) -> Result<String> {
        let folded = self.peek() == b'>';
        let (mut keep, mut indent) = (b' ', None);
        loop {
            self.cursor.at += 1;
            match self.peek() {
                sign @ (b'+' | b'-') if keep == b' ' => keep = sign,
                digit @ b'1'..=b'9' if indent.is_none() => {
                    indent = Some(parent.max(0) as usize + usize::from(digit - b'0'))
                }
                _ => break,
            }
        }
        self.line_end()?;
        let mut text = String::new();
        // Line ends that are not written yet.
        let mut lines = 0;
        let (mut empty, mut begun, mut set_in) = (0, false, true);
        if self.peek() == b'\n' {
            self.next_line();
        }
        while self.cursor.at < self.text.len() {
            let line = self.text[self.cursor.at..].split('\n').next().unwrap_or_default();
            let spaces = line.bytes().take_while(|b| *b == b' ').count();
            if spaces == line.len() && indent.is_none_or(|indent| spaces <= indent) {
                empty = empty.max(spaces);
                // Blanks at the very end are no line.
                lines += usize::from(self.cursor.at + line.len() < self.text.len());
            } else {
                let least = *indent.get_or_insert(spaces);
                if (spaces as isize) <= parent || spaces < least || self.is_over() {
                    break;
                }
                if !begun && empty > least {
                    return Err(self.wrong("an empty line is further in than the text below it"));
                }
                let line = &line[least..];
                let is_set_in = line.starts_with([' ', '\t']);
                if begun && folded && !is_set_in && !set_in {
                    fold(&mut text, lines);
                } else {
                    (0..lines).for_each(|_| text.push('\n'));
                }
                text.push_str(line);
                (begun, set_in, lines) = (true, is_set_in, 1);
            }
            self.cursor.at += line_length(&self.text[self.cursor.at..]);
            if self.peek() == b'\n' {
                self.next_line();
            }
        }
        let lines = match keep {
            b'+' => lines,
            b'-' => 0,
            _ => usize::from(begun),
        };
        (0..lines).for_each(|_| text.push('\n'));
        Ok(text)
    }
}

fn line_length(text: &str) -> usize {
    text.bytes().take_while(|b| *b != b'\n').count()
}

/// What `lines` line ends within running text become.
fn fold(text: &mut String, lines: usize) {
    match lines {
        1 => text.push(' '),
        _ => (1..lines).for_each(|_| text.push('\n')),
    }
}
