//! What a container used: the figures of `events --stats` and of containerd's Metrics.
//!
//! The JSON form is runc's (`types/events.go`), field for field; what only containerd asks for
//! is kept out of it (`serde(skip)`). Times are in nanoseconds, sizes in bytes, and
//! `u64::MAX` means no limit.

mod parse;
mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Error;
use super::host::Mode;
use super::location::Location;

/// Figures of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Number of tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by their size, such as `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Cache and memory bandwidth allocation: not supported, always empty.
    pub intel_rdt: BTreeMap<String, u64>,
    /// Network interfaces: as with runc, the engine's business, always empty.
    pub network_interfaces: Vec<u64>,
    /// RDMA devices: use and limit.
    #[serde(skip)]
    pub rdma: Vec<Rdma>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time refused by the quota.
    pub throttling: Throttling,
}

/// Processor time used, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// Of each processor (v1 only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// Of each processor, in the kernel (v1 only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// Of each processor, in user space (v1 only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// What the quota took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which there was something to run.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Of these, the ones in which the quota ran out.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// How long tasks were kept from running, in nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Processors and memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpuset {
    /// Processors that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// v1 flag.
    pub cpu_exclusive: u64,
    /// Memory nodes that may be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// v1 flag.
    pub mem_hardwall: u64,
    /// v1 flag.
    pub mem_exclusive: u64,
    /// v1 flag.
    pub memory_migrate: u64,
    /// v1 flag.
    pub memory_spread_page: u64,
    /// v1 flag.
    pub memory_spread_slab: u64,
    /// v1 figure.
    pub memory_pressure: u64,
    /// v1 flag.
    pub sched_load_balance: u64,
    /// v1 level, -1 for the system's default.
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, in v2 as in v1.
    pub swap: MemoryEntry,
    /// Kernel memory (v1 only).
    pub kernel: MemoryEntry,
    /// TCP buffers (v1 only).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Swap alone (v2 only).
    #[serde(skip)]
    pub swap_only: MemoryEntry,
    /// v2 `memory.events`, v1 `memory.oom_control`.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
}

/// One kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEntry {
    /// At most.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most there was.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit (v1 only).
    pub failcnt: u64,
}

/// Number of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// At most; 0 means no limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Operations waiting (v1 with an old scheduler only, as all below).
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Time in service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Time waiting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Merged operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Time with the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
}

/// One figure of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Device number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Device number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The figure.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hugetlb {
    /// Bytes now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most there were (v1); the limit (v2).
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Its name.
    pub device: String,
    /// Handles: now, at most.
    pub hca_handles: (u32, u32),
    /// Objects: now, at most.
    pub hca_objects: (u32, u32),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn zero(value: &u64) -> bool {
    *value == 0
}

/// Reads everything; a controller that is missing leaves its part at zero.
pub(super) fn stats(location: &Location) -> Result<Stats, Error> {
    let mut stats = match location.mode {
        Mode::V1 => v1::stats(location)?,
        Mode::V2 => v2::stats(location)?,
    };
    stats.rdma = parse::rdma(location)?;
    Ok(stats)
}
