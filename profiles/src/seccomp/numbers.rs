//! System call names to numbers.
//!
//! libseccomp knows the calls of its release (2.5.4: Linux 5.17) and hides the direct forms of
//! the calls that 32-bit x86 multiplexes; the tables here fill both gaps. Their source is the
//! kernel's own `arch/*/entry/syscalls/*.tbl` and `scripts/syscall.tbl`, Linux 6.18. On x86 one
//! table of all that, `calls`, is asked first.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::Arch as OciArch;

use super::arch::{Arch, X32_BIT};
use super::calls;

/// The calls since the architectures' tables were joined (Linux 5.1): from 424 on a number is the
/// same everywhere. libseccomp 2.5.4 ends at 450.
const JOINED: &[(&str, u32)] = &[
    ("pidfd_send_signal", 424),
    ("io_uring_setup", 425),
    ("io_uring_enter", 426),
    ("io_uring_register", 427),
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("fsconfig", 431),
    ("fsmount", 432),
    ("fspick", 433),
    ("pidfd_open", 434),
    ("clone3", 435),
    ("close_range", 436),
    ("openat2", 437),
    ("pidfd_getfd", 438),
    ("faccessat2", 439),
    ("process_madvise", 440),
    ("epoll_pwait2", 441),
    ("mount_setattr", 442),
    ("quotactl_fd", 443),
    ("landlock_create_ruleset", 444),
    ("landlock_add_rule", 445),
    ("landlock_restrict_self", 446),
    ("memfd_secret", 447),
    ("process_mrelease", 448),
    ("futex_waitv", 449),
    ("set_mempolicy_home_node", 450),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
];

/// Newer calls that only x86-64 has.
const NEW_X86_64: &[(&str, u32)] = &[("uretprobe", 335), ("uprobe", 336)];

/// Newer calls that only RISC-V has.
const NEW_RISCV64: &[(&str, u32)] = &[("riscv_hwprobe", 258)];

/// The direct forms (most of Linux 4.3 and 5.1) of what `socketcall` and `ipc` multiplex on 32-bit x86.
const DIRECT_X86: &[(&str, u32)] = &[
    ("recvmmsg", 337),
    ("sendmmsg", 345),
    ("socket", 359),
    ("socketpair", 360),
    ("bind", 361),
    ("connect", 362),
    ("listen", 363),
    ("accept4", 364),
    ("getsockopt", 365),
    ("setsockopt", 366),
    ("getsockname", 367),
    ("getpeername", 368),
    ("sendto", 369),
    ("sendmsg", 370),
    ("recvfrom", 371),
    ("recvmsg", 372),
    ("shutdown", 373),
    ("semget", 393),
    ("semctl", 394),
    ("shmget", 395),
    ("shmctl", 396),
    ("shmat", 397),
    ("shmdt", 398),
    ("msgget", 399),
    ("msgsnd", 400),
    ("msgrcv", 401),
    ("msgctl", 402),
];

/// The number of `name` on `arch`, or `None` where the call does not exist there.
pub fn resolve(arch: Arch, name: &str) -> Option<u32> {
    let quick = match arch {
        Arch::X86_64 | Arch::X86 => calls::find(name),
        _ => None,
    };
    match quick {
        Some(call) if arch == Arch::X86 => call.x86(),
        Some(call) => call.x86_64(),
        None => search(arch, name),
    }
}

/// The same from the tables here and libseccomp.
fn search(arch: Arch, name: &str) -> Option<u32> {
    let find = |table: &[(&str, u32)]| table.iter().find(|(n, _)| *n == name).map(|(_, nr)| *nr);
    if let Some(number) = find(JOINED) {
        return Some(if arch == Arch::X32 {
            number | X32_BIT
        } else {
            number
        });
    }
    let own = match arch {
        Arch::X86_64 => find(NEW_X86_64),
        Arch::X86 => find(DIRECT_X86),
        Arch::Riscv64 => find(NEW_RISCV64),
        _ => None,
    };
    own.or_else(|| by_libseccomp(arch, name))
}

/// The number of a call that came since Linux 5.1.
pub(crate) fn joined(name: &str) -> Option<u32> {
    JOINED
        .iter()
        .find(|(own, _)| *own == name)
        .map(|(_, number)| *number)
}

/// The newest call since Linux 5.1 that is `listed`.
pub(crate) fn newest_joined(listed: impl Fn(&str) -> bool) -> Option<u32> {
    let found = JOINED.iter().rev().find(|(name, _)| listed(name));
    found.map(|(_, number)| *number)
}

/// The number libseccomp has for `name`; its pseudo numbers (negative) do not count.
fn by_libseccomp(arch: Arch, name: &str) -> Option<u32> {
    let call = ScmpSyscall::from_name_by_arch(name, arch.to_libseccomp()).ok()?;
    u32::try_from(i32::from(call)).ok()
}

/// The name of call `number` on `arch`, or `None` where there is no such call.
pub fn name(arch: Arch, number: u32) -> Option<String> {
    let plain = match arch {
        Arch::X32 if number & X32_BIT == 0 => return None,
        Arch::X32 => number & !X32_BIT,
        _ => number,
    };
    let find = |table: &[(&str, u32)]| {
        let entry = table.iter().find(|(_, own)| *own == plain);
        entry.map(|(name, _)| (*name).to_owned())
    };
    let own = match arch {
        Arch::X86_64 => find(JOINED).or_else(|| find(NEW_X86_64)),
        Arch::X86 => find(JOINED).or_else(|| find(DIRECT_X86)),
        Arch::Riscv64 => find(JOINED).or_else(|| find(NEW_RISCV64)),
        _ => find(JOINED),
    };
    let by_libseccomp = || {
        let call = ScmpSyscall::from(i32::try_from(number).ok()?);
        call.get_name_by_arch(arch.to_libseccomp()).ok()
    };
    own.or_else(by_libseccomp)
}

/// Every call of an architecture, by number, worked out once. A number has one name here; of two
/// names that 32-bit ARM has for one, the first found.
pub fn table(arch: Arch) -> &'static BTreeMap<u32, String> {
    static TABLES: [OnceLock<BTreeMap<u32, String>>; 6] = [const { OnceLock::new() }; 6];
    let [x86_64, x86, x32, aarch64, arm, riscv64] = &TABLES;
    let own = match arch {
        Arch::X86_64 => x86_64,
        Arch::X86 => x86,
        Arch::X32 => x32,
        Arch::Aarch64 => aarch64,
        Arch::Arm => arm,
        Arch::Riscv64 => riscv64,
    };
    own.get_or_init(|| collect(arch))
}

fn collect(arch: Arch) -> BTreeMap<u32, String> {
    let mut out = BTreeMap::new();
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    let by_libseccomp = (base..base + TABLE_END).filter_map(|number| {
        let call = ScmpSyscall::from(i32::try_from(number).ok()?);
        call.get_name_by_arch(arch.to_libseccomp()).ok()
    });
    let joined = JOINED.iter().chain(NEW_RISCV64).map(|(name, _)| *name);
    let here = calls::names().chain(joined).map(str::to_owned);
    for name in here.chain(by_libseccomp) {
        if let Some(number) = resolve(arch, &name) {
            out.entry(number).or_insert(name);
        }
    }
    out
}

/// No table of the kernel has a call from here on but for 32-bit ARM's private ones.
const TABLE_END: u32 = 600;

/// Whether any architecture of this machine has a call of that name.
pub fn known(name: &str) -> bool {
    Arch::FAMILY
        .iter()
        .any(|arch| resolve(*arch, name).is_some())
}

/// Whether the name is a real call somewhere, though perhaps not on this machine.
pub fn known_elsewhere(name: &str) -> bool {
    NEW_X86_64
        .iter()
        .chain(NEW_RISCV64)
        .any(|(n, _)| *n == name)
        || ScmpSyscall::from_name(name).is_ok()
}

/// Whether an architecture has a call of that name, also one of other machines. Of architectures that
/// libseccomp's release does not know that is not known either, and taken to be so.
pub fn exists_on(arch: OciArch, name: &str) -> bool {
    if joined(name).is_some() {
        return true;
    }
    // LoongArch began with the generic table, which is RISC-V's too (asm-generic/unistd.h).
    if arch == OciArch::ScmpArchLoongarch64 {
        return !name.starts_with("riscv_") && resolve(Arch::Riscv64, name).is_some();
    }
    if let Some(arch) = Arch::FAMILY.iter().find(|own| own.to_oci() == arch) {
        return resolve(*arch, name).is_some();
    }
    let has = |arch: ScmpArch, name: &str| {
        ScmpSyscall::from_name_by_arch(name, arch).is_ok_and(|call| i32::from(call) >= 0)
    };
    match arch.to_string().parse::<ScmpArch>() {
        Ok(arch) => !has(arch, "read") || has(arch, name),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The quick table holds every call that the others and libseccomp have on x86, and no other.
    #[test]
    fn the_quick_table_agrees_with_libseccomp() {
        let mut names: BTreeSet<String> = calls::names().map(str::to_owned).collect();
        let listed = names.len();
        let tables = JOINED.iter().chain(NEW_X86_64).chain(DIRECT_X86);
        names.extend(tables.map(|(name, _)| (*name).to_owned()));
        for arch in [Arch::X86_64, Arch::X86] {
            // Newer releases of libseccomp know later calls, which `search` finds.
            names.extend((0..=450).filter_map(|number| {
                let call = ScmpSyscall::from(number);
                call.get_name_by_arch(arch.to_libseccomp()).ok()
            }));
        }
        assert_eq!(names.len(), listed, "calls that the table lacks");
        for name in &names {
            for arch in [Arch::X86_64, Arch::X86] {
                assert_eq!(
                    resolve(arch, name),
                    search(arch, name),
                    "{name} on {arch:?}"
                );
            }
        }
        for name in ["", "no such call", "read\0"] {
            assert!(calls::find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn names_exist_on_the_machines_that_have_them() {
        let table = [
            (OciArch::ScmpArchX86_64, "read", true),
            (OciArch::ScmpArchX86_64, "chown32", false),
            (OciArch::ScmpArchX86, "chown32", true),
            (OciArch::ScmpArchS390x, "s390_pci_mmio_read", true),
            (OciArch::ScmpArchX86_64, "s390_pci_mmio_read", false),
            (OciArch::ScmpArchMips64, "mseal", true),
            (OciArch::ScmpArchAarch64, "open", false),
        ];
        for (arch, name, exists) in table {
            assert_eq!(exists_on(arch, name), exists, "{name} on {arch}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        let table = [
            (Arch::X86_64, "read", Some(0)),
            (Arch::X86_64, "clone3", Some(435)),
            (Arch::X86_64, "mseal", Some(462)),
            (Arch::X86_64, "uretprobe", Some(335)),
            (Arch::X86_64, "socketcall", None),
            (Arch::X86, "uretprobe", None),
            (Arch::X86, "socket", Some(359)),
            (Arch::X86, "socketcall", Some(102)),
            (Arch::X86, "accept", None),
            (Arch::X86, "msgctl", Some(402)),
            (Arch::X32, "read", Some(X32_BIT)),
            (Arch::X32, "mseal", Some(X32_BIT | 462)),
            (Arch::Aarch64, "openat", Some(56)),
            (Arch::Aarch64, "open", None),
            (Arch::Arm, "fchmodat2", Some(452)),
            (Arch::X86_64, "no such call\0", None),
        ];
        for (arch, name, number) in table {
            assert_eq!(resolve(arch, name), number, "{name} on {arch:?}");
            if let Some(number) = number {
                assert_eq!(super::name(arch, number).as_deref(), Some(name), "{arch:?}");
            }
        }
        assert_eq!(super::name(Arch::X86_64, 399), None);
    }

    #[test]
    fn names_and_numbers_are_each_others_inverse() {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            let numbers = (0..480).map(|n| if arch == Arch::X32 { n | X32_BIT } else { n });
            let mut named = 0;
            for number in numbers {
                if let Some(found) = name(arch, number) {
                    named += 1;
                    assert_eq!(resolve(arch, &found), Some(number), "{found} on {arch:?}");
                }
            }
            assert!(named > 300, "{named} on {arch:?}");
        }
        assert_eq!(name(Arch::X86_64, u32::MAX), None);
    }

    #[test]
    fn the_whole_table_resolves_to_itself() {
        for (arch, least) in [
            (Arch::X86_64, 370),
            (Arch::X86, 430),
            (Arch::X32, 340),
            (Arch::Aarch64, 310),
        ] {
            let table = table(arch);
            for (number, name) in table {
                assert_eq!(resolve(arch, name), Some(*number), "{name} on {arch:?}");
            }
            assert!(table.len() >= least, "{} on {arch:?}", table.len());
        }
    }

    /// The kernel's header for this machine, where it is installed, agrees with every number.
    #[test]
    fn the_tables_agree_with_the_installed_header() {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/usr/include/x86_64-linux-gnu/asm/{file}")).ok()
        };
        for (arch, file) in [(Arch::X86_64, "unistd_64.h"), (Arch::X86, "unistd_32.h")] {
            let Some(text) = read(file) else { continue };
            for line in text.lines() {
                let mut words = line.split_whitespace();
                let (Some("#define"), Some(name), Some(number)) =
                    (words.next(), words.next(), words.next())
                else {
                    continue;
                };
                let Some(name) = name.strip_prefix("__NR_") else {
                    continue;
                };
                assert_eq!(
                    resolve(arch, name),
                    number.parse().ok(),
                    "{name} on {arch:?}"
                );
            }
        }
    }
}
