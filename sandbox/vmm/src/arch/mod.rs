//! What differs between processor architectures: where things lie, and the state a vCPU begins in.
//!
//! Another architecture is a module beside `x86_64` with the same names: `layout`, `prepare`, `begin`,
//! `VcpuState`.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
