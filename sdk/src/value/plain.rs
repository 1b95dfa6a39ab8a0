//! How numbers, text, lists and maps are read and written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Fill, FromJson, Reader, ToJson};

impl Fill for bool {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        match value {
            Value::Bool(read) => *self = read,
            other => reader.wrong_type("a boolean", &other),
        }
    }
}

impl Fill for f64 {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        match value.as_f64() {
            Some(read) => *self = read,
            None => reader.wrong_type("a number", &value),
        }
    }
}

impl Fill for String {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        match value {
            Value::String(text) => *self = text,
            other => reader.wrong_type("a string", &other),
        }
    }
}

impl Fill for () {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        if !value.is_null() {
            reader.wrong_type("null", &value);
        }
    }
}

impl Fill for Value {
    fn fill(&mut self, value: Value, _: &mut Reader) {
        *self = value;
    }
}

impl<T: FromJson> Fill for Option<T> {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        self.insert(T::blank()).fill(value, reader);
    }
}

impl<T: FromJson> Fill for Vec<T> {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        let Value::Array(items) = value else { return reader.wrong_type("a list", &value) };
        self.clear();
        for (index, item) in items.into_iter().enumerate() {
            let mut read = T::blank();
            reader.at_index(index, &mut read, item);
            self.push(read);
        }
    }
}

impl<T: FromJson> Fill for BTreeMap<String, T> {
    fn fill(&mut self, value: Value, reader: &mut Reader) {
        let Value::Object(items) = value else { return reader.wrong_type("an object", &value) };
        self.clear();
        for (key, item) in items {
            let mut read = T::blank();
            reader.at(&key, &mut read, item);
            self.insert(key, read);
        }
    }
}

macro_rules! blank {
    ($($ty:ty: $blank:expr;)*) => {$(
        impl FromJson for $ty {
            fn blank() -> $ty {
                $blank
            }
        }
    )*};
}

blank! {
    bool: false;
    f64: 0.0;
    String: String::new();
    (): ();
    Value: Value::Null;
}

impl<T: FromJson> FromJson for Option<T> {
    fn blank() -> Option<T> {
        None
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn blank() -> Vec<T> {
        Vec::new()
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn blank() -> BTreeMap<String, T> {
        BTreeMap::new()
    }
}

macro_rules! integers {
    ($($ty:ident)*) => {$(
        impl Fill for $ty {
            fn fill(&mut self, value: Value, reader: &mut Reader) {
                if let Some(read) = reader.integer(&value, $ty::MIN as i64, $ty::MAX as u64) {
                    *self = read as $ty;
                }
            }
        }

        impl FromJson for $ty {
            fn blank() -> $ty {
                0
            }
        }

        impl ToJson for $ty {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl ToJson for bool {
    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

impl ToJson for f64 {
    fn to_json(&self) -> Value {
        Value::from(*self)
    }
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl ToJson for () {
    fn to_json(&self) -> Value {
        Value::Null
    }
}

impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        match self {
            Some(value) => value.to_json(),
            None => Value::Null,
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        let mut list = Vec::with_capacity(self.len());
        for item in self {
            list.push(item.to_json());
        }
        Value::Array(list)
    }
}

impl<T: ToJson> ToJson for BTreeMap<String, T> {
    fn to_json(&self) -> Value {
        // One by one: collecting into a map would bring a sort into every component.
        let mut object = Map::new();
        for (key, value) in self {
            object.insert(key.clone(), value.to_json());
        }
        Value::Object(object)
    }
}
