//! Why a profile answers a call as it does, and what it would take to change that.

/// The smallest change of the file that changes an answer.
mod edit;
/// A profile at a glance.
mod summary;

pub use edit::{Edit, Patch, edits};
pub use summary::{Count, Summary, summary};

use cofferdam_profiles::seccomp::{Action, Arch, Decision, Evaluator, Rule, Test, resolve};

use crate::dialect::{DialectError, Document, Place, Resolved, Target};

/// A profile and everything that is asked of it.
#[derive(Debug)]
pub struct Profile<'a> {
    /// As its file says it.
    pub document: &'a Document,
    /// The container it is for.
    pub target: Target,
    /// For that container.
    pub resolved: Resolved,
    /// What it means.
    pub evaluator: Evaluator,
}

/// Why a profile cannot be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// It is none for this container.
    #[error("it cannot be resolved for this container")]
    Dialect(#[from] DialectError),
    /// It means nothing.
    #[error("it is not valid")]
    Invalid(#[from] cofferdam_profiles::seccomp::InvalidProfile),
}

/// What answers a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A rule.
    Rule(RuleAt),
    /// No rule matches: the default.
    Default,
    /// No rule names the call, and it is newer than every call the profile names.
    Newer {
        /// The newest number it is taken to know.
        newest: u32,
    },
    /// The profile does not list the architecture.
    Foreign,
}

/// A rule of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAt {
    /// Its index in the file's list.
    pub index: usize,
    /// The JSON pointer to it.
    pub pointer: String,
    /// Where it stands in the file.
    pub at: Place,
    /// Its conditions; empty if it always holds.
    pub tests: Vec<Test>,
    /// Its answer.
    pub action: Action,
}

/// One call on one architecture.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The architecture.
    pub arch: Arch,
    /// The call's number there.
    pub number: u32,
    /// What is answered, depending on the arguments.
    pub decision: Decision,
    /// The answer to the arguments asked for.
    pub answer: Action,
    /// Why.
    pub reason: Reason,
    /// Every rule that has a say in other cases.
    pub rules: Vec<RuleAt>,
}

impl<'a> Profile<'a> {
    /// Resolves a document for a container.
    pub fn new(document: &'a Document, target: Target) -> Result<Self, ExplainError> {
        let resolved = document.resolve(&target)?;
        let evaluator = Evaluator::on(&resolved.profile, target.arch)?;
        Ok(Self {
            document,
            target,
            resolved,
            evaluator,
        })
    }

    /// A call with these arguments on every architecture of the machine that has it.
    pub fn explain(&self, name: &str, args: &[u64; 6]) -> Vec<Explanation> {
        let family = self.target.arch.family().iter();
        let numbers = family.filter_map(|arch| Some((*arch, resolve(*arch, name)?)));
        numbers
            .map(|(arch, number)| self.on(arch, number, args))
            .collect()
    }

    fn on(&self, arch: Arch, number: u32, args: &[u64; 6]) -> Explanation {
        let decision = self.evaluator.decision(arch, number);
        let listed = self.evaluator.architectures().any(|own| own == arch);
        let rules = if listed {
            self.rules(arch, number)
        } else {
            Vec::new()
        };
        let default = self.evaluator.default_answer();
        let newest = self.evaluator.newest(arch);
        let named = self.evaluator.listed(arch).any(|own| own == number);
        let reason = if !listed {
            Reason::Foreign
        } else if let Some(rule) = deciding(&rules, default, args) {
            Reason::Rule(rule.clone())
        } else {
            match newest.filter(|newest| !named && number > *newest) {
                Some(newest) => Reason::Newer { newest },
                None => Reason::Default,
            }
        };
        Explanation {
            arch,
            number,
            answer: decision.answer(args),
            decision,
            reason,
            rules,
        }
    }

    /// The rules for a number, in the order in which the model reads them.
    fn rules(&self, arch: Arch, number: u32) -> Vec<RuleAt> {
        let entries = self
            .resolved
            .profile
            .syscalls()
            .as_deref()
            .unwrap_or_default();
        let mut named: Vec<(&str, usize)> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            for name in entry.names() {
                if resolve(arch, name) == Some(number) {
                    named.push((name, at));
                }
            }
        }
        named.sort_unstable();
        let mut out = Vec::new();
        for (_, at) in named {
            let origin = self.resolved.origins.get(at).copied();
            let source = origin.and_then(|origin| self.document.profile.syscalls.get(origin));
            let (Some(entry), Some(origin), Some(source)) = (entries.get(at), origin, source)
            else {
                continue;
            };
            for Rule { tests, action } in Rule::of_entry(entry) {
                out.push(RuleAt {
                    index: origin,
                    pointer: source.pointer.clone(),
                    at: source.at,
                    tests,
                    action,
                });
            }
        }
        out
    }
}

/// The rule that answers, by the model's order: the strictest that matches; of equally strict ones
/// an unconditional one, then the first. An unconditional one with the default's answer says nothing.
fn deciding<'a>(rules: &'a [RuleAt], default: Action, args: &[u64; 6]) -> Option<&'a RuleAt> {
    let passes = |test: &Test| {
        let value = args.get(usize::from(test.index));
        value.is_some_and(|value| test.passes(*value))
    };
    let speaks = |rule: &&RuleAt| !(rule.tests.is_empty() && rule.action == default);
    rules
        .iter()
        .filter(speaks)
        .filter(|rule| rule.tests.iter().all(passes))
        .min_by_key(|rule| (rule.action.rank(), !rule.tests.is_empty()))
}

#[cfg(test)]
mod tests;
