//! What a virtual machine's guest is told of a hardened spec, and what stands in for it on the host.
//!
//! The spec was hardened for this host, with this host's paths. The guest gets the same one with the places where the
//! host shows it those files, and without what only a host has. What a guest cannot enforce is refused, unless the
//! policy takes it as best effort.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder,
    LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};

use super::model::{BestEffort, Denials, UserNamespace};
use super::report::{Action, Finding, Rule};
use super::{ContainerRecord, Hardened};

/// What a stand-in may call.
const CALLS: &str = include_str!("microvm.json");

/// The most threads and processes of a stand-in.
const STAND_IN_TASKS: i64 = 64;

/// Devices that every container has: character devices by major and minor number.
const USUAL_DEVICES: &[(i64, i64)] = &[(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];

/// What of a hardened spec no virtual machine can have.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// It asks for something of the host's.
    #[error("a container in a virtual machine cannot have this: {field} {problem}. {remedy}")]
    Unsupported {
        /// The field of the spec.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A spec could not be put together.
    #[error("cannot put the spec of a virtual machine's process together")]
    Build(#[from] OciSpecError),
    /// The stand-in's own profile is broken.
    #[error("the profile of what stands in for a virtual machine's process cannot be read")]
    Profile(#[from] serde_json::Error),
}

/// A file or directory that the host shows the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// On the host.
    pub source: PathBuf,
    /// Below the container's directory of the share.
    pub place: String,
    /// The guest must not write to it.
    pub read_only: bool,
}

/// What the guest is told, and what it must find in the share.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The spec as the guest is to see it, the policy, the report with what changed.
    pub record: ContainerRecord,
    /// The root file system first, then volumes.
    pub shared: Vec<Shared>,
    /// Parameters of the network, which is the pod's and not the container's in the guest.
    pub parameters: BTreeMap<String, String>,
}

/// Where things are in the guest.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The container's directory of the share.
    pub share: &'a Path,
    /// The pod's shared memory.
    pub shared_memory: &'a Path,
    /// The container joins a pod whose first container is another.
    pub joins_pod: bool,
}

fn unsupported(
    field: &'static str,
    problem: impl Into<String>,
    remedy: &'static str,
) -> GuestError {
    GuestError::Unsupported {
        field,
        problem: problem.into(),
        remedy,
    }
}

/// Makes the guest's view of a hardened spec.
///
/// # Errors
///
/// [`GuestError`]: what cannot be had, and what to do.
pub fn for_guest(hardened: &Hardened<Spec>, places: Places<'_>) -> Result<Plan, GuestError> {
    let mut record = hardened.record();
    let mut findings = vec![isolation()];
    refuse_hosts_hooks(&record.spec)?;
    if record.report.summary.recording.is_some() {
        return Err(unsupported(
            "annotations",
            "ask for a recording, and the recorder sees no calls of a guest",
            "Record it on the host's kernel",
        ));
    }
    record.spec.set_hooks(None);
    record.spec.set_annotations(None);
    labels(&mut record, &mut findings)?;
    if record.policy.denials == Denials::Explain {
        record.policy.denials = Denials::Silent;
        findings.push(unenforced(
            Rule::Denials,
            "linux.seccomp",
            "denied calls explained",
            "the same errnos, unexplained",
            "the listener that explains them is not in the guest",
        ));
    }
    let mut shared = Vec::new();
    root(&mut record.spec, places, &mut shared)?;
    mounts(&mut record.spec, places, &mut shared)?;
    linux(&mut record.spec, places, &mut findings)?;
    let parameters = parameters(&mut record.spec);
    record.report.findings.extend(findings);
    Ok(Plan {
        record,
        shared,
        parameters,
    })
}

fn isolation() -> Finding {
    Finding {
        rule: Rule::Isolation,
        field: "annotations".to_owned(),
        action: Action::Added,
        asked: "a container on the host's kernel".to_owned(),
        got: "a container in a virtual machine of its pod, confined there as it would be here"
            .to_owned(),
        reason: "the policy or the annotation cofferdam.dev/isolation wants it".to_owned(),
    }
}

fn unenforced(rule: Rule, field: &str, asked: &str, got: &str, reason: &str) -> Finding {
    Finding {
        rule,
        field: field.to_owned(),
        action: Action::Unenforced,
        asked: asked.to_owned(),
        got: got.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Those of the runtime's own namespace run on the host, about the stand-in; those of the container's would need its
/// files.
fn refuse_hosts_hooks(spec: &Spec) -> Result<(), GuestError> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if some(hooks.create_container()) || some(hooks.start_container()) {
        return Err(unsupported(
            "hooks",
            "run in the container's own namespaces, which are in the guest",
            "Use createRuntime, or run it on the host's kernel",
        ));
    }
    Ok(())
}

fn labels(record: &mut ContainerRecord, findings: &mut Vec<Finding>) -> Result<(), GuestError> {
    let policy = &record.policy;
    let lacks = |one| policy.best_effort.contains(&one);
    let (apparmor, selinux) = (lacks(BestEffort::Apparmor), lacks(BestEffort::Selinux));
    let Some(process) = record.spec.process_mut() else {
        return Ok(());
    };
    let asked = process.apparmor_profile().clone();
    if let Some(profile) = asked.filter(|p| !p.is_empty() && p != "unconfined") {
        if !apparmor {
            return Err(unsupported(
                "process.apparmorProfile",
                format!("is {profile}, and the guest's kernel has no AppArmor"),
                "Select a policy with best_effort = [\"apparmor\"]",
            ));
        }
        let why = "the guest's kernel has no AppArmor; the virtual machine is around it";
        let field = "process.apparmorProfile";
        findings.push(unenforced(Rule::Apparmor, field, &profile, "none", why));
    }
    process.set_apparmor_profile(None);
    let asked = process.selinux_label().clone();
    if let Some(label) = asked.filter(|label| !label.is_empty()) {
        if !selinux {
            return Err(unsupported(
                "process.selinuxLabel",
                format!("is {label}, and the guest's kernel has no SELinux"),
                "Select a policy with best_effort = [\"selinux\"]",
            ));
        }
        let why = "the guest's kernel has no SELinux; the virtual machine is around it";
        let field = "process.selinuxLabel";
        findings.push(unenforced(Rule::Selinux, field, &label, "none", why));
    }
    process.set_selinux_label(None);
    if let Some(linux) = record.spec.linux_mut() {
        linux.set_mount_label(None);
    }
    Ok(())
}

fn root(spec: &mut Spec, places: Places<'_>, shared: &mut Vec<Shared>) -> Result<(), GuestError> {
    let Some(root) = spec.root_mut() else {
        return Err(unsupported("root", "is missing", "Name one"));
    };
    shared.push(Shared {
        source: root.path().clone(),
        place: "rootfs".to_owned(),
        read_only: root.readonly().unwrap_or(false),
    });
    root.set_path(places.share.join("rootfs"));
    Ok(())
}

fn mounts(spec: &mut Spec, places: Places<'_>, shared: &mut Vec<Shared>) -> Result<(), GuestError> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (index, mount) in mounts.iter_mut().enumerate() {
        if !is_bind(mount) {
            continue;
        }
        let source = mount.source().clone().unwrap_or_default();
        if mount.destination() == Path::new("/dev/shm") {
            // Memory of the host's would be slow, and is not the pod's here.
            mount.set_source(Some(places.shared_memory.to_owned()));
            continue;
        }
        let read_only = mount_is_read_only(mount.options().as_deref().unwrap_or_default());
        let place = format!("mounts/{index}");
        mount.set_source(Some(places.share.join(&place)));
        shared.push(Shared {
            source,
            place,
            read_only,
        });
    }
    spec.set_mounts(Some(mounts));
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind")
        || options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
}

fn mount_is_read_only(options: &[String]) -> bool {
    let last = options
        .iter()
        .rfind(|option| *option == "ro" || *option == "rw");
    last.is_some_and(|option| option == "ro")
}

fn linux(
    spec: &mut Spec,
    places: Places<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), GuestError> {
    let Some(linux) = spec.linux_mut() else {
        return Err(unsupported("linux", "is missing", "Name its namespaces"));
    };
    let asked = linux.namespaces().clone().unwrap_or_default();
    linux.set_namespaces(Some(namespaces(&asked, places)?));
    linux.set_uid_mappings(None);
    linux.set_gid_mappings(None);
    linux.set_cgroups_path(None);
    for device in linux.devices().iter().flatten() {
        if !USUAL_DEVICES.contains(&(device.major(), device.minor())) {
            return Err(unsupported(
                "linux.devices",
                format!("has {}, a device of the host's", device.path().display()),
                "Run it on the host's kernel",
            ));
        }
    }
    linux.set_devices(None);
    let Some(resources) = linux.resources() else {
        return Ok(());
    };
    let mut resources = resources.clone();
    if let Some(cpu) = resources.cpu() {
        let mut cpu = cpu.clone();
        if cpu.cpus().as_ref().is_some_and(|list| !list.is_empty()) {
            findings.push(unenforced(
                Rule::Isolation,
                "linux.resources.cpu.cpus",
                cpu.cpus().as_deref().unwrap_or_default(),
                "the machine's own processors",
                "the numbers are the host's; the machine's cgroup there has them",
            ));
        }
        cpu.set_cpus(None).set_mems(None);
        cpu.set_realtime_period(None).set_realtime_runtime(None);
        resources.set_cpu(Some(cpu));
    }
    // Of devices, pages and cards that are the host's.
    resources
        .set_block_io(None)
        .set_hugepage_limits(None)
        .set_network(None)
        .set_rdma(None);
    linux.set_resources(Some(resources));
    Ok(())
}

/// Takes the network's parameters out of the spec.
fn parameters(spec: &mut Spec) -> BTreeMap<String, String> {
    let Some(linux) = spec.linux_mut() else {
        return BTreeMap::new();
    };
    let all = linux.sysctl().clone().unwrap_or_default();
    let is_network = |key: &str| key.starts_with("net.") || key.starts_with("net/");
    let (network, others): (HashMap<_, _>, HashMap<_, _>) =
        all.into_iter().partition(|(key, _)| is_network(key));
    linux.set_sysctl(Some(others));
    network.into_iter().collect()
}

/// What is left of the namespaces: the machine has its own network, and its own ids.
fn namespaces(
    asked: &[LinuxNamespace],
    places: Places<'_>,
) -> Result<Vec<LinuxNamespace>, GuestError> {
    let has = |typ| asked.iter().any(|namespace| namespace.typ() == typ);
    if !has(LinuxNamespaceType::Network) {
        return Err(unsupported(
            "linux.namespaces",
            "has no network namespace: the host's is not in the guest",
            "Give it a network of its own, or run it on the host's kernel",
        ));
    }
    let mut left = Vec::new();
    for namespace in asked {
        let path = namespace.path().as_ref();
        let path = path.filter(|path| !path.as_os_str().is_empty());
        match namespace.typ() {
            LinuxNamespaceType::Network | LinuxNamespaceType::User => {}
            LinuxNamespaceType::Time if path.is_some() => {
                return Err(unsupported(
                    "linux.namespaces",
                    "joins a time namespace of the host's",
                    "Leave it out",
                ));
            }
            _ if path.is_some() && !places.joins_pod => {
                return Err(unsupported(
                    "linux.namespaces",
                    format!(
                        "joins the {} namespace of another container, which is not in this machine",
                        namespace.typ()
                    ),
                    "Put both in one pod, or run them on the host's kernel",
                ));
            }
            _ => left.push(namespace.clone()),
        }
    }
    for typ in [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup] {
        if !left.iter().any(|namespace| namespace.typ() == typ) {
            left.push(LinuxNamespaceBuilder::default().typ(typ).build()?);
        }
    }
    Ok(left)
}

/// What a stand-in is made of.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
    /// Its user and group on the host.
    pub user: u32,
    /// Its root file system: a directory with nothing but places to mount on.
    pub root: PathBuf,
    /// What it has in there: source, place, and whether it may write there what its user may.
    pub files: Vec<(PathBuf, PathBuf, bool)>,
    /// The pod's network namespace.
    pub network: PathBuf,
}

/// Makes the spec of what stands in for a container on the host: hardened more than any container, with the engine's
/// hooks, annotations and place in the cgroups.
///
/// # Errors
///
/// [`GuestError::Build`], [`GuestError::Profile`].
pub fn stand_in(
    of: &Hardened<Spec>,
    plan: &Plan,
    made: StandIn,
) -> Result<Hardened<Spec>, GuestError> {
    let spec = of.get();
    let terminal = spec
        .process()
        .as_ref()
        .and_then(|process| process.terminal());
    let size = spec
        .process()
        .as_ref()
        .and_then(|process| process.console_size());
    let mut process = ProcessBuilder::default()
        .terminal(terminal.unwrap_or(false))
        .user(user(made.user)?)
        .args(made.arguments)
        .env(Vec::<String>::new())
        .cwd("/")
        .no_new_privileges(true)
        .build()?;
    process.set_capabilities(None).set_console_size(size);
    let mut namespaces = Vec::new();
    for typ in [
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ] {
        namespaces.push(LinuxNamespaceBuilder::default().typ(typ).build()?);
    }
    namespaces.push(
        LinuxNamespaceBuilder::default()
            .typ(LinuxNamespaceType::Network)
            .path(made.network)
            .build()?,
    );
    let seccomp: LinuxSeccomp = serde_json::from_str(CALLS)?;
    let pids = LinuxPidsBuilder::default().limit(STAND_IN_TASKS).build()?;
    let resources = LinuxResourcesBuilder::default().pids(pids).build()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .seccomp(seccomp)
        .resources(resources)
        .build()?;
    linux.set_masked_paths(None).set_readonly_paths(None);
    linux.set_uid_mappings(None).set_gid_mappings(None);
    let place = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone());
    linux.set_cgroups_path(place);
    let mut mounts = terminals()?;
    for (source, destination, writable) in made.files {
        let access = if writable { "noexec" } else { "ro" };
        let options = ["bind", access, "nosuid", "nodev"]
            .map(str::to_owned)
            .to_vec();
        mounts.push(
            MountBuilder::default()
                .typ("bind")
                .source(source)
                .destination(destination)
                .options(options)
                .build()?,
        );
    }
    let mut root = RootBuilder::default().path(made.root).build()?;
    root.set_readonly(Some(true));
    let mut stand_in = SpecBuilder::default()
        .version(spec.version().clone())
        .process(process)
        .root(root)
        .mounts(mounts)
        .linux(linux)
        .build()?;
    stand_in.set_annotations(spec.annotations().clone());
    stand_in.set_hostname(None);
    if let Some(hooks) = spec.hooks() {
        // Those of the container's namespaces were refused.
        stand_in.set_hooks(Some(hooks.clone()));
    } else {
        stand_in.set_hooks(None::<oci_spec::runtime::Hooks>);
    }
    let mut policy = of.policy().clone();
    policy.denials = Denials::Silent;
    policy.user_namespace = UserNamespace::Engine;
    Ok(Hardened::new(
        stand_in,
        policy,
        plan.record.report.clone(),
        None,
    ))
}

/// A process of the stand-in that joins it, for one that joins the container.
///
/// # Errors
///
/// [`GuestError::Build`].
pub fn stand_in_exec(
    of: &ContainerRecord,
    arguments: Vec<String>,
    like: &oci_spec::runtime::Process,
) -> Result<Hardened<oci_spec::runtime::Process>, GuestError> {
    let init = of.spec.process().clone().unwrap_or_default();
    let mut process = init;
    process.set_args(Some(arguments));
    process.set_terminal(like.terminal());
    process.set_console_size(like.console_size());
    Ok(Hardened::new(
        process,
        of.policy.clone(),
        of.report.clone(),
        None,
    ))
}

/// Where its terminal comes from, if it has one.
fn terminals() -> Result<Vec<Mount>, OciSpecError> {
    let made = |kind: &str, place: &str, options: &[&str]| {
        MountBuilder::default()
            .typ(kind)
            .source(kind)
            .destination(place)
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
    };
    let quiet = ["nosuid", "noexec", "mode=755", "size=64k"];
    let own = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    Ok(vec![
        made("tmpfs", "/dev", &quiet)?,
        made("devpts", "/dev/pts", &own)?,
    ])
}

fn user(id: u32) -> Result<oci_spec::runtime::User, OciSpecError> {
    UserBuilder::default().uid(id).gid(id).build()
}
