//! What only the lab's guests can show (docs/lab.md): `cargo xtask test-lab lab` runs these alone. A
//! module is for one guest, and each of its tests begins with `gate::lab`.

/// cgroup v2 with every controller, and nothing else.
mod script;
/// Cgroups that systemd makes.
mod systemd;
/// Bundles and containers straight on the guest, which nobody needs afterwards.
mod yard;
