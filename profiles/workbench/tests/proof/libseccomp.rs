//! libseccomp's filters against ours.
//!
//! They differ on purpose where a profile contradicts itself (we take the strictest rule), for calls
//! newer than the profile (we answer ENOSYS) and for those libseccomp has no numbers of.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _};

use cofferdam_profiles::seccomp::{Action, Arch, Evaluator, Rule, compile, interpret, table};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompOperator};

use crate::calls::Calls;
use crate::corpus;

/// Calls per profile.
const CALLS: usize = 50_000;

/// The last call of Linux 5.0 on 64-bit x86: up to it, unknown calls are answered alike.
const LONG_KNOWN: u32 = 334;

#[test]
fn libseccomp_answers_the_same_over_the_corpus() {
    let mut judged = 0;
    for (at, (name, mut profile)) in corpus::corpus_for_libseccomp().into_iter().enumerate() {
        profile.set_architectures(None);
        let consistent = consistent(&profile);
        let Some(theirs) = by_libseccomp(&profile) else {
            println!("left out: {name}, whose actions libseccomp's bindings lack here");
            continue;
        };
        let ours = compile(&profile).unwrap().program;
        let evaluator = Evaluator::new(&profile).unwrap();
        let mut calls = Calls::new(u64::try_from(at).unwrap(), &evaluator);
        let mut compared = 0;
        for _ in 0..CALLS {
            let call = calls.next();
            let known = call.audit == Arch::NATIVE.audit() && call.number <= LONG_KNOWN;
            if !known || !consistent.get(&call.number).copied().unwrap_or(true) {
                continue;
            }
            compared += 1;
            let [ours, theirs] = [&ours, &theirs].map(|program| interpret(program, &call));
            assert_eq!(ours, theirs, "{name}: {call:x?}");
        }
        let left_out = consistent.values().filter(|fine| !**fine).count();
        println!("{name}: {compared} calls agree; {left_out} contradictory calls left out");
        assert!(compared > CALLS / 20, "{name}: only {compared} compared");
        judged += 1;
    }
    assert!(judged >= 8, "only {judged} profiles were judged");
}

/// The numbers that rules name, and whether these rules agree: one unconditional answer, or
/// conditional ones that are all the same and no other.
fn consistent(profile: &LinuxSeccomp) -> BTreeMap<u32, bool> {
    let default = Action::from_oci(profile.default_action(), profile.default_errno_ret());
    let mut answers: BTreeMap<&str, Vec<(bool, Action)>> = BTreeMap::new();
    for entry in profile.syscalls().iter().flatten() {
        for rule in Rule::of_entry(entry) {
            for name in entry.names() {
                let own = answers.entry(name).or_default();
                let answer = (rule.tests.is_empty(), rule.action);
                if answer != (true, default) && !own.contains(&answer) {
                    own.push(answer);
                }
            }
        }
    }
    let names = table(Arch::NATIVE);
    names
        .iter()
        .filter_map(|(number, name)| {
            let own = answers.get(name.as_str())?;
            // runc, and with it this comparison, adds no rule that repeats the default.
            let repeats = own.iter().any(|(_, action)| *action == default);
            Some((*number, own.len() <= 1 && !repeats))
        })
        .collect()
}

/// Adds each rule as runc does; `None` for actions that need more than the rule.
fn by_libseccomp(profile: &LinuxSeccomp) -> Option<Vec<u8>> {
    let action = |action| {
        Some(match action {
            Action::Allow => ScmpAction::Allow,
            Action::Errno(errno) => ScmpAction::Errno(errno.into()),
            Action::Log => ScmpAction::Log,
            Action::KillProcess => ScmpAction::KillProcess,
            Action::KillThread => ScmpAction::KillThread,
            Action::Trap => ScmpAction::Trap,
            Action::Notify | Action::Trace(_) => return None,
        })
    };
    let default = Action::from_oci(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(action(default)?).unwrap();
    for entry in profile.syscalls().iter().flatten() {
        let answer = Action::from_oci(entry.action(), entry.errno_ret());
        let conditions: Vec<ScmpArgCompare> = entry
            .args()
            .iter()
            .flatten()
            .map(|arg| {
                use LinuxSeccompOperator as Op;
                let (op, value) = match arg.op() {
                    Op::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
                    Op::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
                    Op::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
                    Op::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
                    Op::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
                    Op::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
                    Op::ScmpCmpMaskedEq => {
                        let two = arg.value_two().unwrap_or(0);
                        (ScmpCompareOp::MaskedEqual(arg.value()), two)
                    }
                };
                ScmpArgCompare::new(arg.index().try_into().unwrap(), op, value)
            })
            .collect();
        for name in entry.names().iter().filter(|_| answer != default) {
            if let Ok(call) = ScmpSyscall::from_name(name) {
                let answer = action(answer)?;
                context
                    .add_rule_conditional(answer, call, &conditions)
                    .unwrap();
            }
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    let mut program = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut program).unwrap();
    Some(program)
}
