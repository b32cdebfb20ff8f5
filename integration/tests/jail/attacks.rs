//! Attacks, in the jail and out of it.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command};

use cofferdam_integration::error::{At, Result};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::yard::{ID, Yard, text};

/// The attack works outside of the jail, and fails in it for this reason.
fn held(yard: &Yard, attack: &[&str], why: &str) {
    let jailed = yard.attack("jailed", attack);
    assert!(
        jailed.starts_with("refused: ") && jailed.contains(why),
        "{attack:?} in the jail: {jailed}"
    );
    assert_eq!(yard.attack("free", attack), "done", "{attack:?} outside");
}

/// The same words in and outside.
fn allowed(yard: &Yard, attack: &[&str]) {
    for place in ["jailed", "free"] {
        assert_eq!(yard.attack(place, attack), "done", "{attack:?} {place}");
    }
}

/// A process to be harmed.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        let child = Command::new("sleep").arg("600").spawn();
        Self(child.expect("sleep runs"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn no_file_outside_is_seen() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    held(&yard, &["read", "/etc/passwd"], "No such file");
    held(&yard, &["read", "/proc/self/status"], "No such file");
    held(&yard, &["read", "/dev/zero"], "No such file");
    held(
        &yard,
        &["read", text(&yard.beside("secret"))],
        "No such file",
    );
    held(&yard, &["read", "../secret"], "No such file");
    held(&yard, &["write", text(&yard.beside("new"))], "No such file");
    allowed(&yard, &["read", "own"]);
    allowed(&yard, &["write", "mine"]);
    // The way up from the root leads nowhere.
    assert_eq!(yard.attack("jailed", &["write", "../up"]), "done");
    assert!(!yard.beside("up").exists() && yard.inside("up").exists());
    Ok(())
}

#[test]
fn its_descriptors_are_all_it_has_of_proc() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    held(&yard, &["up", "../status"], "No such file");
    held(&yard, &["up", "../../self/status"], "No such file");
    held(&yard, &["up", "../../uptime"], "No such file");
    allowed(&yard, &["reopen", "own"]);
    Ok(())
}

#[test]
fn no_process_outside_can_be_harmed() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let mut victim = Victim::new();
    let pid = victim.0.id().to_string();
    held(&yard, &["trace", &pid], "No such process");
    held(&yard, &["kill", &pid], "No such process");
    victim.0.wait().expect("it was killed");
    Ok(())
}

#[test]
fn nobody_is_reached_over_sockets() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let name = format!("jail-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let _unix = UnixListener::bind_addr(&address).expect("listen");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = tcp.local_addr().expect("an address").to_string();
    held(&yard, &["abstract", &name], "Connection refused");
    held(&yard, &["tcp", &port], "unreachable");
    Ok(())
}

#[test]
fn it_has_no_power_over_mounts_ids_and_devices() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    fs::create_dir(yard.inside("place")).at("make", yard.inside("place"))?;
    held(&yard, &["mount", "place"], "Operation not permitted");
    held(&yard, &["unmount", "."], "Operation not permitted");
    held(&yard, &["mount-namespace"], "Operation not permitted");
    // Ids that are not its own, the host's 0 among them, have no name inside; 1 is another inside.
    held(&yard, &["become", &ID.to_string()], "Invalid argument");
    assert_eq!(yard.attack("jailed", &["become", "1"]), "done");
    held(&yard, &["zeros", "made"], "Operation not permitted");
    let everyone = Mode::from_bits_truncate(0o666);
    let node = yard.inside("node");
    mknod(&node, SFlag::S_IFCHR, everyone, makedev(1, 5)).expect("make a device");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).at("open up", &node)?;
    held(&yard, &["read", "node"], "Permission denied");
    Ok(())
}

#[test]
fn programs_in_the_shared_directory_are_not_run() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let program = yard.inside("program");
    fs::copy(env!("CARGO_BIN_EXE_jail-probe"), &program).at("copy to", &program)?;
    let jailed = yard.attack("jailed", &["execute", "./program"]);
    assert!(jailed.contains("Permission denied"), "{jailed}");
    // Without arguments the probe ends at once, and with this.
    let free = yard.output("free", &["execute", "./program"]);
    assert_eq!(free.status.code(), Some(2));
    Ok(())
}

#[test]
fn limits_bound_what_it_takes() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    // 32 MiB are the guest's in this jail, 260 the monitor's.
    held(&yard, &["allocate", "300"], "Cannot allocate memory");
    allowed(&yard, &["allocate", "200"]);
    held(&yard, &["fork", "100"], "Resource temporarily unavailable");
    allowed(&yard, &["fork", "20"]);
    Ok(())
}

/// `PROT_EXEC` and others, by their numbers: what matters is that the kernel is asked.
#[test]
fn what_a_threads_filter_refuses_ends_the_process_with_a_line() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let number = |call: libc::c_long| call.to_string();
    let calls = [
        ("socket", number(libc::SYS_socket), vec!["1", "1", "0"]),
        ("openat", number(libc::SYS_openat), vec!["-100", "0", "0"]),
        ("execve", number(libc::SYS_execve), vec!["0", "0", "0"]),
        ("unshare", number(libc::SYS_unshare), vec!["268435456"]),
        (
            "clone",
            number(libc::SYS_clone),
            vec!["17", "0", "0", "0", "0"],
        ),
        (
            "ptrace",
            number(libc::SYS_ptrace),
            vec!["16", "1", "0", "0"],
        ),
        (
            "mmap",
            number(libc::SYS_mmap),
            vec!["0", "4096", "7", "34", "-1"],
        ),
        ("mprotect", number(libc::SYS_mprotect), vec!["0", "0", "4"]),
        // KVM_SET_USER_MEMORY_REGION, and TIOCSTI.
        (
            "ioctl",
            number(libc::SYS_ioctl),
            vec!["2", "1075883590", "0"],
        ),
        ("ioctl", number(libc::SYS_ioctl), vec!["2", "21522", "0"]),
        (
            "prctl",
            number(libc::SYS_prctl),
            vec!["4", "1", "0", "0", "0"],
        ),
        (
            "rt_sigaction",
            number(libc::SYS_rt_sigaction),
            vec!["31", "0", "0", "8"],
        ),
        (
            "setresuid",
            number(libc::SYS_setresuid),
            vec!["-1", "-1", "-1"],
        ),
    ];
    for thread in ["main", "devices", "disk", "vcpu"] {
        for (name, number, arguments) in &calls {
            let mut attack = vec!["call", number];
            attack.extend(arguments);
            let output = yard.output(thread, &attack);
            let said = String::from_utf8_lossy(&output.stderr);
            let line = format!(
                "cofferdam-vmm: the filter of the {thread} thread refuses the system call {name} ({number})"
            );
            assert_eq!(output.status.code(), Some(4), "{attack:?}: {said}");
            assert!(said.contains(&line), "{attack:?}: {said}");
            assert!(output.stdout.is_empty(), "{attack:?}");
        }
    }
    // The kernel is asked where there is no filter, whatever it says.
    for (name, number, arguments) in &calls {
        if *name == "clone" {
            continue;
        }
        let mut attack = vec!["call", number];
        attack.extend(arguments);
        let output = yard.output("jailed", &attack);
        assert_eq!(output.status.code(), Some(0), "{attack:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{attack:?}");
    }
    Ok(())
}

/// Linux lets everybody make a user namespace, in which it would have all capabilities: the filters do not.
#[test]
fn a_user_namespace_is_for_the_filters_to_refuse() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    assert_eq!(yard.attack("jailed", &["user-namespace"]), "done");
    for thread in ["main", "devices", "disk", "vcpu"] {
        let said = yard.attack(thread, &["user-namespace"]);
        assert!(said.contains("refuses the system call unshare"), "{said}");
    }
    Ok(())
}
