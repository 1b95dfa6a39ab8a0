//! Plans that one version of a plugin made lately. A guest is fresh for each call and is given nothing but its
//! arguments, so the same question has the same answer: what thousands ask for alike is planned once.
//!
//! Invariant: what is found here passed every check it would pass again, under the same configuration and grant.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plan::step::Plan;

/// Plans in each of the two halves.
const HALF: usize = 512;
/// Longest question, and longest answer as JSON, that is remembered; bytes.
const ENTRY_BYTES: usize = 4096;

/// The plans: those asked for since the last change of halves, and those before. When the first half is full it
/// becomes the second, and what nobody asked for meanwhile is forgotten with the old second one.
#[derive(Default)]
pub(crate) struct Memo {
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<Arc<str>, Arc<Plan>>,
    old: HashMap<Arc<str>, Arc<Plan>>,
}

impl Memo {
    /// The plan made for this question before.
    pub(crate) fn get(&self, question: &str) -> Option<Arc<Plan>> {
        let mut halves = self.lock();
        if let Some(plan) = halves.young.get(question) {
            return Some(plan.clone());
        }
        let (question, plan) = halves.old.remove_entry(question)?;
        halves.add(question, plan.clone());
        Some(plan)
    }

    /// Remembers a plan, unless it is too large to be worth it.
    pub(crate) fn put(&self, question: &str, plan: &Arc<Plan>) {
        let fits = |plan: &Plan| serde_json::to_vec(plan).is_ok_and(|text| text.len() <= ENTRY_BYTES);
        if question.len() <= ENTRY_BYTES && fits(plan) {
            self.lock().add(Arc::from(question), plan.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Halves {
    fn add(&mut self, question: Arc<str>, plan: Arc<Plan>) {
        if self.young.len() >= HALF {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(question, plan);
    }
}

#[cfg(test)]
mod tests {
    use plan::effect::Effect;

    use super::*;

    fn plan(summary: &str) -> Arc<Plan> {
        Arc::new(Plan { steps: Vec::new(), effect: Effect::Read, locks: Vec::new(), summary: summary.to_owned() })
    }

    #[test]
    fn what_is_asked_for_again_stays_and_the_rest_is_forgotten() {
        let memo = Memo::default();
        memo.put("often", &plan("often"));
        memo.put("once", &plan("once"));
        for n in 0..4 * HALF {
            memo.put(&format!("other {n}"), &plan("other"));
            assert_eq!(memo.get("often"), Some(plan("often")), "after {n} others");
        }
        assert_eq!(memo.get("once"), None);
        let halves = memo.lock();
        assert!(halves.young.len() <= HALF && halves.old.len() <= HALF);
    }

    #[test]
    fn what_is_large_is_planned_each_time() {
        let memo = Memo::default();
        let (fits, over) = ("q".repeat(ENTRY_BYTES), "q".repeat(ENTRY_BYTES + 1));
        memo.put(&fits, &plan("small"));
        memo.put(&over, &plan("small"));
        memo.put("large", &plan(&"p".repeat(ENTRY_BYTES)));
        assert!(memo.get(&fits).is_some() && memo.get(&over).is_none() && memo.get("large").is_none());
    }
}
