//! A pod's machine: its directory, its monitor's process, and the containers in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam_agent::client::Client;
use cofferdam_agent::protocol::{Call, Name, Nothing, SHARE_TAG};
use cofferdam_container::cgroup::{self, Cgroup, Driver};
use cofferdam_container::ids::{self, Lease};
use cofferdam_container::{ContainerId, state};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use oci_spec::runtime::{
    LinuxBuilder, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids, LinuxResources, Spec,
    SpecBuilder,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{at, read_json};
use super::files::Files;
use super::size::Size;
use super::{DIRECTORY, MachineError};

/// What is kept about a machine.
const RECORD: &str = "machine.json";
/// How long a guest may take to answer for the first time: it may be emulated.
const BOOT: Duration = Duration::from_secs(90);
/// How long a guest gets to end by itself, and the kernel to end its monitor.
const END: Duration = Duration::from_secs(3);
/// See [`END`].
const KILLED: Duration = Duration::from_secs(10);
/// What the monitor may use beside the guest's memory, MiB: its own, and pages of files that it serves.
const MONITOR_MEMORY: u32 = 128;
/// Its threads beside those of the processors, and the process outside.
const MONITOR_THREADS: i64 = 64;
/// Hexadecimal digits of a name.
const DIGITS: usize = 16;

/// What is kept about a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The pod: the id of its first container.
    pub(crate) pod: String,
    /// The name of that container in [`Machine::members`].
    owner: String,
    /// Its size.
    pub(crate) memory: u32,
    /// Its processors.
    pub(crate) cpus: u8,
    /// The monitor's process, and when it started; none until there is one.
    process: Option<(i32, u64)>,
    /// The ids of the monitor and of what stands in.
    pub(crate) lease: Option<Lease>,
    /// The monitor's cgroup.
    cgroup: Option<cgroup::Location>,
    /// The pod's network namespace.
    pub(crate) network: PathBuf,
}

/// A machine, locked: nobody else changes it meanwhile.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) dir: PathBuf,
    pub(crate) record: Record,
    _lock: Flock<File>,
}

/// What a container of one state root is called among all.
pub(crate) fn name_of(root: &Path, id: &str) -> String {
    let mut hash = Sha256::new();
    // However it is written.
    let root: PathBuf = root.components().collect();
    hash.update(root.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let digits = hash
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
    digits.get(..DIGITS).unwrap_or(&digits).to_owned()
}

/// Locks a machine; none if it went while this waited.
fn lock(dir: &Path) -> Result<Option<Flock<File>>, MachineError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(at("open", &path))?;
    let locked = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| at("lock", &path)(errno.into()))?;
    let held = locked.metadata().map_err(at("look at", &path))?;
    // Another may have removed it, and a third have made it anew.
    let same = |now: fs::Metadata| (now.dev(), now.ino()) == (held.dev(), held.ino());
    Ok(fs::metadata(&path).is_ok_and(same).then_some(locked))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), MachineError> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at("make", path)(error)),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("make", path))
}

impl Machine {
    /// The machine of a pod.
    pub(crate) fn open(root: &Path, pod: &str) -> Result<Self, MachineError> {
        let gone = || MachineError::Gone {
            pod: pod.to_owned(),
        };
        let machine = Self::at(&Path::new(DIRECTORY).join(name_of(root, pod)))?.ok_or_else(gone)?;
        if machine.is_alive() {
            Ok(machine)
        } else {
            Err(gone())
        }
    }

    /// The machine in a directory; none if there is none.
    pub(crate) fn at(dir: &Path) -> Result<Option<Self>, MachineError> {
        if !dir.exists() {
            return Ok(None);
        }
        let lock = match lock(dir) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            Err(_) if !dir.exists() => return Ok(None),
            Err(error) => return Err(error),
        };
        let record = match read_json(&dir.join(RECORD))? {
            Some(record) => record,
            // Killed before it was written: there is nothing but files.
            None => Record {
                pod: String::new(),
                owner: String::new(),
                memory: 0,
                cpus: 0,
                process: None,
                lease: None,
                cgroup: None,
                network: PathBuf::new(),
            },
        };
        Ok(Some(Self {
            dir: dir.to_owned(),
            record,
            _lock: lock,
        }))
    }

    /// The machine that a container is in, if it is in one.
    pub(crate) fn of_member(root: &Path, id: &ContainerId) -> Result<Option<Self>, MachineError> {
        let name = name_of(root, id.as_str());
        let machines = match fs::read_dir(DIRECTORY) {
            Ok(machines) => machines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("list", Path::new(DIRECTORY))(error)),
        };
        for machine in machines {
            let dir = machine.map_err(at("list", Path::new(DIRECTORY)))?.path();
            if dir.ends_with(&name) || dir.join("members").join(&name).exists() {
                return Self::at(&dir);
            }
        }
        Ok(None)
    }

    /// Makes a pod's machine: all but the monitor's process.
    pub(crate) fn begin(
        root: &Path,
        pod: &str,
        size: Size,
        network: Option<PathBuf>,
    ) -> Result<Self, MachineError> {
        let owner = name_of(root, pod);
        let dir = Path::new(DIRECTORY).join(&owner);
        let above = Path::new("/run/cofferdam");
        make_dir(above, 0o711)?;
        make_dir(Path::new(DIRECTORY), 0o711)?;
        // One that a failed `delete` left, or a killed `create`: who has the id now has no container of it.
        if let Some(mut left) = Self::at(&dir)? {
            let container = ContainerId::parse(pod).ok().map(|id| id.directory(root));
            if container.is_some_and(|directory| directory.exists()) {
                let id = pod.to_owned();
                return Err(cofferdam_container::CreateError::Exists { id }.into());
            }
            left.end()?;
        }
        make_dir(&dir, 0o700)?;
        let lock = lock(&dir)?.ok_or_else(|| {
            let gone = io::Error::from(io::ErrorKind::Interrupted);
            at("lock", &dir)(gone)
        })?;
        let made = network.is_none();
        let record = Record {
            pod: pod.to_owned(),
            owner,
            memory: size.memory,
            cpus: size.cpus,
            process: None,
            lease: None,
            cgroup: None,
            network: network.unwrap_or_else(|| dir.join("network")),
        };
        let mut machine = Self {
            dir,
            record,
            _lock: lock,
        };
        machine.store()?;
        let furnished = machine.furnish(made);
        if furnished.is_err() {
            machine.end()?;
        }
        furnished.map(|()| machine)
    }

    fn furnish(&mut self, make_network: bool) -> Result<(), MachineError> {
        let token = format!("vm-{}", self.record.owner);
        let lease = ids::take(
            Path::new(ids::DIRECTORY),
            &ids::ranges()?,
            &self.dir,
            &token,
        )?;
        self.record.lease = Some(lease);
        self.store()?;
        for (name, mode) in [
            ("members", 0o700),
            ("door", 0o711),
            ("root", 0o755),
            ("share", 0o755),
        ] {
            make_dir(&self.dir.join(name), mode)?;
        }
        for place in ["dev", "door"] {
            make_dir(&self.dir.join("root").join(place), 0o755)?;
        }
        let stand_in = self.dir.join("root/stand-in");
        File::create(&stand_in).map_err(at("make", &stand_in))?;
        let share = self.share();
        let (none, call) = (None::<&str>, |errno: nix::Error| io::Error::from(errno));
        // Cut off first: else what is mounted below would show in the directory above as well.
        for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            if flags == MsFlags::MS_PRIVATE {
                mount(Some(&share), &share, none, MsFlags::MS_BIND, none)
                    .map_err(call)
                    .map_err(at("mount", &share))?;
            }
            mount(none, &share, none, flags, none)
                .map_err(call)
                .map_err(at("set the propagation of", &share))?;
        }
        if make_network {
            super::network::make(&self.record.network)?;
        }
        Ok(())
    }

    /// Where the guest's files are.
    pub(crate) fn share(&self) -> PathBuf {
        self.dir.join("share")
    }

    /// The monitor's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("door/vsock")
    }

    /// The user that stands in has: the last of the machine's ids.
    pub(crate) fn stand_in_user(&self) -> u32 {
        let lease = self.record.lease.as_ref();
        lease.map_or(u32::MAX - 1, |lease| lease.first + lease.size - 1)
    }

    fn store(&self) -> Result<(), MachineError> {
        let path = self.dir.join(RECORD);
        let beside = path.with_extension("new");
        let text = serde_json::to_vec(&self.record).unwrap_or_default();
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(at("write", &path))
    }

    /// Notes that a container is in the machine.
    pub(crate) fn join(&self, name: &str, id: &str) -> Result<(), MachineError> {
        let path = self.dir.join("members").join(name);
        fs::write(&path, id).map_err(at("write", &path))
    }

    /// Whether the monitor runs.
    pub(crate) fn is_alive(&self) -> bool {
        let process = self.record.process;
        process.is_some_and(|(pid, start)| state::is_running(pid, start))
    }

    /// The monitor's process in its jail: the one child of the process that waits outside.
    pub(crate) fn monitor(&self) -> Option<i32> {
        let (outer, _) = self.record.process.filter(|_| self.is_alive())?;
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Starts the monitor with these taps.
    pub(crate) fn start(
        &mut self,
        files: &Files,
        driver: Driver,
        like: &Spec,
        cards: &[super::network::Card],
    ) -> Result<(), MachineError> {
        let lease = self.record.lease.as_ref();
        let lease = lease.ok_or_else(|| MachineError::Start("it has no ids".to_owned()))?;
        let description = serde_json::json!({
            "kernel": files.kernel,
            "initramfs": files.initramfs,
            "memory": self.record.memory,
            "vcpus": self.record.cpus,
            "vsock": {"cid": 3, "socket": self.socket()},
            "shares": [{"tag": SHARE_TAG, "path": self.share()}],
            "network": cards.iter().map(super::network::Card::describe).collect::<Vec<_>>(),
            "jail": {"uid": lease.first, "gid": lease.first, "count": lease.size, "root": self.share()},
        });
        let path = self.dir.join("description.json");
        fs::write(&path, description.to_string()).map_err(at("write", &path))?;
        let report = self.dir.join("door/report");
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o644)
                .open(&report)
        };
        let (out, err) = (open(), open());
        let out = out.map_err(at("make", &report))?;
        let err = err.map_err(at("make", &report))?;
        for card in cards {
            inherit(card.tap.as_fd()).map_err(at("pass on a tap to", &files.monitor))?;
        }
        let mut command = Command::new(&files.monitor);
        command
            .arg(&path)
            .arg(self.dir.join("console"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let child = command.spawn().map_err(at("execute", &files.monitor))?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let start = state::start_of(pid).map_err(at("read the state of", &files.monitor))?;
        self.record.process = Some((pid, start));
        self.store()?;
        self.limit(driver, like, pid)?;
        self.open_door()
    }

    /// The monitor's own cgroup, beside the container's: freezing or killing a container is not to freeze the machine.
    fn limit(&mut self, driver: Driver, like: &Spec, pid: i32) -> Result<(), MachineError> {
        let asked = like.linux().as_ref();
        let path = asked.and_then(|linux| linux.cgroups_path().clone());
        let name = format!("{}-vm", self.record.pod);
        let path = path.map(|path| {
            let mut text = path.into_os_string();
            text.push("-vm");
            PathBuf::from(text)
        });
        let mut linux = LinuxBuilder::default().build().unwrap_or_default();
        linux.set_cgroups_path(path);
        let resources = asked.and_then(|linux| linux.resources().as_ref());
        linux.set_resources(Some(self.monitors(resources)));
        let mut spec = SpecBuilder::default().build().unwrap_or_default();
        spec.set_linux(Some(linux));
        let location = Cgroup::plan(driver, &spec, &name)?;
        self.record.cgroup = Some(location.clone());
        self.store()?;
        let (cgroup, _) = Cgroup::create_best_effort(location, &spec)?;
        Ok(cgroup.add(Pid::from_raw(pid))?)
    }

    /// What holds for the monitor on the host, whatever the guest makes of its own limits: the first container's
    /// processors, the machine's memory, and so many threads as it has.
    fn monitors(&self, asked: Option<&LinuxResources>) -> LinuxResources {
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(monitors_devices()));
        resources.set_cpu(asked.and_then(|asked| asked.cpu().clone()));
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(i64::from(self.record.memory + MONITOR_MEMORY) << 20));
        resources.set_memory(Some(memory));
        let mut pids = LinuxPids::default();
        pids.set_limit(i64::from(self.record.cpus) + MONITOR_THREADS);
        resources.set_pids(Some(pids));
        resources
    }

    /// Waits for the monitor's socket, and lets what stands in connect to it.
    fn open_door(&self) -> Result<(), MachineError> {
        let socket = self.socket();
        let deadline = Instant::now() + BOOT;
        while !socket.exists() {
            if !self.is_alive() || Instant::now() > deadline {
                return Err(MachineError::Start(self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let user = self.stand_in_user();
        chown(
            &socket,
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(user)),
        )
        .map_err(|errno| at("open", &socket)(errno.into()))
    }

    /// Waits for the guest.
    pub(crate) fn await_guest(&self) -> Result<Client, MachineError> {
        let client = Client::await_boot(&self.socket(), BOOT, || self.is_alive());
        client.map_err(|error| {
            if self.is_alive() {
                error.into()
            } else {
                MachineError::Start(self.last_words())
            }
        })
    }

    /// What the monitor said last.
    pub(crate) fn last_words(&self) -> String {
        let path = self.dir.join("door/report");
        let text = fs::read(&path).unwrap_or_default();
        let from = text.len().saturating_sub(2048);
        let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
        let lines: Vec<String> = text
            .lines()
            .map(cofferdam_agent::client::harmless)
            .collect();
        if lines.is_empty() {
            "its monitor said nothing".to_owned()
        } else {
            lines.join("; ")
        }
    }

    /// Takes a container out, and ends the machine with its first or last one.
    pub(crate) fn leave(&mut self, name: &str) -> Result<(), MachineError> {
        if self.is_alive() && name != self.record.owner {
            let told = Client::connect(&self.socket()).and_then(|mut client| {
                client.done(&Call::Delete(Name {
                    id: name.to_owned(),
                }))
            });
            if let Err(error) = told {
                tracing::warn!("the guest kept a container: {}", crate::cli::chain(&error));
            }
        }
        let place = self.share().join(name);
        if name == self.record.owner || self.record.owner.is_empty() {
            return self.end();
        }
        super::share::remove(&place)?;
        let path = self.dir.join("members").join(name);
        remove_file(&path)?;
        remove_file(&self.dir.join("door").join(format!("{name}.events")))
    }

    /// Ends the machine and removes all of it. Can be done again.
    pub(crate) fn end(&mut self) -> Result<(), MachineError> {
        self.end_process()?;
        if let Some(location) = &self.record.cgroup {
            Cgroup::open(location)?.remove()?;
        }
        let share = self.share();
        for place in [&share, &self.dir.join("network")] {
            detach(place)?;
        }
        super::share::remove_empty(&share)?;
        if let Some(lease) = self.record.lease.take() {
            lease
                .release(&self.dir)
                .map_err(at("give back the user ids of", &self.dir))?;
        }
        for name in ["members", "door", "root"] {
            remove_tree(&self.dir.join(name))?;
        }
        for entry in fs::read_dir(&self.dir).map_err(at("list", &self.dir))? {
            let path = entry.map_err(at("list", &self.dir))?.path();
            if path.is_file() {
                remove_file(&path)?;
            }
        }
        fs::remove_dir(&self.dir).map_err(at("remove", &self.dir))
    }

    fn end_process(&self) -> Result<(), MachineError> {
        let Some((pid, start)) = self.record.process else {
            return Ok(());
        };
        let ended_within = |limit: Duration| {
            let deadline = Instant::now() + limit;
            while state::is_running(pid, start) {
                if Instant::now() > deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            true
        };
        if !state::is_running(pid, start) {
            return Ok(());
        }
        let asked = cofferdam_agent::client::connect(
            &self.socket(),
            cofferdam_agent::protocol::CALLS,
            Duration::from_secs(1),
        );
        if let Ok(stream) = asked
            && Client::over(stream)
                .within(END)
                .done(&Call::Shutdown(Nothing {}))
                .is_ok()
            && ended_within(END)
        {
            return Ok(());
        }
        // It is still the one that was started: its number is not another's while it runs.
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(at("end the monitor in", &self.dir)(errno.into())),
        }
        if ended_within(KILLED) {
            Ok(())
        } else {
            Err(MachineError::Unkillable(pid))
        }
    }
}

/// Of devices a monitor needs KVM's alone: taps it is given.
fn monitors_devices() -> Vec<LinuxDeviceCgroup> {
    const KVM: (i64, i64) = (10, 232); // include/linux/miscdevice.h
    let mut none = LinuxDeviceCgroup::default();
    none.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut kvm = LinuxDeviceCgroup::default();
    kvm.set_allow(true)
        .set_typ(Some(LinuxDeviceType::C))
        .set_major(Some(KVM.0))
        .set_minor(Some(KVM.1))
        .set_access(Some("rw".to_owned()));
    vec![none, kvm]
}

/// Lets a child have a descriptor by its number.
fn inherit(fd: impl AsFd) -> io::Result<()> {
    let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(fd, flags)?;
    Ok(())
}

/// Unmounts what is there, with all below it.
pub(super) fn detach(place: &Path) -> Result<(), MachineError> {
    loop {
        match umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(at("unmount", place)(errno.into())),
        }
    }
}

fn remove_file(path: &Path) -> Result<(), MachineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a directory of ours in which nothing is mounted.
fn remove_tree(path: &Path) -> Result<(), MachineError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The device a path is on.
pub(super) fn device(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.dev())
}
