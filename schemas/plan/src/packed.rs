//! Text in fewer bytes. A manifest is schemas, and a schema says the same words again and again: packed,
//! the one in a component takes a fifth of what it says.
//!
//! The form is a mark and then sequences, each of a token, literal bytes, and a copy of bytes that came
//! before: the block format of LZ4. Reading it takes so little code that a component can do it, too.

/// The first byte. No JSON text, and no UTF-8 text at all, begins with it.
const MARK: u8 = 0xff;
/// The first byte of a reference to packed text.
#[cfg(not(target_family = "wasm"))]
const ELSEWHERE: u8 = 0xfe;
/// Shortest copy; a shorter one takes more bytes than it stands for.
const SHORTEST: usize = 4;
/// How far back a copy reaches: what two bytes can say.
#[cfg(not(target_family = "wasm"))]
const REACH: usize = 0xffff;
/// What half a token says; more follows in bytes of its own.
const NIBBLE: usize = 15;
/// Longest copy that is looked for: what one further byte can say. A longer one is several.
#[cfg(not(target_family = "wasm"))]
const LONGEST: usize = SHORTEST + NIBBLE + 254;
/// Most places that are tried for one copy. More makes a long manifest slow to pack and hardly smaller.
#[cfg(not(target_family = "wasm"))]
const TRIED: usize = 32;

/// Packs `text`.
#[cfg(not(target_family = "wasm"))]
pub fn pack(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let copies = copies(bytes);
    // From the end, the fewest bytes in which the rest can be said, and the length of the copy that begins it.
    let mut best = vec![(0_usize, 0_usize); bytes.len() + 1];
    for at in (0..bytes.len()).rev() {
        best[at] = (best[at + 1].0 + 1, 0);
        for length in SHORTEST..=copies[at].0 {
            let cost = best[at + length].0 + 3 + usize::from(length - SHORTEST >= NIBBLE);
            if cost < best[at].0 {
                best[at] = (cost, length);
            }
        }
    }
    let mut packed = vec![MARK];
    let (mut at, mut literals) = (0, 0);
    while at < bytes.len() {
        match best[at].1 {
            0 => at += 1,
            length => {
                sequence(&mut packed, &bytes[literals..at], Some((length, copies[at].1)));
                at += length;
                literals = at;
            }
        }
    }
    sequence(&mut packed, &bytes[literals..], None);
    packed
}

/// Of each place, the longest earlier text that stands there again: its length and how far back it is.
#[cfg(not(target_family = "wasm"))]
fn copies(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut earlier = std::collections::HashMap::<&[u8], Vec<usize>>::new();
    let mut found = vec![(0, 0); bytes.len()];
    for (at, window) in bytes.windows(SHORTEST).enumerate() {
        let places = earlier.entry(window).or_default();
        for &place in places.iter().rev().take(TRIED).take_while(|place| at - **place <= REACH) {
            let length = bytes[place..].iter().zip(&bytes[at..]).take(LONGEST).take_while(|(a, b)| a == b).count();
            if length > found[at].0 {
                found[at] = (length, at - place);
            }
            if length == LONGEST {
                break;
            }
        }
        places.push(at);
    }
    found
}

#[cfg(not(target_family = "wasm"))]
fn sequence(packed: &mut Vec<u8>, literals: &[u8], copy: Option<(usize, usize)>) {
    let longer = copy.map_or(0, |(length, _)| length - SHORTEST);
    packed.push(low_byte(literals.len().min(NIBBLE) << 4 | longer.min(NIBBLE)));
    more(packed, literals.len());
    packed.extend_from_slice(literals);
    if let Some((_, back)) = copy {
        packed.extend_from_slice(&[low_byte(back), low_byte(back >> 8)]);
        more(packed, longer);
    }
}

/// What of `count` half a token cannot say.
#[cfg(not(target_family = "wasm"))]
fn more(packed: &mut Vec<u8>, count: usize) {
    let Some(mut left) = count.checked_sub(NIBBLE) else { return };
    while left >= 255 {
        packed.push(255);
        left -= 255;
    }
    packed.push(low_byte(left));
}

#[cfg(not(target_family = "wasm"))]
fn low_byte(number: usize) -> u8 {
    u8::try_from(number & 0xff).expect("eight bits fit")
}

/// `text` as the file `within` needs to hold it: packed, or as the place where it is packed there already. A
/// component that answers with its manifest carries it, and need not carry it twice.
#[cfg(not(target_family = "wasm"))]
pub fn pack_within(text: &str, within: &[u8]) -> Vec<u8> {
    let packed = pack(text);
    let place = within.windows(packed.len()).position(|there| there == packed);
    match place.and_then(|at| u32::try_from(at).ok()).zip(u32::try_from(packed.len()).ok()) {
        Some((at, length)) => [&[ELSEWHERE][..], &at.to_le_bytes(), &length.to_le_bytes()].concat(),
        None => packed,
    }
}

/// The text that `bytes` of the file `within` stand for: packed text, a reference to some, or text as it is.
/// `None` when what is packed is broken, or says more than `most` bytes.
#[cfg(not(target_family = "wasm"))]
pub fn unpack_within(bytes: &[u8], within: &[u8], most: usize) -> Option<Vec<u8>> {
    match bytes.split_first() {
        Some((&MARK, _)) => unpack(bytes, most).map(String::into_bytes),
        Some((&ELSEWHERE, place)) => {
            let number = |bytes: &[u8]| usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok();
            let (at, length) = place.split_at_checked(4)?;
            let from = number(at)?;
            unpack(within.get(from..from.checked_add(number(length)?)?)?, most).map(String::into_bytes)
        }
        _ => Some(bytes.to_vec()),
    }
}

/// The text in `packed`; `None` when it is no packed text, or longer than `most` bytes.
pub fn unpack(packed: &[u8], most: usize) -> Option<String> {
    let (_, mut rest) = packed.split_first().filter(|(mark, _)| **mark == MARK)?;
    let mut text = Vec::new();
    loop {
        let token = usize::from(take(&mut rest)?);
        let literals = count(token >> 4, &mut rest)?;
        let (said, after) = rest.split_at_checked(literals)?;
        text.extend_from_slice(said);
        rest = after;
        if rest.is_empty() {
            break;
        }
        let back = usize::from(take(&mut rest)?) | usize::from(take(&mut rest)?) << 8;
        let length = count(token & NIBBLE, &mut rest)? + SHORTEST;
        if length > most {
            return None;
        }
        // Byte by byte: a copy may reach into itself.
        let from = text.len().checked_sub(back)?;
        for at in from..from + length {
            text.push(*text.get(at)?);
        }
        if text.len() > most {
            return None;
        }
    }
    String::from_utf8(text).ok().filter(|text| text.len() <= most)
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn count(half: usize, rest: &mut &[u8]) -> Option<usize> {
    let mut count = half;
    if half == NIBBLE {
        loop {
            let byte = take(rest)?;
            count += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100_000;

    #[test]
    fn what_is_packed_unpacks_to_the_same() {
        let schema = r#"{"description":"One of many.","type":"string","minLength":1,"maxLength":"#;
        let long = (0..60).map(|number| format!("{schema}{number}}},")).collect::<String>();
        let far = format!("a long enough beginning{}a long enough beginning", "0123456789abcdef\u{1}é".repeat(900));
        for text in
            ["", "a", "{}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abcabcabcabcd", "näïve", &long, &far, &"x".repeat(70_000)]
        {
            let packed = pack(text);
            assert_eq!(unpack(&packed, MOST).as_deref(), Some(text));
        }
        for length in (0..40).chain(265..275).chain(520..530) {
            let text: String = (0..length).filter_map(|number| char::from_u32(0x4e00 + number)).collect();
            assert_eq!(unpack(&pack(&text), MOST), Some(text));
        }
        assert!(pack(&long).len() < long.len() / 5, "{}", pack(&long).len());
    }

    #[test]
    fn a_file_that_holds_the_packed_text_need_not_hold_it_twice() {
        let text = r#"{"name":"disk","summary":"Disk space"}"#;
        let file = [b"before", &pack(text)[..], b"after"].concat();
        let reference = pack_within(text, &file);
        assert_eq!(reference.len(), 9);
        assert_eq!(unpack_within(&reference, &file, MOST).as_deref(), Some(text.as_bytes()));
        assert_eq!(unpack_within(&reference, &file[1..], MOST), None, "what is there is no packed text");
        assert_eq!(unpack_within(&reference, &file[..9], MOST), None, "it is not there");
        assert_eq!(unpack_within(&reference[..8], &file, MOST), None, "half a reference");
        assert_eq!(unpack_within(&[0xff; 9].map(|_| ELSEWHERE), &file, MOST), None);
        assert_eq!(unpack_within(&pack_within(text, b""), b"", MOST).as_deref(), Some(text.as_bytes()));
        assert_eq!(unpack_within(text.as_bytes(), b"", 1).as_deref(), Some(text.as_bytes()));
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_with_more_than_was_asked_for() {
        let bomb = pack(&"x".repeat(MOST));
        assert!(bomb.len() < 2_000 && unpack(&bomb, MOST - 1).is_none() && unpack(&bomb, MOST).is_some());
        let good = pack(r#"{"name":"disk","names":["disk","disk"]}"#);
        for end in 0..good.len() {
            let _ = unpack(&good[..end], MOST);
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[end] = byte;
                assert!(unpack(&bad, 100).is_none_or(|text| text.len() <= 100));
            }
        }
        assert_eq!(unpack(b"{}", MOST), None);
        assert_eq!(unpack(&[], MOST), None);
        assert_eq!(unpack(&[MARK, 0x00, 0x00, 0x00], MOST), None, "a copy of nothing");
        assert_eq!(unpack(&[MARK, 0x10, 0xc3], MOST), None, "half a letter");
    }
}
