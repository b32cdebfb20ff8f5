//! The device list as a BPF program: what cgroup v2 has instead of files.

use std::path::Path;

use super::bpf::{self, Insn};
use super::rules::{Kind, Rules};
use crate::cgroup::Error;

/// Values of `bpf_cgroup_dev_ctx.access_type` (linux/bpf.h): access << 16 | type.
const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;

/// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Puts the list into force and takes an earlier one of ours away. In between both hold, so
/// that no moment is without a filter.
pub(super) fn apply(dir: &Path, rules: &Rules) -> Result<(), Error> {
    let failed = |action| {
        move |source| Error::DeviceFilter {
            path: dir.to_owned(),
            action,
            source,
        }
    };
    let cgroup = std::fs::File::open(dir).map_err(|source| Error::Open {
        path: dir.to_owned(),
        source,
    })?;
    let earlier = bpf::attached(&cgroup).map_err(failed("list"))?;
    let filter = bpf::load(&program(rules)).map_err(failed("load"))?;
    bpf::attach(&cgroup, &filter).map_err(failed("attach"))?;
    for old in earlier {
        if bpf::is_ours(&old).map_err(failed("look at"))? {
            bpf::detach(&cgroup, &old).map_err(failed("replace"))?;
        }
    }
    Ok(())
}

/// How many programs are attached.
pub(super) fn count(dir: &Path) -> Result<usize, Error> {
    let cgroup = std::fs::File::open(dir).map_err(|source| Error::Open {
        path: dir.to_owned(),
        source,
    })?;
    let attached = bpf::attached(&cgroup).map_err(|source| Error::DeviceFilter {
        path: dir.to_owned(),
        action: "list",
        source,
    })?;
    Ok(attached.len())
}

/// The program. Registers: r2 type, r3 access, r4 major, r5 minor.
fn program(rules: &Rules) -> Vec<Insn> {
    let mut code = vec![
        Insn::load32(2, 1, ACCESS_TYPE),
        Insn::move32(3, 2),
        Insn::and32(2, 0xffff),
        Insn::shift_right32(3, 16),
        Insn::load32(4, 1, MAJOR),
        Insn::load32(5, 1, MINOR),
    ];
    for (key, access) in &rules.exceptions {
        let mut block = Vec::new();
        let kind = match key.kind {
            Kind::Block => DEV_BLOCK,
            Kind::Char => DEV_CHAR,
        };
        // Each test that fails jumps to the next block; the distances are filled in below.
        block.push(Insn::skip_unless_equal32(2, kind));
        if let Some(major) = key.major {
            block.push(Insn::skip_unless_equal32(4, major.cast_signed()));
        }
        if let Some(minor) = key.minor {
            block.push(Insn::skip_unless_equal32(5, minor.cast_signed()));
        }
        let access = i32::from(access.0);
        block.push(Insn::move32(0, 3));
        if rules.allow_by_default {
            // Denied if any of the access is among the denied.
            block.push(Insn::and32(0, access));
            block.push(Insn::skip_if_equal32(0, 0));
        } else {
            // Allowed if none of the access is outside the granted.
            block.push(Insn::and32(0, !access));
            block.push(Insn::skip_unless_equal32(0, 0));
        }
        block.push(Insn::set64(0, i32::from(!rules.allow_by_default)));
        block.push(Insn::exit());
        let end = block.len();
        for (at, insn) in block.iter_mut().enumerate() {
            insn.set_distance(end - at - 1);
        }
        code.extend(block);
    }
    code.push(Insn::set64(0, i32::from(rules.allow_by_default)));
    code.push(Insn::exit());
    code
}

#[cfg(test)]
mod tests {
    use super::super::rules::Access;
    use super::*;

    /// A small interpreter: the program's answer to one access.
    fn run(code: &[Insn], kind: i32, access: u8, major: u32, minor: u32) -> bool {
        let mut r = [0u32; 6];
        let mut pc = 0;
        loop {
            let insn = code[pc];
            pc += 1;
            match insn.step(
                &mut r,
                [
                    (u32::from(access) << 16) | kind.cast_unsigned(),
                    major,
                    minor,
                ],
            ) {
                bpf::Step::Next => {}
                bpf::Step::Jump(by) => pc += by,
                bpf::Step::Exit => return r[0] != 0,
            }
        }
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let spec = |json| serde_json::from_value::<Vec<_>>(json).unwrap();
        let lists = [
            spec(serde_json::json!([])),
            spec(serde_json::json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"},
                {"allow": true, "type": "b", "major": 8, "access": "r"},
                {"allow": true, "type": "b", "access": "m"},
            ])),
            spec(serde_json::json!([
                {"allow": true, "access": "rwm"},
                {"allow": false, "type": "b", "major": 8, "access": "w"},
            ])),
        ];
        for list in lists {
            let rules = Rules::for_container(&list).unwrap();
            let code = program(&rules);
            for (kind, number) in [(Kind::Block, DEV_BLOCK), (Kind::Char, DEV_CHAR)] {
                for major in [0, 1, 5, 8, 10, 136, u32::MAX] {
                    for minor in [0, 3, 200, u32::MAX] {
                        for access in 1..8 {
                            assert_eq!(
                                run(&code, number, access, major, minor),
                                rules.allows(kind, major, minor, Access(access)),
                                "{kind:?} {major}:{minor} {access} {list:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// In the unified hierarchy, which hybrid hosts have too.
    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn the_kernel_takes_the_program_and_obeys() {
        use nix::sys::statfs::CGROUP2_SUPER_MAGIC;
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .into_iter()
            .map(Path::new)
            .find(|dir| crate::cgroup::host::is_fs(dir, CGROUP2_SUPER_MAGIC));
        let Some(root) = root.filter(|_| nix::unistd::geteuid().is_root()) else {
            println!("SKIPPED: needs root and a unified hierarchy");
            return;
        };
        let scratch = Scratch(root.join(format!("cofferdam-bpf-{}", std::process::id())));
        std::fs::create_dir(&scratch.0).unwrap();
        let allow = serde_json::json!([{"allow": true, "access": "rwm"}]);
        let some = serde_json::json!([{"allow": false, "access": "rwm"}]);
        // Twice each: the second replaces the first.
        for (list, expected) in [
            (&some, "null\n"),
            (&allow, "null\nkmsg\n"),
            (&some, "null\n"),
        ] {
            let spec = serde_json::from_value::<Vec<_>>(list.clone()).unwrap();
            apply(&scratch.0, &Rules::for_container(&spec).unwrap()).unwrap();
            let cgroup = std::fs::File::open(&scratch.0).unwrap();
            assert_eq!(bpf::attached(&cgroup).unwrap().len(), 1);
            let script = "echo $$ > $0/cgroup.procs; : > /dev/null && echo null; \
                          { : < /dev/kmsg; } 2> /dev/null && echo kmsg; :";
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", script])
                .arg(&scratch.0)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }
}
