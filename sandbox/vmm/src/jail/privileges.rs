//! Limits, ids and capabilities.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{Needs, failed};
use crate::error::VmResult;

/// Files open at once: each file that the guest knows is one.
const FILES: u64 = 1 << 17;
/// Threads at once, of all that run under the first id.
const THREADS: u64 = 64;
/// What the process may allocate besides guest memory, bytes, and with each vCPU.
const OWN_MEMORY: u64 = 256 << 20;
const VCPU_MEMORY: u64 = 4 << 20;

/// Capabilities by their numbers (linux/capability.h): files get the owners and modes that the guest says, within the
/// ids of the namespace.
const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SETFCAP: u32 = 31;
const FOR_FILES: [u32; 7] = [CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETFCAP];
/// No kernel has more.
const ALL: u32 = 64;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;

/// linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// linux/capability.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Bounds what the process may take of the host.
pub(super) fn limit(needs: Needs) -> VmResult {
    let memory = (u64::from(needs.memory) << 20)
        .saturating_add(OWN_MEMORY)
        .saturating_add(VCPU_MEMORY * u64::from(needs.vcpus));
    let limits = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, FILES),
        (Resource::RLIMIT_NPROC, THREADS),
        (Resource::RLIMIT_DATA, memory),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_SIGPENDING, 64),
        (Resource::RLIMIT_NICE, 0),
        (Resource::RLIMIT_RTPRIO, 0),
    ];
    for (resource, most) in limits {
        let call = |errno: nix::Error| failed("set limits")(errno.into());
        // A limit that is lower stays so: raising it takes a capability that even root may lack.
        let (_, hard) = getrlimit(resource).map_err(call)?;
        let most = most.min(hard);
        setrlimit(resource, most, most).map_err(call)?;
    }
    // The guest says the modes.
    umask(Mode::empty());
    Ok(())
}

/// Takes the namespace's first ids, and gives up what they are not needed for.
pub(super) fn drop_all(files: bool) -> VmResult {
    let step = |action| move |errno: nix::Error| failed(action)(errno.into());
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).map_err(step("give up groups"))?;
    setresgid(group, group, group).map_err(step("take the group id"))?;
    setresuid(user, user, user).map_err(step("take the user id"))?;
    let kept: &[u32] = if files { &FOR_FILES } else { &[] };
    for capability in (0..ALL).filter(|one| !kept.contains(one)) {
        // SAFETY: it takes a number.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        let error = io::Error::last_os_error();
        // The first number that is no capability of this kernel's.
        if result != 0 && error.raw_os_error() == Some(libc::EINVAL) {
            break;
        }
        if result != 0 {
            return Err(failed("bound capabilities")(error));
        }
    }
    keep(kept).map_err(failed("give up capabilities"))?;
    prctl::set_no_new_privs().map_err(step("forbid new privileges"))
}

/// This thread has these capabilities only.
pub(super) fn keep(capabilities: &[u32]) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let set = |from: u32| {
        let set = capabilities
            .iter()
            .filter_map(|one| one.checked_sub(from).filter(|&bit| bit < 32))
            .fold(0, |bits, bit| bits | 1 << bit);
        Sets {
            effective: set,
            permitted: set,
            inheritable: 0,
        }
    };
    let sets = [set(0), set(32)];
    // SAFETY: the header and the two sets have the kernel's layout for this version.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
