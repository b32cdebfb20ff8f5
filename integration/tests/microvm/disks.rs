//! Disks.

use std::fs;

use cofferdam_integration::error::{At, Result};
use cofferdam_vmm::config::DiskConfig;

use crate::machine::Machine;

#[test]
fn disks_are_read_and_written_as_they_may_be() -> Result<()> {
    let content: Vec<u8> = (0..300 * 512_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let machine = Machine::boot(|config, dir| {
        for (name, writable) in [("fixed", false), ("open", true)] {
            let path = dir.join(name);
            // A piece of a sector at the end is not seen.
            fs::write(&path, [&content[..], b"over"].concat()).expect("write the disk");
            config.disks.push(DiskConfig { path, writable });
        }
    })?;
    let Some(machine) = machine else {
        return Ok(());
    };
    assert!(machine.ask("file /dev/vda") == content);
    assert_eq!(machine.ask_text("file /sys/block/vda/ro"), "1\n");
    assert!(
        machine
            .ask_text("put /dev/vda 0 new")
            .starts_with("error: ")
    );
    assert_eq!(machine.ask_text("put /dev/vdb 5000 new"), "done\n");
    let read = |name: &str| {
        let path = machine.dir.path().join(name);
        fs::read(&path).at("read", path)
    };
    assert!(read("fixed")? == [&content[..], b"over"].concat());
    let mut changed = [&content[..], b"over"].concat();
    changed[5000..5003].copy_from_slice(b"new");
    assert!(read("open")? == changed);
    Ok(())
}

#[test]
fn random_numbers_are_the_hosts() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let (first, second) = (machine.ask("random 1000"), machine.ask("random 1000"));
    assert_eq!((first.len(), second.len()), (1000, 1000));
    assert!(first != second && first.iter().any(|&byte| byte != 0));
    assert_eq!(
        machine.ask_text("file /sys/class/misc/hw_random/rng_current"),
        "virtio_rng.0\n"
    );
    Ok(())
}
