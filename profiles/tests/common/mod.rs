//! Profiles to test with: the field's own where they are installed, and random ones.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capabilities, Capability, LinuxSeccomp};
use serde_json::{Value, json};

/// The capabilities Docker gives a container that asks for nothing.
pub(crate) fn docker_capabilities() -> Capabilities {
    use Capability::*;
    HashSet::from([
        AuditWrite,
        Chown,
        DacOverride,
        Fowner,
        Fsetid,
        Kill,
        Mknod,
        NetBindService,
        NetRaw,
        Setfcap,
        Setgid,
        Setpcap,
        Setuid,
        SysChroot,
    ])
}

/// The default profiles of other engines that this machine has, resolved for a capability set.
///
/// Debian's golang-github-containers-common brings Podman's; Docker's lies beside the project.
pub(crate) fn engine_profiles(capabilities: &Capabilities) -> Vec<(String, LinuxSeccomp)> {
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/seccomp/moby-default.json"
    );
    let found: Vec<_> = ["/usr/share/containers/seccomp.json", beside]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let dialect: Value = serde_json::from_str(&text).unwrap();
            (path.to_owned(), resolve_dialect(&dialect, capabilities))
        })
        .collect();
    if found.len() < 2 {
        eprintln!(
            "skipped in part: {} of 2 engine profiles are installed",
            found.len()
        );
    }
    found
}

/// What an engine makes of its dialect before it reaches a runtime.
pub(crate) fn resolve_dialect(dialect: &Value, capabilities: &Capabilities) -> LinuxSeccomp {
    let arches: Vec<&Value> = dialect["archMap"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["architecture"] == "SCMP_ARCH_X86_64")
        .flat_map(|entry| {
            let others = entry["subArchitectures"].as_array().into_iter().flatten();
            [&entry["architecture"]].into_iter().chain(others)
        })
        .collect();
    let strings = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str()).map(str::to_owned).collect()
    };
    let has = |name: &String| {
        capabilities.iter().any(|capability| {
            serde_json::to_value(capability).unwrap() == Value::String(name.clone())
        })
    };
    let mut syscalls = Vec::new();
    for rule in dialect["syscalls"].as_array().into_iter().flatten() {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let wanted = strings(&includes["caps"]).iter().all(has)
            && !strings(&excludes["caps"]).iter().any(has)
            && (includes["arches"].is_null()
                || strings(&includes["arches"]).contains(&"amd64".to_owned()))
            && !strings(&excludes["arches"]).contains(&"amd64".to_owned());
        if wanted {
            let mut entry = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    entry[key] = rule[key].clone();
                }
            }
            syscalls.push(entry);
        }
    }
    let mut profile = json!({
        "defaultAction": dialect["defaultAction"],
        "architectures": arches,
        "syscalls": syscalls,
    });
    if !dialect["defaultErrnoRet"].is_null() {
        profile["defaultErrnoRet"] = dialect["defaultErrnoRet"].clone();
    }
    serde_json::from_value(profile).unwrap()
}
