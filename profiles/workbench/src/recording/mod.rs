//! What a workload was seen to do, by phase and by executable.
//!
//! A recording is JSON, version [`VERSION`]; the fields of [`Recording`] are its documentation.
//! Recordings of several runs or replicas merge into one; the order does not matter.

/// What was done with files and ports.
mod access;
/// From what the BPF recorder saw.
mod observed;
/// From recordings to a profile.
mod synthesis;

pub use synthesis::{Synthesis, SynthesisError, restricted, synthesise};

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_profiles::access::{Access, AccessError};
use cofferdam_profiles::seccomp::Arch;
use serde::{Deserialize, Serialize};

/// The version of the format that this code writes.
pub const VERSION: u32 = 1;

/// The largest recording that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// What one or several runs of a workload called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// [`VERSION`].
    pub version: u32,
    /// What the author calls it; of merged recordings every name once, joined by `+`.
    pub name: String,
    /// How many runs went into it.
    pub runs: u32,
    /// Events that could not be kept. A recording that lost any must not become a profile.
    pub lost: u64,
    /// The machine's own architecture, as OCI names it: `SCMP_ARCH_X86_64`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// The kernels it ran on (`uname -r`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kernels: BTreeSet<String>,
    /// How it was recorded.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<Method>,
    /// The filters that were on: what they denied was not made and is not in here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub filters: BTreeSet<String>,
    /// The calls of each phase.
    pub phases: Phases,
    /// Calls that were taken as known and let through unseen: predicted, not observed, whenever and by
    /// whomever they were made.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub predicted: BTreeSet<String>,
    /// By the path of the executable that called, inside the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub executables: BTreeMap<String, BTreeSet<String>>,
    /// Capabilities the kernel asked for and found, with how often.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, u64>,
    /// Capabilities the kernel asked for in vain; the workload did without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities_denied: BTreeMap<String, u64>,
    /// In how many of the runs capabilities could not be seen: what is not listed may be needed there.
    #[serde(default, skip_serializing_if = "is_none")]
    pub capabilities_unseen: u32,
    /// Capabilities without which the workload was run again, and whether it ended otherwise then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities_confirmed: BTreeMap<String, bool>,
    /// In how many of the runs set-user-ID programs got no privileges, for `no_new_privs` had to be set.
    #[serde(default, skip_serializing_if = "is_none")]
    pub without_new_privileges: u32,
    /// Processes that were still running when the recording ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_running: u64,
    /// What was done with files and ports, where that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// How calls were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// BPF on the kernel's tracepoints: every call, counted.
    Bpf,
    /// Seccomp notifications: only calls outside a predicted set, and no capabilities.
    Notify,
}

/// Which call was seen when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Before the payload was executed, under its filter: the runtime's own.
    #[serde(default)]
    pub runtime: Calls,
    /// From the payload's execve until it serves.
    #[serde(default)]
    pub startup: Calls,
    /// Afterwards: from the first wait for a connection or an event after `listen`, or from the
    /// user's mark.
    #[serde(default)]
    pub serving: Calls,
}

/// System calls by name; one that no table knows is called `#` and its number. A call by the numbers of
/// another ABI (`int 0x80`, a 32-bit program) carries that before a colon: `x86:open`, `x32:read`.
pub type Calls = BTreeMap<String, Call>;

/// The ABI and the name of a call in a recording.
pub fn split_arch(name: &str) -> (Arch, &str) {
    match name.split_once(':') {
        Some(("x86", name)) => (Arch::X86, name),
        Some(("x32", name)) => (Arch::X32, name),
        _ => (Arch::NATIVE, name),
    }
}

/// One system call as seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// How often.
    pub count: u64,
    /// The values of arguments that are worth telling apart, by index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<u8, BTreeSet<u64>>,
}

/// Why bytes are not a recording, or recordings do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// Not JSON, or not a recording.
    #[error("not a recording")]
    Json(#[source] serde_json::Error),
    /// Of a later version of this program, or an earlier one.
    #[error("a recording of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// More or other calls than it says.
    #[error(
        "the recording lost {0} events, so a profile of it would deny what the workload needs; record again"
    )]
    Lost(u64),
    /// More files than a document holds.
    #[error("cannot put together what was done with files")]
    Access(#[from] AccessError),
    /// Numbers mean other calls there.
    #[error("one recording is of {0}, the other of {1}")]
    Architectures(String, String),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(number: &u32) -> bool {
    *number == 0
}

/// Reads a recording.
pub fn read(bytes: &[u8]) -> Result<Recording, RecordingError> {
    let recording: Recording = serde_json::from_slice(bytes).map_err(RecordingError::Json)?;
    if recording.version != VERSION {
        return Err(RecordingError::Version(recording.version));
    }
    Ok(recording)
}

impl Recording {
    /// Itself, if nothing was lost.
    pub fn complete(self) -> Result<Self, RecordingError> {
        if self.lost == 0 {
            Ok(self)
        } else {
            Err(RecordingError::Lost(self.lost))
        }
    }

    /// What both saw. Commutative and associative.
    pub fn merge(mut self, other: Self) -> Result<Self, RecordingError> {
        if self.arch.is_empty() {
            self.arch = other.arch;
        } else if !other.arch.is_empty() && self.arch != other.arch {
            let mut two = [self.arch, other.arch];
            two.sort();
            let [first, second] = two;
            return Err(RecordingError::Architectures(first, second));
        }
        self.version = VERSION;
        self.name = join_names(&self.name, &other.name);
        self.runs = self.runs.saturating_add(other.runs);
        self.lost = self.lost.saturating_add(other.lost);
        self.left_running = self.left_running.saturating_add(other.left_running);
        self.kernels.extend(other.kernels);
        self.methods.extend(other.methods);
        self.filters.extend(other.filters);
        self.phases.merge(other.phases);
        self.predicted.extend(other.predicted);
        self.capabilities_unseen = self
            .capabilities_unseen
            .saturating_add(other.capabilities_unseen);
        self.without_new_privileges = self
            .without_new_privileges
            .saturating_add(other.without_new_privileges);
        for (name, needed) in other.capabilities_confirmed {
            *self.capabilities_confirmed.entry(name).or_default() |= needed;
        }
        for (path, calls) in other.executables {
            self.executables.entry(path).or_default().extend(calls);
        }
        self.access = match (self.access, other.access) {
            (Some(one), Some(other)) => Some(one.union(&other)?),
            (one, other) => one.or(other),
        };
        add(&mut self.capabilities, other.capabilities);
        add(&mut self.capabilities_denied, other.capabilities_denied);
        Ok(self)
    }
}

impl Phases {
    fn merge(&mut self, other: Self) {
        merge_calls(&mut self.runtime, other.runtime);
        merge_calls(&mut self.startup, other.startup);
        merge_calls(&mut self.serving, other.serving);
    }

    /// The three, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Calls)> {
        [
            ("runtime", &self.runtime),
            ("startup", &self.startup),
            ("serving", &self.serving),
        ]
        .into_iter()
    }

    /// The calls of every phase.
    pub fn all(&self) -> Calls {
        let mut all = Calls::new();
        for (_, calls) in self.iter() {
            merge_calls(&mut all, calls.clone());
        }
        all
    }
}

fn merge_calls(calls: &mut Calls, other: Calls) {
    for (name, call) in other {
        let known = calls.entry(name).or_default();
        known.count = known.count.saturating_add(call.count);
        for (index, values) in call.args {
            known.args.entry(index).or_default().extend(values);
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, other: BTreeMap<String, u64>) {
    for (name, count) in other {
        let known = counts.entry(name).or_default();
        *known = known.saturating_add(count);
    }
}

fn join_names(one: &str, other: &str) -> String {
    let names = one.split('+').chain(other.split('+'));
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    names.into_iter().collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calls() -> impl Strategy<Value = Calls> {
        let call = (
            0u64..4,
            proptest::collection::btree_map(
                0u8..3,
                proptest::collection::btree_set(0u64..4, 0..3),
                0..2,
            ),
        );
        let call = call.prop_map(|(count, args)| Call { count, args });
        proptest::collection::btree_map("[ab]", call, 0..3)
    }

    fn phases() -> impl Strategy<Value = Phases> {
        (calls(), calls(), calls()).prop_map(|(runtime, startup, serving)| Phases {
            runtime,
            startup,
            serving,
        })
    }

    prop_compose! {
        fn recordings()(
            name in "[abc](\\+[abc])?",
            arch in prop_oneof![Just(""), Just("SCMP_ARCH_X86_64")],
            runs in 0u32..3,
            lost in prop_oneof![0u64..2, Just(u64::MAX)],
            phases in phases(),
            executables in proptest::collection::btree_map(
                "[pq]", proptest::collection::btree_set("[ab]", 0..3), 0..3),
            capabilities in proptest::collection::btree_map("[CD]", 0u64..3, 0..3),
            predicted in proptest::collection::btree_set("[abc]", 0..3),
            capabilities_confirmed in proptest::collection::btree_map("[CD]", proptest::bool::ANY, 0..3),
            (capabilities_unseen, without_new_privileges) in (0u32..2, 0u32..2),
        ) -> Recording {
            Recording {
                predicted, capabilities_confirmed, capabilities_unseen, without_new_privileges,
                version: VERSION, name: join_names(&name, ""), arch: arch.to_owned(), runs, lost,
                phases, executables, capabilities,
                methods: BTreeSet::from([Method::Bpf]), ..Recording::default()
            }
        }
    }

    fn merged(one: &Recording, other: &Recording) -> Recording {
        one.clone().merge(other.clone()).expect("one architecture")
    }

    proptest! {
        #[test]
        fn merging_does_not_mind_order_or_grouping(
            a in recordings(), b in recordings(), c in recordings()
        ) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn a_merged_recording_holds_what_either_saw_and_reads_back(
            a in recordings(), b in recordings()
        ) {
            let both = merged(&a, &b);
            let (all, of_a) = (both.phases.all(), a.phases.all());
            for (name, call) in of_a {
                prop_assert!(all[&name].count >= call.count);
                for (index, values) in call.args {
                    prop_assert!(all[&name].args[&index].is_superset(&values));
                }
            }
            prop_assert!(both.predicted.is_superset(&a.predicted));
            for (name, needed) in &a.capabilities_confirmed {
                prop_assert!(both.capabilities_confirmed[name] || !needed);
            }
            for (path, calls) in &a.executables {
                prop_assert!(both.executables[path].is_superset(calls));
            }
            prop_assert_eq!(both.runs, a.runs + b.runs);
            prop_assert!(both.lost >= a.lost.max(b.lost));
            let text = serde_json::to_vec(&both).expect("written");
            prop_assert_eq!(read(&text).expect("read"), both);
        }
    }

    #[test]
    fn what_is_no_recording_or_not_complete_is_refused() {
        for text in ["", "[]", "{\"version\":1}", "{\"version\":1,\"x\":0}"] {
            assert!(
                matches!(read(text.as_bytes()), Err(RecordingError::Json(_))),
                "{text}"
            );
        }
        let mut recording = Recording {
            version: 2,
            ..Recording::default()
        };
        let text = serde_json::to_vec(&recording).expect("written");
        assert!(matches!(read(&text), Err(RecordingError::Version(2))));
        recording.lost = 1;
        assert!(matches!(recording.complete(), Err(RecordingError::Lost(1))));
        let of = |arch: &str| Recording {
            arch: arch.to_owned(),
            ..Recording::default()
        };
        let mixed = of("SCMP_ARCH_X86_64").merge(of("SCMP_ARCH_AARCH64"));
        assert!(matches!(mixed, Err(RecordingError::Architectures(..))));
    }
}
