//! Scheduling, limits, memory policy, personality.

use std::io;

use nix::unistd::Pid;

use super::check;

/// Sets a resource limit of another process of ours.
pub(crate) fn set_limit(pid: Pid, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is live and has the kernel's layout; a null pointer asks for no old value.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid.as_raw(),
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// linux/sched/types.h, the 48-byte first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Sets how a process is scheduled.
pub(crate) fn set_scheduler(pid: Pid, mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = u32::try_from(size_of::<SchedulerAttributes>()).map_err(io::Error::other)?;
    // SAFETY: `attributes` is live and says its own size.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            pid.as_raw(),
            &raw const attributes,
            0,
        )
    })?;
    Ok(())
}

/// Sets a process's I/O priority: `class` and `level` as in linux/ioprio.h.
pub(crate) fn set_io_priority(pid: Pid, class: u32, level: u32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: integers only.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            WHO_PROCESS,
            pid.as_raw(),
            class << CLASS_SHIFT | level,
        )
    })?;
    Ok(())
}

/// Sets this process's execution domain.
pub(crate) fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) })?;
    Ok(())
}

/// Sets this thread's NUMA memory policy; `nodes` is a bit per node, lowest first.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes the number of bits plus one.
    let (pointer, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (nodes.as_ptr(), nodes.len() * 64 + 1)
    };
    // SAFETY: the kernel reads `bits - 1` bits from the live slice, or nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })?;
    Ok(())
}

/// How much this process lets others go first: 0 not at all, 19 the most. Its session's group counts where the
/// kernel makes such groups (`sched(7)`, "The autogroup feature"), for nice values matter within it only.
pub(crate) fn set_nice(level: u8) {
    // SAFETY: integers only. A failure leaves the priority as it is.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level.min(19).into()) };
    // Absent where there are no such groups.
    let _ = std::fs::write("/proc/self/autogroup", level.min(19).to_string());
}
