//! What is asked of the guest, and what it answers: JSON in ttrpc's requests and responses.
//!
//! A call's name is ttrpc's method, its fields are the payload. Every text and list has a bound, and what is unknown is
//! refused: either side may be another version, and the guest may be anybody.

use std::collections::BTreeMap;

use cofferdam_container::cgroup::Stats;
use cofferdam_network::Network;
use cofferdam_profiles::policy::ContainerRecord;
use oci_spec::runtime::{LinuxResources, Process};
use serde::{Deserialize, Serialize};

/// ttrpc's name of the guest's service.
pub const SERVICE: &str = "cofferdam.agent.v1.Agent";
/// The vsock port of calls.
pub const CALLS: u32 = 1024;
/// The vsock port by which a process's streams are reached.
pub const STREAMS: u32 = 1025;
/// The line that the guest's first process begins with.
pub const BOOTED: &str = "cofferdam: the first process runs";
/// Where the guest has what the host shares with it.
pub const SHARE: &str = "/run/cofferdam/share";
/// The tag of that file system.
pub const SHARE_TAG: &str = "share";
/// Where the pod's shared memory is, in the guest: it is no file of the host's.
pub const SHARED_MEMORY: &str = "/run/cofferdam/shm";
/// The most containers of a pod.
pub const MAX_CONTAINERS: usize = 256;
/// The most processes at a time that joined a container.
pub const MAX_EXECS: usize = 1024;
/// The longest name of a container or a joined process, bytes.
pub const MAX_NAME: usize = 1024;

/// What is asked. The first call is [`Call::Configure`], and it comes once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    /// What holds for this guest from now on.
    Configure(Configure),
    /// The pod's network, which the guest's cards are to be.
    Network(Box<Network>),
    /// Makes a container; its init waits until its streams are asked for.
    Create(Box<Create>),
    /// Runs one more process in a container.
    Exec(Box<Exec>),
    /// Signals every process of a container.
    SignalAll(Signal),
    /// Freezes a container.
    Pause(Name),
    /// Thaws a container.
    Resume(Name),
    /// Changes limits.
    Update(Box<Update>),
    /// What a container uses.
    Stats(Name),
    /// What the guest's kernel enforces on a container.
    Inspect(Name),
    /// The processes of a container, by the guest's numbers.
    Processes(Name),
    /// Removes a container that has ended; kills what is left of it.
    Delete(Name),
    /// How the guest is.
    Status(Nothing),
    /// Ends the guest.
    Shutdown(Nothing),
}

impl Call {
    /// The longest answer that makes sense, bytes.
    #[must_use]
    pub const fn longest_answer(&self) -> usize {
        match self {
            Self::Inspect(_) => 1 << 20,
            Self::Stats(_) | Self::Processes(_) | Self::Status(_) => 256 << 10,
            _ => 16 << 10,
        }
    }

    /// ttrpc's method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Configure(_) => "Configure",
            Self::Network(_) => "Network",
            Self::Create(_) => "Create",
            Self::Exec(_) => "Exec",
            Self::SignalAll(_) => "SignalAll",
            Self::Pause(_) => "Pause",
            Self::Resume(_) => "Resume",
            Self::Update(_) => "Update",
            Self::Stats(_) => "Stats",
            Self::Inspect(_) => "Inspect",
            Self::Processes(_) => "Processes",
            Self::Delete(_) => "Delete",
            Self::Status(_) => "Status",
            Self::Shutdown(_) => "Shutdown",
        }
    }
}

/// A call without anything to say.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// What holds for a guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Must be [`VERSION`].
    pub version: u32,
    /// The time, nanoseconds since 1970.
    pub time: u64,
    /// The pod's host name, for what runs outside of containers.
    pub hostname: String,
    /// Whether processes may join containers.
    pub exec: bool,
    /// The most containers, [`MAX_CONTAINERS`] at most.
    pub containers: usize,
}

/// The version of these messages.
pub const VERSION: u32 = 1;

/// A container by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// Its id.
    pub id: String,
}

/// A container to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its id.
    pub id: String,
    /// Its hardened spec as the guest is to see it, the policy, and the report.
    pub record: ContainerRecord,
    /// Parameters of the guest's network, `net.…`: the pod's containers share it.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The pod's namespaces it joins: those of the container that is named here.
    pub pod: Option<String>,
}

/// A process that joins a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The container.
    pub id: String,
    /// The process's own name.
    pub exec: String,
    /// What it is.
    pub process: Process,
}

/// A signal to a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The container.
    pub id: String,
    /// The signal's number.
    pub signal: i32,
}

/// New limits of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The container.
    pub id: String,
    /// The limits.
    pub resources: LinuxResources,
}

/// What the guest answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// A process's number in the guest.
    Process(i32),
    /// What a container uses.
    Stats(Box<Stats>),
    /// What the guest's kernel enforces.
    Inspected(Box<Inspected>),
    /// Processes' numbers in the guest.
    Processes(Vec<i32>),
    /// How the guest is.
    Status(Status),
}

/// What the guest's kernel enforces on a container: `cofferdam inspect`, in the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inspected {
    /// As data.
    pub value: serde_json::Value,
    /// In plain words.
    pub text: String,
    /// Less than its record says.
    pub weaker: bool,
}

/// How a guest is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The kernel's version.
    pub kernel: String,
    /// Since its boot, milliseconds.
    pub uptime: u64,
    /// Memory, KiB: all, and what could be used.
    pub memory: (u64, u64),
    /// Containers, and the processes that joined them.
    pub containers: usize,
    /// How many processes the kernel has killed for lack of memory, by container.
    pub killed: Vec<(String, u64)>,
}
