use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cofferdam_integration::{
    binaries::{Runtime, cache_dir},
    bundle::Bundle,
    command::Cmd,
    containerd::{Containerd, Options, Version},
    enclave::Enclave,
    error::{At, Error, Result},
    loads::stage::rootfs,
};
use serde_json::json;

use crate::{
    sample::{Rows, turns},
    times::{PAUSE, both_inside, bundle_in, ctr_run},
};

/// The same policy without the confinement, with user ids of its own, and with Landlock besides.
const POLICIES: &str = "[annotations]
allow = [\"cofferdam.dev/policy\"]
[policy.without]
user_namespace = \"engine\"
[policy.own-ids]
user_namespace = \"own\"
[policy.and-landlock]
user_namespace = \"own\"
[policy.and-landlock.landlock]
files = \"mounts\"
";

/// Their names; the first is what the others are compared with.
pub(crate) const WHO: [&str; 3] = ["without", "own-ids", "and-landlock"];

/// What the starts are called in the rows.
pub(crate) const STARTS: [&str; 3] = [
    "start: ctr run --rm busybox true",
    "start: run true, plain directory",
    "start: run true, overlay of 80,000 files",
];

/// What the loads are called in the rows.
pub(crate) const LOADS: [&str; 2] = [
    "load: untar a kernel tree, CPU time",
    "load: git status of a kernel tree, 20 times, CPU time",
];

/// How long an untar may take.
const LONG: Duration = Duration::from_secs(300);

/// What the confinement adds to a start, and to loads that work with many files, in an overlay as engines
/// make them.
pub(crate) fn measure(rows: &mut Rows, rounds: usize) -> Result<()> {
    engine_starts(rows, rounds)?;
    let enclave = Enclave::new()?;
    // In memory: a disk's noise would hide what is looked for.
    let place = memory(&enclave);
    fs::create_dir_all(&place).at("make", &place)?;
    let size = ["-t", "tmpfs", "-o", "size=8g", "bench"];
    enclave.cmd("mount").args(size).arg(&place).ok()?;
    // As systemd has it; where tests run it may be a disk.
    let run = ["-t", "tmpfs", "-o", "mode=755", "bench", "/run"];
    enclave.cmd("mount").args(run).ok()?;
    let tree = Tree::unpack(&enclave)?;
    starts(rows, rounds, &enclave, &tree)?;
    loads(rows, rounds.div_ceil(3), &enclave, &tree)
}

/// Where the enclave keeps its trees and bundles.
fn memory(enclave: &Enclave) -> PathBuf {
    enclave.dir().join("memory")
}

fn engine_starts(rows: &mut Rows, rounds: usize) -> Result<()> {
    let options = Options {
        files: vec![("policy.toml".to_owned(), POLICIES.to_owned())],
        ..Options::default()
    };
    let engine = Containerd::start_with(Version::V1_6, Runtime::Cofferdam, &options)?;
    for who in turns(&WHO, rounds + 1) {
        let policy = format!("cofferdam.dev/policy={who}");
        let took = ctr_run(&engine, Runtime::Cofferdam, &["--annotation", &policy])?;
        rows.add(STARTS[0], who, took);
    }
    Ok(())
}

fn starts(rows: &mut Rows, rounds: usize, enclave: &Enclave, tree: &Tree) -> Result<()> {
    let (_, plain) = bundle_in(enclave, "plain", &["true"])?;
    for who in turns(&WHO, rounds + 1) {
        rows.add(STARTS[1], who, run(enclave, who, &plain)?);
    }
    let stacked = tree.bundle(enclave, "stacked", "true")?;
    let overlay = Overlay::mount(enclave, &stacked, &[&tree.0])?;
    for who in turns(&WHO, rounds + 1) {
        rows.add(STARTS[2], who, run(enclave, who, &stacked)?);
    }
    drop(overlay);
    Ok(())
}

fn loads(rows: &mut Rows, rounds: usize, enclave: &Enclave, tree: &Tree) -> Result<()> {
    let unpack = tree.bundle(enclave, "untar", "mkdir /new && tar -xf /linux.tar -C /new")?;
    let status = tree.bundle(
        enclave,
        "status",
        "cd /linux && for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do git status >/dev/null; done",
    )?;
    for (what, bundle, lower) in [
        (LOADS[0], unpack, vec![]),
        (LOADS[1], status, vec![tree.0.as_str()]),
    ] {
        for who in turns(&WHO, rounds + 1) {
            let overlay = Overlay::mount(enclave, &bundle, &lower)?;
            // With user ids of its own the container has a mount of its own, whose cache of names goes with
            // it: the engine's is unmounted within the time, too.
            let unmount = format!("umount {bundle}/rootfs");
            rows.add(what, who, run_and(enclave, who, &bundle, &unmount)?.1);
            drop(overlay);
        }
    }
    Ok(())
}

/// Runs a bundle to its end; milliseconds by the clock.
fn run(enclave: &Enclave, who: &str, bundle: &str) -> Result<f64> {
    Ok(run_and(enclave, who, bundle, "true")?.0)
}

/// Runs a bundle to its end, then a line of shell; milliseconds by the clock, and on a CPU.
fn run_and(enclave: &Enclave, who: &str, bundle: &str, then: &str) -> Result<(f64, f64)> {
    let program = Runtime::Cofferdam.oci()?.display().to_string();
    let policies = enclave.dir().join("policy.toml");
    fs::write(&policies, POLICIES).at("write", &policies)?;
    let variables = [
        format!("COFFERDAM_POLICY_FILE={}", policies.display()),
        format!("COFFERDAM_CACHE={}", enclave.dir().join("cache").display()),
    ];
    let [policies, cache] = &variables;
    let line = format!(
        "env {policies} {cache} {program} --root /run/bench --policy {who} run --bundle {bundle} bench && {then}"
    );
    let took = both_inside(enclave, &["sh", "-c", &line])?;
    thread::sleep(PAUSE);
    Ok(took)
}

/// A directory with a committed kernel tree in `linux`.
struct Tree(String);

impl Tree {
    fn unpack(enclave: &Enclave) -> Result<Self> {
        let place = memory(enclave).join("tree");
        let script = "mkdir \"$2\" && tar -xf \"$1\" -C \"$2\" && cd \"$2\" && mv linux-source-* linux && cd linux \
                      && git init -q && git config gc.auto 0 && git add --force --all . \
                      && git -c user.name=bench -c user.email=bench@localhost commit -qm tree";
        let place = place.display().to_string();
        enclave
            .cmd("sh")
            .args(["-c", script, "sh"])
            .arg(archive()?)
            .arg(&place)
            .limit(LONG)
            .ok()?;
        Ok(Self(place))
    }

    /// A bundle that runs a line of shell, with Debian's tar and git below it and the archive beside.
    fn bundle(&self, enclave: &Enclave, name: &str, line: &str) -> Result<String> {
        let dir = enclave.path(&memory(enclave).join(name).display().to_string());
        let mut bundle = Bundle::without_rootfs(&dir, &["sh", "-c", line])?;
        bundle.spec["linux"]["cgroupsPath"] = format!("/{}/{name}", enclave.tag()).into();
        let mount = json!({
            "destination": "/linux.tar", "type": "bind", "source": archive()?,
            "options": ["bind", "ro"],
        });
        if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
            mounts.push(mount);
        }
        bundle.save()?;
        Ok(memory(enclave).join(name).display().to_string())
    }
}

fn archive() -> Result<String> {
    let path = cache_dir().join("kernel/linux.tar");
    if path.exists() {
        return Ok(path.display().to_string());
    }
    Err(Error::Missing {
        what: "the source of a kernel".to_owned(),
        remedy: "run scripts/fetch-kernel",
    })
}

/// A bundle's root file system: an overlay with an empty upper layer.
struct Overlay<'a> {
    enclave: &'a Enclave,
    bundle: String,
}

impl<'a> Overlay<'a> {
    fn mount(enclave: &'a Enclave, bundle: &str, lower: &[&str]) -> Result<Self> {
        let debian = rootfs("git")?;
        let mut layers: Vec<String> = lower.iter().map(|&layer| layer.to_owned()).collect();
        layers.push(debian.display().to_string());
        let script = "cd \"$1\" && mkdir -p rootfs layer/upper layer/work && mount -t overlay \
                      -o \"lowerdir=$2,upperdir=layer/upper,workdir=layer/work\" overlay rootfs";
        let made = Self {
            enclave,
            bundle: bundle.to_owned(),
        };
        let layers = layers.join(":");
        made.shell(script, &layers).ok()?;
        Ok(made)
    }

    fn shell(&self, script: &str, argument: &str) -> Cmd {
        let cmd = self.enclave.cmd("sh").args(["-c", script, "sh"]);
        cmd.arg(Path::new(&self.bundle)).arg(argument).limit(LONG)
    }
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        let script = "cd \"$1\" && if mountpoint -q rootfs; then umount rootfs; fi && rm -rf layer";
        if let Err(error) = self.shell(script, "").ok() {
            eprintln!("bench: {}", error.chain());
        }
    }
}
