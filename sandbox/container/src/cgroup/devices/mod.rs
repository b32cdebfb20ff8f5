//! Which device nodes the container may open: always a list, always starting from nothing.

mod bpf;
mod rules;
mod v1;
mod v2;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::Error;
use super::host::Mode;
use super::location::Location;
use rules::Rules;
pub(crate) use rules::USUAL;

/// Puts the spec's list, and the devices that every container has, into force.
pub(super) fn apply(location: &Location, spec: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let rules = Rules::for_container(spec)?;
    match location.mode {
        Mode::V1 => {
            let dir = location
                .controller("devices")
                .ok_or(Error::MissingController {
                    controller: "devices",
                    operation: "keeping the container from the host's devices",
                })?;
            v1::apply(dir, &rules)
        }
        Mode::V2 => {
            let dir = location.unified().ok_or(Error::NoHierarchy)?;
            v2::apply(dir, &rules)
        }
    }
}

/// How many device programs the v2 kernel asks about this cgroup, those of its parents left out.
pub(super) fn count_filters(dir: &std::path::Path) -> Result<usize, Error> {
    v2::count(dir)
}
