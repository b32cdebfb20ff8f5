//! The systemd driver: systemd makes a scope around the container's first process.
//!
//! libcgroups speaks to systemd and waits for the scope; it knows cgroup v2 only. The limits are
//! given to systemd as well as written by us: systemd writes its own idea of them again at
//! every daemon-reload.

use std::path::{Path, PathBuf};
use std::time::Duration;

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::systemd::manager::{Manager, SystemdManagerError};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources, Spec};

use super::host::{Layout, MOUNT_ROOT, Mode, join, parse_own};
use super::location::{Dir, Location, Unit};
use super::{Driver, Error, file};

/// How long systemd may take to make a scope.
const WAIT: Duration = Duration::from_secs(10);

/// Where systemd says that it is PID 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

pub(super) fn plan(spec: &Spec, id: &str) -> Result<Location, Error> {
    let unavailable = |reason| Err(Error::SystemdUnavailable { reason });
    if !Path::new(BOOTED).is_dir() {
        return unavailable("systemd does not run as PID 1 here; leave out --systemd-cgroup");
    }
    if Layout::probe()?.mode == Mode::V1 {
        return unavailable(
            "it needs cgroup v2 alone on /sys/fs/cgroup, this host has v1 hierarchies; boot with \
             systemd.unified_cgroup_hierarchy=1 or leave out --systemd-cgroup",
        );
    }
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_deref());
    let name = UnitName::parse(path, id)?;
    let mount = PathBuf::from(MOUNT_ROOT);
    let path = join(&join(&mount, &systemd_root()?), &name.directory()?);
    if path.exists() {
        // libcgroups would put the process into a scope that somebody else made.
        return Err(Error::NotEmpty { path });
    }
    Ok(Location {
        driver: Driver::Systemd,
        mode: Mode::V2,
        dirs: vec![Dir {
            controllers: vec![],
            mount,
            created_from: Some(path.clone()),
            path,
        }],
        unit: Some(Unit {
            path: name.to_string(),
            container: id.to_owned(),
        }),
    })
}

/// Makes the scope around a process.
pub(super) fn add(location: &Location, unit: &Unit, pid: Pid) -> Result<(), Error> {
    let started = manager(location, unit)?.add_task(libcgroups_pid(pid));
    started.map_err(failed("start the container's scope"))?;
    // The directory was computed, not asked for: make sure of it.
    let text = file::read(Path::new(&format!("/proc/{pid}/cgroup")))?;
    let inside = parse_own(&text).iter().any(|(controllers, at)| {
        controllers.is_empty()
            && Some(join(Path::new(MOUNT_ROOT), at).as_path()) == location.unified()
    });
    if inside {
        Ok(())
    } else {
        Err(Error::SystemdUnavailable {
            reason: "it put the process into another cgroup than the unit's name says",
        })
    }
}

/// Tells systemd the limits that it knows itself.
pub(super) fn tell(
    location: &Location,
    unit: &Unit,
    resources: &LinuxResources,
) -> Result<(), Error> {
    let current = |name: &str| match location.unified() {
        Some(dir) => file::read_optional(&dir.join(name)).map(Option::unwrap_or_default),
        None => Ok(String::new()),
    };
    let told = told(resources, &current("cpu.max")?, &current("memory.max")?);
    let options = ControllerOpt {
        resources: &told,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    let applied = manager(location, unit)?.apply(&options);
    applied.map_err(failed("set the scope's properties"))
}

/// Ends the scope.
pub(super) fn stop(location: &Location, unit: &Unit) -> Result<(), Error> {
    let stopped = manager(location, unit)?.remove();
    stopped.map_err(failed("stop the container's scope"))
}

fn manager(location: &Location, unit: &Unit) -> Result<Manager, Error> {
    let mount = location.dirs.first().map(|d| d.mount.clone());
    Manager::new(
        mount.unwrap_or_else(|| PathBuf::from(MOUNT_ROOT)),
        PathBuf::from(&unit.path),
        unit.container.clone(),
        true,
        WAIT,
    )
    .map_err(failed("take a connection"))
}

fn failed(action: &'static str) -> impl Fn(SystemdManagerError) -> Error {
    move |error| Error::Systemd {
        action,
        source: Box::new(error),
    }
}

/// The cgroup below which systemd makes slices: its own, without `init.scope`.
fn systemd_root() -> Result<PathBuf, Error> {
    let text = file::read(Path::new("/proc/1/cgroup"))?;
    let own = parse_own(&text)
        .into_iter()
        .find(|(controllers, _)| controllers.is_empty())
        .map_or_else(|| PathBuf::from("/"), |(_, path)| path);
    Ok(match own.file_name() {
        Some(name) if name == "init.scope" => own.parent().unwrap_or(&own).to_owned(),
        _ => own,
    })
}

/// `slice:prefix:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UnitName {
    slice: String,
    prefix: String,
    name: String,
}

impl std::fmt::Display for UnitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.slice, self.prefix, self.name)
    }
}

impl UnitName {
    fn parse(path: Option<&Path>, id: &str) -> Result<Self, Error> {
        let given = match path {
            Some(path) if !path.as_os_str().is_empty() => path.to_string_lossy().into_owned(),
            _ => format!(":cofferdam:{id}"),
        };
        let bad = |reason| Error::BadPath {
            path: given.clone(),
            reason,
        };
        let parts: Vec<&str> = given.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(bad(
                "does not have systemd's form slice:prefix:name, which --systemd-cgroup needs",
            ));
        };
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-@+\\".contains(&b))
        };
        if name.is_empty() || !parts.iter().all(|part| plain(part)) {
            return Err(bad("holds what systemd does not take in a unit's name"));
        }
        if name.ends_with(".slice") {
            return Err(bad("names a slice; a container needs a scope of its own"));
        }
        Ok(Self {
            slice: if slice.is_empty() {
                "system.slice".to_owned()
            } else {
                slice.to_owned()
            },
            prefix: prefix.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The directory below systemd's root: `a-b.slice` is inside `a.slice`.
    fn directory(&self) -> Result<PathBuf, Error> {
        let bad = || Error::BadPath {
            path: self.to_string(),
            reason: "does not begin with a slice such as system.slice",
        };
        let stem = self.slice.strip_suffix(".slice").ok_or_else(bad)?;
        let mut path = PathBuf::new();
        if stem != "-" {
            let mut whole = String::new();
            for part in stem.split('-') {
                if part.is_empty() {
                    return Err(bad());
                }
                if !whole.is_empty() {
                    whole.push('-');
                }
                whole.push_str(part);
                path.push(format!("{whole}.slice"));
            }
        }
        path.push(format!("{}-{}.scope", self.prefix, self.name));
        Ok(path)
    }
}

/// The part of the limits that libcgroups turns into properties correctly. CPU and node sets are not
/// of it: libcgroups 0.7 sends an array of 64-bit numbers where systemd wants bytes. Zeros mean "not
/// given" and are left out (it divides by the period); since it takes a missing quota for an
/// unlimited one, what is in force stands in for what is not given.
fn told(resources: &LinuxResources, cpu_max: &str, memory_max: &str) -> LinuxResources {
    let mut told = LinuxResources::default();
    if let Some(cpu) = resources.cpu() {
        let mut fields = cpu_max.split_whitespace();
        let quota_now = fields.next().and_then(|q| q.parse::<i64>().ok());
        let period_now = fields.next().and_then(|p| p.parse::<u64>().ok());
        let mut out = LinuxCpu::default();
        out.set_shares(cpu.shares().filter(|v| *v != 0));
        out.set_quota(cpu.quota().filter(|v| *v != 0).or(quota_now));
        out.set_period(cpu.period().filter(|v| *v != 0).or(period_now));
        told.set_cpu(Some(out));
    }
    if let Some(memory) = resources.memory() {
        let given = |value: Option<i64>| value.filter(|v| *v != 0);
        let swap = given(memory.swap());
        let limit = given(memory.limit()).or_else(|| {
            // Swap is counted from the limit in force.
            swap.and_then(|_| memory_max.trim().parse().ok())
        });
        let mut out = LinuxMemory::default();
        out.set_limit(limit);
        out.set_reservation(given(memory.reservation()));
        out.set_swap(swap);
        told.set_memory(Some(out));
    }
    if let Some(pids) = resources.pids().filter(|p| p.limit() != 0) {
        told.set_pids(Some(pids));
    }
    told
}

fn libcgroups_pid(pid: Pid) -> libcgroups_nix::unistd::Pid {
    libcgroups_nix::unistd::Pid::from_raw(pid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_become_directories() {
        for (given, expected) in [
            (
                "system.slice:docker:abc",
                Some("system.slice/docker-abc.scope"),
            ),
            (
                "kubepods-besteffort-pod1.slice:cri-containerd:x",
                Some(
                    "kubepods.slice/kubepods-besteffort.slice/\
                     kubepods-besteffort-pod1.slice/cri-containerd-x.scope",
                ),
            ),
            ("-.slice:p:n", Some("p-n.scope")),
            ("", Some("system.slice/cofferdam-id.scope")),
            ("/docker/abc", None),
            ("system.slice:docker", None),
            ("system:docker:abc", None),
            ("a--b.slice:docker:abc", None),
            ("a/../b.slice:docker:abc", None),
            ("system.slice:docker:", None),
            ("system.slice:docker:x.slice", None),
        ] {
            let directory =
                UnitName::parse(Some(Path::new(given)), "id").and_then(|n| n.directory());
            assert_eq!(
                directory.ok().as_deref(),
                expected.map(Path::new),
                "{given:?}"
            );
        }
    }

    #[test]
    fn systemd_is_told_what_is_in_force() {
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "cpu": {"shares": 2048, "period": 0, "cpus": "0-3"},
            "memory": {"limit": 0, "swap": 3000},
            "pids": {"limit": 0},
        }))
        .unwrap();
        let told = told(&resources, "50000 200000\n", "1000\n");
        let cpu = told.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), Some(200_000)));
        assert!(cpu.cpus().is_none());
        let memory = told.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(1000), Some(3000)));
        assert!(told.pids().is_none());
    }

    #[test]
    fn without_systemd_the_error_says_so() {
        if Path::new(BOOTED).exists() {
            println!("SKIPPED: systemd runs here");
            return;
        }
        let spec = serde_json::from_str(r#"{"ociVersion": "1.0.2"}"#).unwrap();
        let error = plan(&spec, "id").unwrap_err();
        assert!(matches!(error, Error::SystemdUnavailable { .. }), "{error}");
    }
}
