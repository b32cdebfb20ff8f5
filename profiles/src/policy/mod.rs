//! Turns a named policy and an OCI spec into a hardened spec and a report of every change.

/// The built-in policies.
mod builtin;
/// Devices by type and number, as policies name them.
pub mod device;
/// What the caller must look at on the host.
pub(crate) mod facts;
/// The administrator's policy file.
mod file;
/// The recipe: a spec and a policy in, a hardened spec and a report out.
mod harden;
/// The type that only `harden` can make.
mod hardened;
/// Applies verdicts and collects findings and denials.
mod judge;
/// What Landlock bounds, in policies and annotations.
mod landlock;
/// The tightest of two policies.
mod meet;
/// What a virtual machine's guest is told of a hardened spec, and what stands in for it on the host.
pub mod microvm;
/// One policy with every field settled.
pub mod model;
/// The annotation that asks for a recording.
mod recording;
/// Why a spec was refused.
mod refusal;
/// The report as text for people.
mod render;
/// What was asked, what was given, and why.
pub mod report;
/// The rules, a module for each concept.
mod rules;
/// Which policy holds.
mod select;
/// Reads `config.json` and checks that it makes sense.
pub mod spec;
/// Words from specs and annotations, made fit for logs and terminals.
pub(crate) mod text;

#[cfg(test)]
mod apparmor_tests;
#[cfg(test)]
mod generated_tests;
#[cfg(test)]
mod harden_tests;
#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod landlock_tests;
#[cfg(test)]
mod meet_tests;
#[cfg(test)]
mod microvm_tests;
#[cfg(test)]
mod rule_tests;

pub use facts::{HostFacts, NamespaceOwner, Questions, Wanted};
pub use file::{MAX_POLICY_BYTES, PolicyFile, PolicyFileError, read_trusted};
pub use harden::{check_before_generating, harden, harden_exec};
pub use hardened::{ContainerRecord, Hardened};
pub use landlock::{FileAccess, LANDLOCK_ANNOTATION, LandlockRules};
pub use model::Policy;
pub use recording::RECORD_ANNOTATION;
pub use refusal::{Denial, Refusal};
pub use report::{Action, Finding, Report, Rule, Summary};
pub use rules::labels::is_engine_profile;
pub use select::{
    ANNOTATIONS, DENIALS_ANNOTATION, ISOLATION_ANNOTATION, POLICY_ANNOTATION, VM_CPUS_ANNOTATION,
    VM_MEMORY_ANNOTATION,
};
pub use spec::{SpecError, parse_spec};

/// Who chose a policy besides the file's default and the spec's annotations; the first of these
/// that is there counts.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--policy NAME` of the command line.
    pub command_line: Option<String>,
    /// The `policy` of the containerd runtime handler's options.
    pub handler: Option<String>,
    /// `COFFERDAM_POLICY` of the environment: an engine's own holds for every handler, so it is
    /// asked after the handler.
    pub environment: Option<String>,
}
