//! Taps: interfaces whose wire is a file descriptor. Each frame has a header before it (`struct virtio_net_hdr_v1`)
//! that says what of its check sums and its segmentation is still to be done.

#![expect(unsafe_code, reason = "ioctl(2) on the tap has no safe wrapper")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{NetworkError, NetworkResult, is_name};

/// The header before each frame, bytes.
pub const HEADER: usize = 12;

/// The kinds of the tap, as `struct ifreq` has them.
const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Where the kernel makes them.
const DEVICE: &str = "/dev/net/tun";

/// What whoever reads the tap does himself, so that the kernel need not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Check sums; without it there is none of the others.
    pub checksums: bool,
    /// Cutting large segments of TCP over IPv4.
    pub tcp4: bool,
    /// Cutting large segments of TCP over IPv6.
    pub tcp6: bool,
}

/// A tap. Reads and writes take one frame with its header and do not block. The interface goes with its last
/// descriptor, unless somebody else made it to stay.
#[derive(Debug)]
pub struct Tap(File);

/// `struct ifreq` as `TUNSETIFF` and `TUNGETIFF` use it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl Tap {
    /// Makes a tap of this name, which nothing may have yet.
    ///
    /// # Errors
    ///
    /// Where the kernel has no taps, the name is taken, or the caller may not.
    pub fn create(name: &str) -> NetworkResult<Self> {
        Self::named("make a tap", name, FLAGS | libc::IFF_TUN_EXCL)
    }

    /// Takes the tap of this name, which is there and which nobody holds.
    ///
    /// # Errors
    ///
    /// Where there is none, or the caller may not.
    pub fn open(name: &str) -> NetworkResult<Self> {
        // The kernel would make one.
        if !exists(name) {
            return Err(NetworkError::NoInterface {
                name: name.chars().take(libc::IFNAMSIZ).collect(),
            });
        }
        Self::named("take the tap", name, FLAGS)
    }

    /// A copy of a descriptor that this process was started with.
    ///
    /// # Errors
    ///
    /// Where it is not open, or no tap with headers.
    pub fn inherited(fd: RawFd) -> NetworkResult<Self> {
        let action = "take over the tap's descriptor";
        // SAFETY: the call takes any number; it answers with a new descriptor that nothing else owns, or -1.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
        if copy < 0 {
            return Err(NetworkError::Tap {
                action,
                source: io::Error::last_os_error(),
            });
        }
        // SAFETY: as above.
        Self::from_fd(unsafe { OwnedFd::from_raw_fd(copy) })
    }

    /// A descriptor of a tap with headers.
    ///
    /// # Errors
    ///
    /// Where it is something else.
    pub fn from_fd(fd: OwnedFd) -> NetworkResult<Self> {
        let action = "use the descriptor as a tap";
        let mut request = Request::new("", 0);
        control(fd.as_fd(), action, libc::TUNGETIFF, &raw mut request)?;
        if libc::c_int::from(request.flags) & FLAGS != FLAGS {
            return Err(NetworkError::Tap {
                action,
                source: io::Error::other("it is none of Ethernet, or its frames have no header"),
            });
        }
        Self::ready(fd)
    }

    fn named(action: &'static str, name: &str, flags: libc::c_int) -> NetworkResult<Self> {
        if !is_name(name) {
            return Err(NetworkError::Bad {
                field: "tap",
                value: format!("{:?}", name.chars().take(32).collect::<String>()),
                range: "1 to 15 printable characters without a slash or colon",
            });
        }
        let failed = |source| NetworkError::Kernel {
            action,
            subject: name.to_owned(),
            source,
        };
        let file = File::options().read(true).write(true).open(DEVICE);
        let fd = OwnedFd::from(file.map_err(failed)?);
        let mut request = Request::new(name, flags);
        control(fd.as_fd(), action, libc::TUNSETIFF, &raw mut request).map_err(
            |error| match error {
                NetworkError::Tap { source, .. } => failed(source),
                other => other,
            },
        )?;
        Self::ready(fd)
    }

    fn ready(fd: OwnedFd) -> NetworkResult<Self> {
        let mut size = libc::c_int::try_from(HEADER).unwrap_or(0);
        let action = "set the size of the tap's headers";
        control(fd.as_fd(), action, libc::TUNSETVNETHDRSZ, &raw mut size)?;
        let source = |error: nix::Error| NetworkError::Tap {
            action: "make the tap's descriptor one that does not block",
            source: error.into(),
        };
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(source)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&fd, FcntlArg::F_SETFL(flags)).map_err(source)?;
        Ok(Self(File::from(fd)))
    }

    /// The interface's name.
    ///
    /// # Errors
    ///
    /// Where the interface is gone.
    pub fn name(&self) -> NetworkResult<String> {
        let mut request = Request::new("", 0);
        control(
            self.as_fd(),
            "ask for the tap's name",
            libc::TUNGETIFF,
            &raw mut request,
        )?;
        let name = request.name.split(|&byte| byte == 0).next();
        Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
    }

    /// Tells the kernel what it may leave undone in the frames that it gives.
    ///
    /// # Errors
    ///
    /// Where the kernel cannot leave it undone.
    pub fn set_offloads(&self, offloads: Offloads) -> NetworkResult {
        let mut bits = 0;
        if offloads.checksums {
            bits |= libc::TUN_F_CSUM;
            let both = [
                (offloads.tcp4, libc::TUN_F_TSO4),
                (offloads.tcp6, libc::TUN_F_TSO6),
            ];
            for (_, bit) in both.into_iter().filter(|(wanted, _)| *wanted) {
                bits |= bit;
            }
        }
        // SAFETY: the request takes a number, not an address.
        let done = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(bits),
            )
        };
        if done < 0 {
            return Err(NetworkError::Tap {
                action: "set the tap's offloads",
                source: io::Error::last_os_error(),
            });
        }
        Ok(())
    }
}

impl Request {
    fn new(name: &str, flags: libc::c_int) -> Self {
        let mut bytes = [0; libc::IFNAMSIZ];
        // The last byte stays its end.
        for (to, from) in bytes.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = from;
        }
        Self {
            name: bytes,
            // The bits fit; the highest of them is the sign.
            flags: i16::from_ne_bytes(u16::try_from(flags).unwrap_or(0).to_ne_bytes()),
            rest: [0; 22],
        }
    }
}

fn exists(name: &str) -> bool {
    // SAFETY: the string ends with a zero byte and lives until the call returns.
    CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
}

fn control<T>(
    fd: BorrowedFd<'_>,
    action: &'static str,
    request: libc::Ioctl,
    value: *mut T,
) -> NetworkResult {
    // SAFETY: each caller gives the address of a value of the type that the request reads and writes: a number, or
    // 40 bytes that begin as `struct ifreq` does. It lives until the call returns.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, value) } < 0 {
        return Err(NetworkError::Tap {
            action,
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}

impl Read for &Tap {
    fn read(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }
}

impl Write for &Tap {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        (&self.0).write(frame)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> Self {
        tap.0.into()
    }
}
