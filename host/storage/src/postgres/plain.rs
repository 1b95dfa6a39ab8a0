//! What PostgreSQL cannot keep: the character NUL, in text and in `jsonb`. It is replaced by U+FFFD where
//! agents and plugins speak, for one such character must not keep a result from being stored.

use std::borrow::Cow;

/// Text without NUL.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Text without NUL, if there is any.
pub(super) fn text_if_any(found: Option<&str>) -> Option<Cow<'_, str>> {
    found.map(text)
}

/// JSON text whose strings have no NUL, which JSON writes as `\u0000`.
pub(super) fn json(json: String) -> String {
    if !json.contains("\\u0000") {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        clean.push_str(before);
        let nul = escape.starts_with("\\u0000");
        // A backslash and what it escapes go together: `\\u0000` is a backslash and five plain letters.
        let length = if nul { 6 } else { 1 + escape[1..].chars().next().map_or(0, char::len_utf8) };
        clean.push_str(if nul { "\\ufffd" } else { &escape[..length] });
        rest = &escape[length..];
    }
    clean.push_str(rest);
    clean
}

/// The same of JSON text that may be absent.
pub(super) fn json_if_any(found: Option<&str>) -> Option<Cow<'_, str>> {
    found.map(|found| if found.contains("\\u0000") { Cow::Owned(json(found.to_owned())) } else { Cow::Borrowed(found) })
}

/// What [`json`] does, for SQL to do to a column of type `json`: earlier versions kept NUL there, and `jsonb` refuses the
/// whole of it. Two backslashes are a control character meanwhile, which no JSON text can hold.
pub(super) fn json_in_sql(column: &str) -> String {
    let aside = format!(r"replace({column}::text, E'\\\\', E'\x01')");
    format!(r"replace(replace({aside}, E'\\u0000', E'\\ufffd'), E'\x01', E'\\\\')::jsonb")
}

/// The compact form of what `jsonb` gives back, which sets a space after each colon and comma.
pub(super) fn compact(spaced: &str) -> String {
    let mut compact = String::with_capacity(spaced.len());
    let (mut in_string, mut escaped) = (false, false);
    for letter in spaced.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' if !in_string => continue,
            _ => {}
        }
        compact.push(letter);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nul_is_replaced() {
        assert!(matches!(text("plain \u{1}"), Cow::Borrowed(_)));
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            (r#"["\u0000","\u00001"]"#, r#"["\ufffd","\ufffd1"]"#),
            (r#"["\\u0000","\\\u0000","é\"\u0000"]"#, r#"["\\u0000","\\\ufffd","é\"\ufffd"]"#),
        ];
        for (written, kept) in cases {
            assert_eq!(json(written.to_owned()), kept);
        }
    }

    #[test]
    fn spaces_inside_strings_stay() {
        let cases = [
            (r#"{"a": [1, 2], "b c": "d: \", e\\"}"#, r#"{"a":[1,2],"b c":"d: \", e\\"}"#),
            ("{}", "{}"),
            (r#""a \\ b""#, r#""a \\ b""#),
        ];
        for (spaced, compacted) in cases {
            assert_eq!(compact(spaced), compacted);
        }
    }
}
