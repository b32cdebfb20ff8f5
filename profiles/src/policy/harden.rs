//! The recipe: a spec and a policy in, a hardened spec and a report out.

use oci_spec::runtime::{Process, Spec};

use super::facts::HostFacts;
use super::file::PolicyFile;
use super::hardened::{ContainerRecord, Hardened};
use super::judge::Judge;
use super::model::{ReadOnlyRootfs, SeccompChoice};
use super::recording;
use super::refusal::Refusal;
use super::report::{Action, Report, Rule, Summary};
use super::rules::{
    apparmor, capabilities, denials, devices, hooks, labels, landlock, mounts, namespaces, paths,
    privileged, process, seccomp, sysctls,
};
use super::spec::{self, SpecError};
use super::{Policy, Selection};
use crate::capability::Set;

/// Hardens a spec as the selected policy says, or refuses it.
pub fn harden(
    spec: Spec,
    file: &PolicyFile,
    selection: &Selection,
    host: &HostFacts,
) -> Result<Hardened<Spec>, Refusal> {
    spec::validate(&spec)?;
    let selected = file.select(selection, spec.annotations().as_ref())?;
    harden_under(spec, selected, file, host)
}

/// Refuses what [`harden`] would refuse whatever profile is made of the container's files: nobody
/// need look at the files of a container that will not start.
pub fn check_before_generating(
    spec: Spec,
    file: &PolicyFile,
    selection: &Selection,
    host: &HostFacts,
) -> Result<(), Refusal> {
    spec::validate(&spec)?;
    let (mut policy, chosen) = file.select(selection, spec.annotations().as_ref())?;
    if policy.seccomp == SeccompChoice::Generate {
        policy.seccomp = SeccompChoice::Intersect;
    }
    harden_under(spec, (policy, chosen), file, host).map(drop)
}

fn harden_under(
    mut spec: Spec,
    (policy, chosen): (Policy, String),
    file: &PolicyFile,
    host: &HostFacts,
) -> Result<Hardened<Spec>, Refusal> {
    let recording = recording::asked(file, spec.annotations().as_ref())?;
    let mut judge = Judge::new(&policy);
    privileged::harden(&spec, &mut judge);
    // All else that a privileged spec asks for would only bury the one thing to change.
    let mut judge = judge.so_far()?;
    let mut summary = Summary::default();
    if let Some(process) = spec.process_mut() {
        process::user(process, &mut judge);
        let outcome = capabilities::harden(process, policy.capabilities.bounding, &mut judge);
        summary.capabilities_kept = outcome.kept;
        summary.capabilities_dropped = outcome.dropped;
        process::no_new_privileges(process, policy.no_new_privileges, &mut judge);
        process::limits(process, host, &mut judge);
    }
    let asked_profile = labels::harden(&mut spec, host, &mut judge);
    let own_ids = namespaces::harden(&mut spec, host, &mut judge);
    root_file_system(&mut spec, &mut judge);
    mounts::harden(&mut spec, host, &mut judge);
    devices::harden(&mut spec, &mut judge);
    paths::harden(&mut spec, host, &mut judge);
    sysctls::harden(&mut spec, host, &mut judge);
    let kept = summary.capabilities_kept;
    let seccomp = seccomp::harden(&mut spec, kept, host.generated.as_ref(), &mut judge);
    summary.seccomp = seccomp.origin.to_owned();
    summary.seccomp_allowed = seccomp.allowed;
    let filtered = seccomp.allowed.is_some();
    summary.generated = seccomp.generated;
    denials::harden(&spec, filtered, seccomp.stacked.is_some(), &mut judge);
    if let Some(name) = &recording {
        judge.note(
            Rule::Selection,
            "annotations",
            Action::Granted,
            format!("a recording called {name}"),
            format!("recorded under this filter: {}", summary.seccomp),
            "the policy file allows it; what the filter denies is not recorded",
        );
    }
    summary.recording = recording;
    let profile = apparmor::harden(&mut spec, asked_profile, kept, host, &mut judge);
    let landlock = landlock::harden(&spec, host, &mut judge);
    hooks::harden(&mut spec, &mut judge);

    let findings = judge.so_far()?.findings;
    summarise(&spec, &mut summary);
    let report = Report {
        policy: chosen,
        summary,
        findings,
    };
    Ok(Hardened::new(spec, policy, report, seccomp.stacked)
        .with_apparmor(profile)
        .with_landlock(landlock)
        .with_own_ids(own_ids))
}

/// Hardens a process that joins a running container: never more than the container's init may.
pub fn harden_exec(
    mut process: Process,
    container: &ContainerRecord,
) -> Result<Hardened<Process>, Refusal> {
    spec::validate_process(&process)?;
    let policy = &container.policy;
    let init = container.spec.process().as_ref();
    let init = init.ok_or(SpecError::Missing { field: "process" })?;
    let mut judge = Judge::new(policy);
    privileged::harden_exec(&process, &mut judge);
    let mut judge = judge.so_far()?;

    process::user(&process, &mut judge);
    let sets = init.capabilities().as_ref();
    let ceiling = Set::from_oci(sets.and_then(|sets| sets.bounding().as_ref()));
    let outcome = capabilities::harden(&mut process, ceiling, &mut judge);
    let confined = init.no_new_privileges() == Some(true);
    process::no_new_privileges(&mut process, confined, &mut judge);
    process::limits_of_exec(&mut process, init, &mut judge);
    process.set_apparmor_profile(init.apparmor_profile().clone());
    process.set_selinux_label(init.selinux_label().clone());

    let findings = judge.so_far()?.findings;
    let summary = Summary {
        user: user_and_group(&process),
        capabilities_kept: outcome.kept,
        capabilities_dropped: outcome.dropped,
        no_new_privileges: process.no_new_privileges() == Some(true),
        ..container.report.summary.clone()
    };
    let report = Report {
        policy: container.report.policy.clone(),
        summary,
        findings,
    };
    let stacked = container.stacked_seccomp.clone();
    Ok(Hardened::new(process, policy.clone(), report, stacked)
        .with_landlock(container.landlock.clone()))
}

fn user_and_group(process: &Process) -> String {
    format!("{}:{}", process.user().uid(), process.user().gid())
}

/// Makes the root file system read-only where the policy wants it.
fn root_file_system(spec: &mut Spec, judge: &mut Judge<'_>) {
    let Some(root) = spec.root_mut() else {
        return;
    };
    if judge.policy.read_only_rootfs == ReadOnlyRootfs::Asked || root.readonly() == Some(true) {
        return;
    }
    judge.note(
        Rule::ReadOnlyRootfs,
        "root.readonly",
        Action::Added,
        "a writable root file system",
        "a read-only one",
        "the policy wants it",
    );
    root.set_readonly(Some(true));
}

fn summarise(spec: &Spec, summary: &mut Summary) {
    if let Some(process) = spec.process() {
        summary.user = user_and_group(process);
        summary.no_new_privileges = process.no_new_privileges() == Some(true);
    }
    summary.read_only_rootfs = spec
        .root()
        .as_ref()
        .is_some_and(|r| r.readonly() == Some(true));
    if let Some(linux) = spec.linux() {
        summary.masked_paths = linux.masked_paths().as_ref().map_or(0, Vec::len);
        summary.readonly_paths = linux.readonly_paths().as_ref().map_or(0, Vec::len);
    }
}
