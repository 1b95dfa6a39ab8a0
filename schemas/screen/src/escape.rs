//! Text of machines made harmless for a terminal: it may not move the cursor, recolour, hide or
//! reorder what a person reads.

use std::fmt::Write as _;

/// Whether a terminal would do something else with this than show it. Line feed and tab are not
/// among them: what they may do depends on the place.
pub fn is_deceptive(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // C0, DEL, C1.
        c if c.is_control() => true,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Zero-width space and joiners, left-to-right and right-to-left marks.
        '\u{200b}'..='\u{200f}' => true,
        // Line and paragraph separators, bidirectional embeddings and overrides.
        '\u{2028}'..='\u{202e}' => true,
        // Word joiner, invisible operators, bidirectional isolates, deprecated format characters.
        '\u{2060}'..='\u{206f}' => true,
        // Byte order mark, interlinear annotations.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        // Letters that show nothing: the grapheme joiner, fillers of Hangul, inherent vowels of Khmer.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' => true,
        // Controls of shorthand and of musical notation.
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => true,
        // Tags: an invisible copy of ASCII.
        '\u{e0000}'..='\u{e00ff}' => true,
        _ => false,
    }
}

/// Appends `text` with deceptive characters written out; line feeds and tabs stay.
fn push_text(text: &str, out: &mut String) {
    for c in text.chars() {
        if !is_deceptive(c) {
            out.push(c);
        } else if (c as u32) < 0x100 {
            let _ = write!(out, "\\x{:02x}", c as u32);
        } else {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
    }
}

/// Bytes as a terminal may see them: invalid UTF-8 and deceptive characters are written out.
pub fn bytes(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        push_text(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Text as a terminal may see it; line feeds and tabs stay.
pub fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    push_text(raw, &mut out);
    out
}

/// Text that has to stay on one line: line feeds and tabs are written out too.
pub fn line(raw: &str) -> String {
    text(raw).replace('\n', "\\n").replace('\t', "\\t")
}

/// JSON text with deceptive characters as `\u` escapes: the same document, and harmless.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        // Below a space JSON has escaped already; what is left there is the layout's own.
        if is_deceptive(c) {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (raw, shown) in [
            ("plain grün 日本 🚀", "plain grün 日本 🚀"),
            ("a\tb\n", "a\tb\n"),
            ("\u{1b}[31mred\u{1b}[0m", "\\x1b[31mred\\x1b[0m"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("over\rwritten", "over\\x0dwritten"),
            ("back\u{8}space", "back\\x08space"),
            ("nul\0", "nul\\x00"),
            ("del\u{7f}", "del\\x7f"),
            ("c1 \u{9b}2J", "c1 \\x9b2J"),
            ("rtl \u{202e}txt.exe", "rtl \\u{202e}txt.exe"),
            ("isolate \u{2066}x\u{2069}", "isolate \\u{2066}x\\u{2069}"),
            ("mark \u{61c}\u{200e}\u{200f}", "mark \\u{61c}\\u{200e}\\u{200f}"),
            ("zero\u{200b}width\u{200d}\u{2060}\u{feff}", "zero\\u{200b}width\\u{200d}\\u{2060}\\u{feff}"),
            ("line\u{2028}paragraph\u{2029}", "line\\u{2028}paragraph\\u{2029}"),
            ("soft\u{ad}hyphen", "soft\\xadhyphen"),
            ("tag\u{e0041}", "tag\\u{e0041}"),
        ] {
            assert_eq!(text(raw), shown, "{raw:?}");
            assert_eq!(bytes(raw.as_bytes()), shown, "{raw:?} as bytes");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_written_out() {
        assert_eq!(bytes(b"ok \xff\xfe end \xc3"), "ok \\xff\\xfe end \\xc3");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(line("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        let value = serde_json::json!({"k\u{202e}": "a\u{1b}\u{9b}\u{200b}\u{e0041}\n", "n": [1, true, null]});
        let shown = json(&serde_json::to_string_pretty(&value).expect("writes"));
        assert!(!shown.chars().any(is_deceptive), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("reads"), value);
    }
}
