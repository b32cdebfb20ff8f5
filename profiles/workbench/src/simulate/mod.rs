//! What a profile would have answered to calls that were seen.
//!
//! A call is judged by the profile's own meaning. Where the profile tests an argument that the trace
//! does not show, the call is not guessed at: it is `undetermined`, which no caller may take for allowed.

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::{Action, Arch, Call, Evaluator, InvalidProfile, resolve};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Serialize;

use crate::recording::{Calls, Recording, split_arch};
use crate::trace::{SeenCall, Trace};

/// Combinations of recorded arguments of one call that are tried; more are undetermined.
const MAX_COMBINATIONS: usize = 4096;

/// What would have become of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Simulation {
    /// Calls that would run, all repetitions counted.
    pub allowed: u64,
    /// Calls that would not run.
    pub denied: u64,
    /// Calls whose answer the trace does not settle.
    pub undetermined: u64,
    /// Every different call that would not run, or of which that is not known; most frequent first.
    pub findings: Vec<Finding>,
}

/// A call that would not run, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The call.
    pub syscall: String,
    /// Architecture of the calling program, as `SCMP_ARCH_*`.
    pub arch: String,
    /// The arguments that the profile tests and the trace shows, by index.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<u8, u64>,
    /// What would happen.
    pub answer: Answer,
    /// In words: `fails with EPERM`.
    pub effect: String,
    /// How often it was seen.
    pub count: u64,
    /// The line of the trace where it was seen first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Which part of the profile decides, in words.
    pub because: String,
    /// The smallest change that would let it run.
    pub remedy: String,
}

/// How a call would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It would not run.
    Denied,
    /// The trace does not show what the profile tests.
    Undetermined,
}

/// A profile, ready to be asked.
pub struct Simulator<'a> {
    profile: &'a LinuxSeccomp,
    evaluator: Evaluator,
    tested: BTreeMap<&'a str, u8>,
}

impl<'a> Simulator<'a> {
    /// Reads a profile.
    pub fn new(profile: &'a LinuxSeccomp) -> Result<Self, InvalidProfile> {
        let mut tested: BTreeMap<&str, u8> = BTreeMap::new();
        for rule in rules(profile) {
            let bits = rule.args().iter().flatten().fold(0, |bits, arg| {
                bits | 1u8
                    .checked_shl(u32::try_from(arg.index()).unwrap_or(u32::MAX))
                    .unwrap_or(0)
            });
            for name in rule.names() {
                *tested.entry(name).or_default() |= bits;
            }
        }
        Ok(Self {
            profile,
            evaluator: Evaluator::new(profile)?,
            tested,
        })
    }

    /// The arguments of a call that the profile tests, a bit each.
    pub fn tests(&self, name: &str) -> u8 {
        self.tested.get(name).copied().unwrap_or(0)
    }

    /// Asks for every call of a trace.
    pub fn trace(&self, trace: &Trace) -> Simulation {
        let mut simulation = Simulation::default();
        for (call, seen) in &trace.calls {
            self.add(&mut simulation, call, seen.count, Some(seen.first));
        }
        simulation.sorted()
    }

    /// Asks for every call of a recording that the payload made. The runtime's own calls are left out: they
    /// are made before the filter is on.
    pub fn recording(&self, recording: &Recording) -> Simulation {
        let mut simulation = Simulation::default();
        for calls in [&recording.phases.startup, &recording.phases.serving] {
            self.calls(&mut simulation, calls);
        }
        simulation.sorted()
    }

    fn calls(&self, simulation: &mut Simulation, calls: &Calls) {
        for (name, call) in calls {
            let (arch, name) = split_arch(name);
            let seen = combinations(&call.args, self.tests(name));
            let last = seen.len().saturating_sub(1);
            for (at, args) in seen.into_iter().enumerate() {
                // A recording counts calls, not combinations: each is counted once, the last gets the rest.
                let count = if at == last {
                    call.count.saturating_sub(last as u64).max(1)
                } else {
                    1
                };
                let call = SeenCall {
                    arch,
                    name: name.to_owned(),
                    args,
                };
                self.add(simulation, &call, count, None);
            }
        }
    }

    fn add(&self, simulation: &mut Simulation, call: &SeenCall, count: u64, line: Option<u64>) {
        let tested = self.tests(&call.name);
        let hidden: Vec<u8> = (0..6)
            .filter(|at| tested & (1 << at) != 0 && call.args[usize::from(*at)].is_none())
            .collect();
        let answer = resolve(call.arch, &call.name).map(|number| {
            self.evaluator.answer(&Call {
                audit: call.arch.audit(),
                number,
                args: call.args.map(Option::unwrap_or_default),
            })
        });
        let (answer, effect) = match answer {
            None => (
                Answer::Undetermined,
                "this version does not know the call's number".to_owned(),
            ),
            Some(_) if !hidden.is_empty() => (
                Answer::Undetermined,
                format!(
                    "depends on {}, which the trace does not show",
                    indices(&hidden)
                ),
            ),
            Some(action) if action.allows() => {
                simulation.allowed = simulation.allowed.saturating_add(count);
                return;
            }
            Some(action) => (Answer::Denied, effect(action)),
        };
        let total = match answer {
            Answer::Denied => &mut simulation.denied,
            Answer::Undetermined => &mut simulation.undetermined,
        };
        *total = total.saturating_add(count);
        let args = (0u8..6)
            .filter(|at| tested & (1 << at) != 0)
            .filter_map(|at| Some((at, call.args[usize::from(at)]?)))
            .collect();
        let (because, remedy) = self.reason(call, &args);
        simulation.findings.push(Finding {
            syscall: call.name.clone(),
            arch: call.arch.to_oci().to_string(),
            args,
            answer,
            effect,
            count,
            line,
            because,
            remedy,
        });
    }

    /// Which rules speak of the call, and what to change.
    fn reason(&self, call: &SeenCall, args: &BTreeMap<u8, u64>) -> (String, String) {
        let name = &call.name;
        let named: Vec<(usize, &LinuxSyscall)> = rules(self.profile)
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.names().contains(name))
            .collect();
        let numbers = named
            .iter()
            .map(|(at, _)| at.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        let allow = |rule: &LinuxSyscall| {
            matches!(
                rule.action(),
                LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog
            )
        };
        let refuses = named
            .iter()
            .find(|(_, rule)| !allow(rule) && rule.args().as_ref().is_none_or(Vec::is_empty));
        if call.arch != Arch::NATIVE
            && !self
                .profile
                .architectures()
                .iter()
                .flatten()
                .any(|arch| *arch == call.arch.to_oci())
        {
            let arch = call.arch.to_oci();
            return (
                format!("the profile does not list {arch}"),
                format!("add {arch} to architectures"),
            );
        }
        if let Some((at, _)) = refuses {
            return (
                format!("rule {at} refuses {name}"),
                format!("remove {name} from the names of rule {at}"),
            );
        }
        let conditions = args
            .iter()
            .map(|(at, value)| format!("argument {at} == {value:#x}"))
            .collect::<Vec<_>>()
            .join(" and ");
        if named.is_empty() {
            let plain = rules(self.profile)
                .iter()
                .position(|rule| allow(rule) && rule.args().as_ref().is_none_or(Vec::is_empty));
            let remedy = match plain {
                Some(at) => format!("add \"{name}\" to the names of rule {at}"),
                None => format!("add a rule that allows {name}"),
            };
            return (
                "no rule names it; the default action answers".to_owned(),
                remedy,
            );
        }
        let remedy = if conditions.is_empty() {
            format!("compare rule {numbers} with what the program passes")
        } else {
            format!("add a rule that allows {name} if {conditions}")
        };
        (
            format!("rule {numbers} names it with conditions on its arguments"),
            remedy,
        )
    }
}

impl Simulation {
    fn sorted(mut self) -> Self {
        self.findings
            .sort_by(|a, b| (a.answer, b.count, &a.syscall).cmp(&(b.answer, a.count, &b.syscall)));
        self
    }
}

fn rules(profile: &LinuxSeccomp) -> &[LinuxSyscall] {
    profile.syscalls().as_deref().unwrap_or_default()
}

/// Every combination of the recorded values of the tested arguments.
fn combinations(
    recorded: &BTreeMap<u8, std::collections::BTreeSet<u64>>,
    tested: u8,
) -> Vec<[Option<u64>; 6]> {
    let mut all = vec![[None; 6]];
    for at in (0u8..6).filter(|at| tested & (1 << at) != 0) {
        let Some(values) = recorded.get(&at).filter(|values| !values.is_empty()) else {
            continue;
        };
        if all.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
            return vec![[None; 6]];
        }
        all = all
            .into_iter()
            .flat_map(|args| {
                values.iter().map(move |value| {
                    let mut args = args;
                    args[usize::from(at)] = Some(*value);
                    args
                })
            })
            .collect();
    }
    all
}

fn indices(which: &[u8]) -> String {
    let words: Vec<String> = which.iter().map(u8::to_string).collect();
    format!(
        "argument{} {}",
        if words.len() == 1 { "" } else { "s" },
        words.join(", ")
    )
}

/// What a process notices of an answer.
pub fn effect(action: Action) -> String {
    match action {
        Action::KillProcess => "the process is killed (SIGSYS)".to_owned(),
        Action::KillThread => "the thread is killed (SIGSYS)".to_owned(),
        Action::Trap => "SIGSYS is sent".to_owned(),
        Action::Errno(errno) => {
            format!("fails with {:?}", nix::errno::Errno::from_raw(errno.into()))
        }
        Action::Notify => "a listener decides".to_owned(),
        Action::Trace(_) => "a tracer decides; without one it fails with ENOSYS".to_owned(),
        Action::Log => "runs and is logged".to_owned(),
        Action::Allow => "runs".to_owned(),
    }
}

#[cfg(test)]
mod tests;
