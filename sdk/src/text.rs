//! JSON text to and from values, one way each: every further way costs a component kilobytes.
//!
//! `serde_json` reads through serde, whose visitors make a small component a sixth larger; its `Value` and
//! its numbers are used, its reader and writer are not. Numbers read alike but for the last bit of decimals
//! beyond 1e22.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Most levels of lists and objects inside one another.
const MAX_DEPTH: usize = 128;

/// Text that is not JSON.
///
/// ```
/// use viworks_sdk::json::parse;
///
/// assert_eq!(parse("[1 2]").unwrap_err().at, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// After how many bytes.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {} at byte {}", self.why, self.at)
    }
}

impl std::error::Error for NotJson {}

/// Reads one JSON value from all of `text`.
///
/// # Errors
/// Where and why `text` is not JSON.
///
/// ```
/// use viworks_sdk::json::{json, parse};
///
/// assert_eq!(parse("[1, 2]").unwrap(), json!([1, 2]));
/// assert_eq!(parse("[1, 2").unwrap_err().to_string(), "not JSON: the text ends too early at byte 5");
/// ```
pub fn parse(text: &str) -> Result<Value, NotJson> {
    let mut scan = Scan { text, at: 0, depth: 0 };
    let value = scan.value()?;
    match scan.peek() {
        None => Ok(value),
        Some(_) => scan.fail("more follows the value"),
    }
}

/// The value of JSON text that a macro wrote.
pub(crate) fn known(text: &'static str) -> Value {
    parse(text).expect("the macros write JSON")
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Scan<'_> {
    fn fail<T>(&self, why: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, why })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn value(&mut self) -> Result<Value, NotJson> {
        match self.peek() {
            None => self.fail("the text ends too early"),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'[') => self.nested(|scan| scan.list()),
            Some(b'{') => self.nested(|scan| scan.object()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, NotJson> {
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.fail("no value begins like this")
    }

    fn nested(&mut self, body: fn(&mut Self) -> Result<Value, NotJson>) -> Result<Value, NotJson> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("too many levels");
        }
        self.at += 1;
        let value = body(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Value, NotJson> {
        let mut list = Vec::new();
        if self.ends(b']') {
            return Ok(Value::Array(list));
        }
        loop {
            list.push(self.value()?);
            if self.ends(b']') {
                return Ok(Value::Array(list));
            }
            self.expect(b',', "`,` or `]` is missing")?;
        }
    }

    fn object(&mut self) -> Result<Value, NotJson> {
        let mut object = Map::new();
        if self.ends(b'}') {
            return Ok(Value::Object(object));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fail("a key is missing");
            }
            let key = self.string()?;
            self.expect(b':', "`:` is missing")?;
            let value = self.value()?;
            object.insert(key, value);
            if self.ends(b'}') {
                return Ok(Value::Object(object));
            }
            self.expect(b',', "`,` or `}` is missing")?;
        }
    }

    /// Whether `close` is next; it is passed then.
    fn ends(&mut self, close: u8) -> bool {
        let ends = self.peek() == Some(close);
        self.at += usize::from(ends);
        ends
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), NotJson> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => self.fail(why),
            None => self.fail("the text ends too early"),
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut read = String::new();
        loop {
            let start = self.at;
            while self.byte().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            read.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(read);
                }
                Some(b'\\') => read.push(self.escape()?),
                Some(_) => return self.fail("a control character stands in text"),
                None => return self.fail("the text ends too early"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        self.at += 2;
        Ok(match self.text.as_bytes().get(self.at - 1) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(&mark @ (b'"' | b'\\' | b'/')) => char::from(mark),
            Some(b'u') => return self.unicode(),
            _ => return self.fail("no such escape"),
        })
    }

    fn unicode(&mut self) -> Result<char, NotJson> {
        let first = self.hex()?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            self.at += 2;
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.fail("half a surrogate pair");
            }
            code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
        match char::from_u32(code) {
            Some(letter) => Ok(letter),
            None => self.fail("half a surrogate pair"),
        }
    }

    fn hex(&mut self) -> Result<u32, NotJson> {
        let mut code = 0;
        for _ in 0..4 {
            match self.byte().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => code = code * 16 + digit,
                None => return self.fail("four hex digits are missing"),
            }
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(negative);
        // What does not fit into 64 bits counts as further powers of ten.
        let (mut digits, mut power, mut whole) = (0_u64, 0_i32, true);
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits(&mut digits, &mut power, 0)?;
        }
        if power != 0 {
            whole = false;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            whole = false;
            self.digits(&mut digits, &mut power, -1)?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            whole = false;
            let down = self.byte() == Some(b'-');
            self.at += usize::from(down || self.byte() == Some(b'+'));
            let (mut exponent, mut rest) = (0, 0);
            self.digits(&mut exponent, &mut rest, 0)?;
            let exponent = if rest == 0 { i32::try_from(exponent.min(9999)).unwrap_or(9999) } else { 9999 };
            power = if down { power.saturating_sub(exponent) } else { power.saturating_add(exponent) };
        }
        let number = match (whole, negative) {
            (true, false) => return Ok(digits.into()),
            (true, true) if digits != 0 && digits <= 1 << 63 => return Ok((digits as i64).wrapping_neg().into()),
            _ => scaled(digits, power),
        };
        match Number::from_f64(if negative { -number } else { number }) {
            Some(number) => Ok(Value::Number(number)),
            None => self.fail("a number is out of range"),
        }
    }

    /// At least one digit. `step` is what each does to the power of ten if it is taken.
    fn digits(&mut self, digits: &mut u64, power: &mut i32, step: i32) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            let next = digits.checked_mul(10).and_then(|more| more.checked_add(u64::from(digit - b'0')));
            match next {
                Some(next) if *power <= 0 => {
                    *digits = next;
                    *power += step;
                }
                _ => *power = power.saturating_add(1 + step),
            }
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => self.fail("a digit is missing"),
        }
    }
}

/// `digits` times ten to the `power`.
fn scaled(digits: u64, power: i32) -> f64 {
    let mut number = digits as f64;
    let mut left = power.unsigned_abs().min(700);
    // In steps, as ten to the power of all of it may be out of reach where the result is not.
    while left > 0 {
        let step = left.min(22);
        let mut factor = 1.0;
        for _ in 0..step {
            factor *= 10.0;
        }
        number = if power < 0 { number / factor } else { number * factor };
        left -= step;
    }
    number
}

/// JSON text of `value`.
pub(crate) fn text_of(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) => quote(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                quote(key, text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
    }
}

fn quote(string: &str, text: &mut String) {
    text.push('"');
    for letter in string.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            letter if letter < ' ' => {
                text.push_str("\\u00");
                for digit in [u32::from(letter) >> 4, u32::from(letter) & 15] {
                    text.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "-0",
            "18446744073709551615",
            "-9223372036854775808",
            "1.5e3",
            "0.1",
            "1e400",
            "\"\"",
            "\"a\\u00e9\\ud83d\\ude00\\n\"",
            "[]",
            "[1,[2],{}]",
            "{\"\":{\"a/b\":[null]},\"1\":2,\"x\":1,\"x\":2}",
            "",
            "nul",
            "{1:2}",
            "{\"a\"}",
            "[1,]",
            "1 2",
            "\"\\ud800\"",
            "{\"$serde_json::private::RawValue\":\"1\"}x",
            " \t\r\n 7 \n",
            "-",
            "-a",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1E-2",
            "-1.25e-3",
            "0.000001",
            "12345678901234567890123",
            "-12345678901234567890",
            "9223372036854775808",
            "-9223372036854775809",
            "0.30000000000000004",
            "3.141592653589793238462643",
            "-0.0",
            "1e-400",
            "1e99999999999",
            "0e99999999999",
            "1e22",
            "123456789.125",
            "tru",
            "truex",
            "\"\\ud83d\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "\"\\udc00\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u00E9\\/\\b\\f\\r\\t\"",
            "\"a\nb\"",
            "\"a",
            "\"\\",
            "[1 2]",
            "[",
            "[,]",
            "{",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{\"a\":}",
            "\u{a0}1",
        ] {
            let theirs = serde_json::from_str::<Value>(text);
            match (parse(text), theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{text}"),
                (Err(_), Err(_)) => {}
                (ours, theirs) => panic!("{text}: {ours:?} but {theirs:?}"),
            }
        }
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn it_writes_what_serde_json_writes() {
        let every: String = (0..0x300).filter_map(char::from_u32).collect();
        for value in [
            serde_json::json!({ "a": [1, -2, 0.5, null, true, false, 1e300, -1.0, u64::MAX], "": {}, "b": [] }),
            serde_json::json!({ every.clone(): every }),
        ] {
            assert_eq!(text_of(&value), value.to_string());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({ "a": [1, -2, 0.5, null, true], "é\"\\\u{1}": "x" });
        assert_eq!(parse(&text_of(&value)).expect("JSON"), value);
    }
}
