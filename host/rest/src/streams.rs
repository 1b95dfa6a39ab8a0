//! How many live streams each principal has open, over server-sent events and WebSockets together: each costs this
//! host a mailbox and a look at its reader's rights, and they go on for hours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::problem::{Code, Problem};

/// How many streams each principal has.
type Open = Arc<Mutex<HashMap<String, u32>>>;

/// Counts streams by principal.
pub struct Streams {
    most: u32,
    open: Open,
}

/// One stream's place; given back when dropped.
pub struct Place {
    of: Option<(String, Open)>,
}

impl Streams {
    /// At most `most` of one principal; 0 = any number.
    pub fn new(most: u32) -> Streams {
        Streams { most, open: Open::default() }
    }

    /// A place for one more stream of `principal`.
    ///
    /// # Errors
    /// 429: it has as many as it may.
    pub fn enter(&self, principal: String) -> Result<Place, Problem> {
        if self.most == 0 {
            return Ok(Place { of: None });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(principal.clone()).or_default();
        if *count >= self.most {
            let detail = format!("{} live streams are open already, as many as one may have; end one first", self.most);
            return Err(Problem { retry_after: Some(1), ..Problem::new(Code::RateLimited, detail) });
        }
        *count += 1;
        Ok(Place { of: Some((principal, self.open.clone())) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((principal, open)) = &self.of else { return };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                open.remove(principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_has_so_many_streams_and_the_next_when_one_ends() {
        let streams = Streams::new(2);
        let enter = |who: &str| streams.enter(who.to_owned());
        let (first, second) = (enter("ada").expect("room"), enter("ada").expect("room"));
        let problem = enter("ada").err().expect("one too many");
        assert_eq!((problem.code, problem.retry_after), (Code::RateLimited, Some(1)));
        assert!(enter("bob").is_ok(), "another principal");
        drop(first);
        let third = enter("ada").expect("room again");
        assert!(enter("ada").is_err());
        drop((second, third));
        assert!(streams.open.lock().expect("lock").is_empty(), "nobody is remembered who left");
        let any = Streams::new(0);
        let all: Vec<_> = (0..100).map(|_| any.enter("ada".to_owned())).collect();
        assert!(all.iter().all(Result::is_ok));
    }
}
