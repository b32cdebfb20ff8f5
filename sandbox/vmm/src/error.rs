//! Why a machine cannot be made, or does not go on.

use std::io;
use std::path::PathBuf;

use vm_memory::GuestAddress;

/// What most functions here return.
pub type VmResult<T = ()> = Result<T, VmError>;

/// Why a machine cannot be made, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// A number outside its range.
    #[error("{field} is {value} in the machine's description; it must be {range}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// A file that the machine needs.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No KVM, or none that may be used.
    #[error("cannot open /dev/kvm; is the module loaded, and may this user read and write it?")]
    OpenKvm(#[source] kvm_ioctls::Error),
    /// KVM refuses something.
    #[error("KVM cannot {action}")]
    Kvm {
        /// What it was asked.
        action: &'static str,
        /// Why not.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// No address space for the guest.
    #[error("cannot map {megabytes} MiB of guest memory")]
    Memory {
        /// How much.
        megabytes: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What must lie in guest memory at boot does not fit there.
    #[error("cannot write {what} at {:#x} of guest memory", at.0)]
    Place {
        /// What.
        what: &'static str,
        /// Where.
        at: GuestAddress,
        /// Why not.
        #[source]
        source: vm_memory::GuestMemoryError,
    },
    /// The page of parameters does not fit.
    #[error("cannot write the kernel's parameters")]
    Parameters(#[source] linux_loader::configurator::Error),
    /// The file is no kernel that can be booted.
    #[error("cannot load the kernel {}: it must be an uncompressed x86-64 ELF file (vmlinux)", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: linux_loader::loader::Error,
    },
    /// Kernel and first root file system do not fit.
    #[error(
        "the machine needs more memory than {megabytes} MiB for its kernel and initramfs ({needed} bytes)"
    )]
    TooSmall {
        /// What it has.
        megabytes: u32,
        /// What they need.
        needed: u64,
    },
    /// The command line is too long or has characters that it cannot have.
    #[error("cannot make the kernel's command line")]
    CommandLine(#[source] linux_loader::cmdline::Error),
    /// A tag that no guest could mount.
    #[error(
        "the tag of a shared directory is {0:?}; it must have 1 to 36 bytes, none of them zero"
    )]
    ShareTag(String),
    /// More devices than there are interrupts.
    #[error("the machine has more than {most} devices")]
    TooManyDevices {
        /// The most it can have.
        most: usize,
    },
    /// The process cannot make an event, a thread or the like.
    #[error("cannot {0}")]
    Host(&'static str, #[source] io::Error),
    /// The process cannot be confined.
    #[error("cannot {action} for the machine's jail; it takes root and every kind of namespace")]
    Jail {
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Other threads would be left outside.
    #[error("a process of {threads} threads cannot go into a jail; it must have one")]
    Threads {
        /// How many it has.
        threads: usize,
    },
    /// The kernel does not take a thread's filter.
    #[error("cannot filter the system calls of the {thread} thread")]
    Filter {
        /// Which.
        thread: crate::filter::Thread,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A device cannot be set up.
    #[error("cannot set up a device")]
    Device(#[from] crate::virtio::DeviceError),
    /// A network card has no tap.
    #[error("cannot set up a network card")]
    Tap(#[source] cofferdam_network::NetworkError),
    /// The event loop cannot be made or does not go on.
    #[error("cannot wait for the machine's events")]
    Events(#[source] event_manager::Error),
    /// A state that does not fit the parts.
    #[error("the machine cannot go on from this state: {0}")]
    State(&'static str),
    /// The machine is not there any more.
    #[error("the machine has ended")]
    Ended,
    /// A vCPU stopped in a way that no kernel of ours does.
    #[error("vCPU {index} stopped: {why}")]
    Vcpu {
        /// Which.
        index: u8,
        /// How.
        why: String,
    },
}

/// Adds what was being done to an error of KVM.
pub(crate) trait KvmAt<T> {
    fn kvm(self, action: &'static str) -> VmResult<T>;
}

impl<T> KvmAt<T> for Result<T, kvm_ioctls::Error> {
    fn kvm(self, action: &'static str) -> VmResult<T> {
        self.map_err(|source| VmError::Kvm { action, source })
    }
}

/// An error and its reasons, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    text
}
