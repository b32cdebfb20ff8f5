//! A container's own user ids: which range, which user namespace, and what of the host must know.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use cofferdam_profiles::capability::Capability;
use cofferdam_profiles::policy::{Action, Finding, Hardened, Rule};
use cofferdam_profiles::userns::RangesError;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid};
use oci_spec::runtime::Spec;

use super::making::Making;
use super::recipe::Recipe;
use crate::error::{CreateError, StateError};
use crate::ids::{self, IdsError, Lease};
use crate::init::chain;
use crate::namespaces::{self, Namespaces};
use crate::process::{ProcessPlan, Unacceptable};
use crate::rootfs::{
    Because, Layers, Owners, RootfsOptions, Unmapped, open_root, open_sources, prepare_network,
};
use crate::state::{self, State};
use crate::sys::namespace;

/// The user namespace of a pod.
mod pod;

/// The name of the link, in the state directory, to a directory of the engine's storage that was made for
/// the container: whoever finds the one removes the other, even if the creator wrote no state.
pub(super) const WORK: &str = "work";

/// What is to be added to the report, for it was not known before.
pub(super) type Findings = Vec<Finding>;

/// Takes a range and makes the user namespace, opens the root file system and the volumes with its
/// owners. Where that fails, and the policy allows it, the container gets the host's ids. Where the user
/// namespace is the engine's choice, its owners are the engine's affair, unless it asks for `map_layers`.
pub(super) fn set_up(
    hardened: &Hardened<Spec>,
    recipe: &mut Recipe<'_>,
    making: &mut Making,
    rootfs: &mut RootfsOptions,
    map_layers: bool,
) -> Result<Findings, CreateError> {
    let policy = hardened.policy();
    let unmapped = policy.may_mount_unmapped();
    if !hardened.own_ids() {
        let container = &making.state.directory;
        let directory = Path::new(ids::DIRECTORY);
        let Some(lease) = pod::of_engine(directory, &recipe.namespaces, container, &token()?)?
        else {
            recipe.namespaces.make_user()?;
            if map_layers {
                as_the_engine_asks(recipe, making, rootfs)?;
            }
            return open(recipe, None, unmapped, rootfs);
        };
        if map_layers {
            return Err(unmappable(
                "the layers are to be mapped for the engine's ids, which are ours",
            )
            .into());
        }
        return with_lease(lease, recipe, making, unmapped, rootfs);
    }
    if map_layers {
        return Err(unmappable("the spec names no user namespace to map the layers for").into());
    }
    match with_own(recipe, making, unmapped, rootfs) {
        Err(error) if policy.may_lack_own_ids() && is_lack(&error) => {
            tracing::warn!(container = %making.state.id, %error, "going on with the host's user ids");
            give_up(&mut making.state).map_err(give_back)?;
            recipe.namespaces.without_user();
            rootfs.root = None;
            rootfs.network_prepared = false;
            let mut findings = open(recipe, None, unmapped, rootfs)?;
            findings.insert(0, unenforced(&error));
            Ok(findings)
        }
        other => other,
    }
}

/// Whether this machine has no ids left, or a file system cannot show its files with other owners. Anything
/// else, such as a layer that somebody could exchange, refuses the container.
fn is_lack(error: &CreateError) -> bool {
    match error {
        CreateError::Ids(
            IdsError::Exhausted { .. } | IdsError::Ranges(RangesError::NoneInCommon),
        ) => true,
        CreateError::Rootfs(error) => error.is_unmappable(),
        _ => false,
    }
}

/// Maps the layers that are only read for the user namespace of the spec.
fn as_the_engine_asks(
    recipe: &Recipe<'_>,
    making: &Making,
    rootfs: &mut RootfsOptions,
) -> Result<(), CreateError> {
    let user = recipe
        .namespaces
        .user()
        .ok_or_else(|| unmappable("the spec names no user namespace to map the layers for"))?;
    let maps = namespace::id_maps(user).map_err(|source| CreateError::System {
        action: "read the id maps of the container's user namespace",
        source,
    })?;
    let first = maps
        .root()
        .ok_or_else(|| unmappable("they must begin with id 0 where the layers are to be mapped"))?;
    let note = making.state.directory.join(WORK);
    rootfs.root = Some(open_root(
        &rootfs.rootfs,
        user,
        first,
        Layers::Lower,
        &note,
    )?);
    Ok(())
}

fn unmappable(why: &str) -> Unacceptable {
    Unacceptable::new("linux.uidMappings", why.to_owned())
}

fn with_own(
    recipe: &mut Recipe<'_>,
    making: &mut Making,
    unmapped: bool,
    rootfs: &mut RootfsOptions,
) -> Result<Findings, CreateError> {
    let lease = range(&mut recipe.namespaces, &making.state.directory)?;
    with_lease(lease, recipe, making, unmapped, rootfs)
}

fn with_lease(
    lease: Lease,
    recipe: &mut Recipe<'_>,
    making: &mut Making,
    unmapped: bool,
    rootfs: &mut RootfsOptions,
) -> Result<Findings, CreateError> {
    let first = lease.first;
    let lease = making.state.ids.insert(lease);
    // From here on an error gives it back.
    if recipe.namespaces.new & namespaces::PID == 0 || making.state.cgroup.is_none() {
        lease
            .may_leave_processes()
            .map_err(|source| CreateError::System {
                action: "note that processes may outlive the container's init",
                source,
            })?;
    }
    recipe.namespaces.make_user()?;
    if let Some(user) = recipe.namespaces.user() {
        let note = making.state.directory.join(WORK);
        let root = open_root(&rootfs.rootfs, user, first, Layers::All, &note)?;
        rootfs.root = Some(root);
    }
    let mut findings = open(recipe, Some(first), unmapped, rootfs)?;
    findings.insert(0, ids_finding(first));
    own_stdio(&recipe.process, making.state.ids.as_ref()).map_err(|source| {
        CreateError::System {
            action: "give the container's user its standard streams",
            source,
        }
    })?;
    Ok(findings)
}

/// Opens the volumes.
fn open(
    recipe: &Recipe<'_>,
    first: Option<u32>,
    may_be_unmapped: bool,
    rootfs: &mut RootfsOptions,
) -> Result<Findings, CreateError> {
    let network = match first {
        Some(_) => joined_network(&recipe.namespaces),
        None => None,
    };
    let owners = recipe.namespaces.user().map(|user| Owners {
        user,
        first,
        may_be_unmapped,
        network: network.filter(|network| !belongs_to(*network, user)),
    });
    rootfs.has_userns = recipe.namespaces.has_user();
    let sources = open_sources(recipe.spec, rootfs, owners)?;
    rootfs.sources = sources.mounts;
    rootfs.nodes = sources.nodes;
    let mut findings: Findings = sources.unmapped.iter().map(unmapped).collect();
    findings.extend(sources.hosts_nodes.iter().map(|path| hosts_node(path)));
    if let (Some(first), Some(network)) = (first, owners.and_then(|owners| owners.network)) {
        let set = prepare_network(recipe.spec, network, first)?;
        rootfs.network_prepared = true;
        findings.extend(set.added.iter().map(network_parameter));
        findings.extend(set.neighbours.iter().map(neighbours_parameter));
    }
    Ok(findings)
}

/// The network namespace that is joined, unless it is the host's, which is left as it is.
fn joined_network(namespaces: &Namespaces) -> Option<BorrowedFd<'_>> {
    let network = namespaces.join_of(namespaces::NETWORK)?;
    // What cannot be compared could be the host's.
    let hosts = namespaces::is_hosts(network, namespaces::NETWORK).unwrap_or(true);
    (!hosts).then_some(network)
}

/// Whether a namespace is owned by a user namespace.
fn belongs_to(namespace: BorrowedFd<'_>, user: BorrowedFd<'_>) -> bool {
    let owner = namespace::owner(namespace).ok();
    owner.is_some_and(|owner| pod::same(owner.as_fd(), user))
}

/// The range of the pod whose namespaces are joined, or one that nobody has. The user namespace of
/// anybody else is not joined: whoever made it is root in it.
fn range(namespaces: &mut Namespaces, container: &Path) -> Result<Lease, CreateError> {
    let token = token()?;
    let directory = Path::new(ids::DIRECTORY);
    for user in pod::owners(namespaces) {
        if let Some(lease) = pod::hold(directory, user.as_fd(), container, &token)? {
            namespaces.join_user(user);
            return Ok(lease);
        }
    }
    let lease = ids::take(directory, &ids::ranges()?, container, &token)?;
    let map = format!("0 {} {}\n", lease.first, lease.size);
    namespaces.id_maps = Some((map.clone(), map));
    Ok(lease)
}

/// Names this process: unique as long as its container is being made, and afterwards its container.
fn token() -> Result<String, CreateError> {
    let pid = nix::unistd::Pid::this().as_raw();
    let stat = state::process_stat(pid).map_err(|source| CreateError::System {
        action: "read this process's own state",
        source,
    })?;
    Ok(format!("{pid}-{}", stat.start))
}

/// Gives the process's user the pipes that are its standard streams, so that it may open
/// `/dev/stdout` again. Their owner is the host's root, which has no id in the container: only a
/// process of the host can do that.
pub(super) fn own_stdio(process: &ProcessPlan, lease: Option<&Lease>) -> io::Result<()> {
    let Some(lease) = lease else {
        return Ok(());
    };
    let (Some(user), Some(group)) = (lease.on_host(process.uid), lease.on_host(process.gid)) else {
        return Ok(());
    };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    for stream in streams {
        // The caller may have closed it.
        let Ok(status) = fstat(stream) else {
            continue;
        };
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        // A socket cannot be opened again, and somebody's own FIFO is not ours to give.
        if kind != SFlag::S_IFIFO || status.st_uid != 0 {
            continue;
        }
        match nix::unistd::fchown(
            stream,
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(group)),
        ) {
            // A file system that keeps no owners.
            Ok(()) | Err(nix::errno::Errno::EPERM | nix::errno::Errno::EROFS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes what a container with its own ids leaves on the host. Can be done again.
pub(super) fn give_up(state: &mut State) -> io::Result<()> {
    remove_work(&state.directory)?;
    match state.ids.take() {
        Some(lease) => lease.release(&state.directory),
        None => Ok(()),
    }
}

/// Removes the directory of the engine's storage that was made for the container, if any was.
pub(super) fn remove_work(directory: &Path) -> io::Result<()> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let note = directory.join(WORK);
    let work = match fs::read_link(&note) {
        Err(error) if absent(&error) => return Ok(()),
        other => other?,
    };
    match fs::remove_dir_all(work) {
        Err(error) if !absent(&error) => Err(error),
        _ => fs::remove_file(&note),
    }
}

fn give_back(source: io::Error) -> CreateError {
    CreateError::System {
        action: "give the user ids back",
        source,
    }
}

fn ids_finding(first: u32) -> Finding {
    Finding {
        rule: Rule::UserNamespace,
        field: "linux.uidMappings".to_owned(),
        action: Action::Added,
        asked: "no mapping".to_owned(),
        got: format!(
            "ids 0 to {} are {first} and up on the host",
            crate::ids::LAST
        ),
        reason: "no other container has them".to_owned(),
    }
}

fn unmapped(mount: &Unmapped) -> Finding {
    let why = match mount.because {
        Because::Engine => "the engine made them",
        Because::Policy => "the policy allows it",
        Because::Kernel => "nor can what it is mounted on, which is the kernel's",
    };
    Finding {
        rule: Rule::UserNamespace,
        field: "mounts".to_owned(),
        action: Action::Unenforced,
        asked: format!(
            "the files at {} with their owners",
            mount.destination.display()
        ),
        got: "all of them belong to nobody".to_owned(),
        reason: format!("the file system {} cannot be id-mapped; {why}", mount.kind),
    }
}

fn hosts_node(path: &Path) -> Finding {
    Finding {
        rule: Rule::UserNamespace,
        field: "linux.devices".to_owned(),
        action: Action::Unenforced,
        asked: format!("{} with the owner and the mode of the spec", path.display()),
        got: "the host's node, with the host's owner and mode".to_owned(),
        reason: "this kernel or process cannot make nodes for other owners; the host's gives nobody more \
                 than the spec's mode"
            .to_owned(),
    }
}

fn network_parameter((name, value): &(String, String)) -> Finding {
    Finding {
        rule: Rule::UserNamespace,
        field: "linux.namespaces".to_owned(),
        action: Action::Added,
        asked: format!("{name} as the network namespace has it"),
        got: value.clone(),
        reason: "the network namespace is the engine's: a capability over it does not count there"
            .to_owned(),
    }
}

fn neighbours_parameter((capability, name, value): &(Capability, String, String)) -> Finding {
    Finding {
        rule: Rule::UserNamespace,
        field: "linux.namespaces".to_owned(),
        action: Action::Unenforced,
        asked: format!("no {capability}"),
        got: format!("what it is for is allowed to all in the network namespace: {name} is {value}"),
        reason: "who shares the network namespace has the capability, or the engine has set the parameter"
            .to_owned(),
    }
}

fn unenforced(error: &CreateError) -> Finding {
    Finding {
        rule: Rule::UserNamespace,
        field: "linux.namespaces".to_owned(),
        action: Action::Unenforced,
        asked: "a user namespace with ids of its own".to_owned(),
        got: "the host's user ids".to_owned(),
        reason: chain(error),
    }
}

/// What is stored about a container: the hardened spec, the policy, and the report with what was found
/// while it was made.
pub(super) fn record(
    hardened: &Hardened<Spec>,
    findings: Findings,
    lease: Option<&Lease>,
) -> Result<Vec<u8>, CreateError> {
    let mut record = hardened.record();
    record.report.findings.extend(findings);
    if hardened.own_ids()
        && lease.is_none()
        && let Some(linux) = record.spec.linux_mut()
    {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|n| n.typ() != oci_spec::runtime::LinuxNamespaceType::User);
        linux.set_namespaces(Some(namespaces));
    }
    serde_json::to_vec(&record).map_err(|source| {
        StateError::Damaged {
            path: PathBuf::from(state::RECORD),
            source,
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::{MountProblem, RootfsError};

    /// `best_effort = ["user-namespace"]` went on with the host's ids after an attack was noticed.
    #[test]
    fn only_what_the_machine_lacks_makes_do_with_the_hosts_ids() {
        let root = |problem| {
            CreateError::from(RootfsError::Unmappable {
                path: PathBuf::from("/r"),
                source: Box::new(problem),
            })
        };
        let volume = |problem| {
            CreateError::from(RootfsError::Mount {
                fstype: "bind".to_owned(),
                from: PathBuf::from("/v"),
                destination: PathBuf::from("/v"),
                source: Box::new(problem),
            })
        };
        let kernel = |errno| io::Error::from_raw_os_error(errno);
        let cannot = || MountProblem::IdMap {
            problem: "the file system 9p cannot be id-mapped".to_owned(),
            source: kernel(libc::EINVAL),
        };
        let exchanged = || MountProblem::Layers {
            problem: "others than root can put something else in the place of its layer".to_owned(),
        };
        let failed = || MountProblem::System {
            action: "open the layer",
            detail: String::new(),
            source: kernel(libc::EINVAL),
        };
        let kind = "9p".to_owned();
        for (error, lack) in [
            (IdsError::Exhausted { count: 1 }.into(), true),
            (IdsError::from(RangesError::NoneInCommon).into(), true),
            (root(cannot()), true),
            (volume(MountProblem::Unmappable { kind }), true),
            (root(exchanged()), false),
            (root(failed()), false),
            (volume(failed()), false),
            (unmappable("why").into(), false),
            (give_back(kernel(libc::EPERM)), false),
        ] {
            assert_eq!(is_lack(&error), lack, "{error:?}");
        }
    }
}
