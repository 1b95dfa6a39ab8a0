//! Secrets taken out of what a process prints, before any of it is kept or shown. What holds a secret's bytes as
//! they are is found, wherever the pieces of a stream are cut; what holds them in another form is not.
//!
//! At most one secret's length of bytes is held back: those that could be its beginning.

use std::collections::BTreeSet;

/// What stands in a secret's place.
pub const BLOT: &[u8] = b"***";
/// A secret shorter than this is not looked for: it would be found everywhere.
pub const MIN_SECRET_BYTES: usize = 4;

/// What one stream is looked through for.
#[derive(Debug, Default)]
pub struct Blots(Vec<Finder>);

impl Blots {
    /// Looks for each of `secrets`, and for each line of those that have several, as many programs print them.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Blots {
        let mut wanted = BTreeSet::new();
        for secret in secrets {
            wanted.extend([secret].into_iter().chain(secret.lines().map(str::trim)).map(str::as_bytes));
        }
        let mut finders: Vec<Finder> =
            wanted.into_iter().filter(|secret| secret.len() >= MIN_SECRET_BYTES).map(Finder::of).collect();
        // A secret within another is looked for in what is left.
        finders.sort_by_key(|finder| std::cmp::Reverse(finder.secret.len()));
        Blots(finders)
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes; answers those that may go on.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.iter_mut().fold(bytes.to_vec(), |bytes, finder| finder.pass(&bytes))
    }

    /// The stream is over, or interrupted: what was held back.
    pub fn rest(&mut self) -> Vec<u8> {
        self.0.iter_mut().fold(Vec::new(), |bytes, finder| {
            let mut passed = finder.pass(&bytes);
            passed.extend(finder.rest());
            passed
        })
    }
}

/// Looks for one secret, reading each byte once (Knuth, Morris and Pratt's way).
struct Finder {
    secret: Vec<u8>,
    /// For each beginning of the secret the length of the longest shorter beginning that it ends with.
    falls_to: Vec<usize>,
    /// So many bytes of the secret are held back.
    held: usize,
}

impl std::fmt::Debug for Finder {
    /// Nothing of it, for what prints it may be a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Finder(…)")
    }
}

impl Finder {
    fn of(secret: &[u8]) -> Finder {
        let mut falls_to = vec![0; secret.len()];
        for at in 1..secret.len() {
            let mut length: usize = falls_to[at - 1];
            while length > 0 && secret[length] != secret[at] {
                length = falls_to[length - 1];
            }
            falls_to[at] = length + usize::from(secret[length] == secret[at]);
        }
        Finder { secret: secret.to_vec(), falls_to, held: 0 }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            while self.held > 0 && self.secret[self.held] != *byte {
                let still = self.falls_to[self.held - 1];
                passed.extend_from_slice(&self.secret[..self.held - still]);
                self.held = still;
            }
            if self.secret[self.held] != *byte {
                passed.push(*byte);
                continue;
            }
            self.held += 1;
            if self.held == self.secret.len() {
                passed.extend_from_slice(BLOT);
                self.held = 0;
            }
        }
        passed
    }

    fn rest(&mut self) -> Vec<u8> {
        self.secret[..std::mem::take(&mut self.held)].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(secrets: &[&str], pieces: &[&str]) -> String {
        let mut blots = Blots::of(secrets.iter().copied());
        let mut passed: Vec<u8> = pieces.iter().flat_map(|piece| blots.pass(piece.as_bytes())).collect();
        passed.extend(blots.rest());
        String::from_utf8(passed).expect("text")
    }

    #[test]
    fn secrets_are_blotted_out_wherever_the_pieces_are_cut() {
        let (secrets, text) =
            (["hunter2", "hunt", "aabaab", "päss"], "a hunter2 hunt aaabaabaab hunthunter2 päss aabaa");
        let blotted = "a *** *** a***aab ****** *** aabaa";
        assert_eq!(through(&secrets, &[text]), blotted);
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let (one, other) = text.split_at(at);
            assert_eq!(through(&secrets, &[one, other]), blotted, "cut at {at}");
        }
        let single: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(through(&secrets, &single.iter().map(String::as_str).collect::<Vec<_>>()), blotted);
    }

    #[test]
    fn lines_of_a_secret_are_secrets_and_what_is_too_short_is_none() {
        let key = "-----BEGIN KEY-----\nMIIabc\n  \nx\n-----END KEY-----\n";
        assert_eq!(through(&[key], &["> MIIabc\n> x\n"]), "> ***\n> x\n");
        assert_eq!(through(&[key], &[key]), "***");
        assert_eq!(through(&["line\n"], &["line"]), "***");
        assert_eq!(through(&["", "abc"], &["abc abc"]), "abc abc");
        assert!(Blots::of([]).is_empty());
    }

    #[test]
    fn no_more_is_held_back_than_could_be_a_beginning() {
        let mut blots = Blots::of(["secret"]);
        assert_eq!(blots.pass(b"Password: se"), b"Password: ");
        assert_eq!(blots.pass(b"t"), b"set");
        assert_eq!((blots.pass(b"secre"), blots.rest(), blots.rest()), (vec![], b"secre".to_vec(), vec![]));
        assert!(!format!("{blots:?}").contains("secret"));
    }
}
