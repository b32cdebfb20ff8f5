//! Figures from the unified hierarchy.

use std::path::Path;

use super::parse::{hugepage_sizes, keyed, list, number};
use super::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling,
};
use crate::cgroup::location::Location;
use crate::cgroup::{Error, file};

pub(super) fn stats(location: &Location) -> Result<Stats, Error> {
    let Some(dir) = location.unified() else {
        return Ok(Stats::default());
    };
    let mut stats = Stats {
        cpu: cpu(dir)?,
        cpuset: cpuset(dir)?,
        memory: memory(dir)?,
        pids: pids(dir)?,
        blkio: io(&file::read_optional(&dir.join("io.stat"))?.unwrap_or_default()),
        ..Stats::default()
    };
    for size in hugepage_sizes(dir, "max") {
        let events = keyed(dir, &format!("hugetlb.{size}.events"))?;
        let entry = Hugetlb {
            usage: number(dir, &format!("hugetlb.{size}.current"))?,
            max: number(dir, &format!("hugetlb.{size}.max"))?,
            failcnt: events.get("max").copied().unwrap_or(0),
        };
        stats.hugetlb.insert(size, entry);
    }
    Ok(stats)
}

fn cpu(dir: &Path) -> Result<Cpu, Error> {
    let stat = keyed(dir, "cpu.stat")?;
    let value = |key: &str| stat.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
    })
}

fn cpuset(dir: &Path) -> Result<Cpuset, Error> {
    let text = |name: &str| file::read_optional(&dir.join(name)).map(Option::unwrap_or_default);
    Ok(Cpuset {
        cpus: list(&text("cpuset.cpus.effective")?),
        mems: list(&text("cpuset.mems.effective")?),
        ..Cpuset::default()
    })
}

fn memory(dir: &Path) -> Result<Memory, Error> {
    let raw = keyed(dir, "memory.stat")?;
    let events = keyed(dir, "memory.events")?;
    let usage = MemoryEntry {
        limit: number(dir, "memory.max")?,
        usage: number(dir, "memory.current")?,
        max: number(dir, "memory.peak")?,
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    let swap_events = keyed(dir, "memory.swap.events")?;
    let swap_only = MemoryEntry {
        limit: number(dir, "memory.swap.max")?,
        usage: number(dir, "memory.swap.current")?,
        max: number(dir, "memory.swap.peak")?,
        failcnt: swap_events.get("max").copied().unwrap_or(0),
    };
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        // v1 counts memory and swap together, and so do those who read this.
        swap: MemoryEntry {
            limit: usage.limit.saturating_add(swap_only.limit),
            usage: usage.usage.saturating_add(swap_only.usage),
            ..MemoryEntry::default()
        },
        kernel: MemoryEntry::default(),
        kernel_tcp: MemoryEntry::default(),
        raw,
        swap_only,
        events,
    })
}

fn pids(dir: &Path) -> Result<Pids, Error> {
    let limit = number(dir, "pids.max")?;
    Ok(Pids {
        current: number(dir, "pids.current")?,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}

/// `major:minor rbytes=.. wbytes=.. rios=.. wios=.. dbytes=.. dios=..` lines.
fn io(text: &str) -> Blkio {
    let mut found = Blkio::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some((Ok(major), Ok(minor))) = fields
            .next()
            .and_then(|device| device.split_once(':'))
            .map(|(major, minor)| (major.parse(), minor.parse()))
        else {
            continue;
        };
        for field in fields {
            let Some((key, Ok(value))) = field.split_once('=').map(|(k, v)| (k, v.parse())) else {
                continue;
            };
            let (op, bytes) = match key {
                "rbytes" => ("Read", true),
                "wbytes" => ("Write", true),
                "dbytes" => ("Discard", true),
                "rios" => ("Read", false),
                "wios" => ("Write", false),
                "dios" => ("Discard", false),
                _ => continue,
            };
            let entry = BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value,
            };
            if bytes {
                found.io_service_bytes_recursive.push(entry);
            } else {
                found.io_serviced_recursive.push(entry);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_container() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put(
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\n\
             nr_throttled 2\nthrottled_usec 90\n",
        );
        let cpu = cpu(dir.path()).unwrap();
        assert_eq!(cpu.usage.total, 1_500_000);
        assert_eq!(cpu.throttling.throttled_time, 90_000);

        put("memory.stat", "anon 100\nfile 4096\n");
        put("memory.max", "67108864\n");
        put("memory.current", "8192\n");
        put("memory.swap.max", "max\n");
        put("memory.swap.current", "10\n");
        put("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n");
        let memory = memory(dir.path()).unwrap();
        assert_eq!(memory.cache, 4096);
        assert_eq!((memory.swap.usage, memory.swap.limit), (8202, u64::MAX));
        assert_eq!((memory.swap_only.usage, memory.usage.failcnt), (10, 5));

        put("cpuset.cpus.effective", "0-1\n");
        assert_eq!(cpuset(dir.path()).unwrap().cpus, [0, 1]);
    }

    #[test]
    fn io_lines() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n\
                    7:0 \nbroken rbytes=1\n254:0 rbytes=x wios=3\n";
        let io = io(text);
        assert_eq!(io.io_service_bytes_recursive.len(), 3);
        assert_eq!(io.io_service_bytes_recursive[1].value, 314_773_504);
        let last = io.io_serviced_recursive.last().unwrap();
        assert_eq!(
            (last.major, last.op.as_str(), last.value),
            (254, "Write", 3)
        );
    }
}
