//! Conditions that cannot be tested, can never hold, or do not test what they say.

use cofferdam_profiles::seccomp::{Both, Op};
use oci_spec::runtime::LinuxSeccompAction;

use crate::dialect::Entry;
use crate::lint::draft::{Arg, Places};
use crate::lint::facts::arguments::{Narrow, is_pointer, width};
use crate::lint::finding::{Finding, Repair, Report};
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Subject, action};

pub(in crate::lint) const RULES: &[&Rule] =
    &[&INDEX, &TWICE, &NEVER, &MASK, &POINTER, &WIDTH, &ERRNO];

pub(in crate::lint) static INDEX: Rule = Rule {
    id: "CD201",
    name: "argument-index",
    severity: Severity::Error,
    fixable: false,
    why: "A system call has the arguments 0 to 5 (struct seccomp_data, linux/seccomp.h); runtimes \
          refuse a profile that tests another.",
    fix: "Count the call's arguments from 0.",
};

pub(in crate::lint) static TWICE: Rule = Rule {
    id: "CD202",
    name: "argument-twice",
    severity: Severity::Warning,
    fixable: false,
    why: "libseccomp cannot test one argument twice (EINVAL), so runc makes a rule of each condition of \
          such a rule: it holds if any of them does, not if all do.",
    fix: "Write one rule per condition if any may hold; if all must, express them as one condition.",
};

pub(in crate::lint) static NEVER: Rule = Rule {
    id: "CD203",
    name: "unsatisfiable",
    severity: Severity::Error,
    fixable: false,
    why: "No call can meet the conditions, so the rule does nothing that it was written for.",
    fix: "Correct the values, or remove the rule.",
};

pub(in crate::lint) static MASK: Rule = Rule {
    id: "CD204",
    name: "masked-value",
    severity: Severity::Error,
    fixable: true,
    why: "SCMP_CMP_MASKED_EQ compares `argument & value` with `valueTwo`. Bits of valueTwo that value \
          does not have could never match; libseccomp clears them, so another value is tested.",
    fix: "Add the bits to the mask (value), or take them out of valueTwo; --fix does the latter, which \
          is what is in force today.",
};

pub(in crate::lint) static POINTER: Rule = Rule {
    id: "CD205",
    name: "pointer-compared",
    severity: Severity::Error,
    fixable: false,
    why: "The argument is an address. A filter cannot look at what lies there, and the address differs \
          from run to run.",
    fix: "Remove the condition; confine paths with Landlock or AppArmor.",
};

pub(in crate::lint) static WIDTH: Rule = Rule {
    id: "CD206",
    name: "argument-width",
    severity: Severity::Warning,
    fixable: false,
    why: "Filters compare 64 bits, the kernel looks at the lower 32 of this argument. A program that puts \
          garbage above them passes a test for a value that is not equal or larger; and a negative \
          number arrives with its sign extended or not, as the C library likes.",
    fix: "Compare the lower half: SCMP_CMP_MASKED_EQ with value 4294967295, or list the allowed values \
          with SCMP_CMP_EQ.",
};

pub(in crate::lint) static ERRNO: Rule = Rule {
    id: "CD207",
    name: "errno-value",
    severity: Severity::Error,
    fixable: false,
    why: "The kernel returns errnos up to 4095 (MAX_ERRNO, linux/err.h), and only SCMP_ACT_ERRNO and \
          SCMP_ACT_TRACE take a value: runtimes refuse the profile.",
    fix: "Correct the number, or remove it from an action that takes none.",
};

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let profile = &subject.draft.document.profile;
    if let Some(words) = errno(profile.default_action, profile.default_errno) {
        let pointer = subject.draft.pointer("defaultErrnoRet");
        report.note(&ERRNO, subject.draft.default_at, pointer, words);
    }
    for (entry, places) in subject.draft.entries() {
        if let Some(words) = errno(entry.action, entry.errno) {
            let at = places.errno.unwrap_or(places.action);
            report.note(&ERRNO, at, format!("{}/errnoRet", entry.pointer), words);
        }
        pairs(entry, places, report);
        for (index, arg) in places.args.iter().enumerate() {
            let pointer = format!("{}/args/{index}", entry.pointer);
            single(entry, arg, pointer, report);
        }
    }
}

fn errno(action: LinuxSeccompAction, errno: Option<u32>) -> Option<String> {
    let errno = errno?;
    let most = match action {
        LinuxSeccompAction::ScmpActErrno => 4095,
        LinuxSeccompAction::ScmpActTrace => 65535,
        other => return Some(format!("{other} takes no errno, but has {errno}")),
    };
    (errno > most).then(|| format!("{action} takes a value up to {most}, but has {errno}"))
}

/// What one condition says.
fn single(entry: &Entry, arg: &Arg, pointer: String, report: &mut Report) {
    if arg.index > 5 {
        let words = format!("argument {} does not exist", arg.index);
        return report.note(&INDEX, arg.at, pointer, words);
    }
    let test = arg.test;
    if matches!((test.op, test.value), (Op::Lt, 0) | (Op::Gt, u64::MAX)) {
        let limit = if test.op == Op::Lt {
            "less than 0"
        } else {
            "more than 64 bits hold"
        };
        let words = format!("argument {} can never be {limit}", arg.index);
        return report.note(&NEVER, arg.at, pointer, words);
    }
    if let (Op::MaskedEq(mask), Some(two)) = (test.op, arg.two)
        && two & !mask != 0
    {
        report.add(Finding {
            rule: &MASK,
            at: arg.at,
            message: format!(
                "valueTwo {two:#x} has bits that the mask {mask:#x} has not; {:#x} is compared",
                two & mask
            ),
            repair: Some(Repair::Number {
                pointer: format!("{pointer}/valueTwo"),
                value: two & mask,
            }),
            pointer: pointer.clone(),
        });
    }
    if let Some(name) = entry.names.iter().find(|name| is_pointer(name, test.index)) {
        let null = test.value == 0 && matches!(test.op, Op::Eq | Op::Ne | Op::Gt);
        if !null {
            let words = format!("argument {} of {name} is an address", arg.index);
            return report.note(&POINTER, arg.at, pointer, words);
        }
    }
    let narrow = entry
        .names
        .iter()
        .find_map(|name| Some((name, width(name, test.index)?)));
    if let Some((name, narrow)) = narrow
        && let Some(why) = too_wide(arg, narrow, action(entry).allows())
    {
        let words = format!("argument {} of {name} has 32 bits: {why}", arg.index);
        report.note(&WIDTH, arg.at, pointer, words);
    }
}

/// How a comparison of 64 bits misses an argument of 32; `allows`: whether passing it lets the call run.
fn too_wide(arg: &Arg, narrow: Narrow, allows: bool) -> Option<String> {
    let test = arg.test;
    let top = 1u64 << 31;
    // A negative int: with its sign extended, or as the 32 bits alone.
    let negative = test.value >= top << 1 || (narrow == Narrow::Signed && test.value >= top);
    match test.op {
        Op::MaskedEq(mask) => (mask >> 32 != 0).then(|| "the mask has bits above those".to_owned()),
        Op::Eq | Op::Ne if negative => Some(format!(
            "a negative value arrives as {:#x} or as {:#x}",
            test.value & 0xffff_ffff,
            test.value | 0xffff_ffff_0000_0000
        )),
        Op::Ne | Op::Gt | Op::Ge if allows && test.value != 0 => Some(format!(
            "{:#x} passes the test, and the kernel takes it for {}",
            (1u64 << 32) | (test.value.saturating_sub(u64::from(test.op == Op::Ge)) & 0xffff_ffff),
            test.value.saturating_sub(u64::from(test.op == Op::Ge)) & 0xffff_ffff
        )),
        Op::Eq | Op::Lt | Op::Le if !allows => Some(format!(
            "{:#x} does not pass the test, and the kernel takes it for {}",
            (1u64 << 32) | (test.value.saturating_sub(u64::from(test.op == Op::Lt)) & 0xffff_ffff),
            test.value.saturating_sub(u64::from(test.op == Op::Lt)) & 0xffff_ffff
        )),
        _ => None,
    }
}

/// Conditions of one argument: as they are written all must hold.
fn pairs(entry: &Entry, places: &Places, report: &mut Report) {
    for (index, arg) in places.args.iter().enumerate().take(64) {
        let earlier = places.args.get(..index).unwrap_or_default();
        let Some(other) = earlier.iter().find(|other| other.index == arg.index) else {
            continue;
        };
        let pointer = format!("{}/args/{index}", entry.pointer);
        if other.test == arg.test {
            let words = format!("argument {} is tested twice for the same", arg.index);
            report.note(&TWICE, arg.at, pointer, words);
        } else if other.test.and(arg.test) == Both::Never {
            let words = format!(
                "no value of argument {} passes both conditions; runc lets either do",
                arg.index
            );
            report.note(&NEVER, arg.at, pointer, words);
        } else {
            let words = format!(
                "argument {} is tested twice; runc lets either do",
                arg.index
            );
            report.note(&TWICE, arg.at, pointer, words);
        }
    }
}
