//! The process, of a spec or of an exec.

use oci_spec::runtime::Process;

use super::{SpecError, absolute, invalid};

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
