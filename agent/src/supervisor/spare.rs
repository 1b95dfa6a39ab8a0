//! Guards that guard nothing. One under which nothing is left is as good as new, and to start another costs more than
//! most short steps.

use std::time::Duration;

use tokio::time::Instant;

/// Most that are kept: as many as an agent runs at once when its policy does not say.
pub const MAX_SPARE: usize = 4;
/// How long one is kept that nobody takes.
pub const KEEP_SPARE: Duration = Duration::from_secs(10);

/// What is kept, the oldest first.
#[derive(Debug)]
pub struct Spares<T> {
    kept: Vec<(Instant, T)>,
}

impl<T> Default for Spares<T> {
    fn default() -> Spares<T> {
        Spares { kept: Vec::new() }
    }
}

impl<T> Spares<T> {
    /// Keeps one more; one too many is the oldest, and is dropped.
    pub fn put(&mut self, spare: T, now: Instant) {
        if self.kept.len() >= MAX_SPARE {
            self.kept.remove(0);
        }
        self.kept.push((now, spare));
    }

    /// The newest, so that the others age and go.
    pub fn take(&mut self) -> Option<T> {
        self.kept.pop().map(|(_, spare)| spare)
    }

    /// When the oldest has been kept for long enough.
    pub fn until(&self) -> Option<Instant> {
        self.kept.first().map(|(since, _)| *since + KEEP_SPARE)
    }

    /// Drops those that were kept for long enough.
    pub fn let_go(&mut self, now: Instant) {
        self.kept.retain(|(since, _)| *since + KEEP_SPARE > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_guards_are_kept_for_so_long_and_the_newest_is_taken_first() {
        let (mut spares, begun) = (Spares::default(), Instant::now());
        assert_eq!((spares.take(), spares.until()), (None, None));
        let at = |number: usize| begun + Duration::from_secs(number as u64);
        for number in 0..=MAX_SPARE {
            spares.put(number, at(number));
        }
        assert_eq!(spares.until(), Some(at(1) + KEEP_SPARE), "the first was one too many");
        assert_eq!(spares.take(), Some(MAX_SPARE));
        spares.let_go(at(1) + KEEP_SPARE - Duration::from_millis(1));
        assert_eq!(spares.until(), Some(at(1) + KEEP_SPARE));
        spares.let_go(at(2) + KEEP_SPARE);
        assert_eq!([spares.take(), spares.take()], [Some(3), None]);
    }
}
