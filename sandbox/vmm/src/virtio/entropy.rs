//! Random numbers (section 5.4): the host's own.

use rustix::rand::GetRandomFlags;
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
    let failed = |error| DeviceError::Host("give random numbers", error);
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, GetRandomFlags::empty()) {
            Ok(given) => rest = rest.get_mut(given..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Ok(())
}
