//! Whole specs through the whole recipe.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;
use crate::capability::{self, Set};

/// What containerd makes for a container that asks for nothing.
pub(crate) fn plain() -> Value {
    let default = capability::ENGINE_DEFAULT;
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "cwd": "/",
            "capabilities": {"bounding": default, "effective": default, "permitted": default},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "network"}, {"type": "cgroup"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]}
        }
    })
}

pub(crate) fn spec(json: &Value) -> Spec {
    parse_spec(json.to_string().as_bytes()).unwrap()
}

fn baseline(json: &Value) -> Hardened<Spec> {
    let file = PolicyFile::builtin();
    harden(
        spec(json),
        &file,
        &Selection::default(),
        &HostFacts::default(),
    )
    .unwrap()
}

fn bounding(spec: &Spec) -> Set {
    let process = spec.process().as_ref().unwrap();
    Set::from_oci(process.capabilities().as_ref().unwrap().bounding().as_ref())
}

#[test]
fn an_ordinary_container_keeps_what_it_needs() {
    let hardened = baseline(&plain());
    assert_eq!(bounding(hardened.get()), capability::BASELINE);
    let summary = &hardened.report().summary;
    assert!(summary.no_new_privileges);
    assert_eq!(
        summary.capabilities_dropped.to_string(),
        "NET_RAW MKNOD AUDIT_WRITE"
    );
    assert_eq!(
        hardened.report().policy,
        "baseline (chosen by the policy file's default)"
    );
    let linux = hardened.get().linux().as_ref().unwrap();
    assert!(
        linux
            .masked_paths()
            .as_ref()
            .unwrap()
            .contains(&"/proc/kcore".to_owned())
    );
}

#[test]
fn exec_gets_no_more_than_init() {
    let record = baseline(&plain()).record();
    let mut process = spec(&plain()).process().clone().unwrap();
    process.set_no_new_privileges(Some(false));
    let hardened = harden_exec(process, &record).unwrap();
    let sets = hardened.get().capabilities().as_ref().unwrap();
    assert_eq!(
        Set::from_oci(sets.effective().as_ref()),
        capability::BASELINE
    );
    assert_eq!(hardened.get().no_new_privileges(), Some(true));
}

#[test]
fn a_capability_beyond_is_refused() {
    let mut json = plain();
    json["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    let file = PolicyFile::builtin();
    let error = harden(
        spec(&json),
        &file,
        &Selection::default(),
        &HostFacts::default(),
    );
    let error = error.unwrap_err();
    assert_eq!(error.rule(), Some(Rule::Capabilities));
    assert_eq!(
        error.to_string(),
        "cofferdam: policy \"baseline\" refuses the capabilities SYS_ADMIN (rule capabilities, \
         field process.capabilities): they are beyond the policy's bounding set and reach for the \
         host. To allow it: do not add them (--cap-add), or select a policy that extends \
         \"baseline\" with `capabilities.bounding = [..., \"SYS_ADMIN\"]`"
    );
}
