//! What goes into a plan: words, of the plugin or of the caller, values that become words, and text that may
//! be absent.

use crate::text::text_of;

/// One argument, and whether it comes from the caller.
///
/// ```
/// use viworks_sdk::builder::Word;
///
/// let (ours, theirs): (Word, Word) = ("-v".into(), String::from("-v").into());
/// assert_ne!(ours, theirs, "what comes from the caller is looked at twice");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub(super) text: String,
    pub(super) from_caller: bool,
}

impl From<&'static str> for Word {
    /// Text that is part of the plugin.
    fn from(text: &'static str) -> Word {
        Word { text: text.to_owned(), from_caller: false }
    }
}

impl From<String> for Word {
    /// Text from the caller, or made of it.
    fn from(text: String) -> Word {
        Word { text, from_caller: true }
    }
}

impl From<&String> for Word {
    /// Text from the caller.
    fn from(text: &String) -> Word {
        Word { text: text.clone(), from_caller: true }
    }
}

/// Text or nothing.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// // Text and options of text go into `cwd` and `stdin` alike.
/// let some = Some("/srv".to_owned());
/// assert_eq!(program("ls").cwd(&some).plan(), program("ls").cwd("/srv").plan());
/// ```
#[derive(Clone, Debug)]
pub struct MaybeText(pub(super) Option<String>);

impl From<&str> for MaybeText {
    fn from(text: &str) -> MaybeText {
        MaybeText(Some(text.to_owned()))
    }
}

impl From<String> for MaybeText {
    fn from(text: String) -> MaybeText {
        MaybeText(Some(text))
    }
}

impl From<&String> for MaybeText {
    fn from(text: &String) -> MaybeText {
        MaybeText(Some(text.clone()))
    }
}

impl From<Option<String>> for MaybeText {
    fn from(text: Option<String>) -> MaybeText {
        MaybeText(text)
    }
}

impl From<&Option<String>> for MaybeText {
    fn from(text: &Option<String>) -> MaybeText {
        MaybeText(text.clone())
    }
}

/// None, one or several values for [`Draft::opt`](super::Draft::opt) and [`Draft::operand`](super::Draft::operand).
///
/// ```
/// use viworks_sdk::builder::Values;
///
/// let mut given = Vec::new();
/// vec![80_u16, 443].each(&mut |value| given.push(value.to_owned()));
/// None::<String>.each(&mut |value| given.push(value.to_owned()));
/// assert_eq!(given, ["80", "443"]);
/// ```
pub trait Values {
    /// Gives each value as text, in order.
    fn each(&self, give: &mut dyn FnMut(&str));
}

impl Values for str {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        give(self);
    }
}

impl Values for String {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        give(self);
    }
}

impl<T: Values + ?Sized> Values for &T {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        T::each(self, give);
    }
}

impl<T: Values> Values for Option<T> {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        if let Some(value) = self {
            value.each(give);
        }
    }
}

impl<T: Values> Values for Vec<T> {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        for value in self {
            value.each(give);
        }
    }
}

macro_rules! number_values {
    ($($ty:ty)*) => {$(
        impl Values for $ty {
            fn each(&self, give: &mut dyn FnMut(&str)) {
                give(&self.to_string());
            }
        }
    )*};
}

number_values! { u8 u16 u32 u64 i8 i16 i32 i64 bool }

impl Values for f64 {
    fn each(&self, give: &mut dyn FnMut(&str)) {
        // As JSON writes it: a component has that already, and the standard library's way costs 20 KB more.
        give(&text_of(&(*self).into()));
    }
}

macro_rules! number_words {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Word {
            /// A number from the caller.
            fn from(number: $ty) -> Word {
                Word { text: number.to_string(), from_caller: true }
            }
        }
    )*};
}

number_words! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl From<f64> for Word {
    /// A number from the caller.
    fn from(number: f64) -> Word {
        Word { text: text_of(&number.into()), from_caller: true }
    }
}
