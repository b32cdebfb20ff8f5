//! seccomp(2), its notifications, and a page that is shared with the process that puts the filter on.
#![expect(unsafe_code, reason = "seccomp notifications have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::filter::Insn;

const SET_MODE_FILTER: libc::c_ulong = 1;
const FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
/// Since Linux 5.19: a signal does not make the process ask again.
const FLAG_WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

const IOCTL_RECV: libc::c_ulong = 0xc050_2100;
const IOCTL_SEND: libc::c_ulong = 0xc018_2101;
/// Since Linux 6.6: who asks and who answers take turns on one CPU.
const IOCTL_SET_FLAGS: libc::c_ulong = 0x4008_2104;
const SYNC_WAKE_UP: libc::c_ulong = 1;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`
const CONTINUE: u32 = 1;

/// `struct seccomp_notif` (linux/seccomp.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Question {
    pub(super) id: u64,
    /// The thread, as this process sees it.
    pub(super) thread: u32,
    flags: u32,
    pub(super) number: i32,
    pub(super) arch: u32,
    instruction_pointer: u64,
    pub(super) arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
#[derive(Debug, Default)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct sock_fprog`
#[repr(C)]
struct Program {
    length: u16,
    code: *const Insn,
}

/// What the process that puts the filter on tells its recorder, by memory alone: any call would ask.
#[derive(Debug)]
pub(super) struct Page(NonNull<AtomicU64>);

// SAFETY: the mapping is used by atomic operations only, and lives until the last user is gone.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// Words of the page. 0 until they are set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    /// The process.
    Process = 0,
    /// Its descriptor of the listener, plus one.
    Listener = 1,
    /// It gave up the right to gain privileges.
    NoNewPrivileges = 2,
}

const WORDS: usize = 3;

impl Page {
    fn create() -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let bytes = WORDS * size_of::<u64>();
        // SAFETY: a new mapping at a place that the kernel chooses.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(place.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(words))
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: the mapping holds WORDS words, of which `word` is one, and lives as long as `self`.
        unsafe { self.0.add(word as usize).as_ref() }
    }

    pub(super) fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::SeqCst)
    }

    fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::SeqCst);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping that `create` made, which nothing refers to any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), WORDS * size_of::<u64>()) };
    }
}

/// Makes `command` put the filter on itself before it is executed.
pub(super) fn prepare(command: &mut Command, code: Vec<Insn>) -> io::Result<Arc<Page>> {
    let page = Arc::new(Page::create()?);
    let told = Arc::clone(&page);
    let length = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attach = move || {
        let program = Program {
            length,
            code: code.as_ptr(),
        };
        // SAFETY: getpid takes nothing.
        let own = unsafe { libc::getpid() };
        told.set(Word::Process, own.unsigned_abs().into());
        let listener = match install(&program) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                // SAFETY: prctl with integers only.
                if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                told.set(Word::NoNewPrivileges, 1);
                install(&program)?
            }
            other => other?,
        };
        // No call between the filter and this word: nobody answers before it is read.
        told.set(Word::Listener, listener + 1);
        Ok(())
    };
    // SAFETY: between fork and exec: `attach` makes system calls and writes to the page; it takes no lock
    // and no memory. Its errors are numbers of the system.
    unsafe { command.pre_exec(attach) };
    Ok(page)
}

/// Puts the filter on this thread; the number of the listener's descriptor, which is closed on exec.
fn install(program: &Program) -> io::Result<u64> {
    let try_with = |flags: libc::c_ulong| {
        // SAFETY: seccomp(2) reads the program, which outlives the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(program),
            )
        };
        u64::try_from(fd).map_err(|_| io::Error::last_os_error())
    };
    match try_with(FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => try_with(FLAG_NEW_LISTENER),
        other => other,
    }
}

/// The listener, from the process that has it.
pub(super) fn take(page: &Page) -> io::Result<OwnedFd> {
    let number = |word| {
        libc::c_int::try_from(page.get(word))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    let process = crate::process::handle(number(Word::Process)?.unsigned_abs())?;
    let listener = number(Word::Listener)? - 1;
    // SAFETY: pidfd_getfd takes three integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), listener, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the ioctl takes an integer. Older kernels know no flags and are only slower.
    let _ = unsafe { libc::ioctl(fd.as_raw_fd(), IOCTL_SET_FLAGS, SYNC_WAKE_UP) };
    Ok(fd)
}

/// Kills the process that put the filter on.
pub(super) fn kill(page: &Page) {
    if let Ok(pid) = libc::pid_t::try_from(page.get(Word::Process))
        && pid > 0
    {
        // SAFETY: two integers; it is a child that was not waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Waits for a question; whether there may be one. `false`: every process with the filter has ended.
pub(super) fn wait(listener: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, exclusively borrowed.
    if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(true),
            _ => Err(error),
        };
    }
    Ok(poll.revents & libc::POLLIN != 0 || poll.revents & libc::POLLHUP == 0)
}

/// Takes a question; none if who asked is gone.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Question>> {
    let mut question = Question::default();
    // SAFETY: the kernel writes a struct seccomp_notif, which `question` is, all zeros before.
    match unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_RECV, &raw mut question) } {
        0 => Ok(Some(question)),
        _ => gone(),
    }
}

/// Lets the call run. `None` if who asked is gone.
pub(super) fn go_on(listener: BorrowedFd<'_>, id: u64) -> io::Result<Option<()>> {
    let mut answer = Answer {
        id,
        flags: CONTINUE,
        ..Answer::default()
    };
    // SAFETY: the kernel reads a struct seccomp_notif_resp, which `answer` is.
    match unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_SEND, &raw mut answer) } {
        0 => Ok(Some(())),
        _ => gone(),
    }
}

/// `struct open_how`
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
const IN_ROOT: u64 = 0x10 | 0x02;

/// A descriptor that only names what `path` leads to with `root` as its root.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &[u8], follow: bool) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let last = if follow { 0 } else { libc::O_NOFOLLOW };
    let flags = libc::O_PATH | libc::O_CLOEXEC | last;
    let how = OpenHow {
        flags: flags.unsigned_abs().into(),
        mode: 0,
        resolve: IN_ROOT,
    };
    // SAFETY: the path is a C string and `how` a struct open_how of its own size; both outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn gone<T>() -> io::Result<Option<T>> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}
