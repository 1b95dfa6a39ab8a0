//! Which of the sessions that the store has for open at this host are nobody's here.
//!
//! A session is in the store before it is in the directory, and goes from the directory before it goes from the store.
//! Whoever opens or ends one says so meanwhile, so that it is not taken for one that was left behind, however long
//! the store is in answering; and says when that is done. What was broken off before may have left one behind.

use plan::id::AgentId;

use super::Directory;

/// Held as long as a session of an agent is being opened or ended; let go, too, when that is broken off.
pub struct Attended<'d> {
    directory: &'d Directory,
    agent: AgentId,
    is_done: bool,
}

impl Attended<'_> {
    /// The session is open here, or its end is stored.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        let mut inner = self.directory.write();
        inner.broken_off += u64::from(!self.is_done);
        if let Some(count) = inner.attended.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                inner.attended.remove(&self.agent);
            }
        }
    }
}

impl Directory {
    /// To be taken before a session of the agent is opened in the store or is [`closed`](Self::closed), and held until
    /// it is [`opened`](Self::opened) or its end is stored.
    pub fn attend(&self, id: AgentId) -> Attended<'_> {
        *self.write().attended.entry(id).or_default() += 1;
        Attended { directory: self, agent: id, is_done: false }
    }

    /// How often the opening or the end of a session was broken off so far, for want of an answer of the store or of
    /// somebody who waited for it.
    pub fn broken_off(&self) -> u64 {
        self.read().broken_off
    }

    /// Those of `open`, sessions that the store had for open at this host a moment ago, which nobody has here and
    /// nobody is opening or ending. That is one look under one lock: a session is attended until it is here.
    pub fn left_behind(&self, mut open: Vec<(AgentId, u64)>) -> Vec<(AgentId, u64)> {
        let inner = self.read();
        let session = |id: &AgentId| inner.by_id.get(id).and_then(|known| known.session);
        open.retain(|(id, epoch)| {
            !inner.attended.contains_key(id) && session(id).is_none_or(|session| session.epoch < *epoch)
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use domain::agent::Agent;
    use domain::time::Timestamp;

    use super::super::tests::agent;
    use super::*;

    #[test]
    fn a_session_is_left_behind_when_nobody_has_it_and_nobody_is_about_to() {
        let directory = Directory::default();
        let id = AgentId(uuid::Uuid::from_u128(1));
        directory.put(Agent { id, ..agent() });
        let is_left_behind = |epoch| !directory.left_behind(vec![(id, epoch)]).is_empty();
        let opening = directory.attend(id);
        assert!(!is_left_behind(1), "stored, and not here yet");
        directory.opened(id, 1, Timestamp(0));
        opening.done();
        assert_eq!(directory.broken_off(), 0);
        assert!(!is_left_behind(1), "it is here");
        assert!(is_left_behind(2), "the next was given up on its way");
        let (first, second) = (directory.attend(id), directory.attend(id));
        assert!(directory.closed(id, 1, Timestamp(1)));
        first.done();
        assert!(!is_left_behind(1), "its end is on its way into the store");
        drop(second);
        assert_eq!(directory.broken_off(), 1);
        assert!(is_left_behind(1), "and never got there");
        directory.opened(id, 3, Timestamp(2));
        assert!(!is_left_behind(1), "what was read before is old");
    }
}
