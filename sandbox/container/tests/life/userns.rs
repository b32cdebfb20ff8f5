//! Containers with a user namespace, made or joined.

use serde_json::json;

use crate::bundle::{Bundle, needs_root};

/// Container root is user 100000 outside.
fn mapped(bundle: Bundle) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let mut bundle = bundle
        .with("/linux/uidMappings", map.clone())
        .with("/linux/gidMappings", map);
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    // The mapped root must be able to walk to its root file system.
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(bundle.path(), mode).unwrap();
    bundle
}

const LOOK: &str = "id -u; readlink /proc/self/ns/user; cat /proc/self/uid_map;
    grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff)' /proc/self/status";

#[test]
fn init_and_exec_are_in_the_same_user_namespace() {
    if !needs_root() {
        return;
    }
    let bundle = mapped(Bundle::new().script(&format!("{LOOK}; sleep 100"))).up();
    crate::bundle::eventually("init has looked", || {
        bundle.output().contains("Seccomp_filters")
    });
    let said = bundle.exec(LOOK);
    assert_eq!(said.out, bundle.output(), "{}", said.err);
    assert!(said.out.contains("100000"), "{}", said.out);
    let host = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert!(!said.out.contains(host.to_str().unwrap()));
    let outside = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    assert!(outside.contains("Uid:\t100000"), "{outside}");
}

#[test]
fn a_pods_user_namespace_is_joined_by_path() {
    if !needs_root() {
        return;
    }
    let pod = mapped(Bundle::new()).up();
    let pid = pod.pid();
    let path = |file: &str| format!("/proc/{pid}/ns/{file}");
    let mut bundle = mapped(Bundle::new());
    bundle.config["linux"]["namespaces"] = json!([
        {"type": "user", "path": path("user")}, {"type": "network", "path": path("net")},
        {"type": "ipc", "path": path("ipc")}, {"type": "uts", "path": path("uts")},
        {"type": "pid"}, {"type": "mount"}, {"type": "cgroup"},
    ]);
    bundle.config["hostname"] = json!(null);
    let bundle = bundle.up();
    let within = within_pid_namespace(&pod);
    let look = "readlink /proc/self/ns/user; readlink /proc/self/ns/net; cat /proc/self/uid_map";
    let said = bundle.exec(look);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(said.out, pod.exec(look).out);
    drop(within);
}

/// One that joins the pod's pid namespace too: its pid must still be told as the host sees it.
fn within_pid_namespace(pod: &Bundle) -> Bundle {
    let path = |file: &str| format!("/proc/{}/ns/{file}", pod.pid());
    let mut bundle = mapped(Bundle::new().script("echo $$; exec sleep 100"));
    bundle.config["linux"]["namespaces"] = json!([
        {"type": "user", "path": path("user")}, {"type": "pid", "path": path("pid")},
        {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        {"type": "cgroup"},
    ]);
    let bundle = bundle.up();
    crate::bundle::eventually("its pid", || !bundle.output().is_empty());
    let status = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let inner = bundle.output().trim().to_owned();
    assert_ne!(inner, "1");
    assert!(
        status.contains(&format!("NSpid:\t{}\t{inner}\n", bundle.pid())),
        "{status}"
    );
    let said = bundle.exec("readlink /proc/self/ns/pid");
    assert_eq!(
        said.out,
        pod.exec("readlink /proc/self/ns/pid").out,
        "{}",
        said.err
    );
    bundle
}

#[test]
fn a_user_namespace_without_mappings_is_refused() {
    if !needs_root() {
        return;
    }
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    let created = bundle.create();
    assert!(created.err.contains("uidMappings"), "{}", created.err);
    bundle.assert_gone();
}
