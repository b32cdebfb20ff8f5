//! What the parent sets on a new process while it still has the privilege to: resource limits,
//! scheduling, I/O priority, CPU affinity, the OOM score.

use std::fs;
use std::io;

use nix::sched::CpuSet;
use nix::unistd::Pid;
use oci_spec::runtime::{
    IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, PosixRlimitType,
    Process, Scheduler,
};

use crate::numa;
use crate::process::Unacceptable;
use crate::sys::sched::{self, SchedulerAttributes};

/// One process's limits.
#[derive(Debug)]
pub(crate) struct Limits {
    rlimits: Vec<PosixRlimit>,
    scheduler: Option<SchedulerAttributes>,
    io_priority: Option<(u32, u32)>,
    oom_score_adj: Option<i32>,
    /// Where an exec'd process may run before and after it entered the cgroup.
    pub(crate) initial_cpus: Option<CpuSet>,
    final_cpus: Option<CpuSet>,
}

/// A limit that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct LimitError {
    /// The limit and its value.
    pub(crate) what: String,
    /// Why.
    pub(crate) source: io::Error,
}

impl Limits {
    /// Checks the limits of `process`.
    pub(crate) fn new(process: &Process) -> Result<Self, Unacceptable> {
        let rlimits = process.rlimits().clone().unwrap_or_default();
        for (place, limit) in rlimits.iter().enumerate() {
            if limit.soft() > limit.hard() {
                return Err(Unacceptable::new(
                    "process.rlimits",
                    format!(
                        "{}: soft {} is above hard {}",
                        limit.typ(),
                        limit.soft(),
                        limit.hard()
                    ),
                ));
            }
            if rlimits[..place].iter().any(|l| l.typ() == limit.typ()) {
                return Err(Unacceptable::new(
                    "process.rlimits",
                    format!("{} is given twice", limit.typ()),
                ));
            }
        }
        let affinity = process.exec_cpu_affinity().as_ref();
        Ok(Self {
            rlimits,
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            io_priority: match process.io_priority() {
                None => None,
                Some(io) => {
                    let class = match io.class() {
                        IOPriorityClass::IoprioClassRt => 1,
                        IOPriorityClass::IoprioClassBe => 2,
                        IOPriorityClass::IoprioClassIdle => 3,
                    };
                    match u32::try_from(io.priority()) {
                        Ok(level @ 0..=7) => Some((class, level)),
                        _ => {
                            return Err(Unacceptable::new(
                                "process.ioPriority.priority",
                                format!("{} is not between 0 and 7", io.priority()),
                            ));
                        }
                    }
                }
            },
            oom_score_adj: match process.oom_score_adj() {
                Some(score) if !(-1000..=1000).contains(&score) => {
                    return Err(Unacceptable::new(
                        "process.oomScoreAdj",
                        format!("{score} is not between -1000 and 1000"),
                    ));
                }
                other => other,
            },
            initial_cpus: cpus(affinity.and_then(|a| a.initial().as_deref()))?,
            final_cpus: cpus(affinity.and_then(|a| a.cpu_affinity_final().as_deref()))?,
        })
    }

    /// The CPU affinity of the spec is for processes that join, not for init.
    pub(crate) fn without_affinity(&mut self) {
        self.initial_cpus = None;
        self.final_cpus = None;
    }

    /// Takes from init what a joining process does not say itself: it must not run with the caller's
    /// OOM score, which for an engine's shim is one that the kernel spares.
    pub(crate) fn or_inits(mut self, init: Option<&Process>) -> Result<Self, Unacceptable> {
        if let Some(init) = init {
            let init = Self::new(init)?;
            self.scheduler = self.scheduler.or(init.scheduler);
            self.io_priority = self.io_priority.or(init.io_priority);
            self.oom_score_adj = self.oom_score_adj.or(init.oom_score_adj);
        }
        Ok(self)
    }

    /// Sets the resource limits of `pid`, 0 for the calling process. Of another process this takes
    /// the same user ids or CAP_SYS_RESOURCE over its user namespace; to raise a hard limit takes
    /// CAP_SYS_RESOURCE over the host's. So init and exec set their own while they are still
    /// privileged, and only what is in a user namespace has it done by the parent.
    pub(crate) fn apply_resources(&self, pid: Pid) -> Result<(), LimitError> {
        for limit in &self.rlimits {
            sched::set_limit(pid, resource(limit.typ()), limit.soft(), limit.hard()).map_err(
                |source| LimitError {
                    what: format!(
                        "set {} to {}:{} (raising a hard limit needs CAP_SYS_RESOURCE)",
                        limit.typ(),
                        limit.soft(),
                        limit.hard()
                    ),
                    source,
                },
            )?;
        }
        Ok(())
    }

    /// Sets all others on `pid`, which is still our own code.
    pub(crate) fn apply(&self, pid: Pid) -> Result<(), LimitError> {
        if let Some(score) = self.oom_score_adj {
            set_oom_score(pid, score)?;
        }
        if let Some(attributes) = self.scheduler {
            sched::set_scheduler(pid, attributes).map_err(|source| LimitError {
                what: "set process.scheduler".to_owned(),
                source,
            })?;
        }
        if let Some((class, level)) = self.io_priority {
            sched::set_io_priority(pid, class, level).map_err(|source| LimitError {
                what: "set process.ioPriority".to_owned(),
                source,
            })?;
        }
        if let Some(cpus) = &self.final_cpus {
            nix::sched::sched_setaffinity(pid, cpus).map_err(|errno| LimitError {
                what: "set process.execCPUAffinity".to_owned(),
                source: errno.into(),
            })?;
        }
        Ok(())
    }
}

/// Only a change is written: lowering a score takes CAP_SYS_RESOURCE, keeping it does not.
fn set_oom_score(pid: Pid, score: i32) -> Result<(), LimitError> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let failed = |source| LimitError {
        what: format!("set process.oomScoreAdj to {score} (lowering it needs CAP_SYS_RESOURCE)"),
        source,
    };
    let now = fs::read_to_string(&path).map_err(failed)?;
    if now.trim_end().parse() == Ok(score) {
        return Ok(());
    }
    fs::write(&path, score.to_string()).map_err(failed)
}

fn cpus(list: Option<&str>) -> Result<Option<CpuSet>, Unacceptable> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let bad = || {
        Unacceptable::new(
            "process.execCPUAffinity",
            format!("{list:?} is not a CPU list"),
        )
    };
    let words = numa::bitmap(list).ok_or_else(bad)?;
    let mut set = CpuSet::new();
    for (index, word) in words.iter().enumerate() {
        for bit in (0..64).filter(|bit| word & 1 << bit != 0) {
            set.set(index * 64 + bit).map_err(|_| bad())?;
        }
    }
    Ok(Some(set))
}

/// asm-generic/resource.h.
fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// linux/sched.h.
fn scheduler(wanted: &Scheduler) -> Result<SchedulerAttributes, Unacceptable> {
    let policy = match wanted.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Unacceptable::new(
                "process.scheduler.policy",
                "SCHED_ISO is reserved and not implemented by Linux",
            ));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for flag in wanted.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin
            | LinuxSchedulerFlag::SchedFlagUtilClampMax => {
                return Err(Unacceptable::new(
                    "process.scheduler.flags",
                    "the spec has no values to clamp the utilisation to",
                ));
            }
        };
    }
    let priority = u32::try_from(wanted.priority().unwrap_or(0))
        .map_err(|_| Unacceptable::new("process.scheduler.priority", "must not be negative"))?;
    Ok(SchedulerAttributes {
        policy,
        flags,
        nice: wanted.nice().unwrap_or(0),
        priority,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
        ..SchedulerAttributes::default()
    })
}
