//! File systems (section 5.11): directories of the host that the guest mounts by their tags.
//!
//! The guest speaks FUSE. What it asks is copied out of its reach and looked at here before the server of the crate
//! `virtiofsd` sees it: names are names and not paths, and there is room for an answer.

/// Guest memory and requests as the server wants them.
mod desk;
/// A request, out of the guest's reach.
mod request;
/// What serves a directory.
mod share;

use virtio_queue::DescriptorChain;

use super::device::Chain;
use super::{Device, DeviceError, Kind, Queues};
use crate::config::ShareConfig;
use crate::error::{VmError, VmResult};
use crate::filter::Thread;
use crate::memory::Memory;
use desk::Desk;
use request::Request;
pub use share::{OwnFiles, Share, prepare_thread};

/// The most bytes of a tag; the rest of its field is zero.
pub const TAG_SIZE: usize = 36;

/// A directory as a device. It is served by a thread of its own, for a file may take its time; that thread begins with
/// [`prepare_thread`].
pub struct Fs {
    tag: [u8; TAG_SIZE],
    share: Share,
    /// Made for the memory of the first request.
    desk: Option<Desk>,
}

impl Fs {
    /// Opens the directory. It is looked up in this process's root directory of the moment, and again when the guest
    /// mounts it: in a jail, once the jail is entered.
    ///
    /// # Errors
    ///
    /// [`VmError::File`], or [`VmError::Share`] for a tag that cannot be one.
    pub fn open(config: &ShareConfig, own: &OwnFiles) -> VmResult<Self> {
        let bytes = config.tag.as_bytes();
        let mut tag = [0; TAG_SIZE];
        match tag.get_mut(..bytes.len()) {
            Some(place) if !bytes.is_empty() && !bytes.contains(&0) => place.copy_from_slice(bytes),
            _ => return Err(VmError::ShareTag(config.tag.clone())),
        }
        let share = Share::open(config, own);
        Ok(Self {
            tag,
            share: share.map_err(|source| VmError::File {
                action: "share the directory",
                path: config.path.clone(),
                source,
            })?,
            desk: None,
        })
    }

    /// How many bytes were written into the chain.
    fn serve(&mut self, chain: Chain<'_>, memory: &Memory) -> Result<u32, DeviceError> {
        let desk = match &mut self.desk {
            Some(desk) => desk,
            none => none.insert(Desk::new(memory)?),
        };
        let request = Request::take(chain, memory)?;
        if request.room() < request::ANSWER && !request.is_without_answer() {
            return Err(DeviceError::Chain("there is no room for an answer"));
        }
        let refusal = request.refusal();
        let (view, chain) = desk.lay(&request)?;
        let answer = chain.clone();
        let outcome = match refusal {
            Some(error) => Err(error),
            None => self.share.handle(view, chain),
        };
        Ok(match outcome {
            Ok(written) => u32::try_from(written).unwrap_or(0),
            // Whatever it is: no kernel asks so.
            Err(error) => Self::refuse(view, answer, &request, error),
        })
    }

    /// Serves a request without a look at it, to show what that is for.
    #[cfg(test)]
    pub(super) fn serve_unchecked(&mut self, text: &[u8], memory: &Memory) -> Result<usize, i32> {
        let request = Request {
            text: text.to_vec(),
            data: Vec::new(),
            answer: vec![request::Buffer {
                at: vm_memory::GuestAddress(0x8000),
                size: 0x1000,
            }],
        };
        let mut desk = Desk::new(memory).map_err(|_| libc::ENOMEM)?;
        let (view, chain) = desk.lay(&request).map_err(|_| libc::ENOMEM)?;
        self.share.handle(view, chain)
    }

    fn refuse(
        view: &desk::View,
        chain: DescriptorChain<&desk::View>,
        request: &Request,
        error: i32,
    ) -> u32 {
        let answer = request.error(error);
        match desk::write(view, chain, &answer) {
            Ok(()) => u32::try_from(answer.len()).unwrap_or(0),
            // It wanted none.
            Err(_) => 0,
        }
    }
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind::FileSystem
    }

    fn queue_sizes(&self) -> &'static [u16] {
        // What goes before all else (forgetting), and requests: of a MiB, in pages, there may be three at once.
        &[128, 1024]
    }

    fn config(&self) -> Vec<u8> {
        let mut config = self.tag.to_vec();
        // One queue of requests.
        config.extend(1_u32.to_le_bytes());
        config
    }

    fn reset(&mut self) {
        self.share.forget();
    }

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        while let Some(chain) = queues.next(queue)? {
            let head = chain.head_index();
            let written = self.serve(chain, queues.memory())?;
            queues.done(queue, head, written)?;
            // At once: what comes next may take its time.
            queues.tell(queue)?;
        }
        Ok(())
    }

    fn thread(&self) -> Thread {
        Thread::Share
    }
}
