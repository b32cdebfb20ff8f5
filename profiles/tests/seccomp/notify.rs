//! A filter with a listener answers as the filter without: what was an errno is asked, all else is
//! the same; and no call can install another listener.

use cofferdam_profiles::seccomp::{
    Arch, Call, Filter, compile, default_profile, errno_of, interpret, notifying, resolve,
};
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

use crate::profiles::{call, docker_capabilities, engine_profiles, profile};

const NOTIFY: u32 = 0x7fc0_0000;
const ERRNO: u32 = 0x5_0000;
const EBUSY: u32 = ERRNO | 16;
const NEW_LISTENER: u64 = 8;

/// Whether this call asks for a listener.
fn installs(call: &Call) -> bool {
    let seccomp = Arch::FAMILY
        .iter()
        .any(|arch| arch.audit() == call.audit && resolve(*arch, "seccomp") == Some(call.number));
    seccomp && call.args[0] & 0xffff_ffff == 1 && call.args[1] & NEW_LISTENER != 0
}

/// A profile's filter without and with a listener, if there is anything to ask.
fn both(profile: &LinuxSeccomp) -> Option<(Filter, Filter)> {
    let silent = compile(profile).unwrap();
    let asking = notifying(&silent).unwrap()?;
    assert_eq!(asking.flags, silent.flags | 8 | 32);
    Some((silent, asking))
}

fn check(name: &str, (silent, asking): &(Filter, Filter), call: &Call) {
    let before = interpret(&silent.program, call).unwrap();
    let after = interpret(&asking.program, call).unwrap();
    let what = format!("{name}: {call:?}: {before:#x} {after:#x}");
    if before & 0xffff_0000 == ERRNO {
        if !(installs(call) && after == EBUSY) {
            assert_eq!(after, NOTIFY, "{what}");
            let errno = u32::from(errno_of(&silent.program, call));
            assert_eq!(errno, (before & 0xffff).min(4095), "{what}");
        }
    } else if installs(call) && before > ERRNO | 0xffff && before & 0x8000_0000 == 0 {
        assert_eq!(after, EBUSY, "{what}");
    } else {
        assert_eq!(after, before, "{what}");
    }
}

#[test]
fn the_default_and_the_engines_profiles_ask_where_they_denied() {
    let capabilities = docker_capabilities();
    let default = default_profile(&capabilities, Arch::NATIVE);
    let profiles = [("default".to_owned(), default)]
        .into_iter()
        .chain(engine_profiles(&capabilities));
    for (name, profile) in profiles {
        let filters = both(&profile).unwrap();
        for audit in [Arch::X86_64.audit(), Arch::X86.audit(), 0] {
            for base in [0u32, 0x4000_0000] {
                for number in (0..600).map(|n| base | n) {
                    for value in [0, 1, 8, 9, 0x28, u64::MAX] {
                        let args = [value, value, 9, 0, value, 0];
                        let call = Call {
                            audit,
                            number,
                            args,
                        };
                        check(&name, &filters, &call);
                    }
                }
            }
        }
    }
}

/// Where the original lets `seccomp(2)` run, a listener cannot be installed on any architecture;
/// where it denies it, the answer is the original's.
#[test]
fn a_second_listener_is_refused() {
    let capabilities = docker_capabilities();
    let silent = compile(&default_profile(&capabilities, Arch::NATIVE)).unwrap();
    let asking = notifying(&silent).unwrap().unwrap();
    for arch in Arch::FAMILY {
        let call = |flags| Call {
            audit: arch.audit(),
            number: resolve(*arch, "seccomp").unwrap(),
            args: [1, flags, 0, 0, 0, 0],
        };
        for flags in [8, 9, 0x28, 0xff, 0xffff_ffff_0000_0008] {
            let answer = interpret(&asking.program, &call(flags)).unwrap();
            assert_ne!(answer, 0x7fff_0000, "{arch:?} {flags:#x}");
        }
        let answer = interpret(&asking.program, &call(1)).unwrap();
        let before = interpret(&silent.program, &call(1)).unwrap();
        assert!(answer == before || answer == NOTIFY, "{arch:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn random_profiles_ask_where_they_denied(
        profile in profile(),
        calls in proptest::collection::vec(call(), 100),
    ) {
        if compile(&profile).is_err() {
            return Ok(());
        }
        let Some(filters) = both(&profile) else {
            return Ok(());
        };
        for call in calls {
            check("random", &filters, &call);
        }
    }
}
