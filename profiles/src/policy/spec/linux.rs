//! The `linux` section: namespaces, devices, paths, sysctls.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxDevice, LinuxNamespaceType, Spec};

use super::{SpecError, absolute, invalid, no_nul, no_parents};
use crate::policy::facts::named;
use crate::seccomp;

/// The longest host name, in bytes (`__NEW_UTS_LEN`, linux/utsname.h).
const MAX_HOSTNAME: usize = 64;

/// Checks what does not depend on the rest of the spec.
pub(super) fn validate(linux: &Linux) -> Result<(), SpecError> {
    for (field, present) in [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()),
        ),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        (
            "linux.personality.flags",
            linux
                .personality()
                .as_ref()
                .is_some_and(|p| p.flags().as_ref().is_some_and(|f| !f.is_empty())),
        ),
    ] {
        if present {
            return Err(SpecError::Unsupported { field });
        }
    }
    if let Some(profile) = linux.seccomp() {
        seccomp::check(profile)?;
    }
    validate_namespaces(linux)?;
    for device in linux.devices().iter().flatten() {
        validate_device(device)?;
    }
    let resources = linux.resources().as_ref();
    for rule in resources
        .iter()
        .filter_map(|r| r.devices().as_ref())
        .flatten()
    {
        const FIELD: &str = "linux.resources.devices";
        for number in [rule.major(), rule.minor()].into_iter().flatten() {
            if number < -1 || number > i64::from(u32::MAX) {
                return Err(invalid(
                    FIELD,
                    rule.to_string(),
                    "the number is out of range",
                ));
            }
        }
        let access = rule.access().as_deref().unwrap_or_default();
        if access.bytes().any(|b| !b"rwm".contains(&b)) {
            return Err(invalid(
                FIELD,
                access,
                "an access has the letters r, w and m only",
            ));
        }
    }
    let paths = [
        ("linux.maskedPaths", linux.masked_paths()),
        ("linux.readonlyPaths", linux.readonly_paths()),
    ];
    for (field, list) in paths {
        for path in list.iter().flatten() {
            absolute(field, Path::new(path))?;
            no_parents(field, Path::new(path))?;
        }
    }
    if let Some(path) = linux.cgroups_path() {
        no_nul("linux.cgroupsPath", path)?;
        no_parents("linux.cgroupsPath", path)?;
    }
    for (key, value) in linux.sysctl().iter().flatten() {
        if key.contains('\0') || value.contains('\0') {
            return Err(invalid("linux.sysctl", key, "it contains a NUL byte"));
        }
    }
    Ok(())
}

fn validate_namespaces(linux: &Linux) -> Result<(), SpecError> {
    const FIELD: &str = "linux.namespaces";
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    for namespace in namespaces {
        if !seen.insert(namespace.typ() as u32) {
            return Err(invalid(
                FIELD,
                namespace.typ().to_string(),
                "it is given twice",
            ));
        }
        if let Some(path) = named(namespace.path().as_deref()) {
            absolute("linux.namespaces.path", path)?;
        }
    }
    let user = namespaces
        .iter()
        .find(|n| n.typ() == LinuxNamespaceType::User);
    let joins = user.is_some_and(|n| named(n.path().as_deref()).is_some());
    for (field, list) in [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ] {
        let mapped = list.as_ref().is_some_and(|list| !list.is_empty());
        if mapped && user.is_none() {
            return Err(invalid(
                field,
                "given",
                "there is no user namespace in linux.namespaces",
            ));
        }
        if !mapped && user.is_some() && !joins {
            return Err(SpecError::Missing { field });
        }
    }
    let time = namespaces
        .iter()
        .any(|n| n.typ() == LinuxNamespaceType::Time);
    if linux.time_offsets().as_ref().is_some_and(|t| !t.is_empty()) && !time {
        return Err(invalid(
            "linux.timeOffsets",
            "given",
            "there is no time namespace in linux.namespaces",
        ));
    }
    Ok(())
}

fn validate_device(device: &LinuxDevice) -> Result<(), SpecError> {
    const FIELD: &str = "linux.devices.path";
    absolute(FIELD, device.path())?;
    no_parents(FIELD, device.path())?;
    let range = 0..=i64::from(u32::MAX);
    if !range.contains(&device.major()) || !range.contains(&device.minor()) {
        let numbers = format!("{}:{}", device.major(), device.minor());
        return Err(invalid(
            "linux.devices",
            numbers,
            "the number is out of range",
        ));
    }
    Ok(())
}

/// The host's name must not be changed from a container.
pub(super) fn host_name(spec: &Spec, linux: &Linux) -> Result<(), SpecError> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let own = namespaces
        .iter()
        .any(|n| n.typ() == LinuxNamespaceType::Uts);
    for (field, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if name.len() > MAX_HOSTNAME || name.contains('\0') {
            return Err(invalid(
                field,
                name,
                "it is longer than 64 bytes or contains a NUL byte",
            ));
        }
        if !own {
            return Err(invalid(
                field,
                name,
                "without a uts namespace it would be the host's",
            ));
        }
    }
    Ok(())
}
