//! The recipe: a spec and a policy in, a hardened spec and a report out.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, Process, Spec};

use super::judge::Judge;
use super::report::{Action, Report, Rule, Summary};
use super::rules::{capabilities, paths};
use super::{ContainerRecord, Hardened, HostFacts, Policy, PolicyFile, Refusal, Selection, spec};

/// Hardens a spec as the selected policy says, or refuses it.
pub fn harden(
    mut spec: Spec,
    file: &PolicyFile,
    selection: &Selection,
    _host: &HostFacts,
) -> Result<Hardened<Spec>, Refusal> {
    spec::validate(&spec)?;
    let (policy, chosen) = file.select(selection, spec.annotations().as_ref())?;
    let mut judge = Judge::new(&policy);
    let mut summary = Summary::default();

    if let Some(process) = spec.process_mut() {
        harden_process(process, &policy, &mut judge, &mut summary);
    }
    paths::harden(&mut spec, &mut judge);
    let stacked_seccomp = None;

    summarise(&spec, &mut summary);
    let findings = judge.finish()?;
    let report = Report {
        policy: chosen,
        summary,
        findings,
    };
    Ok(Hardened::new(spec, policy, report, stacked_seccomp))
}

/// Hardens a process that joins a running container: never more than the container's init may.
pub fn harden_exec(
    mut process: Process,
    container: &ContainerRecord,
) -> Result<Hardened<Process>, Refusal> {
    spec::validate_process(&process)?;
    let policy = &container.policy;
    let mut judge = Judge::new(policy);
    let mut summary = Summary::default();
    let init = container.spec.process().as_ref();
    let ceiling = init
        .and_then(|p| p.capabilities().as_ref())
        .map(|sets| crate::capability::Set::from_oci(sets.bounding().as_ref()))
        .unwrap_or_default();
    let outcome = capabilities::harden(&mut process, ceiling, &mut judge);
    summary.capabilities_kept = outcome.kept;
    summary.capabilities_dropped = outcome.dropped;
    let confined = init.is_none_or(|p| p.no_new_privileges().unwrap_or(false));
    if confined {
        process.set_no_new_privileges(Some(true));
    }
    summary.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let label = init.and_then(|p| p.apparmor_profile().clone());
    process.set_apparmor_profile(label);
    let label = init.and_then(|p| p.selinux_label().clone());
    process.set_selinux_label(label);

    let findings = judge.finish()?;
    let report = Report {
        policy: container.report.policy.clone(),
        summary,
        findings,
    };
    let stacked = container.stacked_seccomp.clone();
    Ok(Hardened::new(process, policy.clone(), report, stacked))
}

fn harden_process(
    process: &mut Process,
    policy: &Policy,
    judge: &mut Judge<'_>,
    summary: &mut Summary,
) {
    let outcome = capabilities::harden(process, policy.capabilities.bounding, judge);
    summary.capabilities_kept = outcome.kept;
    summary.capabilities_dropped = outcome.dropped;
    let asked = process.no_new_privileges().unwrap_or(false);
    if policy.no_new_privileges && !asked {
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
    summary.no_new_privileges = asked || policy.no_new_privileges;
}

fn summarise(spec: &Spec, summary: &mut Summary) {
    if let Some(process) = spec.process() {
        let user = process.user();
        summary.user = format!("{}:{}", user.uid(), user.gid());
    }
    summary.read_only_rootfs = spec
        .root()
        .as_ref()
        .is_some_and(|r| r.readonly() == Some(true));
    if let Some(linux) = spec.linux() {
        summary.masked_paths = linux.masked_paths().as_ref().map_or(0, Vec::len);
        summary.readonly_paths = linux.readonly_paths().as_ref().map_or(0, Vec::len);
        summary.seccomp_allowed = linux.seccomp().as_ref().map(allowed_names);
    }
}

fn allowed_names(profile: &LinuxSeccomp) -> usize {
    let rules = profile.syscalls().iter().flatten();
    let names = rules
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
        .flat_map(|rule| rule.names());
    names.collect::<std::collections::BTreeSet<_>>().len()
}
