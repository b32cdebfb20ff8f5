//! Cgroup figures in the form that containerd's clients read.

mod v1;
mod v2;

use std::path::Path;

use cofferdam_container::cgroup::Stats;
use cofferdam_container::cgroup::stats::Rdma;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, Message};

/// Encodes figures as `io.containerd.cgroups.v1.Metrics` or, where the one hierarchy of cgroup v2 is
/// mounted, as `io.containerd.cgroups.v2.Metrics`.
pub(crate) fn encode(stats: &Stats) -> protobuf::Result<Any> {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (name, value) = if unified {
        (
            "io.containerd.cgroups.v2.Metrics",
            v2::metrics(stats).write_to_bytes()?,
        )
    } else {
        (
            "io.containerd.cgroups.v1.Metrics",
            v1::metrics(stats).write_to_bytes()?,
        )
    };
    Ok(Any {
        type_url: name.to_owned(),
        value,
        ..Default::default()
    })
}

/// What is used of each RDMA device and what may be, as entries of either version's own type, which
/// `entry` makes from a device's name, its handles and its objects.
fn rdma<E>(stats: &Stats, entry: impl Fn(String, u32, u32) -> E) -> (Vec<E>, Vec<E>) {
    let of = |one: &Rdma| {
        let ((handles, most_handles), (objects, most_objects)) = (one.hca_handles, one.hca_objects);
        (
            entry(one.device.clone(), handles, objects),
            entry(one.device.clone(), most_handles, most_objects),
        )
    };
    stats.rdma.iter().map(of).unzip()
}

#[cfg(test)]
mod tests {
    use cofferdam_container::cgroup::stats::BlkioEntry;

    use super::*;

    fn stats() -> Stats {
        let mut stats = Stats::default();
        stats.cpu.usage.total = 5_000;
        stats.cpu.usage.percpu = vec![2_000, 3_000];
        stats.cpu.throttling.throttled_time = 7_000;
        stats.memory.usage.usage = 11;
        stats.memory.usage.limit = 12;
        stats.memory.swap_only.usage = 13;
        for (key, value) in [("rss", 1), ("total_rss", 2), ("anon", 3), ("pgpgin", 4)] {
            stats.memory.raw.insert(key.to_owned(), value);
        }
        stats.memory.events.insert("oom_kill".to_owned(), 9);
        stats.pids.current = 3;
        for (op, value) in [("Read", 100), ("Write", 200)] {
            let entry = BlkioEntry {
                major: 8,
                minor: 1,
                op: op.to_owned(),
                value,
            };
            stats.blkio.io_service_bytes_recursive.push(entry);
        }
        stats
    }

    #[test]
    fn v1_keeps_nanoseconds_and_names() {
        let metrics = v1::metrics(&stats());
        assert_eq!(metrics.cpu.usage.total, 5_000);
        assert_eq!(metrics.cpu.usage.per_cpu, [2_000, 3_000]);
        assert_eq!((metrics.memory.rss, metrics.memory.total_rss), (1, 2));
        assert_eq!(metrics.memory.pg_pg_in, 4);
        assert_eq!(
            (metrics.memory.usage.usage, metrics.memory.usage.limit),
            (11, 12)
        );
        assert_eq!(metrics.memory_oom_control.oom_kill, 9);
        assert_eq!(metrics.pids.current, 3);
        assert_eq!(metrics.blkio.io_service_bytes_recursive.len(), 2);
    }

    #[test]
    fn v2_counts_microseconds_and_joins_devices() {
        let metrics = v2::metrics(&stats());
        assert_eq!((metrics.cpu.usage_usec, metrics.cpu.throttled_usec), (5, 7));
        assert_eq!((metrics.memory.anon, metrics.memory.usage), (3, 11));
        assert_eq!(
            (metrics.memory.usage_limit, metrics.memory.swap_usage),
            (12, 13)
        );
        assert_eq!(metrics.memory_events.oom_kill, 9);
        let io = &metrics.io.usage;
        assert_eq!(io.len(), 1);
        assert_eq!(
            (io[0].major, io[0].minor, io[0].rbytes, io[0].wbytes),
            (8, 1, 100, 200)
        );
    }
}
