//! bpf(2) for device programs: the instructions used, loading, attaching, detaching.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no safe wrapper in the crates we use"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The programs' name: it tells ours from those of systemd or of the administrator.
const NAME: &[u8] = b"cofferdam_dev";

/// One eBPF instruction (struct bpf_insn, linux/bpf.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Insn {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Opcodes (linux/bpf_common.h, linux/bpf.h).
const LDX_MEM_W: u8 = 0x61;
const MOV32_X: u8 = 0xbc;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JEQ32_K: u8 = 0x16;
const JNE32_K: u8 = 0x56;
const MOV64_K: u8 = 0xb7;
const EXIT: u8 = 0x95;

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers: (src << 4) | dst,
            offset,
            immediate,
        }
    }

    pub(super) const fn load32(dst: u8, src: u8, offset: i16) -> Self {
        Self::new(LDX_MEM_W, dst, src, offset, 0)
    }

    pub(super) const fn move32(dst: u8, src: u8) -> Self {
        Self::new(MOV32_X, dst, src, 0, 0)
    }

    pub(super) const fn and32(dst: u8, value: i32) -> Self {
        Self::new(AND32_K, dst, 0, 0, value)
    }

    pub(super) const fn shift_right32(dst: u8, by: i32) -> Self {
        Self::new(RSH32_K, dst, 0, 0, by)
    }

    /// Jumps unless equal; the distance comes with `set_distance`.
    pub(super) const fn skip_unless_equal32(dst: u8, value: i32) -> Self {
        Self::new(JNE32_K, dst, 0, 0, value)
    }

    /// Jumps if equal; the distance comes with `set_distance`.
    pub(super) const fn skip_if_equal32(dst: u8, value: i32) -> Self {
        Self::new(JEQ32_K, dst, 0, 0, value)
    }

    pub(super) const fn set64(dst: u8, value: i32) -> Self {
        Self::new(MOV64_K, dst, 0, 0, value)
    }

    pub(super) const fn exit() -> Self {
        Self::new(EXIT, 0, 0, 0, 0)
    }

    /// Sets how far a jump goes; other instructions stay as they are.
    pub(super) fn set_distance(&mut self, distance: usize) {
        if matches!(self.code, JEQ32_K | JNE32_K) {
            // A block has at most seven instructions.
            self.offset = i16::try_from(distance).unwrap_or(i16::MAX);
        }
    }
}

/// `BPF_PROG_LOAD` of union bpf_attr, as far as we use it.
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
}

/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of struct bpf_prog_info: up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Other programs, of parents and of systemd, keep their say: all must allow.
const ALLOW_MULTI: u32 = 2;
/// More programs than this on one cgroup are not made by anyone.
const MAX_ATTACHED: usize = 64;

/// # Safety
/// `attr` must be the form that `command` reads, and every address in it must be valid for it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads (and for queries writes) size_of::<T>() bytes of `attr`, which is
    // exclusively borrowed; the caller vouches for the addresses inside.
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

fn number(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>().addr() as u64
}

/// Loads a device program.
pub(super) fn load(code: &[Insn]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: address(code),
        license: address(c"Apache-2.0".to_bytes_with_nul()),
        ..LoadAttr::default()
    };
    attr.prog_name[..NAME.len()].copy_from_slice(NAME);
    // SAFETY: BPF_PROG_LOAD reads this form; `code` and the license outlive the call.
    unsafe { bpf_fd(PROG_LOAD, &mut attr) }
}

/// Attaches a program to a cgroup, beside those already there.
pub(super) fn attach(cgroup: &File, program: &OwnedFd) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: BPF_PROG_ATTACH reads this form, which holds no address.
    unsafe { bpf(PROG_ATTACH, &mut attr).map(drop) }
}

/// Takes a program off a cgroup.
pub(super) fn detach(cgroup: &File, program: &OwnedFd) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: BPF_PROG_DETACH reads this form, which holds no address.
    unsafe { bpf(PROG_DETACH, &mut attr).map(drop) }
}

/// The device programs attached to this very cgroup.
pub(super) fn attached(cgroup: &File) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_ATTACHED];
    let mut attr = QueryAttr {
        target_fd: number(cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr().addr() as u64,
        prog_cnt: u32::try_from(ids.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        ..QueryAttr::default()
    };
    // SAFETY: BPF_PROG_QUERY reads and writes this form, and writes at most `prog_cnt` ids into
    // `ids`, which is that long and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attr)? };
    let count = usize::try_from(attr.prog_cnt).unwrap_or(MAX_ATTACHED);
    let mut programs = Vec::new();
    for id in ids.iter().take(count) {
        let mut attr = ByIdAttr {
            prog_id: *id,
            ..ByIdAttr::default()
        };
        // SAFETY: BPF_PROG_GET_FD_BY_ID reads this form, which holds no address, and makes a
        // new descriptor.
        match unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut attr) } {
            Ok(program) => programs.push(program),
            // Detached meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(programs)
}

/// Whether a program has our name.
pub(super) fn is_ours(program: &OwnedFd) -> io::Result<bool> {
    let mut info = ProgInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: number(program),
        info_len: u32::try_from(size_of::<ProgInfo>()).map_err(|_| io::ErrorKind::InvalidInput)?,
        info: std::ptr::from_mut(&mut info).addr() as u64,
    };
    // SAFETY: BPF_OBJ_GET_INFO_BY_FD writes at most `info_len` bytes to `info`, which is that
    // long; with all its addresses 0 nothing else is written.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr)? };
    Ok(info.name.starts_with(NAME) && info.name.get(NAME.len()) == Some(&0))
}

/// What an instruction does, for the interpreter of the tests.
#[cfg(test)]
pub(super) enum Step {
    Next,
    Jump(usize),
    Exit,
}

#[cfg(test)]
impl Insn {
    /// Executes one instruction; `context` is struct bpf_cgroup_dev_ctx.
    pub(super) fn step(self, r: &mut [u32; 6], context: [u32; 3]) -> Step {
        let dst = usize::from(self.registers & 15);
        let src = usize::from(self.registers >> 4);
        let value = self.immediate.cast_unsigned();
        let distance = usize::try_from(self.offset).unwrap();
        match self.code {
            LDX_MEM_W => r[dst] = context[distance / 4],
            MOV32_X => r[dst] = r[src],
            AND32_K => r[dst] &= value,
            RSH32_K => r[dst] >>= value,
            MOV64_K => r[dst] = value,
            JEQ32_K if r[dst] == value => return Step::Jump(distance),
            JNE32_K if r[dst] != value => return Step::Jump(distance),
            JEQ32_K | JNE32_K => {}
            EXIT => return Step::Exit,
            other => panic!("unknown opcode {other:#x}"),
        }
        Step::Next
    }
}
