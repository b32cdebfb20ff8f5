//! A process of the spec, checked and turned into what the system calls take.
//!
//! All of it happens before the clone: a bad spec is an error of the caller, and the child has
//! nothing left to parse.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::str::FromStr as _;

use oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    Process,
};

use crate::limits::Limits;
use crate::numa::{self, MemoryPolicy};

/// A field of the spec that cannot be honoured, and what would be right.
#[derive(Debug)]
pub(crate) struct Unacceptable {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

impl Unacceptable {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }
}

/// The five capability sets, a bit per capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// What a process gets, ready for the system calls.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) capabilities: CapabilitySets,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<CString>,
    pub(crate) selinux: Option<CString>,
    pub(crate) terminal: bool,
    /// Rows and columns.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) personality: Option<u64>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) limits: Limits,
}

/// The umask that runc gives when the spec names none.
const DEFAULT_UMASK: u32 = 0o022;

impl ProcessPlan {
    /// Checks `process`.
    pub(crate) fn new(process: &Process) -> Result<Self, Unacceptable> {
        let args = strings(
            "process.args",
            process.args().as_deref().unwrap_or_default(),
        )?;
        if args.first().is_none_or(|program| program.is_empty()) {
            return Err(Unacceptable::new("process.args", "must name a program"));
        }
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(Unacceptable::new(
                "process.cwd",
                format!("{:?} is not an absolute path", cwd.display()),
            ));
        }
        let user = process.user();
        let umask = user.umask().unwrap_or(DEFAULT_UMASK);
        if umask > 0o777 {
            return Err(Unacceptable::new(
                "process.user.umask",
                format!("{umask:o} has more than permission bits"),
            ));
        }
        if user.uid() == u32::MAX || user.gid() == u32::MAX {
            return Err(Unacceptable::new(
                "process.user",
                "4294967295 is not a usable id",
            ));
        }
        Ok(Self {
            args,
            env: environment(process.env().as_deref().unwrap_or_default())?,
            cwd: string("process.cwd", cwd.as_os_str().as_bytes())?,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask,
            capabilities: process
                .capabilities()
                .as_ref()
                .map(capability_sets)
                .transpose()?
                .unwrap_or_default(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: label("process.apparmorProfile", process.apparmor_profile())?,
            selinux: label("process.selinuxLabel", process.selinux_label())?,
            terminal: process.terminal().unwrap_or(false),
            console_size: process
                .console_size()
                .map(|size| -> Result<(u16, u16), Unacceptable> {
                    let cells = |n: u64| {
                        u16::try_from(n).map_err(|_| {
                            Unacceptable::new("process.consoleSize", format!("{n} is above 65535"))
                        })
                    };
                    Ok((cells(size.height())?, cells(size.width())?))
                })
                .transpose()?
                .filter(|&size| size != (0, 0)),
            personality: None,
            memory_policy: None,
            limits: Limits::new(process)?,
        })
    }

    /// Adds what the spec holds outside `process`: it holds for init and for every joined process.
    pub(crate) fn with_container(
        mut self,
        personality: Option<&LinuxPersonality>,
        memory_policy: Option<&LinuxMemoryPolicy>,
    ) -> Result<Self, Unacceptable> {
        self.personality = personality.map(persona).transpose()?;
        self.memory_policy = memory_policy.map(numa::memory_policy).transpose()?;
        Ok(self)
    }

    /// The value of an environment variable; the last one counts.
    pub(crate) fn variable(&self, name: &str) -> Option<&[u8]> {
        self.env.iter().rev().find_map(|entry| {
            entry
                .to_bytes()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
        })
    }
}

/// linux/personality.h: the values runc has for the two domains.
fn persona(personality: &LinuxPersonality) -> Result<u64, Unacceptable> {
    const PER_LINUX: u64 = 0;
    const PER_LINUX32: u64 = 8;
    // The runtime spec reserves `flags` and defines none.
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Unacceptable::new(
            "linux.personality.flags",
            format!("the runtime spec defines no flags, found {flag:?}"),
        ));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    })
}

fn string(field: &'static str, bytes: impl Into<Vec<u8>>) -> Result<CString, Unacceptable> {
    CString::new(bytes).map_err(|_| Unacceptable::new(field, "contains a NUL byte"))
}

fn strings(field: &'static str, list: &[String]) -> Result<Vec<CString>, Unacceptable> {
    list.iter().map(|s| string(field, s.as_bytes())).collect()
}

fn environment(list: &[String]) -> Result<Vec<CString>, Unacceptable> {
    for entry in list {
        // The entry itself may be a secret: say only its place.
        if entry.find('=').is_none_or(|at| at == 0) {
            let place = list
                .iter()
                .position(|e| std::ptr::eq(e, entry))
                .unwrap_or(0);
            return Err(Unacceptable::new(
                "process.env",
                format!("entry {place} is not NAME=value"),
            ));
        }
    }
    strings("process.env", list)
}

fn label(field: &'static str, value: &Option<String>) -> Result<Option<CString>, Unacceptable> {
    match value.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => string(field, text).map(Some),
    }
}

fn capability_sets(sets: &LinuxCapabilities) -> Result<CapabilitySets, Unacceptable> {
    let wanted = CapabilitySets {
        bounding: bits(sets.bounding().as_ref())?,
        effective: bits(sets.effective().as_ref())?,
        permitted: bits(sets.permitted().as_ref())?,
        inheritable: bits(sets.inheritable().as_ref())?,
        ambient: bits(sets.ambient().as_ref())?,
    };
    // The kernel takes an ambient capability only if it is permitted and inheritable. runc drops
    // the others with a warning, and engines do write such specs; less is always safe to give.
    Ok(CapabilitySets {
        effective: wanted.effective & wanted.permitted,
        ambient: wanted.ambient & wanted.permitted & wanted.inheritable,
        ..wanted
    })
}

fn bits(set: Option<&Capabilities>) -> Result<u64, Unacceptable> {
    let mut bits = 0;
    for capability in set.into_iter().flatten() {
        let known = caps::Capability::from_str(&format!("CAP_{capability}")).map_err(|_| {
            Unacceptable::new("process.capabilities", format!("unknown: {capability}"))
        })?;
        bits |= known.bitmask();
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: serde_json::Value) -> Result<ProcessPlan, Unacceptable> {
        let mut base = serde_json::json!({
            "user": {"uid": 1, "gid": 2}, "args": ["sh"], "cwd": "/",
        });
        for (key, value) in json.as_object().into_iter().flatten() {
            base[key] = value.clone();
        }
        ProcessPlan::new(&serde_json::from_value(base).expect("a process"))
    }

    #[test]
    fn bad_fields_are_named() {
        for (json, field) in [
            (serde_json::json!({"args": []}), "process.args"),
            (serde_json::json!({"args": [""]}), "process.args"),
            (serde_json::json!({"args": ["a\0b"]}), "process.args"),
            (serde_json::json!({"cwd": "tmp"}), "process.cwd"),
            (serde_json::json!({"env": ["NOVALUE"]}), "process.env"),
            (serde_json::json!({"env": ["=x"]}), "process.env"),
            (
                serde_json::json!({"user": {"uid": 4_294_967_295u32, "gid": 0}}),
                "process.user",
            ),
            (
                serde_json::json!({"user": {"uid": 0, "gid": 0, "umask": 4096}}),
                "process.user.umask",
            ),
            (
                serde_json::json!({"consoleSize": {"height": 70000, "width": 1}}),
                "process.consoleSize",
            ),
        ] {
            let found = process(json.clone()).map(|_| ()).map_err(|e| e.field);
            assert_eq!(found, Err(field), "{json}");
        }
    }

    #[test]
    fn secrets_stay_out_of_errors() {
        let error = process(serde_json::json!({"env": ["A=b", "hunter2"]})).expect_err("bad env");
        assert!(!error.problem.contains("hunter2"), "{}", error.problem);
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let plan = process(serde_json::json!({"capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
            "effective": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"],
        }}))
        .expect("a plan");
        assert_eq!(plan.capabilities.bounding, 1 << 5 | 1);
        assert_eq!(plan.capabilities.effective, 1 << 5);
        assert_eq!(plan.capabilities.ambient, 0);
    }

    #[test]
    fn no_capabilities_means_none() {
        let plan = process(serde_json::json!({})).expect("a plan");
        assert_eq!(plan.capabilities, CapabilitySets::default());
    }
}
