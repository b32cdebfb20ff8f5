//! Why a call was denied, and the smallest edit of the profile that would let it run.

/// A call's arguments in words, read through whatever reads the caller's memory.
mod describe;
/// The calls behind `socketcall` and `ipc`.
mod multiplexed;
/// The names of flags and constants.
mod names;
/// Which arguments a call has, and what they mean.
mod signature;

pub use describe::{Argument, Memory, Unreadable, escape};

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::Action;
use super::arch::{Arch, X32_BIT};
use super::bpf::Call;
use super::model::{self, Model};
use super::numbers;
use super::validate::{self, InvalidProfile};

/// What in a profile decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Cause {
    /// No rule matched: the default action answered.
    Default,
    /// A rule matched.
    Rule {
        /// Its index in `linux.seccomp.syscalls`.
        index: usize,
    },
    /// The call is newer than every call the profile lists, so it gets ENOSYS.
    Newer,
    /// The profile does not list the call's architecture.
    Architecture,
}

/// The smallest change of a profile that lets a call run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// In words.
    pub text: String,
    /// A rule to add to `linux.seccomp.syscalls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Value>,
    /// A name to take out of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Removal>,
    /// An architecture to add to `linux.seccomp.architectures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// A name to take out of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The rule's index in `linux.seccomp.syscalls`.
    pub rule: usize,
    /// The name.
    pub name: String,
}

/// Why a call was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What decided.
    #[serde(flatten)]
    pub cause: Cause,
    /// The same in words.
    pub text: String,
    /// Absent where no edit of this profile would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
}

/// A call's architecture and name, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `x86_64`, `x86`, `x32` and so on, or the audit value.
    pub architecture: String,
    /// The name, or `syscall_NUMBER`.
    pub syscall: String,
}

impl Explanation {
    /// The explanation where the profile itself is not known.
    pub fn unknown() -> Self {
        Self {
            cause: Cause::Default,
            text: "the profile could not be read".to_owned(),
            edit: None,
        }
    }
}

/// Explains the denials of one profile.
#[derive(Debug)]
pub struct Explainer {
    profile: LinuxSeccomp,
    model: Model,
}

impl Explainer {
    /// Resolves the profile's names once.
    pub fn new(profile: LinuxSeccomp) -> Result<Self, InvalidProfile> {
        validate::check(&profile)?;
        let model = Model::new(&profile);
        Ok(Self { profile, model })
    }

    /// The call's name.
    pub fn name(&self, call: &Call) -> Name {
        name(call)
    }

    /// The call's arguments in words.
    pub fn arguments(&self, call: &Call, memory: &dyn Memory) -> Vec<Argument> {
        describe::arguments(&name(call).syscall, call, memory)
    }

    /// What decided, and what would let the call run.
    pub fn explain(&self, call: &Call) -> Explanation {
        let name = name(call);
        let Some(table) = arch_of(call).and_then(|arch| self.model.tables.get(&arch)) else {
            return self.foreign(&name);
        };
        if let Some((index, entry, action)) = self.deciding(call) {
            return explained_by_rule(index, entry, action, &name.syscall);
        }
        let newer = !table.decisions.contains_key(&call.number)
            && table.newest.is_some_and(|newest| call.number > newest);
        let unnamed = arch_of(call)
            .is_none_or(|arch| numbers::resolve(arch, &name.syscall) != Some(call.number));
        let (cause, why) = if newer {
            (
                Cause::Newer,
                "it is newer than every call the profile lists".to_owned(),
            )
        } else {
            (Cause::Default, self.default_text(call))
        };
        Explanation {
            cause,
            text: why,
            edit: (!unnamed).then(|| add(&name.syscall, call)),
        }
    }

    /// The rule that answers; an unconditional one that repeats the default says nothing.
    fn deciding(&self, call: &Call) -> Option<(usize, &LinuxSyscall, Action)> {
        let arch = arch_of(call)?;
        let mut best: Option<(usize, &LinuxSyscall, Action)> = None;
        for (index, entry) in self.profile.syscalls().iter().flatten().enumerate() {
            let named = entry
                .names()
                .iter()
                .any(|name| numbers::resolve(arch, name) == Some(call.number));
            if !named {
                continue;
            }
            for rule in model::Rule::of_entry(entry) {
                let silent = rule.tests.is_empty() && rule.action == self.model.default;
                let stricter = best.is_none_or(|(_, _, action)| rule.action.rank() < action.rank());
                if !silent && stricter && rule.matches(&call.args) {
                    best = Some((index, entry, rule.action));
                }
            }
        }
        best
    }

    /// Says which rules would have let it run with other arguments.
    fn default_text(&self, call: &Call) -> String {
        let arch = arch_of(call);
        let near: Vec<String> = self
            .profile
            .syscalls()
            .iter()
            .flatten()
            .enumerate()
            .filter(|(_, entry)| {
                let action = Action::from_oci(entry.action(), entry.errno_ret());
                action.allows()
                    && arch.is_some_and(|arch| {
                        let mut names = entry.names().iter();
                        names.any(|name| numbers::resolve(arch, name) == Some(call.number))
                    })
            })
            .map(|(index, _)| index.to_string())
            .take(8)
            .collect();
        if near.is_empty() {
            return "no rule names it, so the default action answers".to_owned();
        }
        format!(
            "rule {} allows it with other arguments only, so the default action answers",
            near.join(", ")
        )
    }

    fn foreign(&self, name: &Name) -> Explanation {
        let oci = Arch::FAMILY
            .iter()
            .find(|arch| arch_name(**arch) == name.architecture);
        let oci = oci.and_then(|arch| serde_json::to_value(arch.to_oci()).ok());
        let oci = oci.as_ref().and_then(Value::as_str).map(str::to_owned);
        Explanation {
            cause: Cause::Architecture,
            text: format!(
                "the profile does not list the architecture {}",
                name.architecture
            ),
            edit: oci.map(|oci| Edit {
                text: format!("add {oci} to architectures, and allow {}", name.syscall),
                add: None,
                remove: None,
                architecture: Some(oci),
            }),
        }
    }
}

fn explained_by_rule(
    index: usize,
    entry: &LinuxSyscall,
    action: Action,
    name: &str,
) -> Explanation {
    let conditions = entry.args().as_ref().map_or(0, Vec::len);
    let with = match conditions {
        0 => String::new(),
        _ => " with these arguments".to_owned(),
    };
    let answer = match action {
        Action::Errno(errno) => format!("answers it {}", names::errno(errno)),
        _ => "denies it".to_owned(),
    };
    Explanation {
        cause: Cause::Rule { index },
        text: format!("rule {index} names it{with} and {answer}"),
        edit: Some(Edit {
            text: format!(
                "take {name} out of rule {index}, and allow it if the default action denies{}",
                caution(name)
            ),
            add: None,
            remove: Some(Removal {
                rule: index,
                name: name.to_owned(),
            }),
            architecture: None,
        }),
    }
}

/// A rule for this call, and where one argument says what the call does, for this value of it only.
fn add(name: &str, call: &Call) -> Edit {
    let selector = signature::selector(name)
        .and_then(|index| Some((index, call.args.get(usize::from(index))? & 0xffff_ffff)));
    let mut rule = json!({ "names": [name], "action": "SCMP_ACT_ALLOW" });
    let Some((index, value)) = selector else {
        return Edit {
            text: format!("allow {name}"),
            add: Some(rule),
            remove: None,
            architecture: None,
        };
    };
    // The kernel's parameter is an int: the upper half of the register does not count.
    if let Some(fields) = rule.as_object_mut() {
        let arg = json!([{
            "index": index, "value": 0xffff_ffff_u32, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ",
        }]);
        fields.insert("args".to_owned(), arg);
    }
    let shown = describe::argument(name, call, usize::from(index))
        .map_or_else(String::new, |shown| format!(" ({shown})"));
    Edit {
        text: format!(
            "allow {name} when arg{index} & 0xffffffff == {value:#x}{shown}{}",
            caution(name)
        ),
        add: Some(rule),
        remove: None,
        architecture: None,
    }
}

/// What whoever allows a call should know.
fn caution(name: &str) -> &'static str {
    match name {
        "socketcall" => {
            "; that opens every socket family to 32-bit calls, for what it is about lies in memory, where no \
             filter looks (seccomp_compat32 = \"socketcall\" in the policy does the same to the built-in default)"
        }
        _ => "",
    }
}

fn arch_of(call: &Call) -> Option<Arch> {
    let x32 = call.audit == Arch::X32.audit() && call.number >= X32_BIT;
    let found = Arch::FAMILY
        .iter()
        .find(|arch| arch.audit() == call.audit && (**arch == Arch::X32) == x32);
    found.copied()
}

fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "aarch64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
    }
}

/// The name of a call.
pub fn name(call: &Call) -> Name {
    let arch = arch_of(call);
    Name {
        architecture: arch.map_or_else(
            || format!("{:#x}", call.audit),
            |arch| arch_name(arch).to_owned(),
        ),
        syscall: arch
            .and_then(|arch| numbers::name(arch, call.number))
            .unwrap_or_else(|| format!("syscall_{}", call.number)),
    }
}

/// The name of an errno, or its number.
pub fn errno_name(errno: u16) -> String {
    names::errno(errno)
}
