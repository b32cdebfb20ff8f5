//! The type that only `harden` can make.

use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde::{Deserialize, Serialize};

use super::{Policy, Report};
use crate::apparmor::Profile;
use crate::landlock::Ruleset;

/// A value that went through the policy; only such a value can be started.
#[derive(Debug, Clone)]
pub struct Hardened<T> {
    value: T,
    policy: Policy,
    report: Report,
    /// A second filter, when the engine's profile and the policy's have no common single form.
    stacked_seccomp: Option<LinuxSeccomp>,
    own_ids: bool,
    /// The AppArmor profile that was made for it.
    apparmor: Option<Profile>,
    landlock: Option<Ruleset>,
}

impl<T> Hardened<T> {
    pub(super) fn new(
        value: T,
        policy: Policy,
        report: Report,
        stacked_seccomp: Option<LinuxSeccomp>,
    ) -> Self {
        Self {
            value,
            policy,
            report,
            stacked_seccomp,
            own_ids: false,
            apparmor: None,
            landlock: None,
        }
    }

    pub(super) fn with_apparmor(mut self, profile: Option<Profile>) -> Self {
        self.apparmor = profile;
        self
    }

    /// The AppArmor profile that was made for it, which must be loaded before it starts.
    pub fn apparmor(&self) -> Option<&Profile> {
        self.apparmor.as_ref()
    }

    pub(super) fn with_landlock(mut self, ruleset: Option<Ruleset>) -> Self {
        self.landlock = ruleset;
        self
    }

    /// What Landlock is told before the program is executed, if anything.
    pub fn landlock(&self) -> Option<&Ruleset> {
        self.landlock.as_ref()
    }

    /// The hardened value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// What was asked, what was given, and why.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the spec's user namespace is to get a range of ids that nobody else has: the spec
    /// then lists the namespace without mappings.
    pub fn own_ids(&self) -> bool {
        self.own_ids
    }

    /// A second seccomp profile that is attached beneath the spec's own, if one was needed.
    pub fn stacked_seccomp(&self) -> Option<&LinuxSeccomp> {
        self.stacked_seccomp.as_ref()
    }
}

impl Hardened<Spec> {
    pub(super) fn with_own_ids(mut self, own_ids: bool) -> Self {
        self.own_ids = own_ids;
        self
    }

    /// What a record says, for a guest: its host has hardened the spec, and whoever has that host's rights over the guest
    /// needs no way around. Ids are as the spec has them, and no AppArmor profile is made.
    pub fn from_record(record: ContainerRecord) -> Self {
        let ContainerRecord {
            spec,
            policy,
            report,
            stacked_seccomp,
            landlock,
        } = record;
        Self::new(spec, policy, report, stacked_seccomp).with_landlock(landlock)
    }

    /// What is stored with the container so that later processes are confined alike.
    pub fn record(&self) -> ContainerRecord {
        ContainerRecord {
            spec: self.value.clone(),
            policy: self.policy.clone(),
            report: self.report.clone(),
            stacked_seccomp: self.stacked_seccomp.clone(),
            landlock: self.landlock.clone(),
        }
    }
}

/// A container's hardened spec, policy and report, as stored in its state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The spec after hardening.
    pub spec: Spec,
    /// The policy in force.
    pub policy: Policy,
    /// The report made at creation.
    pub report: Report,
    /// The second seccomp profile, if one was needed.
    pub stacked_seccomp: Option<LinuxSeccomp>,
    /// What Landlock was told. Records of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<Ruleset>,
}
