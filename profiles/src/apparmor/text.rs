//! The text of a profile.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use sha2::{Digest as _, Sha256};

use super::{MAX_PROFILE_BYTES, Mode, PREFIX, Profile, ProfileError, Shape, Stream, pattern};
use crate::access::{Access, AccessPath, Family, Network, Place, Ports, Right, Rights};
use oci_spec::runtime::Capability;

/// Hexadecimal digits of a name.
pub(super) const DIGITS: usize = 32;

/// Stands for the name until it is known.
const NAME: &str = "@SELF@";

/// The kernel's own files, whatever else is allowed: engines' default profiles deny the same by
/// meaning. In /proc only what belongs to a process (a number) and the kernel parameters of
/// namespaces may be written, in /sys only the cgroup file system.
const KERNEL_FILES: &[&str] = &[
    "/proc/* wl",
    "/proc/{[^0-9s]*,s[^y]*,sy[^s]*,sys?*}/** wl",
    "/proc/sys/{[^fkn]*,f[^s]*,fs?*,k[^e]*,ke[^r]*,n[^e]*,ne[^t]*,net?*}/** wl",
    "/proc/sys/fs/{[^m]*,m[^q]*,mq[^u]*} wl",
    "/proc/sys/fs/{[^m]*,m[^q]*,mq[^u]*}/** wl",
    "/proc/sys/kernel/{[^ms]*,m,ms,m[^s]*,ms[^g]*,s,sh,se,s[^eh]*,sh[^m]*,se[^m]*,sem?*} wl",
    "/proc/sys/kernel/*/** wl",
    "/proc/sysrq-trigger rwklx",
    "/proc/kcore rwklx",
    "/proc/kmem rwklx",
    "/proc/mem rwklx",
    "/sys/* wl",
    "/sys/{[^f]*,f[^s]*,fs?*}/** wlx",
    "/sys/fs/{[^c]*,c[^g]*,cg[^r]*,cgr[^o]*,cgro[^u]*,cgrou[^p]*,cgroup?*}/** wlx",
    "/sys/firmware/** rwklx",
    "/sys/devices/virtual/powercap/** rwklx",
    "/sys/kernel/security/** rwklx",
];

/// What a process with a terminal or without streams inherits, which nobody lists.
const TERMINALS: &[&str] = &[
    "/dev/null rw",
    "/dev/console rw",
    "/dev/tty rw",
    "/dev/pts/* rw",
];

/// Runtimes that distributions give a profile of their own, which confines nothing but has a name.
const RUNTIMES: &[&str] = &["unconfined", "runc", "crun"];

pub(super) fn generate(shape: &Shape<'_>) -> Result<Profile, ProfileError> {
    let mut text = Text::default();
    text.line(0, "abi <abi/3.0>,");
    let complain = match shape.mode {
        Mode::Enforce => "",
        Mode::Complain => ",complain",
    };
    text.line(
        0,
        &format!("profile {NAME} flags=(attach_disconnected,mediate_deleted{complain}) {{"),
    );
    if let Some(owner) = shape.owner {
        // A digest, for an id could end the comment's line.
        text.line(1, &format!("# container {}", digest(owner)));
    }
    capabilities(shape, &mut text);
    network(shape, &mut text);
    processes(shape, &mut text)?;
    let audit = if shape.owner.is_some() { "audit " } else { "" };
    for rule in KERNEL_FILES {
        text.line(1, &format!("{audit}deny {rule},"));
    }
    match shape.access {
        None => text.line(1, "file,"),
        Some(access) => {
            files(access, &mut text);
            streams(shape.streams, &mut text);
        }
    }
    text.line(0, "}");
    let Text { text, left_out } = text;
    if text.len() > MAX_PROFILE_BYTES {
        return Err(ProfileError::TooLong);
    }
    let name = format!("{PREFIX}{}", digest(&text));
    Ok(Profile {
        text: text.replace(NAME, &name),
        name,
        mode: shape.mode,
        left_out,
    })
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    let bytes = digest.iter().take(DIGITS / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Text {
    text: String,
    left_out: Vec<String>,
}

impl Text {
    fn line(&mut self, indent: usize, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = indent * 2);
    }

    fn left_out(&mut self, what: &str) {
        if !self.left_out.iter().any(|known| known == what) {
            self.left_out.push(what.to_owned());
        }
    }
}

fn capabilities(shape: &Shape<'_>, text: &mut Text) {
    for capability in shape.capabilities.iter() {
        let name = capability.to_string().to_ascii_lowercase();
        text.line(1, &format!("capability {name},"));
    }
    if shape.capabilities.contains(Capability::SysAdmin) {
        for rule in ["mount,", "remount,", "umount,", "pivot_root,"] {
            text.line(1, rule);
        }
    }
}

fn network(shape: &Shape<'_>, text: &mut Text) {
    let Some(network) = shape.access.and_then(|access| access.network.as_ref()) else {
        text.line(1, "network,");
        return;
    };
    match &network.families {
        None => text.line(1, "network,"),
        Some(families) => {
            for family in families {
                text.line(1, &format!("network {},", family_name(*family)));
            }
        }
    }
    if network.raw == Some(false) {
        for rule in ["inet raw", "inet6 raw", "packet"] {
            text.line(1, &format!("deny network {rule},"));
        }
    }
    let Network {
        tcp_bind,
        tcp_connect,
        ..
    } = network;
    if *tcp_bind != Ports::Any || *tcp_connect != Ports::Any {
        text.left_out("TCP ports: AppArmor tells families of sockets, not ports");
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Unix => "unix",
        Family::Inet => "inet",
        Family::Inet6 => "inet6",
        Family::Netlink => "netlink",
        Family::Packet => "packet",
        Family::Vsock => "vsock",
        Family::Alg => "alg",
    }
}

/// Signals and tracing: among the container's own processes. Who runs it may end it.
fn processes(shape: &Shape<'_>, text: &mut Text) -> Result<(), ProfileError> {
    if let Some(runtime) = shape.runtime
        && !pattern::is_plain_label(runtime)
    {
        let label = runtime.to_owned();
        return Err(ProfileError::Runtime { label });
    }
    let own = shape.runtime.filter(|own| !RUNTIMES.contains(own));
    for peer in RUNTIMES.iter().copied().chain(own) {
        text.line(1, &format!("signal (receive) peer={peer},"));
    }
    text.line(1, &format!("signal (send, receive) peer={NAME},"));
    text.line(
        1,
        &format!("ptrace (trace, read, tracedby, readby) peer={NAME},"),
    );
    if shape
        .access
        .is_some_and(|access| access.scope.abstract_sockets)
    {
        text.left_out("abstract Unix sockets: only some kernels' AppArmor tells them");
    }
    Ok(())
}

/// What the letters of a rule are for files: there is one letter for writing, making and removing.
fn file_letters(rights: Rights) -> String {
    let changes = [
        Right::Write,
        Right::Create,
        Right::Remove,
        Right::MakeDevice,
    ];
    let mut letters = String::new();
    if rights.has(Right::Read) {
        letters.push('r');
    }
    if changes.iter().any(|right| rights.has(*right)) {
        letters.push('w');
    }
    if rights.has(Right::Create) {
        letters.push('l');
    }
    if rights.has(Right::Lock) {
        letters.push('k');
    }
    if rights.has(Right::MapExecute) {
        letters.push('m');
    }
    if rights.has(Right::Execute) {
        letters.push_str("ix");
    }
    letters
}

fn directory_letters(rights: Rights) -> String {
    let mut letters = String::new();
    if rights.has(Right::List) {
        letters.push('r');
    }
    if rights.has(Right::Create) || rights.has(Right::Remove) {
        letters.push('w');
    }
    if rights.has(Right::Lock) && !letters.is_empty() {
        letters.push('k');
    }
    letters
}

fn files(access: &Access, text: &mut Text) {
    for (place, grant) in access.files() {
        let rights = grant.rights;
        file_rules(place, rights, text);
        let [write, create, remove] =
            [Right::Write, Right::Create, Right::Remove].map(|right| rights.has(right));
        if (write || create || remove) && !(write && create && remove) {
            text.left_out(
                "write, create and remove apart from each other: AppArmor has one permission for \
                 the three",
            );
        }
    }
    text.left_out("ioctl: AppArmor allows it on what can be opened");
}

fn file_rules(place: &Place, rights: Rights, text: &mut Text) {
    let letters = file_letters(rights);
    if !letters.is_empty()
        && let Some(pattern) = pattern::files(place)
    {
        text.line(1, &format!("{pattern} {letters},"));
    }
    let letters = directory_letters(rights);
    if !letters.is_empty() {
        text.line(1, &format!("{} {letters},", pattern::directories(place)));
    }
}

fn streams(streams: &[Stream], text: &mut Text) {
    for rule in TERMINALS {
        text.line(1, &format!("{rule},"));
    }
    let mut rules = std::collections::BTreeSet::new();
    for stream in streams {
        // What is no path (a pipe, a socket) is not asked for.
        let Ok(path) = AccessPath::new(stream.path.as_os_str().as_bytes()) else {
            continue;
        };
        let beside = path.parent().and_then(|parent| parent.parent());
        match beside {
            Some(beside) if stream.fifo && !beside.is_root() => {
                rules.insert(pattern::grandchildren(&beside));
            }
            _ => rules.extend(pattern::files(&Place::exact(path))),
        }
    }
    for rule in rules {
        text.line(1, &format!("{rule} rw,"));
    }
}
