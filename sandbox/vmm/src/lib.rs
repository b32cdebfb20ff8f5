//! A small virtual machine monitor on KVM: one virtual machine per process, for one pod.
//!
//! The machine has memory, vCPUs, the interrupt controllers and the timer that KVM itself provides,
//! virtio devices over MMIO that the command line names, and a serial port for what the kernel says. There
//! is no firmware, no ACPI, no PCI.

/// What differs between processor architectures: where things lie, and the state a vCPU begins in.
pub mod arch;
/// Which device answers at an address.
mod bus;
/// What a machine is made of.
pub mod config;
/// The serial port and its last lines.
pub mod console;
/// Why a machine cannot be made, or does not go on.
pub mod error;
/// Which system calls each thread may make.
pub mod filter;
/// The heap of a process whose threads may open nothing.
pub mod heap;
/// What confines the process of a machine.
pub mod jail;
/// The machine: its KVM file descriptors, memory and vCPUs.
pub mod kvm;
/// Guest memory.
pub mod memory;
/// Virtio devices and the registers they are reached by.
pub mod virtio;
/// From a description to a running machine.
pub mod vm;

pub use config::VmConfig;
pub use error::{VmError, VmResult};
pub use vm::{End, Vm};
