//! What of this kernel the programs depend on.

use std::io;

use crate::btf::{Btf, BtfError};

/// Where the kernel describes its types.
pub(crate) const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Offsets in bytes, as instructions take them; numbers of types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) task_status: i16,
    pub(crate) task_tgid: i16,
    pub(crate) task_signal: i16,
    pub(crate) task_nsproxy: i16,
    pub(crate) task_thread_pid: i16,
    pub(crate) pid_level: i16,
    pub(crate) signal_live: i16,
    pub(crate) nsproxy_pid: i16,
    pub(crate) pid_namespace_inode: i16,
    pub(crate) bprm_interp: i16,
    pub(crate) enter: u32,
    pub(crate) fork: u32,
    pub(crate) exec: u32,
    pub(crate) exit: u32,
    /// Since Linux 6.14; older kernels record no capabilities.
    pub(crate) capable: Option<u32>,
}

impl Layout {
    /// Reads the kernel's type information.
    pub(crate) fn of_this_kernel() -> Result<Self, LayoutError> {
        let bytes = std::fs::read(BTF).map_err(LayoutError::Read)?;
        let btf = Btf::parse(&bytes)?;
        let offset = |structure: &str, field: &str| {
            let offset = btf.offset(structure, field)?;
            i16::try_from(offset).map_err(|_| BtfError::NoField {
                structure: structure.to_owned(),
                field: format!("{field} within reach of an instruction"),
            })
        };
        Ok(Self {
            task_status: offset("task_struct", "thread_info.status")?,
            task_tgid: offset("task_struct", "tgid")?,
            task_signal: offset("task_struct", "signal")?,
            task_nsproxy: offset("task_struct", "nsproxy")?,
            task_thread_pid: offset("task_struct", "thread_pid")?,
            pid_level: offset("pid", "level")?,
            signal_live: offset("signal_struct", "live")?,
            nsproxy_pid: offset("nsproxy", "pid_ns_for_children")?,
            pid_namespace_inode: offset("pid_namespace", "ns.inum")?,
            bprm_interp: offset("linux_binprm", "interp")?,
            enter: btf.typedef("btf_trace_sys_enter")?,
            fork: btf.typedef("btf_trace_sched_process_fork")?,
            exec: btf.typedef("btf_trace_sched_process_exec")?,
            exit: btf.typedef("btf_trace_sched_process_exit")?,
            capable: btf.typedef("btf_trace_cap_capable").ok(),
        })
    }
}

/// Why the layout is unknown.
#[derive(Debug)]
pub(crate) enum LayoutError {
    Read(io::Error),
    Btf(BtfError),
}

impl From<BtfError> for LayoutError {
    fn from(error: BtfError) -> Self {
        Self::Btf(error)
    }
}

/// Where the kernel's `name` begins and ends, by its symbol table; `None` where that is hidden.
pub(crate) fn symbol(name: &str) -> Option<(u64, u64)> {
    let table = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let address = |line: &str| u64::from_str_radix(line.split_whitespace().next()?, 16).ok();
    let start = table
        .lines()
        .find(|line| line.split_whitespace().nth(2) == Some(name))
        .and_then(address)
        .filter(|start| *start != 0)?;
    // The next symbol; the table is not in order throughout.
    let end = table
        .lines()
        .filter_map(address)
        .filter(|next| *next > start)
        .min()?;
    Some((start, end))
}
