//! Seccomp: the built-in default, OCI JSON in and out, intersection, compilation, the filter cache.

/// What a filter answers, and which answer is the stricter.
mod action;
/// The architectures a process can present to a filter on this machine.
mod arch;
/// Argument conditions and their algebra.
mod args;
/// Puts a program together from its end to its start.
mod assembly;
/// Classic BPF: instructions, code for a decision, an interpreter.
mod bpf;
/// Compiled filters on disk, by the content of the profile.
mod cache;
/// The numbers of x86's calls by name.
mod calls;
/// A profile to the program the kernel runs.
mod compile;
/// The profile of containers that bring none, and the bound of those that do.
mod default;
/// Why a call was denied, and what would let it run.
pub mod denial;
/// What two profiles both allow.
mod intersect;
/// The meaning of a profile: which call is answered what.
mod model;
/// A filter whose errno answers come from a listener.
mod notify;
/// System call names to numbers.
mod numbers;
/// What a profile must be before it means anything.
mod validate;

pub use action::Action;
pub use arch::Arch;
pub use args::{Both, Op, Test};
pub use bpf::{BadProgram, Call, interpret};
pub use cache::FilterCache;
pub use compile::{
    CompileError, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV, Filter,
    compile,
};
pub use default::{Compat32, DefaultProfile, default_profile};
pub use intersect::{Intersection, intersect};
pub use model::{Decision, Rule};
pub use notify::{errno_of, notifying};
pub use numbers::{exists_on, known, known_elsewhere, name, resolve, table};
pub use validate::{InvalidProfile, Warning, validate};

pub(crate) use validate::check;

use model::{Model, Rules};
use oci_spec::runtime::LinuxSeccomp;

/// How many of the native architecture's calls a profile lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Allowed {
    /// Whatever their arguments.
    pub always: usize,
    /// With some arguments.
    pub conditional: usize,
}

/// Counts the native calls a profile lets through. Of a profile that allows by default only the
/// calls it names can be counted.
pub fn allowed_native(profile: &LinuxSeccomp) -> Allowed {
    let rules = Rules::new(profile);
    let mut allowed = Allowed {
        always: 0,
        conditional: 0,
    };
    // No two names have one number on a native architecture, so names can be counted.
    for listed in rules.listed() {
        let counter = match listed.decision() {
            Decision::Always(action) if action.allows() => &mut allowed.always,
            Decision::Always(_) => continue,
            Decision::Depends { rules, otherwise } => {
                let allows = rules.iter().any(|rule| rule.action.allows());
                if !allows && !otherwise.allows() {
                    continue;
                }
                &mut allowed.conditional
            }
        };
        *counter += usize::from(resolve(Arch::NATIVE, listed.name()).is_some());
    }
    allowed
}

/// What a profile answers, worked out from the profile itself, not from a filter.
#[derive(Debug, Clone)]
pub struct Evaluator(Model);

impl Evaluator {
    /// Resolves the profile's names once.
    pub fn new(profile: &LinuxSeccomp) -> Result<Self, InvalidProfile> {
        Self::on(profile, Arch::NATIVE)
    }

    /// The same as seen on a machine with another native architecture.
    pub fn on(profile: &LinuxSeccomp, native: Arch) -> Result<Self, InvalidProfile> {
        validate::check(profile)?;
        Ok(Self(Model::on(profile, native)))
    }

    /// The architectures whose calls the profile judges; all others' get [`Self::foreign`].
    pub fn architectures(&self) -> impl Iterator<Item = Arch> {
        self.0.tables.keys().copied()
    }

    /// The answer where no rule matches and the call is not newer than the profile.
    pub fn default_answer(&self) -> Action {
        self.0.default
    }

    /// The answer to calls of architectures that the profile does not list.
    pub fn foreign(&self) -> Action {
        self.0.foreign()
    }

    /// Numbers of `arch` above this one are newer than the profile and answered with ENOSYS.
    pub fn newest(&self, arch: Arch) -> Option<u32> {
        self.0.tables.get(&arch).and_then(|table| table.newest)
    }

    /// The numbers of `arch` that rules name.
    pub fn listed(&self, arch: Arch) -> impl Iterator<Item = u32> {
        let table = self.0.tables.get(&arch);
        table
            .into_iter()
            .flat_map(|table| table.decisions.keys().copied())
    }

    /// What is answered to calls of a number, depending on their arguments.
    pub fn decision(&self, arch: Arch, number: u32) -> Decision {
        self.0.decision(arch, number)
    }

    /// Whether both give the same answer to every call. `false` is also said of conditions that come to the
    /// same but are written in other words.
    pub fn same_meaning(&self, other: &Self) -> bool {
        let (own, theirs) = (&self.0.tables, &other.0.tables);
        let default = self.0.default == other.0.default;
        default
            && own.keys().eq(theirs.keys())
            && own.iter().zip(theirs).all(|((arch, a), (_, b))| {
                // Calls between the two limits are answered with ENOSYS by one and by the other's default.
                let limits = (a.newest.unwrap_or(0), b.newest.unwrap_or(0));
                let between = limits.0.min(limits.1)..=limits.0.max(limits.1);
                let listed = a.decisions.keys().chain(b.decisions.keys()).copied();
                a.newest.is_some() == b.newest.is_some()
                    && listed
                        .chain(between.take(4096))
                        .all(|number| self.decision(*arch, number) == other.decision(*arch, number))
            })
    }

    /// The answer to one call.
    pub fn answer(&self, call: &Call) -> Action {
        self.0.answer(call.audit, call.number, &call.args)
    }
}

/// What `profile` answers to one call; for many calls, make an [`Evaluator`] once.
pub fn evaluate(profile: &LinuxSeccomp, call: &Call) -> Result<Action, InvalidProfile> {
    Evaluator::new(profile).map(|evaluator| evaluator.answer(call))
}
