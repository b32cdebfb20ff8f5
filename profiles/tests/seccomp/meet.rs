//! The intersection of two profiles allows exactly what both allow, and denies as strictly as
//! the kernel would with both attached.

use cofferdam_profiles::seccomp::{
    Action, Arch, Call, Compat32, DefaultProfile, Evaluator, Intersection, compile,
    default_profile, interpret, intersect,
};
use oci_spec::runtime::{Capability, LinuxSeccomp};
use proptest::prelude::*;
use serde_json::json;

use crate::agree::ret;
use crate::profiles::{call, docker_capabilities, engine_profiles, profile};

/// The kernel's order of precedence for two filters: the smaller value of the action, as signed.
fn strictness(action: Action) -> i32 {
    i32::from_ne_bytes((ret(action) & 0xffff_0000).to_ne_bytes())
}

struct Met {
    engine: Evaluator,
    ours: Evaluator,
    both: Evaluator,
}

impl Met {
    fn check(&self, call: &Call) -> Result<(), String> {
        let (a, b) = (self.engine.answer(call), self.ours.answer(call));
        let got = self.both.answer(call);
        let wanted = strictness(a).min(strictness(b));
        // Where one side does not know the call or its architecture, and the other denies it in
        // another way, it is denied either way; see `model` on newer numbers and other ABIs.
        let errno = strictness(Action::Errno(0));
        let denied_either_way = wanted <= errno && strictness(got) <= errno;
        let unknown = [a, b].contains(&Action::Errno(38))
            || call.audit != Arch::NATIVE.audit()
            || call.number >= 0x4000_0000;
        if strictness(got) == wanted || denied_either_way && unknown {
            return Ok(());
        }
        Err(format!("{call:?}: {a:?} and {b:?} give {got:?}"))
    }
}

fn met(engine: &LinuxSeccomp, ours: &LinuxSeccomp) -> Option<Met> {
    match intersect(engine, ours).unwrap() {
        Intersection::Single(both) => Some(Met {
            engine: Evaluator::new(engine).unwrap(),
            ours: Evaluator::new(ours).unwrap(),
            both: Evaluator::new(&both).unwrap(),
        }),
        Intersection::Stacked { upper, lower } => {
            assert_eq!((&upper, &lower), (engine, ours));
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn random_profiles(
        engine in profile(),
        ours in profile(),
        calls in proptest::collection::vec(call(), 200),
    ) {
        if Evaluator::new(&engine).is_err() || Evaluator::new(&ours).is_err() {
            return Ok(());
        }
        let Some(met) = met(&engine, &ours) else { return Ok(()) };
        for call in calls {
            prop_assert_eq!(met.check(&call), Ok(()));
        }
    }

    #[test]
    fn random_profiles_with_the_default(
        engine in profile(),
        calls in proptest::collection::vec(call(), 200),
    ) {
        let ours = default_profile(&docker_capabilities(), Arch::NATIVE);
        let Some(met) = Evaluator::new(&engine).ok().and_then(|_| met(&engine, &ours)) else {
            return Ok(());
        };
        for call in calls {
            prop_assert_eq!(met.check(&call), Ok(()));
        }
    }
}

#[test]
fn the_engines_defaults_need_one_filter_only() {
    let docker = docker_capabilities();
    let mut admin = docker.clone();
    admin.extend([Capability::NetAdmin, Capability::SysAdmin]);
    for capabilities in [docker, admin] {
        for compat32 in [Compat32::Refused, Compat32::Filtered, Compat32::Socketcall] {
            let ours = DefaultProfile {
                capabilities: &capabilities,
                arch: Arch::NATIVE,
                compat32,
            }
            .build();
            for (name, engine) in engine_profiles(&capabilities) {
                let Intersection::Single(both) = intersect(&engine, &ours).unwrap() else {
                    panic!("{name} needs two filters");
                };
                let filter = compile(&both).unwrap();
                let met = met(&engine, &ours).unwrap();
                for audit in [Arch::X86_64.audit(), Arch::X86.audit()] {
                    for number in 0..600 {
                        for value in [0, 1, 2, 8, 16, 17, 38, 40, 0x5412, (1 << 32) | 2] {
                            let args = [value, value, 9, 0, 0, 0];
                            let call = Call {
                                audit,
                                number,
                                args,
                            };
                            met.check(&call).unwrap();
                            let expected = ret(met.both.answer(&call));
                            assert_eq!(interpret(&filter.program, &call), Ok(expected));
                        }
                    }
                }
            }
        }
    }
}

/// Thousands of conditions against the built-in default's few: decided without comparing each
/// combination with each, which took minutes. Both filters are kept then, which is exact.
#[test]
fn many_combinations_are_stacked() {
    let rules: Vec<_> = (0..2000)
        .map(|value| {
            json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let engine = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let engine: LinuxSeccomp = serde_json::from_value(engine).unwrap();
    let ours = default_profile(&docker_capabilities(), Arch::NATIVE);
    let met = intersect(&engine, &ours).unwrap();
    assert!(matches!(met, Intersection::Stacked { .. }));
}
