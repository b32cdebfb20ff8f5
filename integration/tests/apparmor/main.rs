//! Generated AppArmor profiles and Debian's `apparmor_parser`, which needs no AppArmor in the kernel:
//! it takes every profile, and what it makes of a path matches that path and no other.

#![expect(
    clippy::expect_used,
    reason = "what cannot be made here is what the test is about"
)]

/// What the parser compiled: the automaton that decides about files.
mod automaton;

use std::io::Write as _;

use automaton::{Automaton, EXECUTE, MAP, READ, WRITE};
use cofferdam_integration::{
    binaries,
    command::{Cmd, Done},
    error::{At as _, Result},
    gate,
};
use cofferdam_profiles::access::{
    Access, AccessPath, Family, Network, Place, Right, Rights, Source,
};
use cofferdam_profiles::apparmor::{Mode, Profile, Shape, generate};
use cofferdam_profiles::capability;

/// What the parser is told of the kernel, where it is not asked: all that version 3 knows.
const FEATURES: &str = "/etc/apparmor.d/abi/3.0";

/// Compiles a profile; `None` with a visible note without the parser.
fn compile(profile: &Profile) -> Result<Option<(Done, Vec<u8>)>> {
    let Some(parser) = gate::present(binaries::on_path("apparmor_parser"))? else {
        return Ok(None);
    };
    let dir = tempfile::tempdir().at("make", "a temporary directory")?;
    let (text, out) = (dir.path().join("profile"), dir.path().join("compiled"));
    std::fs::File::create(&text)
        .and_then(|mut file| file.write_all(profile.text.as_bytes()))
        .at("write", &text)?;
    let done = Cmd::new(parser)
        .args(["--skip-kernel-load", "--skip-cache", "--features-file"])
        .args([FEATURES, "--ofile"])
        .arg(&out)
        .arg(&text)
        .ok()?;
    let compiled = std::fs::read(&out).at("read", &out)?;
    Ok(Some((done, compiled)))
}

fn profile(access: Option<&Access>) -> Profile {
    let all = capability::ALL.iter().copied().collect();
    let shape = Shape {
        capabilities: all,
        access,
        ..Shape::default()
    };
    generate(&shape).expect("a profile")
}

fn automaton(access: Option<&Access>) -> Result<Option<Automaton>> {
    let compiled = compile(&profile(access))?;
    Ok(compiled.map(|(_, bytes)| Automaton::of_files(&bytes).expect("an automaton")))
}

fn path(bytes: impl AsRef<[u8]>) -> AccessPath {
    AccessPath::new(bytes).expect("a path")
}

#[test]
fn every_profile_is_taken_without_a_warning() -> Result<()> {
    let mut access = Access::new();
    let place = Place::subtree(path("/srv"));
    access
        .allow(place, Rights::ALL, Source::Policy)
        .expect("room");
    let families = [
        Family::Unix,
        Family::Inet,
        Family::Inet6,
        Family::Netlink,
        Family::Packet,
        Family::Vsock,
        Family::Alg,
    ];
    access.network = Some(Network {
        raw: Some(false),
        families: Some(families.into()),
        ..Network::default()
    });
    let whole = Shape {
        capabilities: capability::ALL.iter().copied().collect(),
        access: Some(&access),
        mode: Mode::Complain,
        owner: Some("web"),
        runtime: Some("/usr/sbin/engine"),
        ..Shape::default()
    };
    for profile in [
        generate(&Shape::default()).expect("a profile"),
        profile(None),
        profile(Some(&access)),
        generate(&whole).expect("a profile"),
    ] {
        let Some((done, compiled)) = compile(&profile)? else {
            return Ok(());
        };
        assert!(!compiled.is_empty());
        assert_eq!(done.stderr, "", "{}", profile.text);
    }
    Ok(())
}

#[test]
fn what_engines_deny_of_the_kernel_is_denied() -> Result<()> {
    let Some(automaton) = automaton(None)? else {
        return Ok(());
    };
    for (name, letters, allowed) in [
        ("/etc/passwd", READ | WRITE, true),
        ("/bin/sh", READ | EXECUTE | MAP, true),
        ("/proc/1/oom_score_adj", WRITE, true),
        ("/proc/sys/net/core/somaxconn", WRITE, true),
        ("/proc/sys/kernel/shmmax", WRITE, true),
        ("/proc/sys/kernel/sem", WRITE, true),
        ("/proc/sys/kernel/msgmax", WRITE, true),
        ("/proc/sys/fs/mqueue/msg_max", WRITE, true),
        ("/proc/sys/kernel/core_pattern", READ, true),
        ("/proc/meminfo", READ, true),
        ("/sys/fs/cgroup/x/cgroup.procs", WRITE, true),
        ("/sys/class/net/lo/mtu", READ, true),
        ("/proc/sys/kernel/core_pattern", WRITE, false),
        ("/proc/sys/kernel/sysrq", WRITE, false),
        ("/proc/sys/kernel/modprobe", WRITE, false),
        ("/proc/sys/kernel/semx", WRITE, false),
        ("/proc/sys/kernel/random/uuid", WRITE, false),
        ("/proc/sys/vm/drop_caches", WRITE, false),
        ("/proc/sys/fs/binfmt_misc/register", WRITE, false),
        ("/proc/sys/fs/protected_symlinks", WRITE, false),
        ("/proc/sysrq-trigger", READ, false),
        ("/proc/kcore", READ, false),
        ("/proc/irq/1/smp_affinity", WRITE, false),
        ("/proc/scsi/scsi", WRITE, false),
        ("/proc/timer_list", WRITE, false),
        ("/sys/kernel/uevent_helper", WRITE, false),
        ("/sys/fs/selinux/enforce", WRITE, false),
        ("/sys/module/apparmor/parameters/mode", WRITE, false),
        ("/sys/firmware/efi/vars", READ, false),
        ("/sys/kernel/security/apparmor/.replace", READ, false),
        ("/sys/devices/virtual/powercap/x/energy_uj", READ, false),
    ] {
        let found = automaton.allows(name.as_bytes());
        let all = found & letters == letters;
        assert_eq!(all, allowed, "{name}: {found:#x} of {letters:#x}");
    }
    Ok(())
}

/// A generator of its own: a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // The multiplier of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    /// A byte, often one that means something in a pattern.
    fn byte(&mut self) -> u8 {
        const SPECIAL: &[u8] = b"*?[]{}^,\"\\@$#!()|+.- \n\t\r~%/x0\x01\x7f\x80\xff";
        if self.below(3) == 0 {
            u8::try_from(1 + self.below(255)).expect("a byte")
        } else {
            let at = usize::try_from(self.below(SPECIAL.len() as u64)).expect("small");
            SPECIAL[at]
        }
    }

    fn path(&mut self) -> Option<AccessPath> {
        let length = 1 + self.below(24);
        let mut bytes = b"/hostile/".to_vec();
        bytes.extend((0..length).map(|_| self.byte()));
        // `..` leads elsewhere: refused.
        AccessPath::new(bytes).ok()
    }
}

/// Names that are like `name`: another byte, one more, one less.
fn neighbours(name: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in 1..name.len() {
        let mut other = name.to_vec();
        other[at] = random.byte();
        all.push(other);
        let mut less = name.to_vec();
        less.remove(at);
        all.push(less);
        let mut more = name.to_vec();
        more.insert(at, random.byte());
        all.push(more);
    }
    all
}

#[test]
fn a_path_of_any_bytes_is_matched_and_no_other() -> Result<()> {
    let mut random = Random(7);
    let mut access = Access::new();
    let mut paths = std::collections::BTreeSet::new();
    while paths.len() < 300 {
        paths.extend(random.path());
    }
    paths.insert(path([b"/".as_slice(), &b"a[*".repeat(1000)].concat()));
    for path in &paths {
        let place = Place::exact(path.clone());
        access
            .allow(place, Right::Read.into(), Source::Policy)
            .expect("room");
    }
    let Some(automaton) = automaton(Some(&access))? else {
        return Ok(());
    };
    let mut compared = 0;
    for path in &paths {
        let name = path.as_bytes();
        assert_eq!(automaton.allows(name), READ, "{path}");
        if name.len() > 100 {
            continue;
        }
        for other in neighbours(name, &mut random) {
            let known = AccessPath::new(&other)
                .is_ok_and(|known| known.as_bytes() == other && paths.contains(&known));
            let expected = if known { READ } else { 0 };
            assert_eq!(
                automaton.allows(&other),
                expected,
                "{}",
                other.escape_ascii()
            );
            compared += 1;
        }
    }
    assert!(compared > 5000, "{compared}");
    Ok(())
}

#[test]
fn a_subtree_is_its_files_or_its_directories_and_nothing_beside_it() -> Result<()> {
    let mut access = Access::new();
    let mut allow = |place, rights| access.allow(place, rights, Source::Policy).expect("room");
    allow(Place::subtree(path("/read")), Right::Read.into());
    allow(Place::subtree(path("/list")), Right::List.into());
    allow(Place::exact(path("/one")), Right::Create.into());
    allow(Place::subtree(path("/run")), Rights::RUN);
    let Some(automaton) = automaton(Some(&access))? else {
        return Ok(());
    };
    for (name, letters) in [
        ("/read", READ),
        ("/read/a", READ),
        ("/read/a/b", READ),
        ("/read/", 0),
        ("/read/a/", 0),
        ("/readx", 0),
        ("/rea", 0),
        ("/x/read", 0),
        ("/list", 0),
        ("/list/", READ),
        ("/list/a/", READ),
        ("/list/a", 0),
        ("/lists/", 0),
        ("/one/a", 0),
        ("/", 0),
        ("/other", 0),
    ] {
        assert_eq!(automaton.allows(name.as_bytes()), letters, "{name}");
    }
    for (name, letters) in [
        ("/one", WRITE),
        ("/one/", WRITE),
        ("/run/x", READ | EXECUTE | MAP),
    ] {
        assert_eq!(
            automaton.allows(name.as_bytes()) & letters,
            letters,
            "{name}"
        );
    }
    // The root, which has no name of its own.
    let mut access = Access::new();
    let root = Place::subtree(AccessPath::root());
    access
        .allow(root, Right::Read.into(), Source::Policy)
        .expect("room");
    let Some(automaton) = self::automaton(Some(&access))? else {
        return Ok(());
    };
    for (name, letters) in [("/a", READ), ("/a/b c", READ), ("/", 0), ("/a/", 0)] {
        assert_eq!(automaton.allows(name.as_bytes()), letters, "{name}");
    }
    Ok(())
}
