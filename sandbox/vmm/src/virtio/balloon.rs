//! The balloon (section 5.5), of which only free page reports are used: the guest says which pages it does not need,
//! and the host has them back until the guest touches them again.

use vm_memory::GuestAddress;

use super::{Device, DeviceError, Kind, Queues};
use crate::memory;

/// Feature: the guest reports free pages.
const REPORTING: u64 = 1 << 5;
/// The queue of reports. Linux numbers queues without those of features that were not offered; inflating is 0 and
/// deflating 1, which nobody asks for.
const REPORTS: usize = 2;
/// The most ranges of a report; Linux's have 32.
const MOST_RANGES: usize = 64;
/// How many ranges are given back in one call.
const MOST_IN_A_CALL: usize = 256;

/// Takes reports of free pages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Balloon;

impl Device for Balloon {
    fn kind(&self) -> Kind {
        Kind::Balloon
    }

    fn features(&self) -> u64 {
        REPORTING
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 16, 64]
    }

    fn config(&self) -> Vec<u8> {
        // How many pages the host wants, and how many it has.
        vec![0; 8]
    }

    fn reset(&mut self) {}

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        let mut count = 0;
        while let Some(chain) = queues.next(queue)? {
            let head = chain.head_index();
            for (index, range) in chain.enumerate() {
                // Of the other queues' chains nothing is wanted, however long they are.
                if queue != REPORTS {
                    break;
                }
                if index == MOST_RANGES {
                    return Err(DeviceError::Chain("it has too many ranges"));
                }
                if !range.is_write_only() {
                    return Err(DeviceError::Chain("a range is of the wrong direction"));
                }
                give_back(queues, range.addr(), range.len())?;
                count += 1;
            }
            queues.done(queue, head, 0)?;
            if count >= MOST_IN_A_CALL {
                queues.tire();
            }
        }
        queues.tell(queue)
    }
}

fn give_back(queues: &Queues<'_>, at: GuestAddress, length: u32) -> Result<(), DeviceError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    memory::give_back(queues.memory(), at, length)
        .map_err(|error| DeviceError::Host("take back the pages that the guest reported", error))
}
