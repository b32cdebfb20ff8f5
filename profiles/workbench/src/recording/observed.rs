//! From what the BPF recorder saw, in numbers, to a recording, in names.

use std::collections::BTreeSet;

use cofferdam_profiles::access::AccessError;
use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::{self, Arch};
use cofferdam_recorder::{Abi, CallSite, Means, Observed, Phase, SeenCapability};

use super::{Call, Calls, Method, Phases, Recording, VERSION, access};

/// x32's numbers carry this bit (`__X32_SYSCALL_BIT`).
const X32_BIT: u32 = 0x4000_0000;
const CAP_SYS_ADMIN: u8 = 21;

/// What a process that began before the recording, and has executed nothing since, is called.
const UNKNOWN_EXECUTABLE: &str = "(unknown)";

impl Recording {
    /// A recording of one run.
    pub fn of(
        observed: &Observed,
        name: &str,
        filter: Option<String>,
    ) -> Result<Self, AccessError> {
        let mut recording = Self {
            version: VERSION,
            name: name.to_owned(),
            runs: 1,
            lost: observed.lost.total(),
            arch: Arch::NATIVE.to_oci().to_string(),
            kernels: kernel().into_iter().collect(),
            methods: BTreeSet::from([match observed.means {
                Means::Bpf => Method::Bpf,
                Means::Notify => Method::Notify,
            }]),
            capabilities_unseen: u32::from(!observed.knows_capabilities),
            without_new_privileges: u32::from(observed.lost_privileges),
            predicted: observed.predicted.iter().map(native).collect(),
            filters: filter.into_iter().collect(),
            access: observed
                .touched
                .as_ref()
                .map(access::document)
                .transpose()?,
            ..Self::default()
        };
        // With a filter, only what came after it is the filter's business; without, who knows.
        let wanted = |site: &CallSite| site.phase != Phase::Setup || !observed.saw_filter;
        for call in observed.calls.iter().filter(|call| wanted(&call.site)) {
            let seen = recording.call(&call.site);
            seen.count = seen.count.saturating_add(call.count);
            if call.site.phase >= Phase::Startup {
                let path = observed
                    .executables
                    .get(&call.site.executable)
                    .map_or(UNKNOWN_EXECUTABLE, String::as_str);
                let calls = recording.executables.entry(path.to_owned()).or_default();
                calls.insert(name_of_site(&call.site));
            }
        }
        let arguments = observed.arguments.iter();
        for argument in arguments.filter(|argument| wanted(&argument.site)) {
            let values = recording.call(&argument.site).args.entry(argument.index);
            values.or_default().insert(argument.value);
        }
        for seen in &observed.capabilities {
            recording.add_capability(seen, observed.knows_accounting);
        }
        Ok(recording)
    }

    fn call(&mut self, site: &CallSite) -> &mut Call {
        self.phases
            .at(site.phase)
            .entry(name_of_site(site))
            .or_default()
    }

    fn add_capability(&mut self, seen: &SeenCapability, knows_accounting: bool) {
        if seen.site.phase < Phase::Startup
            || seen.accounting
            || (!knows_accounting && may_be_accounting(seen))
        {
            return;
        }
        let Some(name) = capability::name_of(seen.capability) else {
            return;
        };
        let table = if seen.granted {
            &mut self.capabilities
        } else {
            &mut self.capabilities_denied
        };
        let count = table.entry(name).or_default();
        *count = count.saturating_add(seen.count);
    }
}

impl Phases {
    fn at(&mut self, phase: Phase) -> &mut Calls {
        match phase {
            Phase::Setup | Phase::Runtime => &mut self.runtime,
            Phase::Startup => &mut self.startup,
            Phase::Serving => &mut self.serving,
        }
    }
}

fn native(number: &u32) -> String {
    seccomp::name(Arch::NATIVE, *number).unwrap_or_else(|| format!("#{number}"))
}

fn name_of_site(site: &CallSite) -> String {
    let (prefix, arch, number) = match site.abi {
        Abi::Native => ("", Arch::NATIVE, site.number),
        Abi::X32 => ("x32:", Arch::X32, site.number | X32_BIT),
        Abi::X86 => ("x86:", Arch::X86, site.number),
    };
    match seccomp::name(arch, number) {
        Some(name) => format!("{prefix}{name}"),
        None => format!("{prefix}#{}", site.number),
    }
}

/// Where the kernel's symbols are hidden, so that who asked is not known: the calls that do nothing
/// with CAP_SYS_ADMIN but ask whether root's memory reserve may be used (mm/mmap.c, mm/mremap.c,
/// fs/exec.c); and faults, which grow stacks.
fn may_be_accounting(seen: &SeenCapability) -> bool {
    const MEMORY: &[&str] = &[
        "brk", "execve", "execveat", "mmap", "mmap2", "mprotect", "mremap", "munmap", "vfork",
        "fork",
    ];
    seen.capability == CAP_SYS_ADMIN
        && (seen.site.number == u32::MAX || MEMORY.contains(&name_of_site(&seen.site).as_str()))
}

/// The running kernel's release.
fn kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_recorder::{Lost, SeenArgument, SeenCall};

    fn site(phase: Phase, abi: Abi, number: u32) -> CallSite {
        CallSite {
            executable: 4096,
            phase,
            abi,
            number,
        }
    }

    fn observed() -> Observed {
        let call = |phase, abi, number| SeenCall {
            site: site(phase, abi, number),
            count: 2,
        };
        Observed {
            executables: [(4096, "/bin/x".to_owned())].into(),
            calls: vec![
                call(Phase::Setup, Abi::Native, 165),
                call(Phase::Startup, Abi::Native, 41),
                call(Phase::Serving, Abi::X86, 20),
                call(Phase::Serving, Abi::Native, 999),
            ],
            arguments: vec![SeenArgument {
                site: site(Phase::Startup, Abi::Native, 41),
                index: 0,
                value: 2,
            }],
            lost: Lost {
                tasks: 1,
                ..Lost::default()
            },
            knows_capabilities: true,
            knows_accounting: true,
            ..Observed::default()
        }
    }

    #[test]
    fn numbers_become_names_in_their_phase_and_abi() {
        let recording = Recording::of(&observed(), "x", None).expect("room");
        assert_eq!(recording.lost, 1);
        assert_eq!(recording.phases.runtime["mount"].count, 2);
        let socket = &recording.phases.startup["socket"];
        assert_eq!(socket.args, [(0, BTreeSet::from([2]))].into());
        assert_eq!(recording.phases.serving["x86:getpid"].count, 2);
        assert!(recording.phases.serving.contains_key("#999"));
        let names: Vec<&str> = recording.executables["/bin/x"]
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(names, ["#999", "socket", "x86:getpid"]);
    }

    #[test]
    fn what_a_notified_recording_does_not_know_it_says() {
        let seen = Observed {
            means: Means::Notify,
            predicted: [0, 1].into(),
            lost_privileges: true,
            ..Observed::default()
        };
        let recording = Recording::of(&seen, "x", None).expect("room");
        let both = recording
            .merge(Recording::of(&observed(), "x", None).expect("room"))
            .expect("merged");
        assert_eq!(
            both.predicted,
            ["read".to_owned(), "write".to_owned()].into()
        );
        assert_eq!(both.methods, [Method::Bpf, Method::Notify].into());
        let (unseen, without) = (both.capabilities_unseen, both.without_new_privileges);
        assert_eq!((both.runs, unseen, without), (2, 1, 1));
        assert!(!both.phases.all().contains_key("read"));
    }

    #[test]
    fn what_came_before_the_filter_is_not_the_filters_business() {
        let mut seen = observed();
        seen.saw_filter = true;
        assert!(
            Recording::of(&seen, "x", None)
                .expect("room")
                .phases
                .runtime
                .is_empty()
        );
    }

    #[test]
    fn memory_accounting_is_no_need_of_cap_sys_admin() {
        let capability = |capability, number, accounting, granted| SeenCapability {
            site: site(Phase::Startup, Abi::Native, number),
            capability,
            granted,
            accounting,
            count: 1,
        };
        let mut seen = observed();
        seen.capabilities = vec![
            capability(21, 12, true, true),    // brk, by memory accounting
            capability(0, 92, false, true),    // chown
            capability(21, 165, false, false), // mount, refused
        ];
        let recording = Recording::of(&seen, "x", None).expect("room");
        assert_eq!(recording.capabilities, [("CAP_CHOWN".to_owned(), 1)].into());
        let denied = [("CAP_SYS_ADMIN".to_owned(), 1)].into();
        assert_eq!(recording.capabilities_denied, denied);
        // Without symbols the call decides.
        seen.knows_accounting = false;
        seen.capabilities = vec![
            capability(21, 12, false, true),
            capability(21, u32::MAX, false, true),
            capability(21, 165, false, true),
        ];
        let recording = Recording::of(&seen, "x", None).expect("room");
        assert_eq!(
            recording.capabilities,
            [("CAP_SYS_ADMIN".to_owned(), 1)].into()
        );
    }
}
