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
pub use bpf::{BadProgram, Call, interpret};
pub use cache::FilterCache;
pub use compile::{
    CompileError, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV, Filter,
    compile,
};
pub use default::{Compat32, DefaultProfile, default_profile};
pub use intersect::{Intersection, intersect};
pub use notify::{errno_of, notifying};
pub use numbers::{known, name, resolve};
pub use validate::{InvalidProfile, Warning, validate};

pub(crate) use validate::check;

use model::{Decision, Model, Rules};
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
        validate::check(profile)?;
        Ok(Self(Model::new(profile)))
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
