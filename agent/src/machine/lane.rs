//! The output lane: pieces of output, one at a time and in turn, only while the socket has room and no
//! control frame waits. An attempt's RESULT follows its last piece.

use plan::id::AttemptKey;
use wire::frame::AgentFrame;

use crate::clock::Now;
use crate::machine::Machine;
use crate::machine::output::Chunk;

/// What the lane holds for a socket with room.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Read this and send it, then tell [`Machine::sent`].
    Chunk(Chunk),
    /// Send this: a RESULT whose output was sent.
    Frame(Box<AgentFrame>),
    /// Nothing now.
    Idle,
}

impl Machine {
    /// What to send next. Takes its turn from the attempt it answers for.
    pub fn next_output(&mut self, now: Now) -> Next {
        if !self.is_open() {
            return Next::Idle;
        }
        for _ in 0..self.lane.len() {
            let Some(attempt) = self.lane.pop_front() else { break };
            if let Some(kept) = self.kept.get_mut(&attempt) {
                if let Ok(chunk) = kept.output.due(attempt, 0, now.mono_ms) {
                    self.lane.push_front(attempt);
                    return Next::Chunk(chunk);
                }
                kept.output.in_lane = false;
                kept.told = true;
                return Next::Frame(Box::new(kept.result()));
            }
            let Some(active) = self.active.get_mut(&attempt) else { continue };
            // What is kept of an unknown command is not known either: no less than all that this agent keeps.
            let most = self.setup.spool.stream_bytes;
            let limit = active.task.as_ref().map_or(most, |task| task.limits.output_bytes.min(most));
            match active.output.due(attempt, limit, now.mono_ms) {
                Ok(chunk) => {
                    self.lane.push_front(attempt);
                    return Next::Chunk(chunk);
                }
                Err(Some(_)) => self.lane.push_back(attempt),
                Err(None) => active.output.in_lane = false,
            }
        }
        Next::Idle
    }

    /// The chunk was given to the socket; `bytes` of it were there to be read, at least 1.
    pub fn sent(&mut self, chunk: &Chunk, bytes: usize, now: Now) {
        let (attempt, stream) = (chunk.attempt, chunk.stream);
        if let Some(output) = self.output(attempt) {
            output.sent(stream, chunk.offset, bytes as u64, now.mono_ms);
        }
        // Others have their turn first.
        if self.lane.front() == Some(&attempt) {
            self.lane.rotate_left(1);
        }
    }

    /// The chunk's file cannot be read where it should hold bytes: nothing more of that stream is sent.
    pub fn unreadable(&mut self, chunk: &Chunk) {
        if let Some(output) = self.output(chunk.attempt) {
            output.unreadable(chunk.stream);
        }
    }

    pub(super) fn enter_lane(&mut self, attempt: AttemptKey) {
        let output = match self.kept.get_mut(&attempt) {
            Some(kept) => &mut kept.output,
            None => match self.active.get_mut(&attempt) {
                Some(active) if !active.forgotten => &mut active.output,
                Some(_) | None => return,
            },
        };
        if !output.in_lane {
            output.in_lane = true;
            self.lane.push_back(attempt);
        }
    }

    /// When a small piece of growing output is due that was sent too recently.
    pub(super) fn next_coalesced(&self) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        let due = |attempt: &AttemptKey| self.active.get(attempt)?.output.due(*attempt, 0, 0).err()?;
        self.lane.iter().filter_map(due).min()
    }
}
