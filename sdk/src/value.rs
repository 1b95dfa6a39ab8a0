//! Between JSON and Rust values. Reading collects every fault with its JSON Pointer instead of
//! stopping at the first.
//!
//! A value is made empty and then filled in place, so that the derives need to write tables only: the
//! code that reads and writes a struct is here, once, and not in every component a hundred times.

mod plain;

use serde_json::{Map, Value};

use crate::failure::{Failure, Issue, push_index, push_key};
use crate::text::text_of;

/// A value that is filled from JSON in place.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::value::{Fill, Reader};
///
/// let mut port = 0_u16;
/// port.fill(json!(80), &mut Reader::default());
/// assert_eq!(port, 80);
/// ```
pub trait Fill {
    /// Reads `value` into `self`; tells `reader` of faults, and may leave anything behind them.
    fn fill(&mut self, value: Value, reader: &mut Reader);
}

/// A type that reads itself from JSON.
///
/// ```
/// use viworks_sdk::json::{Value, json};
/// use viworks_sdk::schema::{Node, Schema};
/// use viworks_sdk::value::{Fill, FromJson, Reader, read};
///
/// /// A port, as number or as text.
/// #[derive(Debug, PartialEq)]
/// struct Port(u16);
///
/// impl Schema for Port {
///     const NODE: &'static Node = &Node::Any;
/// }
/// impl Fill for Port {
///     fn fill(&mut self, value: Value, reader: &mut Reader) {
///         match value.as_str().map(str::parse) {
///             Some(Ok(port)) => self.0 = port,
///             Some(Err(_)) => reader.refuse("port", "is no port"),
///             None => self.0.fill(value, reader),
///         }
///     }
/// }
/// impl FromJson for Port {
///     fn blank() -> Port {
///         Port(0)
///     }
/// }
/// assert_eq!(read::<Vec<Port>>(json!([80, "443"])), Ok(vec![Port(80), Port(443)]));
/// assert_eq!(read::<Vec<Port>>(json!([80, "http"])).unwrap_err().issues[0].pointer, "/1");
/// ```
pub trait FromJson: Fill + Sized {
    /// What it is before anything is read: the defaults of its fields.
    fn blank() -> Self;
}

/// A type that writes itself as JSON.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::value::ToJson;
///
/// assert_eq!(vec![1_u8, 2].to_json(), json!([1, 2]));
/// assert!(None::<u8>.is_absent());
/// ```
pub trait ToJson {
    /// The JSON form.
    fn to_json(&self) -> Value;

    /// Whether a field of this value is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// What reading and writing must know of a field; what else there is to say of it is in its schema, which a
/// component leaves behind once it is described. Written by the derives.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its JSON name.
    pub name: &'static str,
    /// What a program calls it, where it prints one.
    pub printed: &'static str,
    /// Whether it must be present.
    pub required: bool,
    /// Whether its text may begin with `-` wherever it stands.
    pub allow_dash: bool,
}

/// Reads `value` as `T`.
///
/// # Errors
/// Every fault of `value`, as issues with JSON Pointers.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::value::read;
///
/// assert_eq!(read::<Vec<u8>>(json!([1, 2])), Ok(vec![1, 2]));
/// let refused = read::<Vec<u8>>(json!([1, 256, "x"])).unwrap_err();
/// let pointers: Vec<_> = refused.issues.iter().map(|issue| issue.pointer.as_str()).collect();
/// assert_eq!(pointers, ["/1", "/2"]);
/// ```
pub fn read<T: FromJson>(value: Value) -> Result<T, Failure> {
    let mut read = T::blank();
    Reader::default().finish(&mut read, value)?;
    Ok(read)
}

/// Where a reading stands and what it found so far.
///
/// ```
/// use viworks_sdk::json::{Value, json};
/// use viworks_sdk::value::{Fill, FromJson, Reader, read};
///
/// /// An even number.
/// #[derive(Debug)]
/// struct Even(u32);
///
/// impl Fill for Even {
///     fn fill(&mut self, value: Value, reader: &mut Reader) {
///         self.0.fill(value, reader);
///         if self.0 % 2 == 1 {
///             reader.refuse("even", "is odd");
///         }
///     }
/// }
/// impl FromJson for Even {
///     fn blank() -> Even {
///         Even(0)
///     }
/// }
/// assert_eq!(read::<Even>(json!(3)).unwrap_err().issues[0].keyword, "even");
/// ```
#[derive(Default)]
pub struct Reader {
    pointer: String,
    issues: Vec<Issue>,
    pub(crate) dashes: Vec<String>,
}

impl Reader {
    pub(crate) fn finish(&mut self, into: &mut dyn Fill, value: Value) -> Result<(), Failure> {
        into.fill(value, self);
        match self.issues.is_empty() {
            true => Ok(()),
            false => Err(Failure::issues(std::mem::take(&mut self.issues))),
        }
    }

    /// Notes a fault at the present place.
    ///
    /// ```
    /// use viworks_sdk::json::{Value, json};
    /// use viworks_sdk::value::{Fill, FromJson, Reader, read};
    ///
    /// #[derive(Debug)]
    /// struct Odd;
    ///
    /// impl Fill for Odd {
    ///     fn fill(&mut self, value: Value, reader: &mut Reader) {
    ///         let _ = value;
    ///         reader.refuse("never", "is never right");
    ///     }
    /// }
    /// impl FromJson for Odd {
    ///     fn blank() -> Odd {
    ///         Odd
    ///     }
    /// }
    /// assert_eq!(read::<Odd>(json!(1)).unwrap_err().message, "is never right");
    /// ```
    pub fn refuse(&mut self, keyword: &str, message: &str) {
        let (pointer, keyword, message) = (self.pointer.clone(), keyword.to_owned(), message.to_owned());
        self.issues.push(Issue { pointer, keyword, message });
    }

    /// Notes that `value` should have been `expected`.
    ///
    /// ```
    /// use viworks_sdk::json::{Value, json};
    /// use viworks_sdk::value::{Fill, FromJson, Reader, read};
    ///
    /// #[derive(Debug)]
    /// struct Odd;
    ///
    /// impl Fill for Odd {
    ///     fn fill(&mut self, value: Value, reader: &mut Reader) {
    ///         reader.wrong_type("a colour", &value);
    ///     }
    /// }
    /// impl FromJson for Odd {
    ///     fn blank() -> Odd {
    ///         Odd
    ///     }
    /// }
    /// assert_eq!(read::<Odd>(json!(1)).unwrap_err().message, "is a number; a colour is expected");
    /// ```
    pub fn wrong_type(&mut self, expected: &str, value: &Value) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.refuse("type", &format!("is {found}; {expected} is expected"));
    }

    /// Reads `value` into `into` one level deeper, at `key`.
    ///
    /// ```
    /// use viworks_sdk::json::{Value, json};
    /// use viworks_sdk::value::{Fill, FromJson, Reader, read};
    ///
    /// #[derive(Debug)]
    /// struct Odd;
    ///
    /// impl Fill for Odd {
    ///     fn fill(&mut self, value: Value, reader: &mut Reader) {
    ///         reader.at("inner", &mut 0_u8, value);
    ///     }
    /// }
    /// impl FromJson for Odd {
    ///     fn blank() -> Odd {
    ///         Odd
    ///     }
    /// }
    /// assert_eq!(read::<Odd>(json!(256)).unwrap_err().issues[0].pointer, "/inner");
    /// ```
    pub fn at(&mut self, key: &str, into: &mut dyn Fill, value: Value) {
        let before = self.pointer.len();
        push_key(&mut self.pointer, key);
        into.fill(value, self);
        self.pointer.truncate(before);
    }

    /// Reads an item of a list into `into`.
    pub(crate) fn at_index(&mut self, index: usize, into: &mut dyn Fill, item: Value) {
        let before = self.pointer.len();
        push_index(&mut self.pointer, index);
        into.fill(item, self);
        self.pointer.truncate(before);
    }

    /// Notes a fault one level deeper, at `key`.
    ///
    /// ```
    /// use viworks_sdk::json::{Value, json};
    /// use viworks_sdk::value::{Fill, FromJson, Reader, read};
    ///
    /// #[derive(Debug)]
    /// struct Odd;
    ///
    /// impl Fill for Odd {
    ///     fn fill(&mut self, value: Value, reader: &mut Reader) {
    ///         let _ = value;
    ///         reader.refuse_at("name", "required", "is missing");
    ///     }
    /// }
    /// impl FromJson for Odd {
    ///     fn blank() -> Odd {
    ///         Odd
    ///     }
    /// }
    /// assert_eq!(read::<Odd>(json!({})).unwrap_err().to_string(), "invalid_args: /name: is missing");
    /// ```
    pub fn refuse_at(&mut self, key: &str, keyword: &str, message: &str) {
        let before = self.pointer.len();
        push_key(&mut self.pointer, key);
        self.refuse(keyword, message);
        self.pointer.truncate(before);
    }

    /// Reads an object's fields into the slots, one for each. A closed object has no others; in what a program
    /// printed others are ignored, and `null` means absent. Called by the derives.
    #[doc(hidden)]
    pub fn object(&mut self, value: Value, closed: bool, fields: &[Slot], slots: &mut [&mut dyn Fill]) {
        let Value::Object(mut map) = value else { return self.wrong_type("an object", &value) };
        if closed {
            for name in map.keys().filter(|name| !fields.iter().any(|field| field.name == name.as_str())) {
                self.unknown(name, fields);
            }
        }
        for (field, slot) in fields.iter().zip(slots) {
            // Taken in place: removing would bring the rebalancing of trees into every component.
            let name = if closed { field.name } else { field.printed };
            match map.get_mut(name).map(Value::take).filter(|value| closed || !value.is_null()) {
                Some(value) => {
                    if field.allow_dash {
                        let mut pointer = self.pointer.clone();
                        push_key(&mut pointer, name);
                        self.dashes.push(pointer);
                    }
                    self.at(name, *slot, value);
                }
                None if field.required => self.refuse_at(name, "required", "is missing"),
                None => {}
            }
        }
    }

    fn unknown(&mut self, name: &str, fields: &[Slot]) {
        let mut message = format!("`{name}` is not a field here; ");
        message.push_str(if fields.is_empty() { "there are none" } else { "fields are: " });
        for (index, field) in fields.iter().enumerate() {
            message.push_str(if index == 0 { "" } else { ", " });
            message.push_str(field.name);
        }
        self.refuse_at(name, "additionalProperties", &message);
    }

    /// Which of `words` it is. Called by the derives.
    #[doc(hidden)]
    pub fn choice(&mut self, value: &Value, words: &[&str]) -> Option<usize> {
        let Value::String(text) = value else {
            self.wrong_type("a string", value);
            return None;
        };
        let found = words.iter().position(|word| *word == text.as_str());
        if found.is_none() {
            let mut message = format!("`{text}` is not one of: ");
            for (index, word) in words.iter().enumerate() {
                message.push_str(if index == 0 { "" } else { ", " });
                message.push_str(word);
            }
            self.refuse("enum", &message);
        }
        found
    }

    /// The bits of a whole number between the bounds. JSON Schema counts `1.0` as one, so it is read as one.
    fn integer(&mut self, value: &Value, low: i64, high: u64) -> Option<u64> {
        let (negative, bits) = match (value.as_u64(), value.as_i64(), value.as_f64()) {
            (Some(number), _, _) => (false, number),
            (None, Some(number), _) => (true, number as u64),
            (None, None, Some(number)) if number.fract() == 0.0 && number.abs() < 9.0e18 => {
                (number < 0.0, number as i64 as u64)
            }
            _ => {
                self.wrong_type("an integer", value);
                return None;
            }
        };
        let fits = if negative { bits as i64 >= low } else { bits <= high };
        if !fits {
            self.refuse("range", &format!("{} is outside {low} to {high}", text_of(value)));
        }
        fits.then_some(bits)
    }
}

/// Writes an object's fields, one value for each. Called by the derives.
#[doc(hidden)]
pub fn object(fields: &[Slot], values: &[&dyn ToJson]) -> Value {
    let mut object = Map::new();
    for (field, value) in fields.iter().zip(values) {
        if !value.is_absent() {
            object.insert(field.name.to_owned(), value.to_json());
        }
    }
    Value::Object(object)
}
