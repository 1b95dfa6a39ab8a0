//! From the tree to text that every YAML reader takes alike: JSON, but for plain scalars of harmless
//! letters, which stay as they were because whether `0755` or `1.10` is a number is for compose to say.

use super::Node;

/// The text of `node`, on one line.
pub fn write(node: &Node) -> String {
    let mut text = String::new();
    put(node, &mut text);
    text.push('\n');
    text
}

fn put(node: &Node, out: &mut String) {
    match node {
        Node::Text { text, plain: true } if node.is_null() || is_harmless(text) => {
            out.push_str(if node.is_null() { "null" } else { text });
        }
        Node::Text { text, .. } => quote(text, out),
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                put(item, out);
            }
            out.push(']');
        }
        Node::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                quote(key, out);
                // The blank is what YAML wants and JSON allows.
                out.push_str(": ");
                put(value, out);
            }
            out.push('}');
        }
    }
}

/// Whether a plain scalar can stand between commas and brackets without being anything but itself.
fn is_harmless(text: &str) -> bool {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'));
    let mut bytes = text.bytes();
    let begins = match bytes.next() {
        Some(b'+' | b'-' | b'.') => bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.'),
        Some(first) => first.is_ascii_alphanumeric() || first == b'_',
        None => false,
    };
    letters && begins
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Line ends to some readers, or not printable to some.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' => {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (u32::from(letter) >> shift) & 15;
                    out.extend(char::from_digit(digit, 16));
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
