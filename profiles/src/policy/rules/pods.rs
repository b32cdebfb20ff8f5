//! Which pod a container belongs to.

use oci_spec::runtime::Spec;

/// Annotations by which CRI engines name the pod's UID: containerd 1.7 and newer, CRI-O.
const ANNOTATIONS: &[&str] = &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"];

/// The UID of the container's pod: what the kubelet wrote into the cgroup's path and what the
/// engine wrote into its annotations. `None` if nothing says it, or if they contradict each other:
/// some engines let whoever makes a pod write annotations of any name.
pub(crate) fn uid(spec: &Spec) -> Option<String> {
    let linux = spec.linux().as_ref();
    let cgroup = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let cgroup = cgroup.and_then(|path| uid_of_cgroup(path.to_str()?));
    let annotated = spec.annotations().iter().flat_map(|annotations| {
        let found = ANNOTATIONS.iter().filter_map(|key| annotations.get(*key));
        found.cloned()
    });
    let mut all = cgroup.into_iter().chain(annotated);
    let uid = all.next()?;
    (!uid.is_empty() && all.all(|other| other == uid)).then_some(uid)
}

/// The UID in a cgroup that the kubelet has chosen: `/kubepods/burstable/pod<UID>/<ID>`, or with the
/// systemd driver `kubepods-burstable-pod<UID with _ for ->.slice:cri-containerd:<ID>`.
fn uid_of_cgroup(path: &str) -> Option<String> {
    if let Some((slice, _)) = path.split_once(':') {
        let last = slice.strip_suffix(".slice")?.rsplit('-').next()?;
        return Some(last.strip_prefix("pod")?.replace('_', "-"));
    }
    let parent = path.trim_end_matches('/').rsplit('/').nth(1)?;
    parent.strip_prefix("pod").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::harden_tests::{plain, spec};

    #[test]
    fn a_pod_is_known_by_its_cgroup_and_its_annotations() {
        let annotation = "io.kubernetes.cri.sandbox-uid";
        for (cgroup, annotations, expected) in [
            ("/kubepods/pod0a-1b/c0", json!({}), Some("0a-1b")),
            ("/kubepods/burstable/pod0a-1b/c0/", json!({}), Some("0a-1b")),
            (
                "kubepods-besteffort-pod0a_1b.slice:cri-containerd:c0",
                json!({}),
                Some("0a-1b"),
            ),
            ("/k8s.io/c0", json!({annotation: "0a-1b"}), Some("0a-1b")),
            (
                "/kubepods/pod0a-1b/c0",
                json!({annotation: "0a-1b", "io.kubernetes.pod.uid": "0a-1b"}),
                Some("0a-1b"),
            ),
            ("/kubepods/pod0a-1b/c0", json!({annotation: "other"}), None),
            (
                "/x/c0",
                json!({annotation: "0a-1b", "io.kubernetes.pod.uid": "other"}),
                None,
            ),
            ("/x/c0", json!({annotation: ""}), None),
            ("/default/c0", json!({}), None),
            ("/kubepods/pod/c0", json!({}), None),
            ("system.slice:docker:c0", json!({}), None),
            ("/podman/x/c0", json!({}), None),
            ("", json!({}), None),
        ] {
            let mut json = plain();
            json["linux"]["cgroupsPath"] = json!(cgroup);
            json["annotations"] = annotations.clone();
            let found = uid(&spec(&json));
            assert_eq!(found.as_deref(), expected, "{cgroup} {annotations}");
        }
    }
}
