//! Containers with a user namespace, made or joined.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, Said, eventually, life, needs_root};

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

/// The host's id of root of a container, by its map.
fn first_id(pid: i32) -> String {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    map.split_whitespace().nth(1).unwrap().to_owned()
}

/// One that joins the user namespace at this path and nothing else.
fn joining(path: String) -> Bundle {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": path}));
    bundle
}

/// `podman run --userns=container:ID`: the ids must stay taken when the container that they were given
/// to has ended, for another one runs with them.
#[test]
fn who_joins_a_user_namespace_by_path_holds_its_ids() {
    if !needs_root() {
        return;
    }
    let owner = Bundle::new().up();
    let first = first_id(owner.pid());
    let other = joining(format!("/proc/{}/ns/user", owner.pid())).up();
    assert_eq!(first_id(other.pid()), first);
    // Its files are its root's: the engine knows nothing of a mapping.
    let said = other.exec("touch /made && stat -c %u /made /bin/busybox");
    assert_eq!(said.out, "0\n0\n", "{}", said.err);
    let made = fs::metadata(other.path().join("rootfs/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0);
    assert_eq!(owner.life("delete", &["force"]).status, 0);
    owner.assert_gone();
    let held = other.ranges();
    assert_eq!(held.len(), 1, "the ids are free while a container has them");
    assert!(held[0].ends_with(&first), "{held:?}");
    assert_eq!(other.life("delete", &["force"]).status, 0);
    assert!(!held[0].exists(), "{held:?}");
}

/// A user namespace whose ids are a container's, and which is no container's: nobody would hold them.
#[test]
fn ids_of_containers_are_not_for_other_user_namespaces() {
    if !needs_root() {
        return;
    }
    let owner = Bundle::new().up();
    let pid = owner.pid().to_string();
    let mut nested = Command::new("nsenter")
        .args(["-t", &pid, "-U", "-S", "0", "-G", "0"])
        .args(["unshare", "-U", "-r", "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let nested_path = format!("/proc/{}/ns/user", nested.id());
    let own = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    eventually("a nested user namespace", || {
        let map = fs::read_to_string(format!("/proc/{}/uid_map", nested.id()));
        fs::read_link(&nested_path).is_ok_and(|link| link != own && link != host)
            && map.is_ok_and(|map| !map.is_empty())
    });
    let bundle = joining(nested_path);
    let created = bundle.create();
    let _ = nested.kill();
    nested.wait().unwrap();
    assert_ne!(created.status, 0);
    assert!(created.err.contains("its ids are among"), "{}", created.err);
    bundle.assert_gone();
    // The same numbers in mappings of the engine's.
    let first: u32 = first_id(owner.pid()).parse().unwrap();
    for (host, size) in [(first + 1000, 1), (first - 10, 11)] {
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        let bundle = mapped(Bundle::new())
            .with("/linux/uidMappings", map.clone())
            .with("/linux/gidMappings", map);
        let created = bundle.create();
        assert_ne!(created.status, 0);
        assert!(created.err.contains("its ids are among"), "{}", created.err);
        bundle.assert_gone();
    }
}

/// Whether this kernel maps tmpfs, where nodes with owners of their own are made: Linux 6.3 and newer.
fn tmpfs_is_mapped() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    version >= (6, 3)
}

/// A device has the owner and the mode that the spec gives it, and need not be where the host has it.
#[test]
fn devices_belong_to_whom_the_spec_says() {
    if !needs_root() {
        return;
    }
    let devices = json!([
        {"path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 0o604,
         "uid": 1000, "gid": 1001},
        {"path": "/dev/sub/null", "type": "c", "major": 1, "minor": 3},
    ]);
    let look = "stat -c '%u %g %a %t %T' /dev/made /dev/sub/null; head -c 3 /dev/made | wc -c;
        echo x >/dev/sub/null && echo written; stat -c %u /dev/null; echo x 2>/dev/null >/dev/made";
    let bundle = Bundle::new().with("/linux/devices", devices).script(look);
    let said = bundle.run();
    if !tmpfs_is_mapped() {
        // Nodes are the host's there, and the host has none of that name.
        assert_ne!(said.status, 0);
        assert!(said.err.contains("the host's /dev/made"), "{}", said.err);
        return;
    }
    let expected = "1000 1001 604 1 5\n0 0 666 1 3\n3\nwritten\n65534\n";
    assert_eq!(said.out, expected, "{}", said.err);
    // Root of the container is not the owner, and has no capability to do without.
    assert_ne!(said.status, 0);
}

/// Runs `create` under policies of the test's own, in namespaces that `before` makes.
fn create_under(bundle: &Bundle, policies: &str, before: &[&str]) -> Said {
    let file = bundle.path().join("policy.toml");
    fs::write(&file, policies).unwrap();
    // Writes the spec.
    drop(bundle.command("create", &[]));
    let output = fs::File::create(bundle.path().join("output")).unwrap();
    let status = Command::new(before.first().copied().unwrap_or("env"))
        .args(before.get(1..).unwrap_or_default())
        .arg(life())
        .arg("--root")
        .arg(bundle.state_root())
        .arg("--policy")
        .arg(&file)
        .args(["create", &bundle.id])
        .current_dir(bundle.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .status()
        .unwrap();
    Said {
        status: status.code().unwrap_or(-1),
        out: String::new(),
        err: bundle.output(),
    }
}

/// The first process of a container can make a user namespace in its own, in which it has every
/// capability, where its filter allows that. Who joins the pod's namespaces does not follow it in there.
#[test]
fn a_nested_user_namespace_is_not_the_pods() {
    if !needs_root() {
        return;
    }
    let mut pod = Bundle::new().script("exec busybox unshare -U -r -n sleep 1000");
    // A map of the parent's root takes CAP_SETFCAP.
    let capabilities = json!(["CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
    for set in ["bounding", "effective", "permitted"] {
        pod.config["process"]["capabilities"][set] = capabilities.clone();
    }
    let created = create_under(
        &pod,
        "default = \"test\"\n[policy.test]\nseccomp = \"engine\"\n",
        &[],
    );
    assert_eq!(created.status, 0, "{}", created.err);
    let pid = pod.pid();
    let before = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let first = first_id(pid);
    assert_eq!(pod.life("start", &[]).status, 0);
    eventually("a nested user namespace", || {
        fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|now| now != before)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    // It shows the very id that the pod's range begins with.
    assert_eq!(first_id(pid), first);
    let path = format!("/proc/{pid}/ns/net");
    let other = Bundle::new().with(
        "/linux/namespaces/1",
        json!({"type": "network", "path": path}),
    );
    assert_eq!(other.create().status, 0, "{}", other.output());
    assert_ne!(first_id(other.pid()), first);
    let theirs = fs::read_link(format!("/proc/{}/ns/user", other.pid())).unwrap();
    assert_ne!(
        theirs,
        fs::read_link(format!("/proc/{pid}/ns/user")).unwrap()
    );
}

/// A runtime in a network namespace of its own, as in a container, and a container that the policy lets
/// into the host's: what would stand for its capabilities there is the host's to say.
#[test]
fn the_hosts_network_keeps_its_parameters_wherever_the_runtime_is() {
    if !needs_root() {
        return;
    }
    const PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let capabilities = json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]);
    let of = |path: &str| {
        let namespace = json!({"type": "network", "path": path});
        let mut bundle = Bundle::new().with("/linux/namespaces/1", namespace);
        for set in ["bounding", "effective", "permitted"] {
            bundle.config["process"]["capabilities"][set] = capabilities.clone();
        }
        bundle
    };
    let policy = "default = \"test\"\n[policy.test]\nhost_namespaces.network = \"allow\"\n";
    // The network of its first process stands for the host's, and the runtime is in another one. What is
    // created is in that pid namespace, and ends with it.
    let show = |script: &str, path: &str| {
        let before = [
            "unshare",
            "-n",
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
        ];
        create_under(&of(path), policy, &before).err
    };
    let hosts = format!("cat {PORTS}; unshare -n \"$@\" && cat {PORTS}");
    assert_eq!(show(&hosts, "/proc/1/ns/net"), "1024\n1024\n");
    // The control: another network namespace of the engine's does get them.
    let engines = format!(
        "unshare -n sleep 100 & until [ -e /proc/2/ns/net ] && [ \"$(cat /proc/2/comm)\" = sleep ]; do sleep 0.01; done
         unshare -n \"$@\" && nsenter -t 2 -n cat {PORTS}"
    );
    assert_eq!(show(&engines, "/proc/2/ns/net"), "0\n");
}
