//! User, new privileges and resource limits of a process.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process};

use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::model::Verdict;
use crate::policy::report::{Action, Rule};

/// Refuses root where the policy wants another user.
pub(crate) fn user(process: &Process, judge: &mut Judge<'_>) {
    if process.user().uid() != 0 || judge.policy.run_as_root == Verdict::Allow {
        return;
    }
    judge.deny(Request {
        rule: Rule::RunAsRoot,
        field: "process.user.uid",
        asked: "to run as root".to_owned(),
        stripped: "",
        why: "the policy wants another user than root",
        allow: "run_as_root = \"allow\"",
        instead: "name another user (--user, runAsUser, or USER in the image)",
    });
}

/// Sets `no_new_privs` where the policy wants it.
pub(crate) fn no_new_privileges(process: &mut Process, wanted: bool, judge: &mut Judge<'_>) {
    if !wanted || process.no_new_privileges() == Some(true) {
        return;
    }
    judge.note(
        Rule::NoNewPrivileges,
        "process.noNewPrivileges",
        Action::Added,
        "off",
        "on",
        "set-user-id programs and file capabilities must not raise privileges",
    );
    process.set_no_new_privileges(Some(true));
}

/// The names of resource limits in a policy, as in getrlimit(2) without `RLIMIT_`.
const LIMITS: &[(&str, PosixRlimitType)] = &[
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

/// The names of resource limits that a policy may use.
pub(crate) fn limit_names() -> impl Iterator<Item = &'static str> {
    LIMITS.iter().map(|(name, _)| *name)
}

/// Lowers resource limits to the policy's; never raises one.
pub(crate) fn limits(process: &mut Process, host: &HostFacts, judge: &mut Judge<'_>) {
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for (name, typ) in LIMITS {
        let Some(&highest) = judge.policy.rlimits.get(*name) else {
            continue;
        };
        if let Some(limit) = limits.iter_mut().find(|limit| limit.typ() == *typ) {
            lower(limit, name, highest, judge);
            continue;
        }
        let (soft, hard) = host
            .limits
            .get(*name)
            .copied()
            .unwrap_or((u64::MAX, u64::MAX));
        if hard > highest {
            judge.note(
                Rule::Rlimits,
                "process.rlimits",
                Action::Added,
                format!("{name} as the engine has it"),
                format!("{name} at most {highest}"),
                "the policy limits it",
            );
            let limit = rlimit(*typ, soft.min(highest), highest);
            limits.push(limit);
        }
    }
    if !limits.is_empty() {
        process.set_rlimits(Some(limits));
    }
}

/// The limits of a process that joins a container: its own or else the container's, and none
/// higher than the policy's.
pub(crate) fn limits_of_exec(process: &mut Process, init: &Process, judge: &mut Judge<'_>) {
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for inherited in init.rlimits().iter().flatten() {
        if !limits.iter().any(|limit| limit.typ() == inherited.typ()) {
            limits.push(*inherited);
        }
    }
    for (name, typ) in LIMITS {
        let limit = limits.iter_mut().find(|limit| limit.typ() == *typ);
        if let (Some(limit), Some(highest)) = (limit, judge.policy.rlimits.get(*name)) {
            lower(limit, name, *highest, judge);
        }
    }
    if !limits.is_empty() {
        process.set_rlimits(Some(limits));
    }
}

fn lower(limit: &mut PosixRlimit, name: &str, highest: u64, judge: &mut Judge<'_>) {
    if limit.hard() <= highest && limit.soft() <= highest {
        return;
    }
    judge.note(
        Rule::Rlimits,
        "process.rlimits",
        Action::Tightened,
        format!("{name} {}:{}", limit.soft(), limit.hard()),
        format!("{name} at most {highest}"),
        "the policy limits it",
    );
    *limit = rlimit(
        limit.typ(),
        limit.soft().min(highest),
        limit.hard().min(highest),
    );
}

#[expect(
    clippy::expect_used,
    reason = "every field of the builder has a default, so it cannot fail"
)]
fn rlimit(typ: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    let builder = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard);
    builder.build().expect("an rlimit with every field set")
}
