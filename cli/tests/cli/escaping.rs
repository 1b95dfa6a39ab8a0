//! Nothing that a machine says moves a cursor, hides, or turns the direction of text: over every character
//! that could, in every form in which it may be shown.

use std::ops::RangeInclusive;

use cli::output::lines::{Lines, Look};
use cli::output::{escape, table, yaml};
use plan::outcome::Stream;
use serde_json::{Value, json};

use crate::host::Host;
use crate::program::Program;

/// Source: Unicode 16, `Cc`; `Bidi_Control`; `Cf` and `Default_Ignorable_Code_Point` without those that belong
/// to visible text (signs of Arabic and Kaithi numbers, variation selectors); `Zl` and `Zp`.
const HARMFUL: [RangeInclusive<u32>; 18] = [
    0x00..=0x1f,
    0x7f..=0x9f,
    0xad..=0xad,
    0x34f..=0x34f,
    0x61c..=0x61c,
    0x115f..=0x1160,
    0x17b4..=0x17b5,
    0x180e..=0x180e,
    0x200b..=0x200f,
    0x2028..=0x202e,
    0x2060..=0x206f,
    0x3164..=0x3164,
    0xfeff..=0xfeff,
    0xffa0..=0xffa0,
    0xfff9..=0xfffb,
    0x1bca0..=0x1bca3,
    0x1d173..=0x1d17a,
    0xe0000..=0xe007f,
];

fn harmful() -> impl Iterator<Item = char> {
    HARMFUL.into_iter().flatten().filter_map(char::from_u32)
}

fn is_harmful(c: char) -> bool {
    HARMFUL.iter().any(|range| range.contains(&(c as u32)))
}

/// Whether a text for a terminal is harmless: line feeds are its own, and so are tabs where output has them.
fn assert_harmless(text: &str, tabs: bool, what: &str) {
    let found = text.chars().find(|c| is_harmful(*c) && *c != '\n' && !(tabs && *c == '\t'));
    assert_eq!(found, None, "{what}: {text:?}");
}

#[test]
fn every_harmful_character_is_written_out_in_every_form() {
    let terminal = Look { colour: false, terminal: true };
    for c in harmful() {
        let text = format!("a{c}b");
        let what = format!("U+{:04X}", c as u32);
        assert_harmless(&table::grid(&["x"], [vec![text.clone()]]), false, &what);
        assert_harmless(&table::card(&[("x", text.clone())]), false, &what);
        assert_eq!(table::grid(&["x"], [vec![text.clone()]]).lines().count(), 2, "{what}: a row is a line");
        let (mut lines, mut out) = (Lines::new(terminal), Vec::new());
        lines.push(&text, Stream::Stderr, format!("{text}\n").as_bytes(), &mut out).unwrap();
        assert_harmless(&String::from_utf8(out).unwrap(), true, &what);
        let value = json!({ (text.clone()): [text.clone()] });
        let shown = escape::json(&serde_json::to_string(&value).unwrap());
        assert_harmless(&shown, false, &what);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value, "{what}: it is the same document");
        assert_harmless(&yaml::document(&value), false, &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_full_of_harmful_names_is_listed_harmlessly() {
    let host = Host::start().await;
    let name: String = std::iter::once('n').chain(harmful()).collect();
    host.fleet(&[&name]);
    let program = Program::at(&host);
    for form in ["table", "wide", "json", "yaml", "ndjson", "name"] {
        let list = program.run(&["agent", "list", "-o", form]).await;
        list.ends_with(0);
        assert!(list.out.len() > name.len(), "{form}: {}", list.out);
        assert_harmless(&list.out, false, form);
    }
    let json = program.run(&["agent", "list", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(list["items"][0]["name"], *name);
}
