//! From a recording to a profile: what was seen, what every program needs, and rules on arguments
//! where the values seen are few.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_profiles::seccomp::Arch;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Serialize;

use super::{Call, Calls, Recording, RecordingError, split_arch};

/// What every program needs though a short run may not show it: to end, to come back from a signal
/// or a stop, to wait for a thread; and what a runtime needs under the filter to begin it.
const BASE: &[&str] = &[
    "execve",
    "exit",
    "exit_group",
    "futex",
    "restart_syscall",
    "rt_sigreturn",
];

/// The arguments that rules are made on, by call. The kernel takes all of these as 32 bits.
const RULES: &[(&str, u8)] = &[
    ("arch_prctl", 0),
    ("bpf", 0),
    ("fcntl", 1),
    ("ioctl", 1),
    ("keyctl", 0),
    ("personality", 0),
    ("prctl", 0),
    ("ptrace", 0),
    ("seccomp", 0),
    ("setns", 1),
    ("socket", 0),
    ("socketpair", 0),
    ("unshare", 0),
];

/// With more values than this an argument gets no rule: the set was hardly all of them.
const MOST_VALUES: usize = 16;
/// What the kernel looks at of the arguments in `RULES`.
const LOW_HALF: u64 = 0xffff_ffff;
/// Every `CLONE_NEW*` (linux/sched.h): a clone without them makes no namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0080;
/// EPERM
const REFUSED: u32 = 1;

/// A profile made of a recording, and what is to be known about it.
#[derive(Debug, Clone, Serialize)]
pub struct Synthesis {
    /// What was seen is allowed; the rest gets EPERM.
    pub profile: LinuxSeccomp,
    /// The capabilities that were used: the set to give the container.
    pub capabilities: Vec<String>,
    /// What the profile could not hold, or does not restrict.
    pub notes: Vec<String>,
}

/// Why no profile can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthesisError {
    /// Not complete.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A mistake in this file.
    #[error("cannot put the profile together")]
    Spec(#[from] OciSpecError),
}

/// The calls whose arguments a profile of a recording restricts, if it has them.
pub fn restricted() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name).chain(["clone"])
}

/// Makes a profile of a recording: of what was observed, and of what was predicted. Refuses one that lost events.
pub fn synthesise(recording: &Recording) -> Result<Synthesis, SynthesisError> {
    if recording.lost != 0 {
        return Err(RecordingError::Lost(recording.lost).into());
    }
    let mut notes = Vec::new();
    let mut calls = Calls::new();
    let mut architectures = BTreeSet::from([Arch::NATIVE]);
    for (name, mut call) in recording.phases.all() {
        let (arch, plain) = split_arch(&name);
        if plain.starts_with('#') {
            notes.push(format!(
                "call number {name}, made {} times, has no name here and stays denied",
                call.count
            ));
            continue;
        }
        architectures.insert(arch);
        if arch != Arch::NATIVE || calls.contains_key(plain) {
            // Its arguments are another ABI's: no rule covers both.
            call.args.clear();
        }
        let known = calls.entry(plain.to_owned()).or_default();
        known.count = known.count.saturating_add(call.count);
        known.args = call.args;
    }
    for name in BASE {
        calls.entry((*name).to_owned()).or_default();
    }
    let unseen: Vec<&String> = recording
        .predicted
        .iter()
        .filter(|name| !name.starts_with('#'))
        .collect();
    if !unseen.is_empty() {
        let new = unseen.iter().filter(|name| !calls.contains_key(**name));
        notes.push(format!(
            "{} calls are allowed because they were predicted, not because they were observed",
            new.count()
        ));
    }
    for name in unseen {
        // Nor were its arguments.
        calls.entry(name.clone()).or_default().args.clear();
    }
    let capabilities = capabilities(recording, &mut notes);
    let profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(REFUSED)
        .architectures(
            architectures
                .into_iter()
                .map(Arch::to_oci)
                .collect::<Vec<_>>(),
        )
        .syscalls(entries(&calls, &mut notes)?)
        .build()?;
    Ok(Synthesis {
        profile,
        capabilities,
        notes,
    })
}

/// What was used, but for what the workload was seen to do without.
fn capabilities(recording: &Recording, notes: &mut Vec<String>) -> Vec<String> {
    if recording.capabilities_unseen != 0 {
        notes.push(format!(
            "in {} of {} runs capabilities could not be seen: the set may lack some",
            recording.capabilities_unseen, recording.runs
        ));
    }
    let confirmed = &recording.capabilities_confirmed;
    let needed = confirmed.iter().filter(|(_, needed)| **needed);
    let used = recording.capabilities.keys();
    let mut set: BTreeSet<String> = used.chain(needed.map(|(name, _)| name)).cloned().collect();
    for (name, _) in confirmed.iter().filter(|(_, needed)| !**needed) {
        if set.remove(name) {
            notes.push(format!(
                "{name} was used, but the workload ended the same without it"
            ));
        }
    }
    set.into_iter().collect()
}

/// An entry for all calls that are allowed whatever their arguments, and one per rule.
fn entries(calls: &Calls, notes: &mut Vec<String>) -> Result<Vec<LinuxSyscall>, OciSpecError> {
    let mut always = BTreeSet::new();
    let mut conditional: BTreeMap<&str, Vec<LinuxSeccompArg>> = BTreeMap::new();
    for (name, call) in calls {
        match conditions(name, call, notes)? {
            Some(rules) => drop(conditional.insert(name, rules)),
            None => drop(always.insert(name.clone())),
        }
    }
    let mut entries = vec![
        LinuxSyscallBuilder::default()
            .names(always.into_iter().collect::<Vec<_>>())
            .action(LinuxSeccompAction::ScmpActAllow)
            .build()?,
    ];
    for (name, rules) in conditional {
        for rule in rules {
            entries.push(
                LinuxSyscallBuilder::default()
                    .names(vec![name.to_owned()])
                    .action(LinuxSeccompAction::ScmpActAllow)
                    .args(vec![rule])
                    .build()?,
            );
        }
    }
    Ok(entries)
}

/// The conditions one of which must hold; none if the call is allowed whatever its arguments.
fn conditions(
    name: &str,
    call: &Call,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<LinuxSeccompArg>>, OciSpecError> {
    if name == "clone" {
        let plain = |values: &BTreeSet<u64>| values.iter().all(|v| v & NEW_NAMESPACES == 0);
        return Ok(match call.args.get(&0) {
            Some(values) if plain(values) => Some(vec![condition(0, NEW_NAMESPACES, 0)?]),
            _ => None,
        });
    }
    let Some((_, index)) = RULES.iter().find(|(known, _)| *known == name) else {
        return Ok(None);
    };
    let Some(values) = call.args.get(index).filter(|values| !values.is_empty()) else {
        return Ok(None);
    };
    let values: BTreeSet<u64> = values.iter().map(|value| value & LOW_HALF).collect();
    if values.len() > MOST_VALUES {
        notes.push(format!(
            "{name} was called with {} values of argument {index}: allowed with any",
            values.len()
        ));
        return Ok(None);
    }
    values
        .into_iter()
        .map(|value| condition(*index, LOW_HALF, value))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn condition(index: u8, mask: u64, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default()
        .index(usize::from(index))
        .value(mask)
        .value_two(value)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_profiles::seccomp::{Action, Call as Made, evaluate, resolve};

    /// A call and the values of its arguments.
    type Seen<'a> = (&'a str, &'a [(u8, &'a [u64])]);

    fn recording(calls: &[Seen<'_>]) -> Recording {
        let mut recording = Recording::default();
        for (name, args) in calls {
            let args = args
                .iter()
                .map(|(index, values)| (*index, values.iter().copied().collect()))
                .collect();
            let call = Call { count: 1, args };
            recording.phases.startup.insert((*name).to_owned(), call);
        }
        recording
    }

    fn allows(profile: &LinuxSeccomp, name: &str, args: [u64; 6]) -> bool {
        let call = Made {
            audit: 0xc000_003e,
            number: resolve(Arch::NATIVE, name).expect("a call"),
            args,
        };
        evaluate(profile, &call).expect("a profile") == Action::Allow
    }

    #[test]
    fn what_was_seen_is_allowed_and_nothing_else() {
        let many: Vec<u64> = (0..17).collect();
        let made = synthesise(&recording(&[
            ("read", &[]),
            ("socket", &[(0, &[2, 10])]),
            ("ioctl", &[(1, &[0xffff_ffff_8000_5401])]),
            ("clone", &[(0, &[0x11])]),
            ("prctl", &[(0, &many)]),
            ("#999", &[]),
            ("x86:bpf", &[(0, &[1])]),
        ]))
        .expect("made");
        let table: &[(&str, [u64; 6], bool)] = &[
            ("read", [9; 6], true),
            ("write", [0; 6], false),
            ("exit_group", [0; 6], true),
            ("execve", [0; 6], true),
            ("socket", [2, 1, 0, 0, 0, 0], true),
            ("socket", [40, 1, 0, 0, 0, 0], false),
            // Sign extension by the C library is not another command.
            ("ioctl", [0, 0x8000_5401, 0, 0, 0, 0], true),
            ("ioctl", [0, 0x5412, 0, 0, 0, 0], false),
            ("clone", [0x0f00, 0, 0, 0, 0, 0], true),
            ("clone", [0x1000_0011, 0, 0, 0, 0, 0], false),
            ("prctl", [77, 0, 0, 0, 0, 0], true),
            ("bpf", [5, 0, 0, 0, 0, 0], true),
        ];
        for (name, args, allowed) in table {
            assert_eq!(
                allows(&made.profile, name, *args),
                *allowed,
                "{name} {args:?}"
            );
        }
        assert_eq!(made.notes.len(), 2, "{:?}", made.notes);
    }

    #[test]
    fn what_was_predicted_is_allowed_with_any_argument_and_said() {
        let mut seen = recording(&[("socket", &[(0, &[2])]), ("ioctl", &[(1, &[5])])]);
        seen.predicted = ["ioctl", "getpid", "#999"].map(str::to_owned).into();
        seen.capabilities = [("CAP_CHOWN", 1), ("CAP_KILL", 1)]
            .map(|(name, count)| (name.to_owned(), count))
            .into();
        seen.capabilities_confirmed = [
            ("CAP_CHOWN", false),
            ("CAP_KILL", true),
            ("CAP_FOWNER", true),
        ]
        .map(|(name, needed)| (name.to_owned(), needed))
        .into();
        seen.capabilities_unseen = 1;
        let made = synthesise(&seen).expect("made");
        assert!(allows(&made.profile, "getpid", [0; 6]));
        assert!(allows(&made.profile, "ioctl", [0, 6, 0, 0, 0, 0]));
        assert!(!allows(&made.profile, "socket", [3, 0, 0, 0, 0, 0]));
        assert_eq!(made.capabilities, ["CAP_FOWNER", "CAP_KILL"]);
        let notes = made.notes.join("\n");
        for words in [
            "1 calls are allowed",
            "in 1 of 0 runs",
            "CAP_CHOWN was used",
        ] {
            assert!(notes.contains(words), "{words}: {notes}");
        }
    }

    #[test]
    fn a_recording_that_lost_something_makes_no_profile() {
        let mut lossy = recording(&[("read", &[])]);
        lossy.lost = 1;
        let refused = synthesise(&lossy);
        assert!(matches!(
            refused,
            Err(SynthesisError::Recording(RecordingError::Lost(1)))
        ));
    }
}
