//! Limits in the unified hierarchy.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::convert::{cpu_weight, io_weight, or_max, swap_max};
use super::{Limits, device_number, given};
use crate::cgroup::{Error, file};

/// Files through which a container's place or its processes change: not limits.
const NOT_LIMITS: [&str; 8] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.type",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.subtree_control",
    "cgroup.controllers",
    "cgroup.pressure",
];

pub(super) fn apply(limits: &mut Limits, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        apply_memory(limits, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        apply_cpu(limits, cpu)?;
    }
    if let Some(limit) = resources
        .pids()
        .as_ref()
        .and_then(|p| given(Some(p.limit())))
    {
        limits.set(
            "pids",
            "pids.max",
            "linux.resources.pids.limit",
            or_max(limit),
        )?;
    }
    if let Some(io) = resources.block_io() {
        apply_io(limits, io)?;
    }
    if let Some(pages) = resources.hugepage_limits() {
        limits.hugepages(pages, "max")?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = given(network.class_id()) {
            limits.lacks(
                "linux.resources.network.classID",
                class,
                "cgroup v2 has no net_cls",
            );
        }
        for priority in network.priorities().iter().flatten() {
            let field = "linux.resources.network.priorities";
            limits.lacks(field, priority.name(), "cgroup v2 has no net_prio");
        }
    }
    if let Some(rdma) = resources.rdma() {
        limits.rdma(rdma)?;
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (key, value) in unified {
        apply_unified(limits, key, value)?;
    }
    Ok(())
}

fn apply_memory(limits: &mut Limits, memory: &LinuxMemory) -> Result<(), Error> {
    let limit = given(memory.limit());
    if memory.check_before_update() == Some(true)
        && let Some(limit) = limit
    {
        refuse_below_usage(limits, limit)?;
    }
    // Without a new memory limit the one in force is what swap is counted from.
    let base = match (limit, limits.file("memory", "memory.max")) {
        (None, Some(path)) => file::read_number(&path)?.and_then(|v| i64::try_from(v).ok()),
        _ => limit,
    };
    if let Some(swap) = swap_max(memory.swap().unwrap_or(0), base)? {
        let field = "linux.resources.memory.swap";
        limits.set("memory", "memory.swap.max", field, or_max(swap))?;
    }
    if let Some(limit) = limit {
        limits.set(
            "memory",
            "memory.max",
            "linux.resources.memory.limit",
            or_max(limit),
        )?;
    }
    if let Some(reservation) = given(memory.reservation()) {
        let field = "linux.resources.memory.reservation";
        limits.set("memory", "memory.low", field, or_max(reservation))?;
    }
    if let Some(tcp) = given(memory.kernel_tcp()) {
        let reason = "cgroup v2 counts kernel memory in memory.limit and has no limit of its own";
        limits.lacks("linux.resources.memory.kernelTCP", tcp, reason);
    }
    if let Some(swappiness) = memory.swappiness() {
        let reason = "cgroup v2 has no swappiness of a cgroup";
        limits.lacks("linux.resources.memory.swappiness", swappiness, reason);
    }
    if memory.disable_oom_killer() == Some(true) {
        let reason = "cgroup v2 cannot switch the OOM killer off";
        limits.lacks("linux.resources.memory.disableOOMKiller", true, reason);
    }
    Ok(())
}

fn refuse_below_usage(limits: &Limits, limit: i64) -> Result<(), Error> {
    let Some(path) = limits.file("memory", "memory.current") else {
        return Ok(());
    };
    let usage = file::read_number(&path)?.unwrap_or(0);
    match u64::try_from(limit) {
        Ok(limit) if limit < usage => Err(Error::BadValue {
            field: "linux.resources.memory.limit".to_owned(),
            value: limit.to_string(),
            reason: "is less than the container uses now (checkBeforeUpdate is set)",
        }),
        _ => Ok(()),
    }
}

fn apply_cpu(limits: &mut Limits, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle() {
        limits.set("cpu", "cpu.idle", "linux.resources.cpu.idle", idle)?;
    }
    if let Some(shares) = given(cpu.shares()).filter(|_| cpu.idle() != Some(1)) {
        let field = "linux.resources.cpu.shares";
        limits.set("cpu", "cpu.weight", field, cpu_weight(shares))?;
    }
    let (quota, period) = (given(cpu.quota()), given(cpu.period()));
    if quota.is_some() || period.is_some() {
        let current = match limits.file("cpu", "cpu.max") {
            Some(path) => file::read(&path)?,
            None => String::new(),
        };
        let value = cpu_max(quota, period, &current);
        limits.set("cpu", "cpu.max", "linux.resources.cpu.quota", value)?;
    }
    if let Some(burst) = cpu.burst() {
        limits.set("cpu", "cpu.max.burst", "linux.resources.cpu.burst", burst)?;
    }
    for (field, asked) in [
        (
            "realtimeRuntime",
            given(cpu.realtime_runtime()).map(|v| v.to_string()),
        ),
        (
            "realtimePeriod",
            given(cpu.realtime_period()).map(|v| v.to_string()),
        ),
    ] {
        if let Some(asked) = asked {
            let field = format!("linux.resources.cpu.{field}");
            limits.lacks(&field, asked, "cgroup v2 does not divide real time");
        }
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|c| !c.is_empty()) {
        limits.set("cpuset", "cpuset.cpus", "linux.resources.cpu.cpus", cpus)?;
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|m| !m.is_empty()) {
        limits.set("cpuset", "cpuset.mems", "linux.resources.cpu.mems", mems)?;
    }
    Ok(())
}

/// `cpu.max` holds quota and period: what is not given stays as it is.
fn cpu_max(quota: Option<i64>, period: Option<u64>, current: &str) -> String {
    let mut fields = current.split_whitespace();
    let old_quota = fields.next().unwrap_or("max");
    let old_period = fields.next().unwrap_or("100000");
    let quota = quota.map_or_else(|| old_quota.to_owned(), or_max);
    let period = period.map_or_else(|| old_period.to_owned(), |p| p.to_string());
    format!("{quota} {period}")
}

fn apply_io(limits: &mut Limits, io: &LinuxBlockIo) -> Result<(), Error> {
    // bfq takes v1's scale, the cost model (io.weight) its own.
    let bfq = limits.file("io", "io.bfq.weight").is_some();
    let scaled = |weight: u16| {
        if bfq {
            ("io.bfq.weight", u64::from(weight))
        } else {
            ("io.weight", io_weight(weight))
        }
    };
    if let Some(weight) = given(io.weight()) {
        let (name, value) = scaled(weight);
        limits.set("io", name, "linux.resources.blockIO.weight", value)?;
    }
    if let Some(weight) = given(io.leaf_weight()) {
        let reason = "cgroup v2 has no leaf weight";
        limits.lacks("linux.resources.blockIO.leafWeight", weight, reason);
    }
    for device in io.weight_device().iter().flatten() {
        let field = "linux.resources.blockIO.weightDevice";
        let number = device_number(device.major(), device.minor(), field)?;
        if let Some(weight) = given(device.weight()) {
            let (name, value) = scaled(weight);
            limits.set("io", name, field, format!("{number} {value}"))?;
        }
        if let Some(weight) = given(device.leaf_weight()) {
            limits.lacks(field, weight, "cgroup v2 has no leaf weight");
        }
    }
    for (devices, key) in [
        (io.throttle_read_bps_device(), "rbps"),
        (io.throttle_write_bps_device(), "wbps"),
        (io.throttle_read_iops_device(), "riops"),
        (io.throttle_write_iops_device(), "wiops"),
    ] {
        let field = format!("linux.resources.blockIO.throttle ({key})");
        for device in devices.iter().flatten() {
            let number = device_number(device.major(), device.minor(), &field)?;
            // 0 lifts the limit, as in v1.
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            limits.set("io", "io.max", &field, format!("{number} {key}={rate}"))?;
        }
    }
    Ok(())
}

fn apply_unified(limits: &mut Limits, key: &str, value: &str) -> Result<(), Error> {
    let field = format!("linux.resources.unified.{key}");
    let Some((controller, _)) = plain_name(key) else {
        return Err(Error::BadValue {
            field,
            value: value.to_owned(),
            reason: "is not for a limit file of the cgroup (controller.name)",
        });
    };
    for line in value.lines() {
        limits.set(controller, key, &field, line)?;
    }
    Ok(())
}

/// Splits `memory.high`; `None` for what is no limit file.
fn plain_name(key: &str) -> Option<(&str, &str)> {
    if NOT_LIMITS.contains(&key) || Path::new(key).components().count() != 1 {
        return None;
    }
    key.split_once('.')
        .filter(|(controller, name)| !controller.is_empty() && !name.is_empty())
        .filter(|_| {
            key.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_keeps_what_is_not_given() {
        for (quota, period, current, expected) in [
            (Some(50_000), Some(200_000), "max 100000\n", "50000 200000"),
            (Some(-1), None, "50000 200000\n", "max 200000"),
            (None, Some(50_000), "20000 100000\n", "20000 50000"),
            (Some(1), None, "", "1 100000"),
        ] {
            assert_eq!(
                cpu_max(quota, period, current),
                expected,
                "{quota:?} {period:?}"
            );
        }
    }

    #[test]
    fn unified_keys_are_limit_files_only() {
        for (key, ok) in [
            ("memory.high", true),
            ("hugetlb.2MB.max", true),
            ("cgroup.max.depth", true),
            ("cgroup.procs", false),
            ("cgroup.subtree_control", false),
            ("../memory.high", false),
            ("nested/memory.high", false),
            ("memory", false),
            (".max", false),
            ("memory.", false),
            ("..", false),
        ] {
            assert_eq!(plain_name(key).is_some(), ok, "{key}");
        }
    }
}
