//! One key of this agent in the place of another.
//!
//! Invariant: the old key is let go of only when the host said that it has the new one, and until then HELLO is
//! signed with both: whichever the host has, it knows this agent by it, wherever either of the two was killed.

use ed25519_dalek::SigningKey;
use plan::envelope::{hello_parts, key_text, rotate_parts, sign};
use wire::frame::{AgentFrame, NewKey, NextKey};

use crate::machine::{Machine, Output};

impl Machine {
    /// Proves the key that waits to take the other's place; if there is none, has one made first.
    pub(super) fn on_rotate_key(&mut self) {
        match &self.setup.next_key {
            Some(next) => self.prove(&next.clone()),
            None => self.out.push_back(Output::MakeKey),
        }
    }

    /// It is on disk, so it may be shown.
    pub(super) fn on_key_made(&mut self, key: SigningKey) {
        if self.is_open() {
            self.prove(&key);
        }
        self.setup.next_key = Some(key);
    }

    /// The host has this key.
    pub(super) fn on_key_ack(&mut self, public_key: &str) {
        let is_it = |key: &SigningKey| key_text(&key.verifying_key()) == public_key;
        if let Some(next) = self.setup.next_key.take_if(|next| is_it(next)) {
            tracing::info!(public_key, "this agent has another key now; the one before is worth nothing");
            self.setup.key = next;
            self.out.push_back(Output::AdoptKey);
        } else if !is_it(&self.setup.key) {
            tracing::warn!(public_key, "the host says that a key counts which this agent does not have");
        }
    }

    /// What HELLO says of the key that waits.
    pub(super) fn next_key(&self, nonce: &[u8]) -> Option<NextKey> {
        let next = self.setup.next_key.as_ref()?;
        let said = hello_parts(self.setup.cluster_id, self.setup.agent_id, nonce);
        Some(NextKey { public_key: key_text(&next.verifying_key()), signature: sign(next, &[&said]) })
    }

    fn prove(&mut self, next: &SigningKey) {
        let (from, to) = (key_text(&self.setup.key.verifying_key()), key_text(&next.verifying_key()));
        let said = rotate_parts(self.setup.cluster_id, self.setup.agent_id, &from, &to);
        let (signature, new_signature) = (sign(&self.setup.key, &[&said]), sign(next, &[&said]));
        self.frame(AgentFrame::NewKey(NewKey { public_key: to, signature, new_signature }));
    }
}
