//! Random numbers (section 5.4): the host's own.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::Bytes as _;

use super::{Device, DeviceError, Kind, Queues};

/// The most that is filled of one chain, bytes: `getrandom` gives so much at once without a break.
const MOST: usize = 256;

/// Gives the guest the host's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entropy;

impl Device for Entropy {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16]
    }

    fn reset(&mut self) {}

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        while let Some(chain) = queues.next(queue)? {
            let head = chain.head_index();
            let mut written = 0;
            for descriptor in chain.writable() {
                let size = usize::try_from(descriptor.len())
                    .unwrap_or(usize::MAX)
                    .min(MOST - written);
                let mut bytes = [0; MOST];
                let Some(bytes) = bytes.get_mut(..size).filter(|bytes| !bytes.is_empty()) else {
                    continue;
                };
                fill(bytes)?;
                queues
                    .memory()
                    .write_slice(bytes, descriptor.addr())
                    .map_err(|_| DeviceError::Chain("a buffer lies outside memory"))?;
                written += size;
            }
            queues.done(queue, head, u32::try_from(written).unwrap_or(0))?;
        }
        queues.tell(queue)
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), DeviceError> {
    let filled = getrandom(&mut *bytes, GetRandomFlags::empty())
        .map_err(|errno| DeviceError::Host("give random numbers", errno.into()))?;
    if filled == bytes.len() {
        return Ok(());
    }
    let short = io::ErrorKind::UnexpectedEof;
    Err(DeviceError::Host("give random numbers", short.into()))
}
