//! The filter that is made of the container's own files, and what the report says of it.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use crate::generated::{
    Generated, Origin, Outcome, Provenance, RUNTIME, RUNTIME_WITHOUT_NO_NEW_PRIVS, Source,
};
use crate::policy::judge::{Judge, Request};
use crate::policy::model::BestEffort;
use crate::policy::report::{Action, Rule};
use crate::seccomp::{Intersection, intersect};

const FIELD: &str = "linux.seccomp";

/// Calls that keep their ENOSYS whoever asks for them: their arguments lie where no filter can look.
const KEEP_ABSENT: &[&str] = &["clone3"];

/// As many reasons are told in one line; the others are in the summary.
const REASONS: usize = 3;

/// The profile that was made, with what the runtime needs; if there is none, the container is
/// refused, or the policy takes it as best effort. `confined`: it runs with `no_new_privs`.
pub(super) fn made(
    outcome: Option<&Outcome>,
    confined: bool,
    judge: &mut Judge<'_>,
) -> Option<Generated> {
    let (why, remedy) = match outcome {
        Some(Outcome::Made(generated)) => {
            let mut generated = (**generated).clone();
            let runtime = if confined {
                &[]
            } else {
                RUNTIME_WITHOUT_NO_NEW_PRIVS
            };
            let names = RUNTIME.iter().chain(runtime).copied();
            generated.allow(names, Source::Always, KEEP_ABSENT);
            return Some(generated);
        }
        Some(Outcome::Failed { why, remedy }) => (why.as_str(), remedy.as_str()),
        None => ("nobody made one", "use the `cofferdam` of this release"),
    };
    let asked = "a seccomp profile made of the container's files";
    if judge
        .policy
        .best_effort
        .contains(&BestEffort::GeneratedSeccomp)
    {
        let got = "what the engine's profile and the built-in default allow";
        let reason = format!("none could be made, and the policy takes it as best effort: {why}");
        judge.note(
            Rule::Seccomp,
            FIELD,
            Action::Unenforced,
            asked,
            got,
            &reason,
        );
        return None;
    }
    let line = judge.policy.with_best_effort(BestEffort::GeneratedSeccomp);
    judge.deny(Request {
        rule: Rule::Seccomp,
        field: FIELD,
        asked: asked.to_owned(),
        stripped: "",
        why: &format!("none could be made: {why}"),
        allow: &format!("seccomp = \"intersect\"` or `{line}"),
        instead: remedy,
    });
    None
}

/// Calls for which the C library has older ones where they are answered with ENOSYS, and those older
/// ones. An analysis leaves them out, as no kernel lacks the newer call; a profile may deny it.
const FALLBACKS: &[(&str, &[&str])] = &[
    // `sysdeps/unix/sysv/linux/faccessat.c` of glibc.
    (
        "faccessat2",
        &[
            "access",
            "faccessat",
            "fstat",
            "getegid",
            "geteuid",
            "getgid",
            "getgroups",
            "getuid",
            "newfstatat",
        ],
    ),
    // `stdlib/arc4random.c`: `/dev/urandom`, once `/dev/random` can be read.
    ("getrandom", &["close", "openat", "poll", "ppoll", "read"]),
    // `sysdeps/unix/sysv/linux/closefrom_fallback.c`.
    (
        "close_range",
        &["close", "getdents64", "lseek", "openat", "prlimit64"],
    ),
];

/// Adds what is called instead of calls that `base` denies. Both are intersected afterwards, so no more
/// is allowed than `base` does.
pub(super) fn add_fallbacks<'b>(
    generated: &mut Generated,
    base: impl IntoIterator<Item = &'b LinuxSeccomp>,
) {
    let base: Vec<_> = base.into_iter().collect();
    for (name, older) in FALLBACKS {
        let denied = !base.iter().all(|profile| allows(profile, name));
        if denied && allows(&generated.profile, name) {
            generated.allow(older.iter().copied(), Source::Analysis, KEEP_ABSENT);
        }
    }
}

/// Whether a profile surely lets a call pass, whatever its arguments.
fn allows(profile: &LinuxSeccomp, name: &str) -> bool {
    let passes = |action| {
        use LinuxSeccompAction::{ScmpActAllow, ScmpActLog};
        matches!(action, ScmpActAllow | ScmpActLog)
    };
    let rules = profile.syscalls().iter().flatten();
    let mut own = rules.filter(|rule| rule.names().iter().any(|own| own == name));
    match own.next() {
        None => passes(profile.default_action()),
        Some(first) => {
            let whole = |rule: &LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
            passes(first.action()) && whole(first)
                || own.any(|rule| passes(rule.action()) && whole(rule))
        }
    }
}

/// What a profile, or two that are stacked, and the made one all allow; `None` if no two profiles
/// say that.
pub(super) fn tighten(
    profile: LinuxSeccomp,
    stacked: Option<LinuxSeccomp>,
    generated: &LinuxSeccomp,
) -> Option<(LinuxSeccomp, Option<LinuxSeccomp>)> {
    match stacked {
        None => Some(match intersect(&profile, generated) {
            Ok(Intersection::Single(single)) => (single, None),
            Ok(Intersection::Stacked { upper, lower }) => (upper, Some(lower)),
            Err(_) => return None,
        }),
        Some(lower) => match intersect(&lower, generated) {
            Ok(Intersection::Single(single)) => Some((profile, Some(single))),
            _ => None,
        },
    }
}

/// Refuses a container for which three filters would be needed.
pub(super) fn refuse(judge: &mut Judge<'_>) {
    judge.deny(Request {
        rule: Rule::Seccomp,
        field: FIELD,
        asked: "the engine's seccomp profile together with one made of the container's files"
            .to_owned(),
        stripped: "",
        why: "no two filters say what the engine's, the built-in and the made profile all allow",
        allow: "seccomp = \"intersect\"",
        instead: "give the container a simpler profile, or the engine's default",
    });
}

/// Says where the calls come from and how far that can be trusted.
pub(super) fn note(provenance: &Provenance, judge: &mut Judge<'_>) {
    let count = |source| provenance.count(source);
    let asked = format!("calls of {}", provenance.program.display());
    let mut got = format!(
        "{} from the files of {}, {} that every process needs",
        count(Source::Analysis),
        match provenance.programs {
            1 => "1 program".to_owned(),
            programs => format!("{programs} programs"),
        },
        count(Source::Always),
    );
    if !provenance.recordings.is_empty() {
        got.push_str(&format!(", {} from recordings", count(Source::Recording)));
    }
    if provenance.unresolved > 0 {
        got.push_str(&format!(
            ", {} because {} reachable calls have a number that is not known",
            count(Source::Unresolved),
            provenance.unresolved
        ));
    }
    let mut reason = match &provenance.origin {
        Origin::Made => "made at this start and kept for the next".to_owned(),
        Origin::Kept => "kept from an earlier start of the same files".to_owned(),
        Origin::NotKept(why) => format!("made at this start and not kept: {why}"),
    };
    reason.push_str(&format!("; confidence {}", provenance.confidence.word()));
    for (place, why) in provenance.reasons.iter().take(REASONS).enumerate() {
        reason.push_str(if place == 0 { ": " } else { "; " });
        reason.push_str(why);
    }
    if let Some(more @ 1..) = provenance.reasons.len().checked_sub(REASONS) {
        reason.push_str(&format!("; and {more} more reasons"));
    }
    judge.note(Rule::Seccomp, FIELD, Action::Tightened, asked, got, &reason);
}
