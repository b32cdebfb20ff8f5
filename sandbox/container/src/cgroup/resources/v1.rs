//! Limits in v1 hierarchies.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};

use super::{Limits, device_number, given};
use crate::cgroup::{Error, file};

const MEMORY: &str = "memory.limit_in_bytes";
const MEMSW: &str = "memory.memsw.limit_in_bytes";

pub(super) fn apply(limits: &mut Limits, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        apply_memory(limits, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        apply_cpu(limits, cpu)?;
        apply_cpuset(limits, cpu)?;
    }
    if let Some(limit) = resources
        .pids()
        .as_ref()
        .and_then(|p| given(Some(p.limit())))
    {
        let value = if limit < 0 {
            "max".to_owned()
        } else {
            limit.to_string()
        };
        limits.set("pids", "pids.max", "linux.resources.pids.limit", value)?;
    }
    if let Some(io) = resources.block_io() {
        apply_blkio(limits, io)?;
    }
    if let Some(pages) = resources.hugepage_limits() {
        limits.hugepages(pages, "limit_in_bytes")?;
    }
    if let Some(network) = resources.network() {
        apply_network(limits, network)?;
    }
    if let Some(rdma) = resources.rdma() {
        limits.rdma(rdma)?;
    }
    for (key, value) in resources.unified().iter().flatten() {
        limits.lacks(
            &format!("linux.resources.unified.{key}"),
            value,
            "this host manages containers with cgroup v1",
        );
    }
    Ok(())
}

fn apply_memory(limits: &mut Limits, memory: &LinuxMemory) -> Result<(), Error> {
    set_memory_and_swap(limits, given(memory.limit()), given(memory.swap()))?;
    if let Some(reservation) = given(memory.reservation()) {
        let field = "linux.resources.memory.reservation";
        limits.set("memory", "memory.soft_limit_in_bytes", field, reservation)?;
    }
    if let Some(tcp) = given(memory.kernel_tcp()) {
        let field = "linux.resources.memory.kernelTCP";
        limits.set("memory", "memory.kmem.tcp.limit_in_bytes", field, tcp)?;
    }
    if let Some(swappiness) = memory.swappiness() {
        let field = "linux.resources.memory.swappiness";
        limits.set("memory", "memory.swappiness", field, swappiness)?;
    }
    if memory.disable_oom_killer() == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        limits.set("memory", "memory.oom_control", field, 1)?;
    }
    Ok(())
}

/// The kernel wants memory <= memory+swap after each single write, so the order depends on
/// whether the limits grow or shrink.
fn set_memory_and_swap(
    limits: &mut Limits,
    memory: Option<i64>,
    swap: Option<i64>,
) -> Result<(), Error> {
    const FIELD: &str = "linux.resources.memory.limit";
    const SWAP_FIELD: &str = "linux.resources.memory.swap";
    let accounted = limits.file("memory", MEMSW).is_some();
    // Unlimited memory with no word on swap lifts the swap limit as well.
    let swap = match (memory, swap) {
        (Some(-1), None) if accounted => Some(-1),
        (_, swap) => swap,
    };
    let (memory, swap) = match (memory, swap) {
        (memory, Some(swap)) if !accounted => {
            limits.lacks(
                SWAP_FIELD,
                swap,
                "the kernel does not account swap (boot it with swapaccount=1)",
            );
            (memory, None)
        }
        both => both,
    };
    let swap_first = match (memory, swap, limits.file("memory", MEMORY)) {
        (Some(_), Some(swap), Some(path)) => {
            let current = file::read_number(&path)?.unwrap_or(u64::MAX);
            swap < 0 || u64::try_from(swap).is_ok_and(|swap| current < swap)
        }
        _ => false,
    };
    let mut writes = [
        memory.map(|value| (MEMORY, FIELD, value)),
        swap.map(|value| (MEMSW, SWAP_FIELD, value)),
    ];
    if swap_first {
        writes.reverse();
    }
    for (name, field, value) in writes.into_iter().flatten() {
        limits.set("memory", name, field, value)?;
    }
    Ok(())
}

fn apply_cpu(limits: &mut Limits, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle() {
        limits.set("cpu", "cpu.idle", "linux.resources.cpu.idle", idle)?;
    }
    // An idle group has no shares: the kernel refuses them.
    if let Some(shares) = given(cpu.shares()).filter(|_| cpu.idle() != Some(1)) {
        limits.set("cpu", "cpu.shares", "linux.resources.cpu.shares", shares)?;
    }
    if let Some(period) = given(cpu.realtime_period()) {
        let field = "linux.resources.cpu.realtimePeriod";
        limits.set("cpu", "cpu.rt_period_us", field, period)?;
    }
    if let Some(runtime) = given(cpu.realtime_runtime()) {
        let field = "linux.resources.cpu.realtimeRuntime";
        limits.set("cpu", "cpu.rt_runtime_us", field, runtime)?;
    }
    apply_bandwidth(limits, cpu)
}

/// Quota, period and burst bound each other, and the kernel checks after each single write. Each
/// is tried; what is refused is tried again once the others have moved.
fn apply_bandwidth(limits: &mut Limits, cpu: &LinuxCpu) -> Result<(), Error> {
    let mut open: Vec<(&str, &str, String)> = Vec::new();
    if let Some(period) = given(cpu.period()) {
        let field = "linux.resources.cpu.period";
        open.push(("cpu.cfs_period_us", field, period.to_string()));
    }
    if let Some(quota) = given(cpu.quota()) {
        let field = "linux.resources.cpu.quota";
        open.push(("cpu.cfs_quota_us", field, quota.to_string()));
    }
    if let Some(burst) = cpu.burst() {
        let field = "linux.resources.cpu.burst";
        open.push(("cpu.cfs_burst_us", field, burst.to_string()));
    }
    loop {
        let before = open.len();
        let mut refused = None;
        let mut rest = Vec::new();
        for (name, field, value) in open {
            match limits.set("cpu", name, field, &value) {
                Ok(()) => {}
                Err(error) => {
                    refused.get_or_insert(error);
                    rest.push((name, field, value));
                }
            }
        }
        match refused {
            None => return Ok(()),
            Some(error) if rest.len() == before => return Err(error),
            Some(_) => open = rest,
        }
    }
}

fn apply_cpuset(limits: &mut Limits, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        limits.set("cpuset", "cpuset.cpus", "linux.resources.cpu.cpus", cpus)?;
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        limits.set("cpuset", "cpuset.mems", "linux.resources.cpu.mems", mems)?;
    }
    Ok(())
}

fn apply_blkio(limits: &mut Limits, io: &LinuxBlockIo) -> Result<(), Error> {
    // The weights belong to an I/O scheduler, which names its own files.
    let name = |limits: &Limits, plain: &str, bfq: &str| {
        if limits.file("blkio", plain).is_none() && limits.file("blkio", bfq).is_some() {
            bfq.to_owned()
        } else {
            plain.to_owned()
        }
    };
    if let Some(weight) = given(io.weight()) {
        let file = name(limits, "blkio.weight", "blkio.bfq.weight");
        limits.set("blkio", &file, "linux.resources.blockIO.weight", weight)?;
    }
    if let Some(weight) = given(io.leaf_weight()) {
        let field = "linux.resources.blockIO.leafWeight";
        limits.set("blkio", "blkio.leaf_weight", field, weight)?;
    }
    for device in io.weight_device().iter().flatten() {
        let field = "linux.resources.blockIO.weightDevice";
        let number = device_number(device.major(), device.minor(), field)?;
        if let Some(weight) = given(device.weight()) {
            let file = name(limits, "blkio.weight_device", "blkio.bfq.weight_device");
            limits.set("blkio", &file, field, format!("{number} {weight}"))?;
        }
        if let Some(weight) = given(device.leaf_weight()) {
            let value = format!("{number} {weight}");
            limits.set("blkio", "blkio.leaf_weight_device", field, value)?;
        }
    }
    for (devices, name) in [
        (io.throttle_read_bps_device(), "read_bps_device"),
        (io.throttle_write_bps_device(), "write_bps_device"),
        (io.throttle_read_iops_device(), "read_iops_device"),
        (io.throttle_write_iops_device(), "write_iops_device"),
    ] {
        throttle(limits, devices.as_deref().unwrap_or_default(), name)?;
    }
    Ok(())
}

fn throttle(limits: &mut Limits, devices: &[LinuxThrottleDevice], name: &str) -> Result<(), Error> {
    let field = format!("linux.resources.blockIO.throttle ({name})");
    for device in devices {
        let number = device_number(device.major(), device.minor(), &field)?;
        let value = format!("{number} {}", device.rate());
        limits.set("blkio", &format!("blkio.throttle.{name}"), &field, value)?;
    }
    Ok(())
}

fn apply_network(limits: &mut Limits, network: &LinuxNetwork) -> Result<(), Error> {
    if let Some(class) = given(network.class_id()) {
        limits.set(
            "net_cls",
            "net_cls.classid",
            "linux.resources.network.classID",
            class,
        )?;
    }
    for priority in network.priorities().iter().flatten() {
        let value = format!("{} {}", priority.name(), priority.priority());
        limits.set(
            "net_prio",
            "net_prio.ifpriomap",
            "linux.resources.network.priorities",
            value,
        )?;
    }
    Ok(())
}
