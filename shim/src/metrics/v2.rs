//! `io.containerd.cgroups.v2.Metrics`: times in microseconds, sizes in bytes.

use std::collections::BTreeMap;

use cofferdam_container::cgroup::Stats;
use cofferdam_container::cgroup::stats::BlkioEntry;
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PidsStat, RdmaEntry,
    RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;

pub(super) fn metrics(stats: &Stats) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = MessageField::some(PidsStat {
        current: stats.pids.current,
        limit: stats.pids.limit,
        ..Default::default()
    });
    metrics.cpu = MessageField::some(CPUStat {
        usage_usec: stats.cpu.usage.total / 1000,
        user_usec: stats.cpu.usage.user / 1000,
        system_usec: stats.cpu.usage.kernel / 1000,
        nr_periods: stats.cpu.throttling.periods,
        nr_throttled: stats.cpu.throttling.throttled_periods,
        throttled_usec: stats.cpu.throttling.throttled_time / 1000,
        ..Default::default()
    });
    metrics.memory = MessageField::some(memory(stats));
    metrics.memory_events = MessageField::some(events(&stats.memory.events));
    metrics.io = MessageField::some(io(stats));
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
        metrics.hugetlb.push(HugeTlbStat {
            current: huge.usage,
            max: huge.max,
            failcnt: huge.failcnt,
            pagesize: pagesize.clone(),
            ..Default::default()
        });
    }
    metrics
}

fn memory(stats: &Stats) -> MemoryStat {
    let memory = &stats.memory;
    let raw = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: raw("workingset_refault"),
        workingset_activate: raw("workingset_activate"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        max_usage: memory.usage.max,
        swap_usage: memory.swap_only.usage,
        swap_limit: memory.swap_only.limit,
        swap_max_usage: memory.swap_only.max,
        ..Default::default()
    }
}

fn events(events: &BTreeMap<String, u64>) -> MemoryEvents {
    let event = |key: &str| events.get(key).copied().unwrap_or(0);
    MemoryEvents {
        low: event("low"),
        high: event("high"),
        max: event("max"),
        oom: event("oom"),
        oom_kill: event("oom_kill"),
        oom_group_kill: event("oom_group_kill"),
        ..Default::default()
    }
}

/// One entry for each device, from one for each device and operation.
fn io(stats: &Stats) -> IOStat {
    let mut devices: BTreeMap<(u64, u64), IOEntry> = BTreeMap::new();
    let mut device =
        |entry: &BlkioEntry, read: fn(&mut IOEntry, u64), write: fn(&mut IOEntry, u64)| {
            let key = (entry.major, entry.minor);
            let found = devices.entry(key).or_insert_with(|| IOEntry {
                major: entry.major,
                minor: entry.minor,
                ..Default::default()
            });
            match entry.op.as_str() {
                "Read" | "read" => read(found, entry.value),
                "Write" | "write" => write(found, entry.value),
                _ => {}
            }
        };
    for entry in &stats.blkio.io_service_bytes_recursive {
        device(entry, |io, n| io.rbytes += n, |io, n| io.wbytes += n);
    }
    for entry in &stats.blkio.io_serviced_recursive {
        device(entry, |io, n| io.rios += n, |io, n| io.wios += n);
    }
    IOStat {
        usage: devices.into_values().collect(),
        ..Default::default()
    }
}
