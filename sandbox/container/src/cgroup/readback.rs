//! The limits in force, as the kernel has them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::host::Mode;
use super::location::Location;
use super::{Error, file};

/// The limits in force on a container; `None` means no limit, or a kernel without the controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together (v1) or swap alone (v2), in bytes.
    pub swap: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// Processor time in microseconds, in each period of so many microseconds.
    pub cpu: Option<(u64, u64)>,
    /// v1 `devices.list`, a line each; empty in v2.
    pub devices: Vec<String>,
    /// How many device programs v2 asks; 0 in v1.
    pub device_filters: usize,
}

/// What v1 says for "no limit": `i64::MAX` rounded down to a page.
const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;

pub(super) fn limits(location: &Location) -> Result<Limits, Error> {
    let bounded = |controller: &str, name: &str| -> Result<Option<u64>, Error> {
        let Some(dir) = location.controller(controller) else {
            return Ok(None);
        };
        let value = file::read_number(&dir.join(name))?;
        Ok(value.filter(|v| *v < V1_UNLIMITED))
    };
    match location.mode {
        Mode::V1 => Ok(Limits {
            memory: bounded("memory", "memory.limit_in_bytes")?,
            swap: bounded("memory", "memory.memsw.limit_in_bytes")?,
            pids: bounded("pids", "pids.max")?,
            cpu: match (
                bounded("cpu", "cpu.cfs_quota_us")?,
                bounded("cpu", "cpu.cfs_period_us")?,
            ) {
                (Some(quota), Some(period)) => Some((quota, period)),
                _ => None,
            },
            devices: match location.controller("devices") {
                Some(dir) => file::read(&dir.join("devices.list"))?
                    .lines()
                    .map(str::to_owned)
                    .collect(),
                None => vec![],
            },
            device_filters: 0,
        }),
        Mode::V2 => Ok(Limits {
            memory: bounded("memory", "memory.max")?,
            swap: bounded("memory", "memory.swap.max")?,
            pids: bounded("pids", "pids.max")?,
            cpu: match location.unified() {
                Some(dir) => cpu_max(dir)?,
                None => None,
            },
            devices: vec![],
            device_filters: match location.unified() {
                Some(dir) => super::devices::count_filters(dir)?,
                None => 0,
            },
        }),
    }
}

fn cpu_max(dir: &Path) -> Result<Option<(u64, u64)>, Error> {
    let text = file::read_optional(&dir.join("cpu.max"))?.unwrap_or_default();
    let mut fields = text.split_whitespace().map(str::parse::<u64>);
    Ok(match (fields.next(), fields.next()) {
        (Some(Ok(quota)), Some(Ok(period))) => Some((quota, period)),
        _ => None,
    })
}
