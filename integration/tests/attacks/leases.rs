//! What a container holds of the host's stays its own as long as it lives, and comes back when it is gone.

use std::fs;
use std::path::PathBuf;

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::Cmd,
    error::{At, Error, Result},
};
use serde_json::{Value, json};

use crate::arena::Arena;

/// An overlay at a bundle's root file system, made of the image, one more lower directory and a place for
/// changes.
struct Layered {
    bundle: Bundle,
    lower: PathBuf,
    changes: PathBuf,
}

impl Layered {
    fn new(arena: &Arena, name: &str, args: &[&str]) -> Result<Self> {
        let store = arena.enclave.dir().join(format!("{name}-store"));
        let (lower, changes) = (store.join("lower"), store.join("changes"));
        let bundle = Bundle::without_rootfs(&arena.enclave.dir().join(name), args)?;
        let (upper, work, rootfs) = (changes.join("fs"), changes.join("work"), bundle.rootfs());
        for path in [&lower, &upper, &work, &rootfs] {
            fs::create_dir_all(path).at("make", path)?;
        }
        let mark = lower.join("mark");
        fs::write(&mark, "the engine's shown\n").at("write", mark)?;
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={}",
            lower.display(),
            arena.image.rootfs.display(),
            upper.display(),
            work.display()
        );
        let mount = arena.enclave.cmd("mount");
        let mount = mount.args(["-t", "overlay", "-o", &options, "overlay"]);
        mount.arg(&rootfs).ok()?;
        Ok(Self {
            bundle,
            lower,
            changes,
        })
    }

    /// What was made for the container beside the place for changes.
    fn made(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.changes).at("list", &self.changes)?;
        let names = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| name.starts_with("cofferdam")).collect())
    }
}

fn ranges(arena: &Arena) -> usize {
    let directory = arena.enclave.path("/run/cofferdam/.ids");
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn state(arena: &Arena, id: &str) -> Result<Value> {
    let state = arena.oci(Runtime::Cofferdam)?.args(["state", id]).ok()?;
    serde_json::from_str(&state.stdout).map_err(|source| Error::Json {
        what: "the container's state".to_owned(),
        text: state.stdout,
        source,
    })
}

/// The main thread of a program ends, and the kernel shows a zombie; another thread goes on. A runtime
/// that takes it for dead gives its user ids, its cgroup and its profile away.
#[test]
fn a_container_lives_as_long_as_one_of_its_threads() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let bundle = arena.ordinary("headless", &["attack-probe", "headless"])?;
    let id = arena.start(Runtime::Cofferdam, &bundle, "headless")?;
    let pid = state(&arena, &id)?["pid"].as_i64().expect("a pid");
    let stat = || -> Result<String> {
        let show = arena.enclave.cmd("cat").arg(format!("/proc/{pid}/stat"));
        let text = show.ok()?.stdout;
        Ok(text
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned())
    };
    for _ in 0..500 {
        if stat()?.starts_with('Z') {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // The control: what the kernel says of a dead process, but for the number of threads.
    assert!(stat()?.starts_with('Z'), "{}", stat()?);
    assert_eq!(state(&arena, &id)?["status"], "running");
    for verb in [&["inspect", &id][..], &["exec", &id, "true"]] {
        let asked = arena.oci(Runtime::Cofferdam)?.args(verb).run()?;
        assert!(!asked.status.success(), "{verb:?}");
        assert!(
            asked.stderr.contains("main thread"),
            "{verb:?}: {}",
            asked.stderr
        );
    }
    let delete = arena.oci(Runtime::Cofferdam)?.args(["delete", &id]).run()?;
    assert!(!delete.status.success(), "it was deleted while it ran");
    assert_eq!(ranges(&arena), 1);
    let tasks = arena.enclave.cmd("ls").arg(format!("/proc/{pid}/task"));
    assert_eq!(tasks.ok()?.stdout.lines().count(), 2);
    arena.delete(Runtime::Cofferdam, &id)?;
    assert_eq!(ranges(&arena), 0);
    Ok(())
}

/// The layers of a mounted overlay are found by their names. Who can rename them chooses the container's
/// files, and root's identity in them.
#[test]
fn layers_that_others_could_have_replaced_are_refused() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let layered = Layered::new(&arena, "layered", &["sh", "-c", "cat /mark"])?;
    let runtime = Runtime::Cofferdam;
    assert_eq!(
        arena.show(runtime, &layered.bundle, "engine")?,
        "the engine's shown\n"
    );
    let store = layered.lower.parent().expect("a directory");
    let own = |user: &str| Cmd::new("chown").arg(user).arg(store).ok().map(drop);
    own("1000")?;
    let script = "mv lower old && mkdir lower && echo \"the attacker's shown\" >lower/mark";
    let attacker = Cmd::new("setpriv").args(["--reuid", "1000", "--clear-groups", "sh", "-c"]);
    let attacker = attacker.arg(format!("cd {} && {script}", store.display()));
    attacker.ok()?;
    arena.refused(&layered.bundle, "attacked", "must belong to root")?;
    assert_eq!(ranges(&arena), 0);
    assert_eq!(layered.made()?, Vec::<String>::new());
    // In the last one stand the place for changes and the work directory.
    for (mode, place) in [("0775", store), ("0757", store), ("0757", &layered.changes)] {
        own("0:1")?;
        Cmd::new("chmod").arg(mode).arg(place).ok()?;
        arena.refused(&layered.bundle, mode, "must belong to root")?;
        Cmd::new("chmod").arg("0755").arg(place).ok()?;
    }
    // The control: nothing else is in the attacker's way, and the group root is root's.
    own("0:0")?;
    Cmd::new("chmod").arg("0775").arg(store).ok()?;
    assert_eq!(
        arena.show(runtime, &layered.bundle, "control")?,
        "the attacker's shown\n"
    );
    Ok(())
}

/// The work directory, the ids and the processes of a container whose state is damaged, and of one whose
/// creator was killed before it wrote any.
#[test]
fn what_was_made_for_a_container_goes_with_it() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let runtime = Runtime::Cofferdam;
    let layered = Layered::new(&arena, "damaged", &["attack-probe", "sleep"])?;
    for damaged in [&["state.json"][..], &["state.json", "intent.json"]] {
        let id = arena.start(
            runtime,
            &layered.bundle,
            &format!("damaged{}", damaged.len()),
        )?;
        assert_eq!(layered.made()?.len(), 1);
        let pid = state(&arena, &id)?["pid"].to_string();
        for name in damaged {
            let file = format!("/run/state-{}/{id}/{name}", runtime.shim_name());
            let file = arena.enclave.path(&file);
            fs::write(&file, "{").at("write", file)?;
        }
        arena.delete(runtime, &id)?;
        let alive = arena
            .enclave
            .cmd("test")
            .args(["-d", &format!("/proc/{pid}")])
            .run()?;
        assert!(!alive.status.success(), "{damaged:?}: {pid} lives");
        assert_eq!(layered.made()?, Vec::<String>::new(), "{damaged:?}");
        assert_eq!(ranges(&arena), 0, "{damaged:?}");
    }
    let mut killed = Layered::new(&arena, "killed", &["attack-probe", "sleep"])?;
    killed.bundle.spec["hooks"] = json!({
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]
    });
    killed.bundle.save()?;
    let id = format!("{}-killed", arena.enclave.tag());
    let create = arena.oci(runtime)?.args(["create", "--bundle"]);
    let create = create.arg(killed.bundle.dir()).arg(&id).run()?;
    assert!(!create.status.success(), "{create:?}");
    // The control: its creator is gone, and nobody took this back.
    assert_eq!((killed.made()?.len(), ranges(&arena)), (1, 1));
    arena.delete(runtime, &id)?;
    assert_eq!((killed.made()?.len(), ranges(&arena)), (0, 0));
    Ok(())
}
