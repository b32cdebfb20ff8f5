//! Block devices: files as disks (section 5.2).

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use vm_memory::{Bytes as _, GuestAddress};

use super::device::Chain;
use super::{Device, DeviceError, Kind, Queues};
use crate::config::DiskConfig;
use crate::error::{VmError, VmResult};
use crate::filter::Thread;

/// Bytes; what the driver counts in.
const SECTOR: u64 = 512;
/// Features: how many buffers a request may have, only to be read, and flushing.
const SEGMENTS: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
/// Kinds of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const SYNC: u32 = 4;
const ID: u32 = 8;
/// What a request ends with.
const OK: u8 = 0;
const FAILED: u8 = 1;
const UNKNOWN: u8 = 2;
/// A request's first bytes: kind, a word without meaning, the sector.
const HEADER: usize = 16;
/// The most buffers of a request, and the most bytes: what one request keeps the thread busy with. Linux asks
/// for 1.25 MiB at once.
const MOST_BUFFERS: u32 = 126;
const MOST_BYTES: u64 = 4 << 20;
/// The identity that a driver may ask for, bytes.
const ID_SIZE: usize = 20;

/// A file as a disk.
#[derive(Debug)]
pub struct Block {
    file: File,
    writable: bool,
    /// Whole sectors of the file.
    sectors: u64,
    path: PathBuf,
}

impl Block {
    /// Opens the file. What is over after the last whole sector is not seen.
    ///
    /// # Errors
    ///
    /// [`VmError::File`].
    pub fn open(config: &DiskConfig) -> VmResult<Self> {
        let failed = |action| {
            move |source| VmError::File {
                action,
                path: config.path.clone(),
                source,
            }
        };
        let file = File::options()
            .read(true)
            .write(config.writable)
            .open(&config.path);
        let mut file = file.map_err(failed("open the disk"))?;
        // A block device has no size in its metadata.
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(failed("find the size of the disk"))?;
        Ok(Self {
            file,
            writable: config.writable,
            sectors: size / SECTOR,
            path: config.path.clone(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How a request ends, and how many bytes were written into guest memory.
    fn serve(&mut self, request: &Request, queues: &Queues<'_>) -> (u8, u32) {
        let outcome = match request.kind {
            IN => self.transfer(request, queues, false),
            OUT if self.writable => self.transfer(request, queues, true),
            OUT => Err(io::ErrorKind::PermissionDenied.into()),
            SYNC => self.file.sync_data().map(|()| 0),
            ID => Self::identify(request, queues),
            _ => return (UNKNOWN, 0),
        };
        match outcome {
            Ok(written) => (OK, written),
            // The guest's file system tells its users.
            Err(_) => (FAILED, 0),
        }
    }

    fn transfer(&mut self, request: &Request, queues: &Queues<'_>, write: bool) -> io::Result<u32> {
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        let total = request
            .buffers
            .iter()
            .try_fold(0_u64, |sum, &(_, size)| sum.checked_add(size.into()))
            .ok_or_else(outside)?;
        let from = request.sector.checked_mul(SECTOR).ok_or_else(outside)?;
        let end = from.checked_add(total).ok_or_else(outside)?;
        if end > self.sectors * SECTOR || total % SECTOR != 0 || total > MOST_BYTES {
            return Err(outside());
        }
        self.file.seek(SeekFrom::Start(from))?;
        for &(at, size) in &request.buffers {
            let size = usize::try_from(size).map_err(|_| outside())?;
            let memory = queues.memory();
            let moved = if write {
                memory.write_all_volatile_to(at, &mut self.file, size)
            } else {
                memory.read_exact_volatile_from(at, &mut self.file, size)
            };
            moved.map_err(io::Error::other)?;
        }
        let written = if write { 0 } else { total };
        u32::try_from(written).map_err(|_| outside())
    }

    fn identify(request: &Request, queues: &Queues<'_>) -> io::Result<u32> {
        let mut id = [0; ID_SIZE];
        for (to, from) in id.iter_mut().zip(b"cofferdam") {
            *to = *from;
        }
        let Some(&(at, size)) = request.buffers.first() else {
            return Ok(0);
        };
        let part = id
            .get(..usize::try_from(size).unwrap_or(ID_SIZE).min(ID_SIZE))
            .unwrap_or(&id);
        queues
            .memory()
            .write_slice(part, at)
            .map_err(io::Error::other)?;
        Ok(u32::try_from(part.len()).unwrap_or(0))
    }
}

/// A request as its chain of descriptors says it.
#[derive(Debug)]
struct Request {
    kind: u32,
    sector: u64,
    buffers: Vec<(GuestAddress, u32)>,
    status: GuestAddress,
}

impl Request {
    /// A header to read, buffers of one direction, a byte to write.
    fn parse(chain: Chain<'_>, queues: &Queues<'_>) -> Result<Self, DeviceError> {
        // With the header and the status. Tables of descriptors in descriptors could be longer than any ring.
        let most = usize::try_from(MOST_BUFFERS).unwrap_or(0) + 2;
        let mut descriptors: Vec<_> = chain.take(most + 1).collect();
        if descriptors.len() > most {
            return Err(DeviceError::Chain("it has too many buffers"));
        }
        let last = descriptors.pop().ok_or(DeviceError::Chain("it is empty"))?;
        if !last.is_write_only() || last.len() == 0 {
            return Err(DeviceError::Chain("there is no place for the status"));
        }
        let mut rest = descriptors.into_iter();
        let first = rest.next().ok_or(DeviceError::Chain("it has no header"))?;
        if first.is_write_only() || usize::try_from(first.len()) != Ok(HEADER) {
            return Err(DeviceError::Chain("its header is not one"));
        }
        let mut header = [0; HEADER];
        let outside = |_| DeviceError::Chain("it lies outside memory");
        queues
            .memory()
            .read_slice(&mut header, first.addr())
            .map_err(outside)?;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        let buffers = rest
            .map(|descriptor| {
                if descriptor.is_write_only() == (kind == OUT) {
                    return Err(DeviceError::Chain("a buffer is of the wrong direction"));
                }
                Ok((descriptor.addr(), descriptor.len()))
            })
            .collect::<Result<_, _>>()?;
        let status_at = u64::from(last.len() - 1);
        let status = last.addr().0.checked_add(status_at).map(GuestAddress);
        Ok(Self {
            kind,
            sector: u64::from_le_bytes(sector),
            buffers,
            status: status.ok_or(DeviceError::Chain("it lies outside memory"))?,
        })
    }
}

impl Device for Block {
    fn kind(&self) -> Kind {
        Kind::Block
    }

    fn features(&self) -> u64 {
        let always = SEGMENTS | FLUSH;
        if self.writable {
            always
        } else {
            always | READ_ONLY
        }
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[128]
    }

    fn config(&self) -> Vec<u8> {
        // The capacity, the size of a buffer, which has no limit of its own, and their number.
        let mut config = self.sectors.to_le_bytes().to_vec();
        config.extend(u32::MAX.to_le_bytes());
        config.extend(MOST_BUFFERS.to_le_bytes());
        config
    }

    fn reset(&mut self) {}

    fn thread(&self) -> Thread {
        Thread::Disk
    }

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        while let Some(chain) = queues.next(queue)? {
            let head = chain.head_index();
            let request = Request::parse(chain, queues)?;
            let (status, written) = self.serve(&request, queues);
            queues
                .memory()
                .write_obj(status, request.status)
                .map_err(|_| DeviceError::Chain("its status lies outside memory"))?;
            queues.done(queue, head, written + 1)?;
        }
        queues.tell(queue)
    }
}
