//! A compiled filter against the evaluator, a million calls each.

use std::collections::BTreeMap;
use std::time::Instant;

use cofferdam_profiles::seccomp::{Action, Evaluator, compile, interpret};
use oci_spec::runtime::LinuxSeccomp;

use crate::calls::Calls;
use crate::corpus;

/// Calls per profile.
const CALLS: usize = 1_000_000;

/// `SECCOMP_RET_*` (linux/seccomp.h), written down a second time.
pub(crate) fn ret(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x3_0000,
        Action::Errno(errno) => 0x5_0000 | u32::from(errno),
        Action::Notify => 0x7fc0_0000,
        Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

#[test]
fn the_interpreter_and_the_evaluator_agree_on_a_million_calls_each() {
    let corpus = corpus::corpus();
    println!("{} profiles", corpus.len());
    // Two at a time: what takes long is the calls, not the profiles.
    std::thread::scope(|scope| {
        let (even, odd): (Vec<_>, Vec<_>) = corpus
            .iter()
            .enumerate()
            .partition(|(at, _)| at.is_multiple_of(2));
        for half in [even, odd] {
            scope.spawn(move || {
                for (at, (name, profile)) in half {
                    agree(u64::try_from(at).unwrap(), name, profile);
                }
            });
        }
    });
}

fn agree(seed: u64, name: &str, profile: &LinuxSeccomp) {
    let begun = Instant::now();
    let evaluator = Evaluator::new(profile).unwrap();
    let filter = compile(profile).unwrap();
    let mut calls = Calls::new(seed, &evaluator);
    let mut answers: BTreeMap<u32, usize> = BTreeMap::new();
    for _ in 0..CALLS {
        let call = calls.next();
        let expected = ret(evaluator.answer(&call));
        let got = interpret(&filter.program, &call).unwrap();
        assert_eq!(got, expected, "{name}, seed {seed}: {call:x?}");
        *answers.entry(expected).or_default() += 1;
    }
    let allowed = answers.get(&ret(Action::Allow)).copied().unwrap_or(0);
    println!(
        "{name}: {CALLS} calls agree in {:.1} s, {} instructions, {} % allowed, {} answers",
        begun.elapsed().as_secs_f64(),
        filter.program.len() / 8,
        allowed * 100 / CALLS,
        answers.len()
    );
}
