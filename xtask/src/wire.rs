//! Messages over the virtio-serial port, each a length (32 bits, little endian) and its postcard form.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The name of the port.
pub const PORT: &str = "lab";

/// How often the guest says that it lives while a command is silent.
pub const BREATH: Duration = Duration::from_secs(5);

/// The largest message, in bytes.
const LARGEST: usize = 1 << 20;

/// A command to run: all that the host asks for. The guest is thrown away by ending QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables to set besides the agent's own.
    pub env: Vec<(String, String)>,
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// The agent takes requests.
    Ready,
    /// The running command printed something.
    Output {
        /// Whether on standard error.
        error: bool,
        /// What.
        bytes: Vec<u8>,
    },
    /// The command goes on and has printed nothing for [`BREATH`].
    Alive,
    /// The command ended with this status; 128 + N when signal N ended it, 127 if it did not start.
    Ended(i32),
}

/// A message could not be sent or taken in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port could not be read or written.
    #[error("cannot use the port to the guest")]
    Port(#[from] io::Error),
    /// The message is too large.
    #[error("a message of {0} bytes is larger than any may be")]
    Large(usize),
    /// The guest is there and silent.
    #[error("the guest has said nothing for {0} s: it stands still")]
    Silent(u64),
    /// The guest answers, and its own clock has not ended the command in time.
    #[error("the command goes on beyond its limit: the guest's clock is wrong")]
    Overdue,
    /// The message has no meaning.
    #[error("a message makes no sense: host and agent are of different builds")]
    Meaning(#[from] postcard::Error),
}

/// Sends a message.
///
/// # Errors
/// If the port cannot be written or the message is too large.
pub fn send<T: Serialize>(port: &mut impl Write, message: &T) -> Result<(), Error> {
    let body = postcard::to_stdvec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= LARGEST)
        .ok_or(Error::Large(body.len()))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(body);
    port.write_all(&bytes)?;
    Ok(port.flush()?)
}

/// Takes a message in.
///
/// # Errors
/// If the port cannot be read, or what comes is no message.
pub fn receive<T: DeserializeOwned>(port: &mut impl Read) -> Result<T, Error> {
    let mut length = [0; 4];
    port.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST {
        return Err(Error::Large(length));
    }
    let mut body = vec![0; length];
    port.read_exact(&mut body)?;
    Ok(postcard::from_bytes(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() -> Result<(), Error> {
        let messages = [
            ToHost::Ready,
            ToHost::Output {
                error: true,
                bytes: vec![0, 255, 10],
            },
            ToHost::Alive,
            ToHost::Ended(137),
        ];
        let mut port = Vec::new();
        for message in &messages {
            send(&mut port, message)?;
        }
        let mut port = port.as_slice();
        for message in messages {
            assert_eq!(receive::<ToHost>(&mut port)?, message);
        }
        assert!(matches!(receive::<ToHost>(&mut port), Err(Error::Port(_))));
        Ok(())
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_unread() {
        let mut port = [255_u8; 8].as_slice();
        assert!(matches!(
            receive::<ToHost>(&mut port),
            Err(Error::Large(0xffff_ffff))
        ));
        let large = ToHost::Output {
            error: false,
            bytes: vec![0; LARGEST + 1],
        };
        assert!(matches!(
            send(&mut Vec::new(), &large),
            Err(Error::Large(_))
        ));
    }
}
