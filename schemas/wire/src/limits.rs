//! Ceilings and intervals of the protocol. Both ends enforce them; both refuse what is over.

/// The protocol version this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Where the agents' listener answers the WebSocket upgrade.
pub const PATH: &str = "/ws/agent";
/// Most bytes of one frame's text, either way.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// Most bytes of output carried by one OUTPUT frame, before base64.
pub const MAX_OUTPUT_CHUNK_BYTES: usize = 32 * 1024;
/// Most unfinished attempts and unacknowledged results one HELLO may list; the rest follow in later sessions.
pub const MAX_HELLO_ATTEMPTS: usize = 10_000;
/// Most labels and capabilities an agent may claim.
pub const MAX_FACTS: usize = 64;
/// Bytes of a HELLO nonce.
pub const NONCE_BYTES: usize = 32;
/// From accepting a socket to a verified HELLO, in milliseconds.
pub const HELLO_WITHIN_MS: u64 = 10_000;
/// Between an agent's heartbeats, in milliseconds; the host's WELCOME may say otherwise.
pub const HEARTBEAT_MS: u64 = 15_000;
/// Missed heartbeats after which the session is over.
pub const MISSED_HEARTBEATS: u32 = 3;
