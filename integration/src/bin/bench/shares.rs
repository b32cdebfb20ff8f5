//! A shared directory in a guest, beside the overlay that is shared and Debian's virtiofsd under QEMU.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    command::Cmd,
    error::{At, Error, Result},
    initramfs,
};
use cofferdam_vmm::{VmConfig, config::ShareConfig};

use crate::{
    sample::{Rows, turns},
    vmm::{QEMU_MACHINE, Running},
};

/// Guest memory, MiB.
const MEMORY: u32 = 512;
/// The candidates: the overlay itself, shared by our monitor with names and attributes valid for a second and not at
/// all, and by virtiofsd.
const WHO: [&str; 4] = ["cofferdam", "asks always", "virtiofsd", "overlay"];
/// What is measured: a row, and fio's arguments or a command. The file is warm on the host and cold in the guest.
const LOADS: [(&str, &str); 4] = [
    (
        "sequential read, 64 MiB by 1 MiB",
        "fio --name=a --filename=/data --rw=read --bs=1M --size=64M",
    ),
    (
        "random read, 2048 times 4 KiB",
        "fio --name=a --filename=/more --rw=randread --bs=4k --size=64M --io_size=8M",
    ),
    ("untar, 200 files of 4 KiB", "tar -xf /files.tar -C /out"),
    (
        "find, the same files",
        "find /out -type f -newer /files.tar",
    ),
];
/// How long a guest may take for all of it.
const LIMIT: Duration = Duration::from_secs(240);

/// Compares them. `place` is a directory with `cofferdam-vmm`, `vm-probe`, `vmlinux`, and the roots `fio` and
/// `virtiofsd`; QEMU is on the path, the whole one: the small one has no virtio-fs.
pub(crate) fn measure(rows: &mut Rows, rounds: usize, place: &Path) -> Result<()> {
    let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
    let archive = dir.path().join("initramfs.cpio");
    initramfs::write(&archive, &place.join("vm-probe"))?;
    for (round, who) in turns(&WHO, rounds).into_iter().enumerate() {
        let bench = Bench {
            place,
            archive: &archive,
            root: Root::new(
                &dir.path().join(format!("round{round}")),
                &place.join("fio"),
            )?,
        };
        bench.run(who)?;
        for (index, (what, _)) in LOADS.iter().enumerate() {
            rows.add(what, who, bench.root.took(index)?);
        }
    }
    for (what, _) in LOADS {
        let peers = ["overlay", "virtiofsd", "asks always"].map(|peer| (peer, None));
        rows.compare(what, "ms", "cofferdam", &peers);
    }
    Ok(())
}

/// An overlay over the root with fio, as a container's would be.
struct Root(PathBuf);

impl Root {
    fn new(dir: &Path, lower: &Path) -> Result<Self> {
        let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
        for path in [&upper, &work, &root] {
            fs::create_dir_all(path).at("make", path)?;
        }
        let (lower, upper, work) = (lower.display(), upper.display(), work.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mount = Cmd::new("mount").args(["-t", "overlay", "overlay", "-o", &options]);
        mount.arg(&root).ok()?;
        let root = Self(root);
        root.fill()?;
        Ok(root)
    }

    fn fill(&self) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let path = self.0.join(name);
            fs::write(&path, bytes).at("write", path)
        };
        let noise: Vec<u8> = (0..64_u32 << 18)
            .flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        write("data", &noise)?;
        write("more", &noise)?;
        for name in ["out", "files"] {
            let path = self.0.join(name);
            fs::create_dir(&path).at("make", &path)?;
        }
        for (index, bytes) in noise.chunks(4096).take(200).enumerate() {
            let below = format!("files/{}", index / 20);
            fs::create_dir_all(self.0.join(&below)).at("make", &below)?;
            write(&format!("{below}/{index}"), bytes)?;
        }
        let tar = Cmd::new("tar").arg("-cf").arg(self.0.join("files.tar"));
        tar.arg("-C").arg(&self.0).arg("files").ok()?;
        let mut script = String::from("export PATH=/usr/bin:/usr/sbin HOME=/\n");
        for (index, (_, command)) in LOADS.iter().enumerate() {
            // fio tells its own time, without that of its start, which is long.
            let part = if command.starts_with("fio") {
                format!(
                    "{command} --thread --ioengine=psync --invalidate=0 --output-format=terse \
                     --output=/terse{index} && cut -d';' -f9 /terse{index} >/took{index}\n"
                )
            } else {
                format!(
                    "start=$(date +%s%N); {command} >/said{index} || exit; \
                     echo $((($(date +%s%N) - start) / 1000000)) >/took{index}\n"
                )
            };
            script += &part;
        }
        write("script", script.as_bytes())?;
        let path = self.0.join("script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("open", path)
    }

    /// Milliseconds of a load.
    fn took(&self, load: usize) -> Result<f64> {
        let path = self.0.join(format!("took{load}"));
        let text = fs::read_to_string(&path).at("read", &path)?;
        text.trim().parse().map_err(|_| Error::Load {
            program: "the guest",
            load: LOADS[load].0,
            why: format!("its time is {text:?}"),
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(Cmd::new("umount").arg("-l").arg(&self.0).run());
    }
}

struct Bench<'a> {
    place: &'a Path,
    archive: &'a Path,
    root: Root,
}

impl Bench<'_> {
    fn run(&self, who: &str) -> Result<()> {
        match who {
            "overlay" => {
                let command = Cmd::new("chroot")
                    .arg(&self.root.0)
                    .args(["/bin/sh", "/script"]);
                command.limit(LIMIT).ok().map(drop)
            }
            "virtiofsd" => {
                let socket = self.root.0.with_file_name("socket");
                let mut server = self.virtiofsd(&socket);
                let _server = Running::start(server.stdout(Stdio::null()).stderr(Stdio::null()))?;
                let started = Instant::now();
                while !socket.exists() && started.elapsed() < LIMIT {
                    thread::sleep(Duration::from_millis(10));
                }
                ended(&mut self.qemu(&socket))
            }
            _ => ended(&mut self.ours(if who == "cofferdam" { 1000 } else { 0 })?),
        }
    }

    fn ours(&self, validity: u32) -> Result<Command> {
        let config = VmConfig {
            kernel: self.place.join("vmlinux"),
            initramfs: self.archive.to_owned(),
            vcpus: 1,
            memory: MEMORY,
            command_line: "probe.script".to_owned(),
            vsock: None,
            disks: Vec::new(),
            shares: vec![ShareConfig {
                tag: "files".to_owned(),
                path: self.root.0.clone(),
                read_only: false,
                validity,
            }],
            network: Vec::new(),
            balloon: false,
            jail: None,
        };
        let text = serde_json::to_vec(&config).map_err(|error| Error::Json {
            what: "the machine's description".to_owned(),
            text: format!("{config:?}"),
            source: error,
        })?;
        let description = self.root.0.with_file_name("vm.json");
        fs::write(&description, text).at("write", &description)?;
        let mut command = Command::new(self.place.join("cofferdam-vmm"));
        command.arg(&description);
        Ok(command)
    }

    /// With its own libraries, and as it comes: its threads, cache `auto`, a second; extended attributes, as ours.
    fn virtiofsd(&self, socket: &Path) -> Command {
        let root = self.place.join("virtiofsd");
        let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut socket_option = std::ffi::OsString::from("--socket-path=");
        socket_option.push(socket);
        let mut source = std::ffi::OsString::from("source=");
        source.push(&self.root.0);
        command.arg("--library-path").arg(libraries);
        command.arg(root.join("usr/lib/qemu/virtiofsd"));
        command.arg(socket_option).arg("-o").arg(source);
        command.args([
            "-o",
            "cache=auto",
            "-o",
            "xattr",
            "-o",
            "announce_submounts",
        ]);
        command
    }

    fn qemu(&self, socket: &Path) -> Command {
        let machine = format!("{QEMU_MACHINE},memory-backend=memory");
        let memory = format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on");
        let socket = format!("socket,id=files,path={}", socket.display());
        let line = format!("{} probe.script", crate::vmm::COMMAND_LINE);
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", &machine, "-cpu", "host", "-smp", "1"]);
        // virtiofsd knows no legacy devices, which this machine's are otherwise.
        command.args(["-global", "virtio-mmio.force-legacy=false"]);
        command.args(["-m", &MEMORY.to_string(), "-object", &memory]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(["-serial", "stdio", "-chardev", &socket]);
        command.args([
            "-device",
            "vhost-user-fs-device,chardev=files,tag=files,queue-size=1024",
        ]);
        command.arg("-kernel").arg(self.place.join("vmlinux"));
        command
            .arg("-initrd")
            .arg(self.archive)
            .args(["-append", &line]);
        command
    }
}

/// Waits for the machine's end.
fn ended(command: &mut Command) -> Result<()> {
    let mut running = Running::start(command.stdout(Stdio::null()))?;
    let started = Instant::now();
    loop {
        match running.ended()? {
            None => {}
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                return Err(Error::Load {
                    program: "the guest",
                    load: "whole",
                    why: format!("{command:?}: {status}"),
                });
            }
        }
        if started.elapsed() > LIMIT {
            return Err(Error::Timeout {
                what: "the end of a guest".to_owned(),
                within: LIMIT,
                detail: format!("{command:?}"),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}
