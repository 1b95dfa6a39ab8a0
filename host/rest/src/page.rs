//! Lists in pages. A cursor names the last item given, so a page is stable when items are added.

use std::cmp::Ordering;

use api::page::{MAX_LIMIT, Page};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::problem::{Code, Problem};
use crate::query::Query;

/// Which part of which list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The list; a cursor of another one is refused.
    list: &'static str,
    /// Most items.
    pub limit: u32,
    /// Only what comes after this key.
    pub after: Option<String>,
}

impl Asked {
    /// Reads `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 when either is none that there is.
    pub fn read(query: &Query, list: &'static str) -> Result<Asked, Problem> {
        let after = match query.one("cursor")? {
            None => None,
            Some(text) => Some(decode(list, text).ok_or_else(no_cursor)?),
        };
        Ok(Asked { list, limit: query.limit()?, after })
    }

    /// The key to go on after, parsed.
    ///
    /// # Errors
    /// 400 when it is not a key of this list.
    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Problem> {
        self.after.as_deref().map(|text| text.parse().map_err(|_| no_cursor())).transpose()
    }

    /// How many to ask the store for: one more than wanted tells whether there is a next page.
    pub fn fetch(&self) -> u32 {
        (self.limit + 1).min(MAX_LIMIT)
    }

    /// The cursor of what comes after this key.
    pub fn cursor(&self, key: &str) -> String {
        encode(self.list, key)
    }

    /// A page of what the store answered to [`fetch`](Self::fetch).
    pub fn page<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit as usize;
        let more = items.len() > limit || (limit == MAX_LIMIT as usize && items.len() == limit);
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| encode(self.list, &key(last)));
        Page { items, next_cursor }
    }

    /// A page of a list that is in memory as a whole, in the order of its keys.
    pub fn slice<T>(&self, items: Vec<T>, order: Ordering, key: impl Fn(&T) -> String) -> Page<T> {
        let after = |item: &T| self.after.as_ref().is_none_or(|after| after.cmp(&key(item)) == order);
        let rest: Vec<T> = items.into_iter().filter(after).take(self.limit as usize + 1).collect();
        let more = rest.len() > self.limit as usize;
        let mut page = self.page(rest, &key);
        if !more {
            page.next_cursor = None;
        }
        page
    }
}

impl Asked {
    /// The same page, its items turned into what is shown.
    pub fn shown<T, U>(page: Page<T>, show: impl FnMut(T) -> U) -> Page<U> {
        Page { items: page.items.into_iter().map(show).collect(), next_cursor: page.next_cursor }
    }
}

/// What is no cursor of the list that is asked for.
pub fn no_cursor() -> Problem {
    Problem::at(Code::InvalidCursor, "?cursor", "give `next_cursor` of the page before, as it was")
}

fn encode(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{key}"))
}

fn decode(list: &str, text: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() <= 256)?;
    let whole = String::from_utf8(bytes).ok()?;
    whole.split_once(':').filter(|(name, _)| *name == list).map(|(_, key)| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(limit: u32, after: Option<&str>) -> Asked {
        Asked { list: "x", limit, after: after.map(str::to_owned) }
    }

    #[test]
    fn walking_a_list_gives_every_item_once() {
        let all: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        for limit in 1..=8 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = asked(limit, after.as_deref()).slice(all.clone(), Ordering::Less, String::clone);
                seen.extend(page.items);
                let Some(cursor) = page.next_cursor else { break };
                after = Some(decode("x", &cursor).expect("its own cursor"));
            }
            assert_eq!(seen, all, "limit {limit}");
        }
    }

    #[test]
    fn a_full_last_page_has_no_next_one() {
        assert_eq!(asked(2, None).page(vec!["a", "b"], |s| (*s).into()).next_cursor, None);
        assert!(asked(2, None).page(vec!["a", "b", "c"], |s| (*s).into()).next_cursor.is_some());
        assert_eq!(asked(500, None).fetch(), 500);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        assert_eq!(decode("x", &encode("x", "a:b")), Some("a:b".into()));
        for bad in [encode("y", "a"), "!".into(), String::new(), encode("x", "a") + "=", encode("x", &"a".repeat(300))]
        {
            assert_eq!(decode("x", &bad), None, "{bad}");
        }
    }
}
