//! Messages on a stream: ttrpc's, a header of ten bytes and a protocol buffer.

use std::io::{self, Read, Write};

use protobuf::Message;
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MessageHeader};

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream failed, or its time was up.
    #[error("cannot exchange a message")]
    Stream(#[from] io::Error),
    /// The stream ended between messages.
    #[error("the other side has gone")]
    Gone,
    /// Longer than ttrpc, or what was asked, allows.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// Not what was expected.
    #[error("a message of kind {0} where another was expected")]
    Kind(u8),
    /// Not a message.
    #[error("a message that is none")]
    Malformed(#[from] protobuf::Error),
}

/// Reads one message of a kind and of `most` bytes, with its stream's number.
///
/// # Errors
///
/// [`WireError`]; of a message that is too long nothing but the header was read.
pub fn read<M: Message>(
    from: &mut impl Read,
    kind: u8,
    most: usize,
) -> Result<(u32, M), WireError> {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    let (first, rest) = header.split_at_mut(1);
    loop {
        match from.read(first) {
            Ok(0) => return Err(WireError::Gone),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    from.read_exact(rest)?;
    let header = MessageHeader::from(header);
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    if length > most.min(MESSAGE_LENGTH_MAX) {
        return Err(WireError::TooLong(length));
    }
    if header.type_ != kind {
        return Err(WireError::Kind(header.type_));
    }
    let mut payload = Vec::new();
    let read = from
        .take(u64::from(header.length))
        .read_to_end(&mut payload)?;
    if read != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok((header.stream_id, M::parse_from_bytes(&payload)?))
}

/// Writes one message.
///
/// # Errors
///
/// [`WireError`].
pub fn write(
    to: &mut impl Write,
    stream: u32,
    kind: u8,
    message: &impl Message,
) -> Result<(), WireError> {
    let payload = message.write_to_bytes()?;
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MESSAGE_LENGTH_MAX => length,
        _ => return Err(WireError::TooLong(payload.len())),
    };
    let mut wire = Vec::with_capacity(MESSAGE_HEADER_LENGTH + payload.len());
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(&[kind, 0]);
    wire.extend_from_slice(&payload);
    to.write_all(&wire)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Request};

    use super::*;

    const MOST: usize = MESSAGE_LENGTH_MAX;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let mut request = Request::new();
        request.service = "s".to_owned();
        request.payload = vec![7; 300];
        let mut wire = Vec::new();
        write(&mut wire, 3, MESSAGE_TYPE_REQUEST, &request).unwrap();
        let (stream, read_back) =
            read::<Request>(&mut wire.as_slice(), MESSAGE_TYPE_REQUEST, MOST).unwrap();
        assert_eq!((stream, read_back), (3, request));
        for cut in 1..wire.len() {
            let short = read::<Request>(&mut &wire[..cut], MESSAGE_TYPE_REQUEST, MOST);
            assert!(matches!(short, Err(WireError::Stream(_))), "{cut}");
        }
        let other = read::<Request>(&mut wire.as_slice(), MESSAGE_TYPE_RESPONSE, MOST);
        assert!(matches!(other, Err(WireError::Kind(MESSAGE_TYPE_REQUEST))));
        let none = read::<Request>(&mut &[][..], MESSAGE_TYPE_REQUEST, MOST);
        assert!(matches!(none, Err(WireError::Gone)));
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let mut endless = io::repeat(0xff);
        let long = read::<Request>(&mut endless, MESSAGE_TYPE_REQUEST, MOST);
        assert!(matches!(long, Err(WireError::TooLong(_))));
        let mut request = Request::new();
        request.payload = vec![0; MESSAGE_LENGTH_MAX];
        let long = write(&mut Vec::new(), 1, MESSAGE_TYPE_REQUEST, &request);
        assert!(matches!(long, Err(WireError::TooLong(_))));
    }
}
