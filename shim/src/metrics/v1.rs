//! `io.containerd.cgroups.v1.Metrics`: times in nanoseconds, sizes in bytes.

use std::collections::BTreeMap;

use cofferdam_container::cgroup::Stats;
use cofferdam_container::cgroup::stats::{BlkioEntry, MemoryEntry};
use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry as WireEntry,
    MemoryOomControl, MemoryStat, Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use containerd_shim_protos::protobuf::MessageField;

pub(super) fn metrics(stats: &Stats) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = MessageField::some(PidsStat {
        current: stats.pids.current,
        limit: stats.pids.limit,
        ..Default::default()
    });
    metrics.cpu = MessageField::some(cpu(stats));
    metrics.memory = MessageField::some(memory(stats));
    metrics.memory_oom_control = MessageField::some(oom(&stats.memory.events));
    metrics.blkio = MessageField::some(blkio(stats));
    let (current, limit) = super::rdma(stats, |device, hca_handles, hca_objects| RdmaEntry {
        device,
        hca_handles,
        hca_objects,
        ..Default::default()
    });
    metrics.rdma = MessageField::some(RdmaStat {
        current,
        limit,
        ..Default::default()
    });
    for (pagesize, huge) in &stats.hugetlb {
        metrics.hugetlb.push(HugetlbStat {
            usage: huge.usage,
            max: huge.max,
            failcnt: huge.failcnt,
            pagesize: pagesize.clone(),
            ..Default::default()
        });
    }
    metrics
}

fn cpu(stats: &Stats) -> CPUStat {
    let (usage, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    let mut cpu = CPUStat::new();
    cpu.usage = MessageField::some(CPUUsage {
        total: usage.total,
        kernel: usage.kernel,
        user: usage.user,
        per_cpu: usage.percpu.clone(),
        ..Default::default()
    });
    cpu.throttling = MessageField::some(Throttle {
        periods: throttling.periods,
        throttled_periods: throttling.throttled_periods,
        throttled_time: throttling.throttled_time,
        ..Default::default()
    });
    cpu
}

fn memory(stats: &Stats) -> MemoryStat {
    let memory = &stats.memory;
    let raw = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: raw("cache"),
        rss: raw("rss"),
        rss_huge: raw("rss_huge"),
        mapped_file: raw("mapped_file"),
        dirty: raw("dirty"),
        writeback: raw("writeback"),
        pg_pg_in: raw("pgpgin"),
        pg_pg_out: raw("pgpgout"),
        pg_fault: raw("pgfault"),
        pg_maj_fault: raw("pgmajfault"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        hierarchical_memory_limit: raw("hierarchical_memory_limit"),
        hierarchical_swap_limit: raw("hierarchical_memsw_limit"),
        total_cache: raw("total_cache"),
        total_rss: raw("total_rss"),
        total_rss_huge: raw("total_rss_huge"),
        total_mapped_file: raw("total_mapped_file"),
        total_dirty: raw("total_dirty"),
        total_writeback: raw("total_writeback"),
        total_pg_pg_in: raw("total_pgpgin"),
        total_pg_pg_out: raw("total_pgpgout"),
        total_pg_fault: raw("total_pgfault"),
        total_pg_maj_fault: raw("total_pgmajfault"),
        total_inactive_anon: raw("total_inactive_anon"),
        total_active_anon: raw("total_active_anon"),
        total_inactive_file: raw("total_inactive_file"),
        total_active_file: raw("total_active_file"),
        total_unevictable: raw("total_unevictable"),
        usage: entry(&memory.usage),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
        ..Default::default()
    }
}

fn entry(entry: &MemoryEntry) -> MessageField<WireEntry> {
    MessageField::some(WireEntry {
        limit: entry.limit,
        usage: entry.usage,
        max: entry.max,
        failcnt: entry.failcnt,
        ..Default::default()
    })
}

fn oom(events: &BTreeMap<String, u64>) -> MemoryOomControl {
    let event = |key: &str| events.get(key).copied().unwrap_or(0);
    MemoryOomControl {
        oom_kill_disable: event("oom_kill_disable"),
        under_oom: event("under_oom"),
        oom_kill: event("oom_kill"),
        ..Default::default()
    }
}

fn blkio(stats: &Stats) -> BlkIOStat {
    let entries = |entries: &[BlkioEntry]| entries.iter().map(device).collect();
    let blkio = &stats.blkio;
    BlkIOStat {
        io_service_bytes_recursive: entries(&blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(&blkio.io_serviced_recursive),
        io_queued_recursive: entries(&blkio.io_queued_recursive),
        io_service_time_recursive: entries(&blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(&blkio.io_wait_time_recursive),
        io_merged_recursive: entries(&blkio.io_merged_recursive),
        io_time_recursive: entries(&blkio.io_time_recursive),
        sectors_recursive: entries(&blkio.sectors_recursive),
        ..Default::default()
    }
}

fn device(entry: &BlkioEntry) -> BlkIOEntry {
    BlkIOEntry {
        op: entry.op.clone(),
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
        ..Default::default()
    }
}
