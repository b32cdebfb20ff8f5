//! Figures from v1 hierarchies.

use std::path::Path;

use super::parse::{blkio, hugepage_sizes, keyed, list, number};
use super::{Blkio, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling};
use crate::cgroup::location::Location;
use crate::cgroup::{Error, file};

pub(super) fn stats(location: &Location) -> Result<Stats, Error> {
    let mut stats = Stats::default();
    if let Some(dir) = location.controller("cpuacct") {
        stats.cpu.usage = cpu_usage(dir)?;
    }
    if let Some(dir) = location.controller("cpu") {
        stats.cpu.throttling = throttling(dir)?;
    }
    if let Some(dir) = location.controller("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = location.controller("memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = location.controller("pids") {
        stats.pids = pids(dir)?;
    }
    if let Some(dir) = location.controller("blkio") {
        stats.blkio = block_devices(dir)?;
    }
    if let Some(dir) = location.controller("hugetlb") {
        for size in hugepage_sizes(dir, "limit_in_bytes") {
            let value = |what: &str| number(dir, &format!("hugetlb.{size}.{what}"));
            let entry = Hugetlb {
                usage: value("usage_in_bytes")?,
                max: value("max_usage_in_bytes")?,
                failcnt: value("failcnt")?,
            };
            stats.hugetlb.insert(size, entry);
        }
    }
    Ok(stats)
}

fn cpu_usage(dir: &Path) -> Result<CpuUsage, Error> {
    let times = keyed(dir, "cpuacct.stat")?;
    let nanoseconds = |key: &str| {
        // The kernel counts these in USER_HZ, which is 100 on every architecture Linux runs
        // containers on (include/asm-generic/param.h).
        times
            .get(key)
            .copied()
            .unwrap_or(0)
            .saturating_mul(10_000_000)
    };
    let percpu = file::read_optional(&dir.join("cpuacct.usage_percpu"))?.unwrap_or_default();
    let all = file::read_optional(&dir.join("cpuacct.usage_all"))?.unwrap_or_default();
    let (percpu_user, percpu_kernel) = usage_all(&all);
    Ok(CpuUsage {
        total: number(dir, "cpuacct.usage")?,
        percpu: percpu
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect(),
        percpu_kernel,
        percpu_user,
        kernel: nanoseconds("system"),
        user: nanoseconds("user"),
    })
}

/// `cpu user system` lines below a header.
fn usage_all(text: &str) -> (Vec<u64>, Vec<u64>) {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let user: u64 = fields.next()?.parse().ok()?;
            let system: u64 = fields.next()?.parse().ok()?;
            Some((user, system))
        })
        .unzip()
}

fn throttling(dir: &Path) -> Result<Throttling, Error> {
    let stat = keyed(dir, "cpu.stat")?;
    let value = |key: &str| stat.get(key).copied().unwrap_or(0);
    Ok(Throttling {
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_time: value("throttled_time"),
    })
}

fn cpuset(dir: &Path) -> Result<Cpuset, Error> {
    let text = |name: &str| file::read_optional(&dir.join(name)).map(Option::unwrap_or_default);
    Ok(Cpuset {
        cpus: list(&text("cpuset.cpus")?),
        cpu_exclusive: number(dir, "cpuset.cpu_exclusive")?,
        mems: list(&text("cpuset.mems")?),
        mem_hardwall: number(dir, "cpuset.mem_hardwall")?,
        mem_exclusive: number(dir, "cpuset.mem_exclusive")?,
        memory_migrate: number(dir, "cpuset.memory_migrate")?,
        memory_spread_page: number(dir, "cpuset.memory_spread_page")?,
        memory_spread_slab: number(dir, "cpuset.memory_spread_slab")?,
        memory_pressure: number(dir, "cpuset.memory_pressure")?,
        sched_load_balance: number(dir, "cpuset.sched_load_balance")?,
        sched_relax_domain_level: text("cpuset.sched_relax_domain_level")?
            .trim()
            .parse()
            .unwrap_or(0),
    })
}

fn memory(dir: &Path) -> Result<Memory, Error> {
    let raw = keyed(dir, "memory.stat")?;
    let entry = |prefix: &str| -> Result<MemoryEntry, Error> {
        Ok(MemoryEntry {
            limit: number(dir, &format!("{prefix}.limit_in_bytes"))?,
            usage: number(dir, &format!("{prefix}.usage_in_bytes"))?,
            max: number(dir, &format!("{prefix}.max_usage_in_bytes"))?,
            failcnt: number(dir, &format!("{prefix}.failcnt"))?,
        })
    };
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("memory")?,
        swap: entry("memory.memsw")?,
        kernel: entry("memory.kmem")?,
        kernel_tcp: entry("memory.kmem.tcp")?,
        raw,
        swap_only: MemoryEntry::default(),
        events: keyed(dir, "memory.oom_control")?,
    })
}

fn pids(dir: &Path) -> Result<Pids, Error> {
    let limit = number(dir, "pids.max")?;
    Ok(Pids {
        current: number(dir, "pids.current")?,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

fn block_devices(dir: &Path) -> Result<Blkio, Error> {
    let read = |name: &str| -> Result<Vec<super::BlkioEntry>, Error> {
        Ok(blkio(
            &file::read_optional(&dir.join(name))?.unwrap_or_default(),
        ))
    };
    // Each way of scheduling keeps its own files; the first that counted something is in use.
    let first = |names: [&str; 2]| -> Result<Vec<super::BlkioEntry>, Error> {
        let entries = read(names[0])?;
        if entries.is_empty() {
            read(names[1])
        } else {
            Ok(entries)
        }
    };
    Ok(Blkio {
        io_service_bytes_recursive: first([
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ])?,
        io_serviced_recursive: first([
            "blkio.bfq.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ])?,
        io_queued_recursive: first(["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"])?,
        io_service_time_recursive: first([
            "blkio.bfq.io_service_time_recursive",
            "blkio.io_service_time_recursive",
        ])?,
        io_wait_time_recursive: first([
            "blkio.bfq.io_wait_time_recursive",
            "blkio.io_wait_time_recursive",
        ])?,
        io_merged_recursive: first(["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"])?,
        io_time_recursive: first(["blkio.bfq.time_recursive", "blkio.time_recursive"])?,
        sectors_recursive: first(["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Cpu;
    use super::*;

    #[test]
    fn a_recorded_container() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put("cpuacct.stat", "user 168\nsystem 23\n");
        put("cpuacct.usage", "1913000000\n");
        put("cpuacct.usage_percpu", "900 1000 \n");
        put(
            "cpuacct.usage_all",
            "cpu user system\n0 800 100\n1 850 150\n",
        );
        let usage = cpu_usage(dir.path()).unwrap();
        assert_eq!((usage.user, usage.kernel), (1_680_000_000, 230_000_000));
        assert_eq!(usage.percpu, [900, 1000]);
        assert_eq!(usage.percpu_user, [800, 850]);
        assert_eq!(usage.percpu_kernel, [100, 150]);

        put("memory.stat", "cache 4096\nrss 8192\n");
        put("memory.limit_in_bytes", "67108864\n");
        put("memory.usage_in_bytes", "12288\n");
        put(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        );
        let memory = memory(dir.path()).unwrap();
        assert_eq!((memory.cache, memory.usage.limit), (4096, 67_108_864));
        assert_eq!(memory.events["oom_kill"], 3);
        // No swap accounting: no files.
        assert_eq!(memory.swap, MemoryEntry::default());

        put("pids.max", "max\n");
        put("pids.current", "4\n");
        assert_eq!(
            pids(dir.path()).unwrap(),
            Pids {
                current: 4,
                limit: 0
            }
        );

        put(
            "blkio.throttle.io_serviced_recursive",
            "254:0 Read 9\nTotal 9\n",
        );
        put("blkio.bfq.io_serviced_recursive", "");
        let io = block_devices(dir.path()).unwrap();
        assert_eq!(io.io_serviced_recursive[0].value, 9);
    }

    #[test]
    fn the_json_is_runcs() {
        let stats = Stats {
            cpu: Cpu {
                throttling: Throttling {
                    throttled_time: 7,
                    ..Throttling::default()
                },
                ..Cpu::default()
            },
            ..Stats::default()
        };
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["cpu"]["throttling"]["throttledTime"], 7);
        assert_eq!(json["cpu"]["usage"]["kernel"], 0);
        assert_eq!(json["memory"]["kernelTCP"]["failcnt"], 0);
        assert!(json["memory"].get("raw").is_none());
        assert!(json["network_interfaces"].is_array());
    }
}
