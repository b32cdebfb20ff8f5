//! Reads `config.json` and checks that it makes sense before any rule looks at it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxNamespaceType, Mount, Process, Spec};

use super::facts::{is_bind, named};
use super::text::harmless;
use crate::seccomp::{self, InvalidProfile};

/// The largest `config.json` that is read, in bytes. Real ones are below 100 KiB.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// The longest host name, in bytes (`__NEW_UTS_LEN`, linux/utsname.h).
const MAX_HOSTNAME: usize = 64;

/// What is broken in a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is too long.
    #[error("config.json is {size} bytes long; the most that is read is {max}", max = MAX_SPEC_BYTES)]
    TooLarge {
        /// Its length in bytes.
        size: usize,
    },
    /// The text is no OCI spec.
    #[error("config.json is not a valid OCI spec")]
    Json(#[from] serde_json::Error),
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field has a value it must not have.
    #[error("{field} is \"{value}\": {why}")]
    Invalid {
        /// The field.
        field: String,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The seccomp profile is none.
    #[error("linux.seccomp is broken")]
    Seccomp(#[from] InvalidProfile),
    /// A field asks for something this runtime does not do; it never does silently less.
    #[error("{field} is not supported by this runtime: leave it out")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
}

/// Reads a spec from the bytes of a `config.json`.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, SpecError> {
    if bytes.len() > MAX_SPEC_BYTES {
        return Err(SpecError::TooLarge { size: bytes.len() });
    }
    let spec: Spec = serde_json::from_slice(bytes)?;
    validate(&spec)?;
    Ok(spec)
}

/// Checks what the OCI runtime specification demands and serde cannot.
pub(crate) fn validate(spec: &Spec) -> Result<(), SpecError> {
    version(spec.version())?;
    let process = spec.process().as_ref();
    validate_process(process.ok_or(SpecError::Missing { field: "process" })?)?;
    let root = spec.root().as_ref();
    let root = root.ok_or(SpecError::Missing { field: "root" })?;
    if root.path().as_os_str().is_empty() {
        return Err(SpecError::Missing { field: "root.path" });
    }
    no_nul("root.path", root.path())?;
    for mount in spec.mounts().iter().flatten() {
        validate_mount(mount)?;
    }
    validate_hooks(spec)?;
    let linux = spec.linux().as_ref();
    let linux = linux.ok_or(SpecError::Missing { field: "linux" })?;
    validate_linux(linux)?;
    host_name(spec, linux)
}

fn invalid(field: &str, value: impl AsRef<str>, why: &'static str) -> SpecError {
    SpecError::Invalid {
        field: field.to_owned(),
        value: harmless(value.as_ref()),
        why,
    }
}

/// Major version 1 in the form of semantic versioning; minor versions are compatible.
fn version(version: &str) -> Result<(), SpecError> {
    if version.is_empty() {
        return Err(SpecError::Missing {
            field: "ociVersion",
        });
    }
    let wrong = || invalid("ociVersion", version, "it must be a version 1.x.y");
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = numbers.split('.').collect();
    let digits = |n: &&str| !n.is_empty() && n.len() < 10 && n.bytes().all(|b| b.is_ascii_digit());
    match numbers.as_slice() {
        [major, _, _] if *major == "1" && numbers.iter().all(digits) => Ok(()),
        _ => Err(wrong()),
    }
}

/// Checks a process, of a spec or of an exec.
pub(crate) fn validate_process(process: &Process) -> Result<(), SpecError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(SpecError::Missing {
            field: "process.args",
        });
    }
    for (field, list) in [
        ("process.args", args),
        ("process.env", process.env().as_deref().unwrap_or_default()),
    ] {
        // The value may be a secret: it is not repeated.
        if list.iter().any(|text| text.contains('\0')) {
            return Err(invalid(field, "...", "it contains a NUL byte"));
        }
    }
    absolute("process.cwd", process.cwd())?;
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    for (field, id) in [
        ("process.user.uid", user.uid()),
        ("process.user.gid", user.gid()),
    ]
    .into_iter()
    .chain(groups.map(|gid| ("process.user.additionalGids", gid)))
    {
        if id == u32::MAX {
            return Err(invalid(
                field,
                id.to_string(),
                "that number means \"no id\"",
            ));
        }
    }
    let mut seen = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let typ = limit.typ();
        if seen.contains(&typ) {
            return Err(invalid(
                "process.rlimits",
                typ.to_string(),
                "it is given twice",
            ));
        }
        if limit.soft() > limit.hard() {
            return Err(invalid(
                "process.rlimits",
                typ.to_string(),
                "its soft limit is above its hard limit",
            ));
        }
        seen.push(typ);
    }
    for label in [process.apparmor_profile(), process.selinux_label()]
        .into_iter()
        .flatten()
    {
        if label.contains(['\0', '\n']) {
            return Err(invalid(
                "process.apparmorProfile or selinuxLabel",
                label,
                "it contains a control character",
            ));
        }
    }
    Ok(())
}

fn validate_mount(mount: &Mount) -> Result<(), SpecError> {
    const FIELD: &str = "mounts.destination";
    let destination = mount.destination();
    absolute(FIELD, destination)?;
    no_parents(FIELD, destination)?;
    if destination.components().count() == 1 {
        return Err(invalid(FIELD, "/", "the root file system is root.path"));
    }
    if let Some(source) = mount.source() {
        no_nul("mounts.source", source)?;
    }
    if is_bind(mount) && named(mount.source().as_deref()).is_none() {
        return Err(SpecError::Missing {
            field: "mounts.source of a bind mount",
        });
    }
    for option in mount.options().iter().flatten() {
        if option.contains('\0') {
            return Err(invalid("mounts.options", option, "it contains a NUL byte"));
        }
    }
    Ok(())
}

fn validate_hooks(spec: &Spec) -> Result<(), SpecError> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let lists = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    for hook in lists.into_iter().flatten().flatten() {
        absolute("hooks.path", hook.path())?;
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(invalid("hooks.timeout", "0 or less", "it must be positive"));
        }
    }
    Ok(())
}

fn validate_linux(linux: &Linux) -> Result<(), SpecError> {
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
        seccomp::validate(profile)?;
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
fn host_name(spec: &Spec, linux: &Linux) -> Result<(), SpecError> {
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

fn absolute(field: &str, path: &Path) -> Result<(), SpecError> {
    no_nul(field, path)?;
    if path.is_absolute() {
        Ok(())
    } else {
        Err(invalid(
            field,
            path.to_string_lossy(),
            "it must be an absolute path",
        ))
    }
}

fn no_parents(field: &str, path: &Path) -> Result<(), SpecError> {
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(invalid(
            field,
            path.to_string_lossy(),
            "it must not contain \"..\"",
        ));
    }
    Ok(())
}

fn no_nul(field: &str, path: &Path) -> Result<(), SpecError> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid(
            field,
            path.to_string_lossy(),
            "it contains a NUL byte",
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
