//! User ids of a pod: kubelet's (`hostUsers: false`), or the runtime's own.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt};

use cofferdam_integration::{
    cases::Engine,
    containerd::Version,
    error::{At, Result},
    gate,
};
use k8s_cri::v1;

use crate::{
    Cri,
    pod::{Pod, Wanted},
};

/// The first id on the host, by what a container's init and a process that joined it see.
fn first(cri: &Cri, container: &str) -> Result<u32> {
    let script = "cat /proc/1/uid_map /proc/1/gid_map /proc/self/uid_map /proc/self/gid_map";
    let (_, text, _) = cri.exec(container, &["sh", "-c", script])?;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect());
    let line: Vec<&str> = lines.next().unwrap_or_default();
    assert!(lines.all(|other: Vec<&str>| other == line), "{text}");
    assert!(matches!(line[..], ["0", _, "65536"]), "{text}");
    Ok(line[1]
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// All containers of a pod have the same ids, two pods have none in common.
pub(crate) fn a_pod_has_ids_of_its_own(cri: &Cri) -> Result<()> {
    let mut firsts = Vec::new();
    let pods = [cri.pod("own-a", &[])?, cri.pod("own-b", &[])?];
    for pod in &pods {
        let ids = ["one", "two"].map(|name| {
            pod.start(&Wanted {
                name,
                ..Default::default()
            })
        });
        let [one, two] = ids;
        let one = first(cri, &one?)?;
        assert_eq!(first(cri, &two?)?, one);
        firsts.push(one);
    }
    assert!(firsts[0].abs_diff(firsts[1]) >= 65536, "{firsts:?}");
    Ok(())
}

pub(crate) fn kubelets_ids_are_kept(cri: &Cri) -> Result<()> {
    const FIRST: u32 = 1_000_000_000;
    if cri.engine.version() != Version::V2_1 {
        gate::inapplicable(
            "hostUsers: false: containerd 1.6 does not know it, 1.7 changes the owners of a copy of the image \
             and of no volume",
        );
        return Ok(());
    }
    let volume = cri.engine.scratch("kubelet-volume");
    fs::create_dir(&volume).at("make", &volume)?;
    let pod = Pod::run_with_ids(&cri.client, &cri.engine, "kubelet", &[], Some(FIRST))?;
    let ids = v1::IdMapping {
        host_id: FIRST,
        container_id: 0,
        length: 65536,
    };
    let command =
        "echo x >/volume/root; echo x >/volume/user; chown 7:8 /volume/user; exec sleep 1000";
    let container = pod.start(&Wanted {
        command: &["sh", "-euc", command],
        mounts: vec![v1::Mount {
            container_path: "/volume".to_owned(),
            host_path: volume.display().to_string(),
            uid_mappings: vec![ids],
            gid_mappings: vec![ids],
            ..Default::default()
        }],
        ..Default::default()
    })?;
    assert_eq!(first(cri, &container)?, FIRST);
    // So are the image's files, which containerd gives us with the host's owners, and what is made of them.
    let script = "stat -c %u:%g / /bin/busybox /etc/passwd; chown 5:6 /etc/passwd; echo x >/new; \
                  stat -c %u:%g /etc/passwd /new";
    let (code, text, _) = cri.exec(&container, &["sh", "-c", script])?;
    assert_eq!((code, text.as_str()), (0, "0:0\n0:0\n0:0\n5:6\n0:0\n"));
    // Kubelet asks for volumes to be mapped: owners on disk are as without a user namespace.
    for (name, owner) in [("root", (0, 0)), ("user", (7, 8))] {
        let file = volume.join(name);
        let found = fs::metadata(&file).at("look at", &file)?;
        assert_eq!((found.uid(), found.gid()), owner, "{name}");
    }
    let processes = cri.enclave().find("sleep 1000")?;
    let owners = processes.iter().filter_map(|process| {
        let found = fs::metadata(format!("/proc/{}", process.pid)).ok()?;
        Some(found.uid())
    });
    assert!(owners.clone().any(|owner| owner == FIRST));
    drop(pod);
    fs::remove_dir_all(&volume).at("remove", &volume)
}

/// Whether this kernel maps tmpfs: Linux 6.3 and newer.
fn maps_tmpfs() -> Result<bool> {
    Ok(gate::linux()? >= (6, 3))
}

/// Kubelet keeps secrets and service-account tokens on a tmpfs, root's and, where the pod has a group for its
/// files, that group's.
pub(crate) fn secrets_on_tmpfs_are_read(cri: &Cri) -> Result<()> {
    const READ: &str = "cat /secret/group; cat /secret/root";
    let volume = cri.engine.scratch("token");
    fs::create_dir(&volume).at("make", &volume)?;
    let mount = "mount -t tmpfs -o mode=0755 tmpfs \"$0\"; cd \"$0\"; echo to root >root; echo to group >group; \
                 chmod 600 root; chmod 640 group; chown 0:2000 group";
    let shell = cri.enclave().cmd("sh").args(["-euc", mount]);
    shell.arg(&volume).ok()?;
    let pod = cri.pod("secrets", &[])?;
    let wanted = |name, user| Wanted {
        name,
        user,
        groups: &[2000],
        mounts: vec![v1::Mount {
            container_path: "/secret".to_owned(),
            host_path: volume.display().to_string(),
            readonly: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    if maps_tmpfs()? {
        let root = pod.start(&wanted("root", None))?;
        assert_ne!(first(cri, &root)?, 0);
        let (_, text, _) = cri.exec(&root, &["sh", "-c", READ])?;
        assert_eq!(text, "to group\nto root\n");
        let user = pod.start(&wanted("user", Some(1000)))?;
        let (_, text, _) = cri.exec(&user, &["sh", "-c", READ])?;
        assert_eq!(text, "to group\n");
        let (code, _, _) = cri.exec(&root, &["sh", "-c", "echo x >/secret/root"])?;
        assert_ne!(code, 0, "it is read-only");
    } else {
        let Err(refused) = pod.start(&wanted("root", None)) else {
            panic!("tmpfs cannot be mapped here");
        };
        let text = refused.chain();
        assert!(
            text.contains("tmpfs") && text.contains("mounts.unmapped"),
            "{text}"
        );
    }
    drop(pod);
    cri.enclave().cmd("umount").arg(&volume).ok()?;
    fs::remove_dir(&volume).at("remove", &volume)
}

/// Parameters of a pod's network namespace are the engine's to set, and groups in them the container's.
pub(crate) fn sysctls_of_a_pod_hold(cri: &Cri) -> Result<()> {
    let asked = [
        ("net.ipv4.ip_unprivileged_port_start", "80"),
        ("net.ipv4.ping_group_range", "0 100"),
        ("kernel.shm_rmid_forced", "1"),
    ];
    let sysctls: HashMap<_, _> = asked
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let pod = Pod::run_with(&cri.client, &cri.engine, "sysctls", &[], None, sysctls)?;
    let container = pod.start(&Wanted {
        user: Some(1000),
        ..Default::default()
    })?;
    assert_ne!(first(cri, &container)?, 0);
    for (name, value) in asked {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let (_, text, _) = cri.exec(&container, &["cat", &path])?;
        let found: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(found.join(" "), value, "{name}");
    }
    // A user without capabilities listens where the parameter lets it.
    for (port, works) in [("80", true), ("79", false)] {
        let listen = ["timeout", "1", "nc", "-l", "-p", port];
        let (_, _, said) = cri.exec(&container, &listen)?;
        assert_eq!(!said.contains("ermission denied"), works, "{port}: {said}");
    }
    Ok(())
}
