//! `update`: changes the resource limits of a container.

use oci_spec::runtime::{LinuxBlockIoBuilder, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::{Flag, PLAIN, Verb, flag, read_json};
use crate::cli::flags::{FlagError, Words, bad};
use crate::cli::process::container_id;
use crate::cli::{CliError, Context};
use crate::vm;

/// The longest resources file that is read, in bytes.
const MAX_RESOURCES: u64 = 1 << 20;

pub(super) const VERB: Verb = Verb {
    name: "update",
    summary: "change the resource limits of a container",
    description: "What is not named stays as it is. With --resources all other flags are ignored.\n\
                  Sizes are bytes or take a unit of 1024: 64k, 512M, 2G.",
    example: "cofferdam update --memory 512M --pids-limit 100 web-1",
    flags: &[
        Flag::value(
            "resources",
            'r',
            "FILE",
            "read an OCI resources object from FILE, or - for the standard input",
        ),
        Flag::value(
            "blkio-weight",
            '\0',
            "N",
            "the block I/O weight, from 10 to 1000",
        ),
        Flag::value("cpu-period", '\0', "USECS", "the CPU quota's period"),
        Flag::value(
            "cpu-quota",
            '\0',
            "USECS",
            "CPU time in one period; -1 for no limit",
        ),
        Flag::value(
            "cpu-share",
            '\0',
            "N",
            "the share of CPU time against other containers",
        ),
        Flag::value("cpu-rt-period", '\0', "USECS", "the realtime period"),
        Flag::value("cpu-rt-runtime", '\0', "USECS", "realtime in one period"),
        Flag::value(
            "cpuset-cpus",
            '\0',
            "LIST",
            "the CPUs to use, such as 0-3,5",
        ),
        Flag::value("cpuset-mems", '\0', "LIST", "the memory nodes to use"),
        Flag::value("memory", '\0', "SIZE", "the memory limit"),
        Flag::value("memory-reservation", '\0', "SIZE", "the soft memory limit"),
        Flag::value(
            "memory-swap",
            '\0',
            "SIZE",
            "memory and swap; -1 for no limit",
        ),
        Flag::value(
            "pids-limit",
            '\0',
            "N",
            "the most processes; -1 for no limit",
        ),
        Flag::value("l3-cache-schema", '\0', "TEXT", "not supported"),
        Flag::value("mem-bw-schema", '\0', "TEXT", "not supported"),
    ],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let id = container_id(words)?;
    let resources = match words.path("resources") {
        Some(path) => read_json(path, MAX_RESOURCES, "an OCI resources object")?,
        None => from_flags(words)?,
    };
    vm::update(&context.root, &id, &resources)?;
    Ok(0)
}

fn from_flags(words: &Words) -> Result<LinuxResources, CliError> {
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if words.text(name).map_err(flag("update"))?.is_some() {
            return Err(CliError::Unsupported {
                what: "Intel RDT",
                why: "this version does not manage resctrl groups",
            });
        }
    }
    let mut resources = LinuxResources::default();
    resources.set_cpu(cpu(words).map_err(flag("update"))?);
    resources.set_memory(memory(words).map_err(flag("update"))?);
    if let Some(limit) = words
        .parsed("pids-limit", "a number")
        .map_err(flag("update"))?
    {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = words
        .parsed::<u16>("blkio-weight", "a number")
        .map_err(flag("update"))?
        && weight != 0
    {
        let block = LinuxBlockIoBuilder::default().weight(weight).build();
        let block = block.map_err(|_| CliError::Usage("the block I/O weight is not usable"))?;
        resources.set_block_io(Some(block));
    }
    Ok(resources)
}

fn cpu(words: &Words) -> Result<Option<LinuxCpu>, FlagError> {
    let number = "a number";
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(words.parsed("cpu-share", number)?)
        .set_quota(words.parsed("cpu-quota", number)?)
        .set_period(words.parsed("cpu-period", number)?)
        .set_realtime_runtime(words.parsed("cpu-rt-runtime", number)?)
        .set_realtime_period(words.parsed("cpu-rt-period", number)?)
        .set_cpus(words.text("cpuset-cpus")?.map(str::to_owned))
        .set_mems(words.text("cpuset-mems")?.map(str::to_owned));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn memory(words: &Words) -> Result<Option<LinuxMemory>, FlagError> {
    let size = |name: &'static str| match words.text(name)? {
        None => Ok(None),
        Some(text) => bytes(text)
            .map(Some)
            .ok_or_else(|| bad(name, text.as_ref(), "bytes, or a number with k, M, G or T,")),
    };
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(size("memory")?)
        .set_reservation(size("memory-reservation")?)
        .set_swap(size("memory-swap")?);
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

/// `512M`, `1g`, `64KiB`, `4096`, `-1`: units of 1024, as Docker has them.
fn bytes(text: &str) -> Option<i64> {
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: i64 = number.trim_end().parse().ok()?;
    (number >= -1).then_some(())?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("-1", Some(-1)),
            ("64k", Some(65536)),
            ("512M", Some(512 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("2tb", Some(2 << 40)),
            ("", None),
            ("M", None),
            ("-5", None),
            ("1x", None),
            ("9999999999T", None),
        ] {
            assert_eq!(bytes(text), size, "{text:?}");
        }
    }
}
