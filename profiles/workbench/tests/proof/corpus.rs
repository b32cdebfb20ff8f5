//! Real profiles and generated ones.
//!
//! Docker's and containers/common's defaults are read from where Debian's packages put them: the
//! machine itself, or the test cache that `scripts/fetch-profiles` fills. More real ones lie beside
//! the project on some machines. What is not there is said.

use std::path::{Path, PathBuf};

use cofferdam_profiles::capability::{self, ENGINE_DEFAULT, Set};
use cofferdam_profiles::seccomp::{Arch, Compat32, DefaultProfile, compile};
use cofferdam_workbench::algebra::{Operation, combine};
use cofferdam_workbench::dialect::{self, DialectError, Target};
use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde_json::{Value, json};

use crate::calls::Random;

/// A profile and what it is called in messages.
pub(crate) type Named = (String, LinuxSeccomp);

/// Every profile of the corpus.
pub(crate) fn corpus() -> Vec<Named> {
    corpus_with(Shape::Any)
}

/// The corpus with those profiles instead of random ones that libseccomp can be asked about.
pub(crate) fn corpus_for_libseccomp() -> Vec<Named> {
    corpus_with(Shape::Plain)
}

fn corpus_with(shape: Shape) -> Vec<Named> {
    let real = real();
    let mut out = built_in();
    out.extend(generated(shape));
    out.extend(combined(&real));
    out.extend(operators());
    out.extend(real);
    out
}

/// The variable that makes a missing profile a failure.
const REQUIRE: &str = "COFFERDAM_REQUIRE_PROFILES";

/// The engines' own defaults and whatever profiles lie beside the project, each for a container
/// with the usual capabilities, with all and with none.
pub(crate) fn real() -> Vec<Named> {
    let cache = std::env::var_os("COFFERDAM_TEST_CACHE");
    let cache = cache.map_or_else(
        || PathBuf::from("/var/cache/cofferdam-tests"),
        PathBuf::from,
    );
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/seccomp");
    let mut files = Vec::new();
    for (what, places) in [
        (
            "containers/common's default",
            [
                PathBuf::from("/usr/share/containers/seccomp.json"),
                cache.join("profiles/containers-common.json"),
            ],
        ),
        (
            "Docker's default",
            [
                cache.join("profiles/docker.json"),
                beside.join("moby-default.json"),
            ],
        ),
    ] {
        let before = files.len();
        files.extend(places.into_iter().filter(|place| place.exists()));
        if files.len() == before {
            assert!(
                std::env::var_os(REQUIRE).is_none(),
                "{what} is not there; run scripts/fetch-profiles"
            );
            println!("skipped in part: no {what}; scripts/fetch-profiles fetches it");
        }
    }
    for directory in ["seccomp-diff", "spo"] {
        let entries = std::fs::read_dir(beside.join(directory))
            .into_iter()
            .flatten();
        let mut own: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        own.sort();
        files.extend(own);
    }
    let mut out: Vec<Named> = Vec::new();
    for (name, profile) in files.iter().flat_map(|file| read(file)) {
        if out.iter().all(|(_, own)| *own != profile) {
            out.push((name, profile));
        }
    }
    out
}

fn read(file: &Path) -> Vec<Named> {
    let bytes = std::fs::read(file).unwrap();
    let documents = match dialect::read(&bytes) {
        Ok(document) => vec![document],
        Err(DialectError::Several { names }) => {
            let one = |name: &String| dialect::read_named(&bytes, Some(name)).unwrap();
            names.iter().map(one).collect()
        }
        Err(error) => panic!("{}: {error}", file.display()),
    };
    let sets = [
        ("usual capabilities", ENGINE_DEFAULT),
        ("every capability", Set::of(capability::ALL)),
        ("no capability", Set::EMPTY),
    ];
    let mut out = Vec::new();
    for document in documents {
        for (which, capabilities) in sets {
            let target = Target {
                capabilities,
                arch: Arch::NATIVE,
                kernel: None,
            };
            let name = document.name.as_deref().unwrap_or_default();
            match document.oci(&target) {
                Ok(profile) => out.push((format!("{} {name}, {which}", file.display()), profile)),
                Err(DialectError::BaseNeeded { name: base }) => {
                    println!(
                        "left out: {} {name}, whose base {base:?} is elsewhere",
                        file.display()
                    );
                    break;
                }
                Err(error) => panic!("{} {name}: {error}", file.display()),
            }
        }
    }
    out
}

fn built_in() -> Vec<Named> {
    let mut out = Vec::new();
    let admin = ENGINE_DEFAULT | Set::of(&[Capability::SysAdmin, Capability::NetAdmin]);
    for (which, capabilities) in [("usual", ENGINE_DEFAULT), ("admin", admin)] {
        for compat32 in [Compat32::Refused, Compat32::Filtered, Compat32::Socketcall] {
            let capabilities = capabilities.to_oci();
            let profile = DefaultProfile {
                capabilities: &capabilities,
                arch: Arch::NATIVE,
                compat32,
            };
            out.push((format!("built-in, {which}, {compat32:?}"), profile.build()));
        }
    }
    out
}

/// In the manner of the operator's examples: a recording, a complain mode, one that blocks a few.
fn operators() -> Vec<Named> {
    let resource = |name: &str, default: &str, rules: &str| {
        format!(
            "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\n\
             metadata:\n  name: {name}\nspec:\n  defaultAction: {default}\n  architectures:\n  - \
             SCMP_ARCH_X86_64\n  syscalls:\n{rules}"
        )
    };
    let recording = "  - action: SCMP_ACT_ALLOW\n    names: [read, write, openat, close, mmap, futex, \
                     epoll_wait, accept4, exit_group, rt_sigreturn, statx, clone3]\n  - action: \
                     SCMP_ACT_ALLOW\n    names: [socket]\n    args:\n    - {index: 0, value: 2, op: \
                     SCMP_CMP_EQ}\n    - {index: 1, value: 0x80801, op: SCMP_CMP_EQ}\n";
    let blocking = "  - action: SCMP_ACT_ERRNO\n    names: [bpf, mount, ptrace]\n  - action: \
                    SCMP_ACT_ERRNO\n    names: [clone]\n    args:\n    - {index: 0, value: 0x10000000, \
                    valueTwo: 0x10000000, op: SCMP_CMP_MASKED_EQ}\n";
    let texts = [
        resource("recorded", "SCMP_ACT_ERRNO", recording),
        resource("complain", "SCMP_ACT_LOG", blocking),
        resource("blocking", "SCMP_ACT_ALLOW", blocking),
        resource("killing", "SCMP_ACT_KILL_PROCESS", recording),
    ];
    let target = Target {
        capabilities: ENGINE_DEFAULT,
        arch: Arch::NATIVE,
        kernel: None,
    };
    texts
        .iter()
        .map(|text| {
            let document = dialect::read(text.as_bytes()).unwrap();
            let name = format!("operator's, {}", document.name.clone().unwrap());
            (name, document.oci(&target).unwrap())
        })
        .collect()
}

/// Unions and intersections of real profiles with others.
fn combined(real: &[Named]) -> Vec<Named> {
    let mut out = Vec::new();
    let (name, other) = &built_in()[1];
    for (own, profile) in real.iter().take(3) {
        for operation in [Operation::Merge, Operation::Intersect] {
            let both = combine(operation, profile, other, Arch::NATIVE, &[]).unwrap();
            out.push((format!("{operation:?} of {own} and {name}"), both.profile));
        }
    }
    out
}

/// How many are generated.
const GENERATED: usize = 6;

/// What the conditions of generated profiles look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Any comparisons of any arguments, several rules for a call.
    Any,
    /// Several values of one argument, or one rule. libseccomp 2.5.4 loses rules where several
    /// compare one argument in different ways: of `arg2 >= 26 and arg3 < 123`, `arg0 > 2^45` and
    /// `arg0 <= 2^56 and arg3 != 2^55`, it answered the default to arg0 = 2^56, arg3 = 2^55.
    Plain,
}

/// Profiles in which each name has rules of one kind, so that nothing depends on their order.
fn generated(shape: Shape) -> Vec<Named> {
    let all = (0..).map(|seed| {
        (
            format!("generated {seed}, {shape:?}"),
            generate(seed, shape),
        )
    });
    // Some make filters that the kernel would not take.
    let short = all.filter(|(_, profile)| compile(profile).is_ok());
    short.take(GENERATED).collect()
}

fn generate(seed: u64, shape: Shape) -> LinuxSeccomp {
    let mut random = Random(seed);
    let names: Vec<&String> = cofferdam_profiles::seccomp::table(Arch::NATIVE)
        .values()
        .collect();
    let mut allowed: Vec<&str> = Vec::new();
    let mut rules: Vec<Value> = Vec::new();
    for name in names {
        match random.below(12) {
            0..6 => allowed.push(name),
            6 if shape == Shape::Any => {
                for _ in 0..=random.below(6) {
                    rules.push(rule(&mut random, name));
                }
            }
            6 => rules.push(rule(&mut random, name)),
            7 => {
                let index = random.below(6);
                for _ in 0..=random.below(6) {
                    let value = value(&mut random);
                    let args = json!([{"index": index, "op": "SCMP_CMP_EQ", "value": value}]);
                    rules.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}));
                }
            }
            _ => {}
        }
    }
    rules.push(json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}));
    let arches: &[&str] = match random.below(3) {
        0 => &["SCMP_ARCH_X86_64"],
        1 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    };
    let errno = random.one_of(&[1, 13, 38]);
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno,
        "architectures": arches, "syscalls": rules});
    serde_json::from_value(profile).unwrap()
}

/// One or two conditions on different arguments.
fn rule(random: &mut Random, name: &str) -> Value {
    let ops = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];
    let first = random.below(6);
    let second = (first + 1 + random.below(5)) % 6;
    let many = 1 + random.below(2);
    let mut args = Vec::new();
    for index in [first, second].into_iter().take(many) {
        let value = value(random);
        let two = value & random.next();
        let op = random.one_of(&ops);
        args.push(json!({"index": index, "op": op, "value": value, "valueTwo": two}));
    }
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args})
}

fn value(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => random.next() % 128,
        1 => 1 << random.below(64),
        _ => random.next(),
    }
}
