//! The plugin's own reader of YAML, held against a whole one: what it takes, it takes alike.

use compose::file::Node;
use compose::file::read::read;
use saphyr_parser::{Event, Parser, ScalarStyle};

/// As the other reader sees it; `None` when it refuses. Of what our reader leaves out, tags and merges, nothing is asked.
fn theirs(text: &str) -> Option<Node> {
    let mut open: Vec<(usize, Vec<Node>, bool)> = Vec::new();
    let mut anchors: Vec<(usize, Node)> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (node, anchor) = match event.ok()?.0 {
            Event::Scalar(text, style, anchor, _) => {
                (Node::Text { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::Alias(id) => (anchors.iter().rev().find(|(known, _)| *known == id)?.1.clone(), 0),
            Event::SequenceStart(anchor, _) => {
                open.push((anchor, Vec::new(), false));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push((anchor, Vec::new(), true));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, items, is_map) = open.pop()?;
                let node = match is_map {
                    false => Node::List(items),
                    true => Node::Map(
                        items
                            .chunks(2)
                            .map(|pair| Some((pair[0].text()?.to_owned(), pair[1].clone())))
                            .collect::<Option<_>>()?,
                    ),
                };
                (node, anchor)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                continue;
            }
        };
        if anchor != 0 {
            anchors.push((anchor, node.clone()));
        }
        match open.last_mut() {
            Some((_, items, _)) => items.push(node),
            None => root = Some(node),
        }
    }
    root
}

const FILES: &[&str] = &[
    "services:\n  web:\n    image: nginx:1.27 # web\n    ports: [\"80:80\", '443:443', 9000]\n    environment:\n    - A=b\n    - C: d\n      E: f\n",
    "x-a: &a\n  k: v\n\ny:\n  - *a\n  - &b [1, 2]\n  - *b\n  -\n    - c\n  - - d\n    - e\n  -\n",
    "a: |\n  x\n   y\n\n  z\n\n\nb: >-\n  x\n  y\n\n  z\n    more\n  w\nc: |+\n  k\n\nd: |2\n    x\ne: >+\n\n  q\n\n",
    "a: plain text\n  goes on\n\n  further # c\nb: \"two\n  lines \\\n  three\\n\\u00e9\"\nc: 'it''s\n\n  x'\n",
    "? k\n: v\n? l\n? \"m n\"\n: - 1\n  - 2\n",
    "{a: b, \"c\":d, e, f: , g: [x y, z: 1, {}], h: {i: j}, }",
    "a: [\n  b,   # c\n  d\n  e,\n]\nf: {\n  g: h\n}\n",
    "---\na: http://x/y#z\nb: a:b\nc: -x\nd: ::x\ne: ?x\n...\n",
    "- a\n-  b: c\n   d: e\n- \n  f: g\n",
    "a:\n- b\n-   c\nd: !x\n",
    "key with blanks  : v\n'q' : w\n\"r\": s\n",
    "a: \"\\x41\\t\\/ \\\\ \\\" \\\n   b\"\nb: '\\n'\n",
    "a: >\n\n\n  folded\n  text\n\n   set in\n   twice\n\n  end\n\n# comment\nb: c\n",
    "env:\n  A: \n  B: ~\n  C: ''\nlist: []\nmap: {}\n",
    "\u{feff}a: é 😀\r\nb: c\r\n",
];

/// What is written where a file is mutated.
const PIECES: &[&str] = &[
    " ", "  ", "\n", "\n  ", "\n\n", "\t", ":", ": ", "- ", "-", "? ", "#", " # c", ",", "[", "]", "{", "}", "'", "\"",
    "|", ">", "|-\n", ">+\n", "&a ", "*a", "!t ", "%", "@", "---\n", "...\n", "a", "a: b", "\\", "\\n", "x\n", "<",
    "é", "0", "~", "2",
];

#[test]
fn a_file_is_read_as_another_reader_reads_it() {
    for file in FILES.iter().filter(|file| !file.contains('!')) {
        let own = read(file).unwrap_or_else(|failure| panic!("{file}\n{failure}"));
        assert_eq!(Some(own), theirs(file), "{file}");
    }
}

#[test]
fn what_a_slip_of_the_pen_makes_of_a_file_is_refused_or_read_alike() {
    let rounds = std::env::var("VIWORKS_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000_u64);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut chance = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    let (mut alike, mut refused_here, mut taken_here) = (0_u64, Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut file: Vec<char> = FILES[chance(FILES.len())].chars().collect();
        for _ in 0..=chance(2) {
            let at = chance(file.len());
            let gone = chance(3).min(file.len() - at);
            let piece = if chance(4) == 0 { "" } else { PIECES[chance(PIECES.len())] };
            file.splice(at..at + gone, piece.chars());
            if file.is_empty() {
                file.push('a');
            }
        }
        let file: String = file.into_iter().collect();
        // Whether blanks at the very end are a line is a matter of taste.
        let file = file.trim_end_matches([' ', '\t']).to_owned();
        // Merge keys are read otherwise on purpose, and nobody agrees on a byte order mark that something precedes.
        if file.contains("<<") || file.chars().skip(1).any(|letter| letter == '\u{feff}') {
            continue;
        }
        match (read(&file), theirs(&file)) {
            (Ok(own), Some(other)) => {
                assert_eq!(own, other, "{file:?}");
                alike += 1;
            }
            (Err(failure), Some(_)) => refused_here.push((file, failure.to_string())),
            (Ok(_), None) => taken_here.push(file),
            (Err(_), None) => {}
        }
    }
    if std::env::var_os("VIWORKS_FUZZ").is_some() {
        for (file, failure) in refused_here.iter().take(40) {
            eprintln!("refused here: {file:?}: {failure}");
        }
        for file in taken_here.iter().take(40) {
            eprintln!("taken here: {file:?}");
        }
        eprintln!("{alike} alike, {} refused here, {} taken here", refused_here.len(), taken_here.len());
    }
    assert!(alike > rounds / 10, "{alike} of {rounds}");
}
