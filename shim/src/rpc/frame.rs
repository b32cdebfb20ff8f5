//! Messages with a length in front (the ttrpc protocol: a 10-byte header, then the payload).

use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MessageHeader};

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The stream it belongs to.
    pub stream: u32,
    /// Request, response or data: a `MESSAGE_TYPE_*` of the `ttrpc` crate.
    pub kind: u8,
    /// The encoded message.
    pub payload: Vec<u8>,
}

/// A message is longer than the protocol allows.
#[derive(Debug, thiserror::Error)]
#[error("a ttrpc message of {0} bytes exceeds the protocol's limit of {MESSAGE_LENGTH_MAX}")]
pub struct TooLong(pub usize);

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, TooLong> {
        let Some(header) = self.buffer.get(..MESSAGE_HEADER_LENGTH) else {
            return Ok(None);
        };
        let header = MessageHeader::from(header);
        let length = header.length as usize;
        if length > MESSAGE_LENGTH_MAX {
            return Err(TooLong(length));
        }
        let end = MESSAGE_HEADER_LENGTH + length;
        let Some(payload) = self.buffer.get(MESSAGE_HEADER_LENGTH..end) else {
            return Ok(None);
        };
        let frame = Frame {
            stream: header.stream_id,
            kind: header.type_,
            payload: payload.to_vec(),
        };
        self.buffer.drain(..end);
        if self.buffer.is_empty() {
            // Requests come seconds apart; their buffer need not stay.
            self.buffer = Vec::new();
        }
        Ok(Some(frame))
    }
}

/// A frame in the form it has on the wire.
pub fn encode(stream: u32, kind: u8, payload: &[u8]) -> Result<Vec<u8>, TooLong> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MESSAGE_LENGTH_MAX => length,
        _ => return Err(TooLong(payload.len())),
    };
    let mut wire = Vec::with_capacity(MESSAGE_HEADER_LENGTH + payload.len());
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(&[kind, 0]);
    wire.extend_from_slice(payload);
    Ok(wire)
}

#[cfg(test)]
mod tests {
    use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE};

    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = encode(1, MESSAGE_TYPE_REQUEST, b"hello").unwrap();
        wire.extend(encode(3, MESSAGE_TYPE_RESPONSE, b"").unwrap());
        for cut in 0..wire.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push((frame.stream, frame.kind, frame.payload));
                }
            }
            let expected = vec![
                (1, MESSAGE_TYPE_REQUEST, b"hello".to_vec()),
                (3, MESSAGE_TYPE_RESPONSE, Vec::new()),
            ];
            assert_eq!(frames, expected, "cut at {cut}");
        }
    }

    #[test]
    fn oversized_frames_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; MESSAGE_HEADER_LENGTH]);
        assert!(decoder.next_frame().is_err());
        assert!(encode(1, MESSAGE_TYPE_REQUEST, &vec![0; MESSAGE_LENGTH_MAX + 1]).is_err());
    }
}
