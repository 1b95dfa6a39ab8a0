//! Frames to text and back. Text over the limit is refused before it is parsed.

use serde::Serialize;

use crate::limits::MAX_FRAME_BYTES;
use crate::tagged::{Frame, kind};

/// Why text is no frame.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Over [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes; at most {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// Not JSON, not a known type, or a field is missing or of the wrong kind.
    #[error("not a frame of this protocol: {0}")]
    Malformed(serde_json::Error),
}

impl CodecError {
    /// The stable code sent in an ERROR frame.
    pub fn code(&self) -> &'static str {
        match self {
            CodecError::TooLong(_) => "frame_too_long",
            CodecError::Malformed(_) => "malformed_frame",
        }
    }
}

/// The frame's JSON text.
pub fn encode<F: Serialize>(frame: &F) -> String {
    serde_json::to_string(frame).expect("a frame holds nothing that JSON cannot")
}

/// Reads one frame.
///
/// # Errors
/// See [`CodecError`].
pub fn decode<F: Frame>(text: &str) -> Result<F, CodecError> {
    if text.len() > MAX_FRAME_BYTES {
        return Err(CodecError::TooLong(text.len()));
    }
    let short = kind(text).and_then(|kind| F::short(kind, text));
    short.unwrap_or_else(|| serde_json::from_str(text)).map_err(CodecError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{AgentFrame, HostFrame};

    #[test]
    fn frames_are_tagged_by_type() {
        let ack: AgentFrame =
            decode(r#"{"type":"ACK","attempt":"0193f2a4-7c1e-7abc-8def-0123456789ab/1"}"#).expect("a frame");
        assert_eq!(encode(&ack), r#"{"type":"ACK","attempt":"0193f2a4-7c1e-7abc-8def-0123456789ab/1"}"#);
        let result_ack = r#"{"type":"RESULT_ACK","attempt":"0193f2a4-7c1e-7abc-8def-0123456789ab/1"}"#;
        assert!(matches!(decode(result_ack), Ok(HostFrame::ResultAck { .. })));
    }

    #[test]
    fn unknown_types_and_oversized_text_are_refused() {
        let unknown = decode::<AgentFrame>(r#"{"type":"REBOOT"}"#).expect_err("unknown type");
        assert_eq!(unknown.code(), "malformed_frame");
        let ack = r#"{"type":"ACK","attempt":"0193f2a4-7c1e-7abc-8def-0123456789ab/1"}"#;
        let padded = |length: usize| ack.to_owned() + &" ".repeat(length - ack.len());
        assert!(decode::<AgentFrame>(&padded(MAX_FRAME_BYTES)).is_ok());
        let long = decode::<AgentFrame>(&padded(MAX_FRAME_BYTES + 1)).expect_err("too long");
        assert_eq!(long.code(), "frame_too_long");
    }
}
