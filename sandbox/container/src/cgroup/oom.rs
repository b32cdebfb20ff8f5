//! Knowing when the kernel kills for lack of memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::host::Mode;
use super::location::Location;
use super::{Error, file};

/// A descriptor that becomes readable when the container may have run out of memory.
///
/// Poll it together with others; when it is readable call `drain` and then `count`: an event is
/// a hint (v1 reports the removal of the cgroup the same way), only the count is the truth.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    /// The file that counts.
    counter: PathBuf,
}

#[derive(Debug)]
enum Source {
    /// v1: an eventfd registered with `cgroup.event_control`.
    EventFd {
        event: EventFd,
        /// The kernel drops the registration with this.
        _control: File,
    },
    /// v2: the kernel "modifies" `memory.events`.
    Inotify(Inotify),
    /// A virtual machine's: somebody adds a byte for each kill.
    Bytes(Inotify),
}

impl OomWatch {
    pub(super) fn new(location: &Location) -> Result<Self, Error> {
        let dir = location
            .controller("memory")
            .ok_or(Error::MissingController {
                controller: "memory",
                operation: "reporting that memory ran out",
            })?;
        match location.mode {
            Mode::V1 => Self::v1(dir),
            Mode::V2 => Self::v2(dir),
        }
    }

    fn v1(dir: &Path) -> Result<Self, Error> {
        let counter = dir.join("memory.oom_control");
        let control = File::open(&counter).map_err(|source| Error::Read {
            path: counter.clone(),
            source,
        })?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).map_err(|errno| Error::Watch {
            path: counter.clone(),
            source: errno.into(),
        })?;
        let registration = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        file::write(&dir.join("cgroup.event_control"), &registration)?;
        Ok(Self {
            source: Source::EventFd {
                event,
                _control: control,
            },
            counter,
        })
    }

    fn v2(dir: &Path) -> Result<Self, Error> {
        let counter = dir.join("memory.events");
        Ok(Self {
            source: Source::Inotify(modified(&counter)?),
            counter,
        })
    }

    /// Watches a file to which a byte is added for each kill.
    pub fn of_bytes(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            source: Source::Bytes(modified(path)?),
            counter: path.to_owned(),
        })
    }

    /// Takes the waiting events off the descriptor; never blocks.
    pub fn drain(&self) -> Result<(), Error> {
        let result = match &self.source {
            Source::EventFd { event, .. } => event.read().map(drop),
            Source::Inotify(inotify) | Source::Bytes(inotify) => inotify.read_events().map(drop),
        };
        match result {
            Ok(()) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(Error::Watch {
                path: self.counter.clone(),
                source: errno.into(),
            }),
        }
    }

    /// How many processes of the container the kernel has killed for lack of memory; `None` when
    /// the cgroup is gone, which ends the watch.
    pub fn count(&self) -> Result<Option<u64>, Error> {
        if matches!(self.source, Source::Bytes(_)) {
            return match std::fs::metadata(&self.counter) {
                Ok(found) => Ok(Some(found.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Read {
                    path: self.counter.clone(),
                    source,
                }),
            };
        }
        let text = file::read_optional(&self.counter)?;
        Ok(text.map(|text| {
            file::parse_flat_keyed(&text)
                .find(|(key, _)| *key == "oom_kill")
                .map_or(0, |(_, count)| count)
        }))
    }
}

/// Hears when a file is written to.
fn modified(path: &Path) -> Result<Inotify, Error> {
    let failed = |errno: Errno| Error::Watch {
        path: path.to_owned(),
        source: errno.into(),
    };
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let inotify = Inotify::init(flags).map_err(failed)?;
    inotify
        .add_watch(path, AddWatchFlags::IN_MODIFY)
        .map_err(failed)?;
    Ok(inotify)
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::EventFd { event, .. } => event.as_fd(),
            Source::Inotify(inotify) | Source::Bytes(inotify) => inotify.as_fd(),
        }
    }
}
