//! How large a machine is.

use std::collections::HashMap;

use cofferdam_profiles::policy::{VM_CPUS_ANNOTATION, VM_MEMORY_ANNOTATION};
use oci_spec::runtime::{LinuxResources, Spec};

use super::MachineError;

/// Memory where nothing limits the pod, MiB. What the guest does not use costs nothing.
const DEFAULT_MEMORY: u32 = 1024;
/// What the guest has beside a limit: its kernel, its agent, its page tables. MiB.
const OVERHEAD: u32 = 128;
/// The smallest machine that is sensible, MiB.
const SMALLEST: u32 = 128;
/// The largest, MiB.
const LARGEST: u32 = 1 << 20;
/// The most processors.
const MOST_CPUS: u32 = 32;

/// The size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// MiB.
    pub(crate) memory: u32,
    /// Processors.
    pub(crate) cpus: u8,
}

impl Size {
    /// By the annotations, else by what Kubernetes says of the pod, else by the container's limits.
    pub(crate) fn of(spec: &Spec) -> Result<Self, MachineError> {
        let none = HashMap::new();
        let annotations = spec.annotations().as_ref().unwrap_or(&none);
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let memory = match number(annotations, VM_MEMORY_ANNOTATION)? {
            Some(memory) => memory,
            None => match memory_limit(annotations, resources) {
                Some(limit) => mib(limit).saturating_add(OVERHEAD).max(SMALLEST),
                None => DEFAULT_MEMORY,
            },
        };
        let cpus = match number(annotations, VM_CPUS_ANNOTATION)? {
            Some(cpus) => cpus,
            None => cpu_limit(annotations, resources).map_or(1, |cpus| cpus.min(host_cpus())),
        };
        if !(SMALLEST..=LARGEST).contains(&memory) {
            return Err(MachineError::Size(format!(
                "{memory} MiB of memory; it has {SMALLEST} to {LARGEST}"
            )));
        }
        let cpus = u8::try_from(cpus)
            .ok()
            .filter(|cpus| (1..=32).contains(cpus));
        let cpus = cpus.ok_or_else(|| {
            MachineError::Size(format!("the number of processors is 1 to {MOST_CPUS}"))
        })?;
        Ok(Self { memory, cpus })
    }
}

fn number(annotations: &HashMap<String, String>, key: &str) -> Result<Option<u32>, MachineError> {
    let Some(text) = annotations.get(key) else {
        return Ok(None);
    };
    let bad = |_| MachineError::Size(format!("the annotation {key} is no number"));
    text.parse().map(Some).map_err(bad)
}

fn kubernetes(annotations: &HashMap<String, String>, name: &str) -> Option<i64> {
    let key = format!("io.kubernetes.cri.sandbox-{name}");
    annotations
        .get(&key)?
        .parse()
        .ok()
        .filter(|number| *number > 0)
}

fn memory_limit(
    annotations: &HashMap<String, String>,
    resources: Option<&LinuxResources>,
) -> Option<i64> {
    let own = resources.and_then(|all| all.memory().as_ref()?.limit());
    kubernetes(annotations, "memory").or(own.filter(|limit| *limit > 0))
}

fn mib(bytes: i64) -> u32 {
    u32::try_from((bytes.max(0) + (1 << 20) - 1) >> 20).unwrap_or(u32::MAX)
}

fn cpu_limit(
    annotations: &HashMap<String, String>,
    resources: Option<&LinuxResources>,
) -> Option<u32> {
    let cpu = resources.and_then(|all| all.cpu().as_ref());
    let own = || {
        let cpu = cpu?;
        let period = i64::try_from(cpu.period().filter(|period| *period > 0)?).ok()?;
        Some((cpu.quota().filter(|quota| *quota > 0)?, period))
    };
    let pod = || {
        let quota = kubernetes(annotations, "cpu-quota")?;
        Some((quota, kubernetes(annotations, "cpu-period")?))
    };
    let (quota, period) = pod().or_else(own)?;
    let cpus = quota.saturating_add(period - 1) / period;
    u32::try_from(cpus)
        .ok()
        .map(|cpus| cpus.clamp(1, MOST_CPUS))
}

fn host_cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus).unwrap_or(MOST_CPUS)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, LinuxCpu, LinuxMemory, SpecBuilder};

    use super::*;

    fn spec(annotations: &[(&str, &str)], memory: Option<i64>, cpu: Option<(i64, u64)>) -> Spec {
        let mut resources = LinuxResources::default();
        let mut limit = LinuxMemory::default();
        limit.set_limit(memory);
        resources.set_memory(Some(limit));
        let mut share = LinuxCpu::default();
        share
            .set_quota(cpu.map(|cpu| cpu.0))
            .set_period(cpu.map(|cpu| cpu.1));
        resources.set_cpu(Some(share));
        let linux = LinuxBuilder::default()
            .resources(resources)
            .build()
            .unwrap();
        let annotations: HashMap<String, String> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut spec = SpecBuilder::default().linux(linux).build().unwrap();
        spec.set_annotations(Some(annotations));
        spec
    }

    #[test]
    fn a_machine_has_what_limits_and_annotations_say() {
        let pod = [
            ("io.kubernetes.cri.sandbox-memory", "268435456"),
            ("io.kubernetes.cri.sandbox-cpu-quota", "150000"),
            ("io.kubernetes.cri.sandbox-cpu-period", "100000"),
        ];
        let memory = |spec: Spec| Size::of(&spec).map(|size| size.memory).ok();
        let cpus = |spec: Spec| Size::of(&spec).map(|size| size.cpus).ok();
        assert_eq!(memory(spec(&[], None, None)), Some(1024));
        assert_eq!(memory(spec(&[], Some(-1), None)), Some(1024));
        assert_eq!(memory(spec(&[], Some((64 << 20) + 1), None)), Some(193));
        assert_eq!(memory(spec(&pod, None, None)), Some(384));
        assert_eq!(
            memory(spec(&[(VM_MEMORY_ANNOTATION, "200")], Some(1), None)),
            Some(200)
        );
        for bad in ["", "-1", "127", "1048577", "1G"] {
            assert_eq!(
                memory(spec(&[(VM_MEMORY_ANNOTATION, bad)], None, None)),
                None
            );
        }
        let most = u8::try_from(host_cpus().min(2)).unwrap();
        assert_eq!(cpus(spec(&[], None, None)), Some(1));
        assert_eq!(cpus(spec(&[], None, Some((1, 100_000)))), Some(1));
        assert_eq!(cpus(spec(&[], None, Some((100_001, 100_000)))), Some(most));
        assert_eq!(cpus(spec(&pod, None, None)), Some(most));
        assert_eq!(
            cpus(spec(&[(VM_CPUS_ANNOTATION, "3")], None, None)),
            Some(3)
        );
        for bad in ["0", "33", "x", "256"] {
            assert_eq!(cpus(spec(&[(VM_CPUS_ANNOTATION, bad)], None, None)), None);
        }
    }
}
