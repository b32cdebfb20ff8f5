//! bpf(2): maps, programs, raw tracepoints.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::asm::Insn;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

const PROG_TYPE_TRACING: u32 = 26;
const ATTACH_TRACE_RAW_TP: u32 = 23;

/// The kernel lends the helpers that look at tasks and registers to programs under a licence that
/// goes with its own. See `program`.
const LICENSE: &std::ffi::CStr = c"Dual BSD/GPL";

/// Plain data that goes into a map as it lies in memory.
///
/// # Safety
/// No padding, no pointers, every pattern of bits valid.
pub(crate) unsafe trait Plain: Copy + Default {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u64; N] where [u64; N]: Default {}

/// The kinds of map in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Hash = 1,
    Array = 2,
    /// A value for every CPU; reads give one value after another.
    PerCpuHash = 5,
    /// Likewise.
    PerCpuArray = 6,
}

/// A map from `K` to `V`.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    kind: Kind,
    types: PhantomData<(K, V)>,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    /// The address of the value, or of the next key.
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct TracepointAttr {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// struct bpf_prog_info up to `recursion_misses`, which stands at this place.
const MISSES_AT: usize = 208;
const INFO_LENGTH: usize = MISSES_AT + 8;

/// # Safety
/// `attr` must be the form that `command` reads, and every address in it must be valid for it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes size_of::<T>() bytes of `attr`, which is exclusively
    // borrowed; the caller vouches for the addresses inside.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// # Safety
/// As `bpf`, and `command` must be one that returns a new file descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor for us (close-on-exec, as bpf(2) always does).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>().addr() as u64
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn short_name(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    short
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Makes a map; all its memory is taken now, so that none can lack later.
    pub(crate) fn create(kind: Kind, name: &str, max_entries: u32) -> io::Result<Self> {
        Self::create_with(kind, name, max_entries, 0)
    }

    /// `create`, with BPF_F_* flags.
    pub(crate) fn create_with(
        kind: Kind,
        name: &str,
        max_entries: u32,
        flags: u32,
    ) -> io::Result<Self> {
        let mut attr = CreateAttr {
            map_flags: flags,
            map_type: kind as u32,
            key_size: length(size_of::<K>())?,
            value_size: length(size_of::<V>())?,
            max_entries,
            map_name: short_name(name),
            ..CreateAttr::default()
        };
        // SAFETY: BPF_MAP_CREATE reads this form, which holds no address, and makes a descriptor.
        let fd = unsafe { bpf_fd(MAP_CREATE, &mut attr)? };
        Ok(Self {
            fd,
            kind,
            types: PhantomData,
        })
    }

    /// For the programs that use it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn element(&self, key: u64, value: u64) -> ElementAttr {
        ElementAttr {
            map_fd: number(&self.fd),
            key,
            value,
            ..ElementAttr::default()
        }
    }

    /// Sets a value, on every CPU.
    pub(crate) fn set(&self, key: &K, value: V) -> io::Result<()> {
        let values = vec![value; self.copies()?];
        let mut attr = self.element(address(key), address(values.as_slice()));
        // SAFETY: BPF_MAP_UPDATE_ELEM reads a key and a value, or a value for every CPU, at the
        // addresses; both outlive the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attr).map(drop) }
    }

    /// The values of a key: one, or one for every CPU; none if the key is not there.
    pub(crate) fn get(&self, key: &K) -> io::Result<Vec<V>> {
        let mut values = vec![V::default(); self.copies()?];
        let place = values.as_mut_ptr().addr() as u64;
        let mut attr = self.element(address(key), place);
        // SAFETY: BPF_MAP_LOOKUP_ELEM reads a key and writes a value, or a value for every possible
        // CPU, to `values`, which has room for that; V is plain data.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) } {
            Ok(_) => Ok(values),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Takes a key out; whether it was there.
    pub(crate) fn remove(&self, key: &K) -> io::Result<bool> {
        let mut attr = self.element(address(key), 0);
        // SAFETY: BPF_MAP_DELETE_ELEM reads a key at the address, which outlives the call.
        match unsafe { bpf(MAP_DELETE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every key. Keys that come or go meanwhile may be seen or not.
    pub(crate) fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        loop {
            let mut next = K::default();
            let after = keys.last().map_or(0, address);
            let mut attr = self.element(after, std::ptr::from_mut(&mut next).addr() as u64);
            // SAFETY: BPF_MAP_GET_NEXT_KEY reads a key (or none, for the first) and writes one to
            // `next`; K is plain data.
            match unsafe { bpf(MAP_GET_NEXT_KEY, &mut attr) } {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }

    fn copies(&self) -> io::Result<usize> {
        match self.kind {
            Kind::PerCpuHash | Kind::PerCpuArray => possible_cpus(),
            Kind::Hash | Kind::Array => Ok(1),
        }
    }
}

/// How many CPUs the kernel keeps values for (cpu_possible_mask).
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().unwrap_or_default();
    let last: usize = last.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(last + 1)
}

/// A program that the kernel has accepted.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Loads a program for the raw tracepoint whose typed form is `tracepoint` in the kernel's types.
    /// On refusal also what the verifier said, for which the program is loaded a second time.
    pub(crate) fn load(name: &str, code: &[Insn], tracepoint: u32) -> Result<Self, Refused> {
        let mut log = Vec::new();
        match try_load(name, code, tracepoint, &mut log) {
            Ok(program) => Ok(program),
            Err(source) => {
                log = vec![0; 1 << 16];
                // Only for its log: the first error is the one that counts.
                let _ = try_load(name, code, tracepoint, &mut log);
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                log.truncate(end);
                Err(Refused {
                    source,
                    log: String::from_utf8_lossy(&log).into_owned(),
                })
            }
        }
    }

    /// Runs it at every event from now on, until what is returned is dropped (or this process ends).
    pub(crate) fn attach(&self) -> io::Result<OwnedFd> {
        let mut attr = TracepointAttr {
            prog_fd: number(&self.0),
            ..TracepointAttr::default()
        };
        // SAFETY: BPF_RAW_TRACEPOINT_OPEN reads this form; with a program that was loaded for one
        // tracepoint the name must be null.
        unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &mut attr) }
    }

    /// How many events the kernel did not run it for, because it was running on that CPU already.
    pub(crate) fn misses(&self) -> io::Result<u64> {
        Ok(self.info()?[MISSES_AT / 8])
    }

    /// The number by which the kernel knows it.
    pub(crate) fn id(&self) -> io::Result<u32> {
        // The first word is the type and, in its upper half, the number.
        Ok(u32::try_from(self.info()?[0] >> 32).unwrap_or(0))
    }

    fn info(&self) -> io::Result<[u64; INFO_LENGTH / 8]> {
        let mut info = [0u64; INFO_LENGTH / 8];
        let mut attr = InfoAttr {
            bpf_fd: number(&self.0),
            info_len: length(INFO_LENGTH)?,
            info: info.as_mut_ptr().addr() as u64,
        };
        // SAFETY: BPF_OBJ_GET_INFO_BY_FD writes at most `info_len` bytes to `info`, which is that
        // long; with all its addresses 0 nothing else is written.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr)? };
        if usize::try_from(attr.info_len).unwrap_or(0) < INFO_LENGTH {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(info)
    }
}

/// Whether the kernel has a program of that number.
pub(crate) fn is_loaded(id: u32) -> io::Result<bool> {
    let mut attr = ByIdAttr {
        prog_id: id,
        ..ByIdAttr::default()
    };
    // SAFETY: BPF_PROG_GET_FD_BY_ID reads this form, which holds no address, and makes a new
    // descriptor.
    match unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel did not take a program.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) source: io::Error,
    /// What the verifier said, if it came to that.
    pub(crate) log: String,
}

/// As often as a program is handed to the verifier.
const MAX_TRIES: u32 = 16;

fn try_load(name: &str, code: &[Insn], tracepoint: u32, log: &mut [u8]) -> io::Result<Program> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_TRACING,
        insn_cnt: length(code.len())?,
        insns: address(code),
        license: address(LICENSE.to_bytes_with_nul()),
        prog_name: short_name(name),
        expected_attach_type: ATTACH_TRACE_RAW_TP,
        attach_btf_id: tracepoint,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = length(log.len())?;
        attr.log_buf = log.as_mut_ptr().addr() as u64;
    }
    let mut tries = 0;
    loop {
        // SAFETY: BPF_PROG_LOAD reads this form and writes at most `log_size` bytes to `log`; `code`,
        // the licence and the log outlive the call.
        let loaded = unsafe { bpf_fd(PROG_LOAD, &mut attr).map(Program) };
        tries += 1;
        match loaded {
            // The verifier gives up where a signal waits, such as a child's end (kernel/bpf/verifier.c).
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < MAX_TRIES => {}
            loaded => return loaded,
        }
    }
}
