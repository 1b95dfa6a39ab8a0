//! Reads the text of an [`Expression`](super::Expression).

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use super::{Expression, Fault, Field, MAX_DEPTH, Pattern};

/// Reads the whole of `text`.
pub(super) fn read(text: &str) -> Result<Expression, Fault> {
    let mut reader = Reader { text, tokens: tokens(text)?, next: 0 };
    let found = reader.any(0)?;
    match reader.peek() {
        None => Ok(found),
        Some(Token::Close) => Err(reader.fault("this parenthesis closes none")),
        Some(_) => Err(reader.fault("expected `and`, `or` or the end")),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Is,
    IsNot,
    At,
    Word(String),
    Quoted(String),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Open => f.write_str("("),
            Token::Close => f.write_str(")"),
            Token::Comma => f.write_str(","),
            Token::Is => f.write_str("="),
            Token::IsNot => f.write_str("!="),
            Token::At => f.write_str("@"),
            Token::Word(text) | Token::Quoted(text) => f.write_str(text),
        }
    }
}

/// Tokens and where each begins, counted in bytes.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut found = Vec::new();
    let mut chars = text.char_indices().peekable();
    let fault = |at: usize, message: &str| Fault { at: place(text, at), message: message.to_owned() };
    while let Some((at, first)) = chars.next() {
        let token = match first {
            ' ' | '\t' | '\n' | '\r' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '@' => Token::At,
            '=' => {
                chars.next_if(|(_, next)| *next == '=');
                Token::Is
            }
            '!' if chars.next_if(|(_, next)| *next == '=').is_some() => Token::IsNot,
            '!' => return Err(fault(at, "expected `!=`; to turn something round write `not`")),
            '"' | '\'' => Token::Quoted(quoted(&mut chars, first).ok_or_else(|| fault(at, "this quote has no end"))?),
            first if is_word(first) => {
                let mut word = String::from(first);
                while let Some((_, next)) = chars.next_if(|(_, next)| is_word(*next)) {
                    word.push(next);
                }
                Token::Word(word)
            }
            other => {
                let message =
                    format!("`{}` stands for nothing here; quote it if it is part of a value", other.escape_debug());
                return Err(fault(at, &message));
            }
        };
        found.push((at, token));
    }
    Ok(found)
}

fn quoted(chars: &mut Peekable<CharIndices<'_>>, end: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()?.1 {
            found if found == end => return Some(text),
            '\\' => text.push(chars.next()?.1),
            found => text.push(found),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '/' | ':' | '+')
}

/// The character at byte `at`, counted from 1.
fn place(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.next += usize::from(found);
        found
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        let at = self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at);
        Fault { at: place(self.text, at), message: message.into() }
    }

    fn any(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut list = vec![self.every(depth)?];
        while self.take_word("or") {
            list.push(self.every(depth)?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::Or(list) })
    }

    fn every(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut list = vec![self.one(depth)?];
        while self.take_word("and") {
            list.push(self.one(depth)?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::And(list) })
    }

    fn one(&mut self, depth: usize) -> Result<Expression, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.fault(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        if self.take_word("not") {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        match self.peek() {
            Some(Token::Open) => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                match self.peek() {
                    Some(Token::Close) => self.next += 1,
                    _ => return Err(self.fault("expected `)`")),
                }
                Ok(inner)
            }
            Some(Token::At) => {
                self.next += 1;
                match self.take() {
                    Some(Token::Word(name) | Token::Quoted(name)) => Ok(Expression::Group(name)),
                    found => {
                        self.next -= usize::from(found.is_some());
                        Err(self.fault("expected a group's name after `@`"))
                    }
                }
            }
            Some(Token::Word(_)) => self.test(),
            Some(other) => Err(self.fault(format!("`{other}` cannot begin a test; {FIELDS}"))),
            None => Err(self.fault(format!("something is missing at the end; {FIELDS}"))),
        }
    }

    fn test(&mut self) -> Result<Expression, Fault> {
        let start = self.next;
        let Some(Token::Word(name)) = self.take() else { return Err(self.fault(FIELDS)) };
        if name == "all" {
            return Ok(Expression::All);
        }
        let Some(field) = field(&name) else {
            self.next = start;
            return Err(self.fault(format!("`{name}` is no field; {FIELDS}")));
        };
        match self.peek() {
            Some(Token::Is) => {
                self.next += 1;
                Ok(Expression::Test(field, vec![self.value()?]))
            }
            Some(Token::IsNot) => {
                self.next += 1;
                Ok(Expression::Not(Box::new(Expression::Test(field, vec![self.value()?]))))
            }
            Some(Token::Word(word)) if word == "in" => {
                self.next += 1;
                Ok(Expression::Test(field, self.values()?))
            }
            Some(Token::Word(word)) if word == "not" => {
                self.next += 1;
                if !self.take_word("in") {
                    return Err(self.fault("expected `in` after `not`"));
                }
                Ok(Expression::Not(Box::new(Expression::Test(field, self.values()?))))
            }
            _ => match field {
                Field::Label(key) => Ok(Expression::HasLabel(key)),
                _ => Err(self.fault(format!("expected `=`, `!=`, `in` or `not in` after `{name}`"))),
            },
        }
    }

    fn values(&mut self) -> Result<Vec<Pattern>, Fault> {
        if self.peek() != Some(&Token::Open) {
            return Err(self.fault("expected `(` and a list of values"));
        }
        self.next += 1;
        let mut values = vec![self.value()?];
        loop {
            match self.peek() {
                Some(Token::Comma) => {
                    self.next += 1;
                    values.push(self.value()?);
                }
                Some(Token::Close) => {
                    self.next += 1;
                    return Ok(values);
                }
                _ => return Err(self.fault("expected `,` or `)`")),
            }
        }
    }

    fn value(&mut self) -> Result<Pattern, Fault> {
        match self.take() {
            Some(Token::Quoted(text)) => Ok(Pattern::Exact(text)),
            Some(Token::Word(word)) if word.contains('*') => {
                Ok(Pattern::Parts(word.split('*').map(str::to_owned).collect()))
            }
            Some(Token::Word(word)) => Ok(Pattern::Exact(word)),
            found => {
                self.next -= usize::from(found.is_some());
                Err(self.fault("expected a value"))
            }
        }
    }
}

const FIELDS: &str = "fields are agent, site, os, arch, engine, status, capability and label.KEY; `all` is everyone, \
                      `@name` a saved group";

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "agent" => Field::Agent,
        "site" => Field::Site,
        "os" => Field::Os,
        "arch" => Field::Arch,
        "engine" => Field::Engine,
        "status" => Field::Status,
        "capability" => Field::Capability,
        other => Field::Label(other.strip_prefix("label.").filter(|key| !key.is_empty())?.to_owned()),
    })
}
