//! The laws of unions, intersections and differences, on random profiles.

use cofferdam_profiles::seccomp::{Action, Arch, Call, Evaluator, Test, resolve};
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::order::{looser, stricter, strictness};
use super::*;

const MACHINE: Arch = Arch::X86_64;

const NAMES: &[&str] = &[
    "read",
    "openat",
    "clone",
    "clone3",
    "ioctl",
    "socket",
    "socketcall",
    "mseal",
    "fchmodat2",
    "no_such_call",
    "kexec_file_load",
];

const VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    8,
    0x5412,
    0xffff_ffff,
    1 << 32,
    (1 << 32) | 2,
    u64::MAX,
];

fn action() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    select(vec![
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", Some(13)),
        ("SCMP_ACT_ERRNO", Some(38)),
        ("SCMP_ACT_LOG", None),
        ("SCMP_ACT_TRACE", Some(7)),
        ("SCMP_ACT_KILL_PROCESS", None),
    ])
}

fn rule() -> impl Strategy<Value = Value> {
    let op = select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ]);
    let arg = (0..2usize, select(VALUES), select(VALUES), op).prop_map(
        |(index, value, two, op)| json!({"index": index, "value": value, "valueTwo": two, "op": op}),
    );
    let names = subsequence(NAMES.to_vec(), 1..4);
    (names, action(), proptest::collection::vec(arg, 0..3)).prop_map(
        |(names, (action, errno), args)| {
            json!({"names": names, "action": action, "errnoRet": errno, "args": args})
        },
    )
}

/// Profiles over [`NAMES`] that list some of the machine's architectures.
fn profile_on(arches: &'static [&'static str]) -> impl Strategy<Value = LinuxSeccomp> {
    let arches = subsequence(arches.to_vec(), 0..=arches.len());
    (action(), arches, proptest::collection::vec(rule(), 0..8)).prop_map(
        |((action, errno), arches, rules)| {
            let profile = json!({
                "defaultAction": action, "defaultErrnoRet": errno,
                "architectures": arches, "syscalls": rules,
            });
            serde_json::from_value(profile).unwrap()
        },
    )
}

fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    profile_on(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
}

/// Profiles of one architecture, of which every union is a profile unless its conditions are odd.
fn native() -> impl Strategy<Value = LinuxSeccomp> {
    profile_on(&["SCMP_ARCH_X86_64"])
}

fn call() -> impl Strategy<Value = Call> {
    let mut numbers: Vec<u32> = MACHINE
        .family()
        .iter()
        .flat_map(|arch| NAMES.iter().filter_map(|name| resolve(*arch, name)))
        .flat_map(|number| [number.wrapping_sub(1), number, number + 1])
        .chain([500, 0x4000_01f4, u32::MAX])
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let audit = select(vec![Arch::X86_64.audit(), Arch::X86.audit(), 0xc000_00b7]);
    (
        audit,
        select(numbers),
        proptest::array::uniform6(select(VALUES)),
    )
        .prop_map(|(audit, number, args)| Call {
            audit,
            number,
            args,
        })
}

fn on(profile: &LinuxSeccomp) -> Evaluator {
    Evaluator::on(profile, MACHINE).unwrap()
}

fn differ(a: &LinuxSeccomp, b: &LinuxSeccomp) -> Diff {
    diff(&on(a), &on(b), MACHINE, &[]).unwrap()
}

fn merged(a: &LinuxSeccomp, b: &LinuxSeccomp) -> Combined {
    combine(Operation::Merge, a, b, MACHINE, &[]).unwrap()
}

fn met(a: &LinuxSeccomp, b: &LinuxSeccomp) -> Combined {
    combine(Operation::Intersect, a, b, MACHINE, &[]).unwrap()
}

/// The kind of an answer; how a refusal is worded does not count.
fn kind(action: Action) -> (u8, u32) {
    if action.denies() {
        (0, 0)
    } else {
        strictness(action)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_profile_differs_from_itself_in_nothing(a in profile()) {
        prop_assert_eq!(differ(&a, &a), Diff::default());
    }

    /// Nothing differs exactly if no call is answered differently: what the difference shows is
    /// answered differently, and what it leaves out is not.
    #[test]
    fn differences_are_those_of_the_evaluators(
        a in profile(), b in profile(), calls in proptest::collection::vec(call(), 300),
    ) {
        let (left, right) = (on(&a), on(&b));
        let diff = differ(&a, &b);
        for change in &diff.changes {
            let number = match change.calls {
                Calls::Named { number, .. } => number,
                Calls::Numbers { first, .. } => first,
            };
            for one in &change.differences {
                let call = Call { audit: change.arch.audit(), number, args: one.example };
                prop_assert_eq!(left.answer(&call), one.left, "{:?}", call);
                prop_assert_eq!(right.answer(&call), one.right, "{:?}", call);
                prop_assert_ne!(one.left, one.right);
                prop_assert!(one.cases.iter().any(|case| {
                    let holds = |tests: &Vec<Test>| tests.iter()
                        .all(|test| test.passes(one.example[usize::from(test.index)]));
                    holds(&case.when) && !case.unless.iter().any(holds)
                }), "{:?}", one);
            }
        }
        for call in calls {
            let (wanted, got) = (left.answer(&call), right.answer(&call));
            let x32 = call.audit == Arch::X32.audit() && call.number >= 0x4000_0000;
            let told = diff.changes.iter().any(|change| {
                let within = match change.calls {
                    Calls::Named { number, .. } => number == call.number,
                    Calls::Numbers { first, last } => (first..=last).contains(&call.number),
                };
                change.arch.audit() == call.audit && (change.arch == Arch::X32) == x32 && within
                    && change.differences.iter().any(|one| (one.left, one.right) == (wanted, got))
            });
            let foreign = call.audit == 0xc000_00b7;
            prop_assert!(wanted == got || foreign && diff.foreign.is_some() || told, "{call:?}");
        }
    }

    /// Exact where nothing is said; where something is, the union is never too strict and the
    /// intersection never too loose.
    #[test]
    fn unions_and_intersections_answer_call_by_call(
        a in profile(), b in profile(), calls in proptest::collection::vec(call(), 300),
    ) {
        let (left, right) = (on(&a), on(&b));
        for (operation, both) in [(Operation::Merge, merged(&a, &b)), (Operation::Intersect, met(&a, &b))] {
            let result = on(&both.profile);
            for call in &calls {
                let wanted = operation.of(left.answer(call), right.answer(call));
                let got = result.answer(call);
                if both.approximations.is_empty() {
                    prop_assert_eq!(got, wanted, "{:?} {:?}", operation, call);
                } else if operation == Operation::Merge {
                    prop_assert!(kind(got) >= kind(wanted), "{call:?} {got:?} {wanted:?}");
                } else {
                    prop_assert!(kind(got) <= kind(wanted), "{call:?} {got:?} {wanted:?}");
                }
            }
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter(a in native(), b in native()) {
        for operation in [merged, met] {
            let (one, other) = (operation(&a, &b), operation(&b, &a));
            prop_assert_eq!(one.approximations.is_empty(), other.approximations.is_empty());
            if one.approximations.is_empty() {
                prop_assert!(differ(&one.profile, &other.profile).is_empty());
            }
            let same = operation(&a, &a);
            prop_assert_eq!(&same.approximations, &[]);
            prop_assert!(differ(&same.profile, &a).is_empty());
        }
    }

    #[test]
    fn grouping_does_not_matter(a in native(), b in native(), c in native()) {
        for operation in [merged, met] {
            let left = operation(&a, &b);
            let left_all = operation(&left.profile, &c);
            let right = operation(&b, &c);
            let right_all = operation(&a, &right.profile);
            let exact = [&left, &left_all, &right, &right_all];
            if exact.iter().all(|one| one.approximations.is_empty()) {
                let diff = differ(&left_all.profile, &right_all.profile);
                prop_assert!(diff.is_empty(), "{diff:?}");
            }
        }
    }

    #[test]
    fn each_absorbs_the_other(a in native(), b in native()) {
        for (first, second) in [(merged as fn(&_, &_) -> _, met as fn(&_, &_) -> Combined), (met, merged)] {
            let inner: Combined = second(&a, &b);
            let whole: Combined = first(&a, &inner.profile);
            if inner.approximations.is_empty() && whole.approximations.is_empty() {
                let diff = differ(&whole.profile, &a);
                prop_assert!(diff.is_empty(), "{diff:?}");
            }
        }
    }

    #[test]
    fn the_order_is_total(a in any::<(u8, u16)>(), b in any::<(u8, u16)>()) {
        let action = |(kind, value): (u8, u16)| match kind % 4 {
            0 => Action::Errno(value % 4096),
            1 => Action::Trace(value),
            2 => Action::Allow,
            _ => Action::KillProcess,
        };
        let (a, b) = (action(a), action(b));
        prop_assert_eq!(looser(a, b), looser(b, a));
        prop_assert_eq!(stricter(a, b), stricter(b, a));
        prop_assert_eq!(a == b, strictness(a) == strictness(b));
    }
}

/// Random conditions seldom have an exact union; of those that authors write, all do.
#[test]
fn what_authors_write_combines_exactly() {
    let profile = |rules: Value| -> LinuxSeccomp {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules});
        serde_json::from_value(profile).unwrap()
    };
    let allow = |name: &str, args: Value| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args});
    let deny = |name: &str, args: Value| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": args});
    let arg = |index: u8, op: &str, value: u64, two: u64| json!([{"index": index, "op": op, "value": value, "valueTwo": two}]);
    let a = profile(json!([
        allow("read", json!([])),
        allow("clone", arg(0, "SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0)),
        allow("socket", arg(0, "SCMP_CMP_EQ", 1, 0)),
        allow("socket", arg(0, "SCMP_CMP_EQ", 2, 0)),
        deny("ioctl", arg(1, "SCMP_CMP_MASKED_EQ", 0xffff_ffff, 0x5412)),
        allow("ioctl", json!([])),
        deny("clone3", json!([])),
        allow("mseal", json!([])),
    ]));
    let b = profile(json!([
        allow("write", json!([])),
        allow("clone", json!([])),
        allow("socket", arg(0, "SCMP_CMP_NE", 40, 0)),
        allow("ioctl", arg(1, "SCMP_CMP_EQ", 0x5401, 0)),
        allow("personality", arg(0, "SCMP_CMP_EQ", 0, 0)),
    ]));
    let ask = |profile: &LinuxSeccomp, name: &str, args: [u64; 6]| {
        let number = resolve(MACHINE, name).unwrap();
        on(profile).answer(&Call {
            audit: MACHINE.audit(),
            number,
            args,
        })
    };
    let (merge, meet) = (merged(&a, &b), met(&a, &b));
    // Numbers without a name cannot be listed, so how they are refused may differ.
    for both in [&merge, &meet] {
        let named = both
            .approximations
            .iter()
            .find(|one| matches!(one.calls, Calls::Named { .. }));
        assert_eq!(named, None);
        assert!(!both.approximations.iter().any(Approximation::is_serious));
    }
    let (eperm, enosys) = (Action::Errno(1), Action::Errno(38));
    let yes = Action::Allow;
    let table = [
        ("read", [0; 6], yes, eperm),
        ("write", [0; 6], yes, eperm),
        ("clone", [0x1000_0000, 0, 0, 0, 0, 0], yes, eperm),
        ("clone", [17, 0, 0, 0, 0, 0], yes, yes),
        ("socket", [1, 0, 0, 0, 0, 0], yes, yes),
        ("socket", [16, 0, 0, 0, 0, 0], yes, eperm),
        ("socket", [40, 0, 0, 0, 0, 0], eperm, eperm),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], eperm, enosys),
        ("ioctl", [0, 0x5401, 0, 0, 0, 0], yes, yes),
        ("ioctl", [0, 0x5403, 0, 0, 0, 0], yes, eperm),
        ("clone3", [0; 6], enosys, enosys),
        ("mseal", [0; 6], yes, enosys),
        ("fchmodat2", [0; 6], eperm, enosys),
        ("personality", [0; 6], yes, eperm),
        ("personality", [8, 0, 0, 0, 0, 0], eperm, eperm),
    ];
    for (name, args, either, both) in table {
        assert_eq!(
            ask(&merge.profile, name, args),
            either,
            "merge {name} {args:x?}"
        );
        assert_eq!(
            ask(&meet.profile, name, args),
            both,
            "intersect {name} {args:x?}"
        );
    }
    let rules = merge.profile.syscalls().as_ref().unwrap();
    let socket = rules
        .iter()
        .filter(|rule| rule.names().contains(&"socket".to_owned()));
    assert_eq!(socket.count(), 1, "socket needs one rule: {rules:?}");
}

/// Where one profile leaves an architecture out, the union cannot, and says so.
#[test]
fn an_architecture_of_one_side_only_is_told() {
    let profile = |arches: Value, name: &str| -> LinuxSeccomp {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": arches,
            "syscalls": [{"names": [name], "action": "SCMP_ACT_ALLOW"}]});
        serde_json::from_value(profile).unwrap()
    };
    let both = profile(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), "read");
    let one = profile(json!(["SCMP_ARCH_X86_64"]), "write");
    let merge = merged(&both, &one);
    let serious: Vec<_> = merge
        .approximations
        .iter()
        .filter(|one| one.is_serious())
        .collect();
    let number = 4;
    let name = "write".to_owned();
    assert_eq!(serious.len(), 1, "{serious:?}");
    assert_eq!(serious[0].calls, Calls::Named { name, number });
    assert_eq!(
        (serious[0].arch, serious[0].got),
        (Arch::X86, Action::Allow)
    );
    let native = combine(Operation::Merge, &both, &one, MACHINE, &[MACHINE]).unwrap();
    assert_eq!(native.approximations, []);
}

/// Two defaults with different errnos, as Docker's and Podman's: no profile has both beside a
/// condition, but the calls that run are exactly those.
#[test]
fn different_errnos_do_not_cost_a_call() {
    let profile = |errno: u32, args: Value| -> LinuxSeccomp {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno,
            "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": args}]});
        serde_json::from_value(profile).unwrap()
    };
    let masked =
        json!([{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7e02_0000, "valueTwo": 0}]);
    let both = met(&profile(1, masked), &profile(38, json!([])));
    assert!(
        !both.approximations.iter().any(Approximation::is_serious),
        "{:?}",
        both.approximations
    );
    let number = resolve(MACHINE, "clone").unwrap();
    let ask = |flags| {
        let args = [flags, 0, 0, 0, 0, 0];
        on(&both.profile).answer(&Call {
            audit: MACHINE.audit(),
            number,
            args,
        })
    };
    assert_eq!(ask(17), Action::Allow);
    assert_eq!(ask(0x1000_0000), Action::Errno(38));
}
