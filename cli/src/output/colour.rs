//! One colour for each name, the same one every day.

/// Colours that can be read on light and dark ground; red is kept for faults.
const PALETTE: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];

/// The SGR code for a name: FNV-1a, so that it depends on nothing but the name.
pub fn of_name(name: &str) -> u8 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Neighbouring names differ in their last byte only, which FNV alone leaves in the low bits.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    PALETTE[((mixed >> 33) % PALETTE.len() as u64) as usize]
}

/// The word in this colour.
pub fn paint(code: u8, word: &str) -> String {
    format!("\x1b[{code}m{word}\x1b[0m")
}

/// Red: faults.
pub const RED: u8 = 31;
/// Green: what is well.
pub const GREEN: u8 = 32;
/// Yellow: what deserves a look.
pub const YELLOW: u8 = 33;
/// Bold: headings.
pub const BOLD: u8 = 1;
/// Dim: chatter.
pub const DIM: u8 = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_keep_their_colour_and_neighbours_differ() {
        assert_eq!(of_name("web-01"), of_name("web-01"));
        let used: BTreeSet<u8> = (0..40).map(|n| of_name(&format!("web-{n:02}"))).collect();
        assert!(used.len() >= 7, "{used:?}");
        assert!(!used.contains(&RED));
    }
}
