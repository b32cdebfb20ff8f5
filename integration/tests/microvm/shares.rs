//! Directories of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use cofferdam_integration::error::{At, Result};
use cofferdam_vmm::config::ShareConfig;

use crate::machine::Machine;

/// A machine with a directory mounted at `/share`, where busybox lies.
struct Shared {
    machine: Machine,
    dir: PathBuf,
}

impl Shared {
    fn boot() -> Result<Option<Self>> {
        let machine = Machine::boot(|config, dir| {
            let path = dir.join("share");
            fs::create_dir(&path).expect("make the directory");
            fs::copy("/bin/busybox", path.join("busybox")).expect("copy busybox");
            config.shares.push(ShareConfig {
                tag: "files".to_owned(),
                path,
                read_only: false,
            });
        })?;
        Ok(machine.map(|machine| {
            assert_eq!(machine.ask_text("mount files /share"), "done\n");
            let dir = machine.dir.path().join("share");
            Self { machine, dir }
        }))
    }

    /// What the guest's shell says, in the shared directory.
    fn sh(&self, script: &str) -> String {
        self.sh_as(0, script)
    }

    fn sh_as(&self, user: u32, script: &str) -> String {
        let script = script.replace("bb ", "/share/busybox ");
        self.machine
            .ask_text(&format!("sh {user} cd /share; {script}"))
    }
}

#[test]
fn files_have_the_owners_and_modes_that_either_side_gives_them() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let said = shared.sh(
        "umask 0; echo one >a && bb chown 1000:2000 a && bb chmod 4751 a && bb mkdir -m 1777 d && \
         echo two >d/b && bb mv d/b d/c && bb ln d/c d/hard && bb ln -s ../a d/link && bb cat d/link d/hard",
    );
    assert_eq!(said, "one\ntwo\n");
    let look = |name: &str| {
        let path = shared.dir.join(name);
        fs::symlink_metadata(&path).at("look at", path)
    };
    let a = look("a")?;
    assert_eq!((a.mode(), a.uid(), a.gid()), (0o104_751, 1000, 2000));
    assert_eq!(look("d")?.mode(), 0o041_777);
    assert_eq!(look("d/c")?.ino(), look("d/hard")?.ino());
    assert!(!shared.dir.join("d/b").exists());
    let target = fs::read_link(shared.dir.join("d/link")).at("read", "d/link")?;
    assert_eq!(target, PathBuf::from("../a"));

    // Who makes a file owns it, and the mask is the guest's. What a user may not do does not happen.
    let said = shared.sh_as(
        1234,
        "umask 027; echo mine >d/mine && bb mkdir d/ours && bb cat a; echo no >refused",
    );
    assert!(
        said.contains("'a': Permission denied") && said.contains("refused: Permission denied"),
        "{said}"
    );
    let mine = look("d/mine")?;
    assert_eq!(
        (mine.mode(), mine.uid(), mine.gid()),
        (0o100_640, 1234, 1234)
    );
    assert_eq!(
        (look("d/ours")?.mode(), look("d/ours")?.uid()),
        (0o040_750, 1234)
    );
    assert!(!shared.dir.join("refused").exists());
    std::os::unix::fs::chown(shared.dir.join("d/c"), Some(7), Some(8)).at("give away", "d/c")?;
    assert_eq!(shared.sh("bb stat -c %u:%g:%h d/c"), "7:8:2\n");
    Ok(())
}

#[test]
fn what_the_host_changes_the_guest_sees_at_once() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let path = shared.dir.join("map");
    for round in 0..20 {
        let text = format!("round {round}\n");
        fs::write(&path, &text).at("write", &path)?;
        assert_eq!(shared.sh("bb cat map"), text);
        // As kubelet does: a link changes what it points to.
        let (data, next) = (shared.dir.join("data"), shared.dir.join("next"));
        let version = shared.dir.join(format!("version{round}"));
        fs::create_dir(&version).at("make", &version)?;
        fs::write(version.join("key"), &text).at("write", &version)?;
        symlink(format!("version{round}"), &next).at("link", &next)?;
        fs::rename(&next, &data).at("rename", &data)?;
        assert_eq!(shared.sh("bb cat data/key"), text);
    }
    fs::remove_file(&path).at("remove", &path)?;
    let said = shared.sh("bb cat map");
    assert!(said.contains("No such file"), "{said}");
    Ok(())
}

#[test]
fn pipes_and_sockets_are_made_and_are_the_guests() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let said = shared.sh("bb mkfifo -m 640 pipe; (echo through >pipe &); bb cat pipe");
    assert_eq!(said, "through\n");
    let pipe = fs::metadata(shared.dir.join("pipe")).at("look at", "pipe")?;
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o777 == 0o640);
    Ok(())
}

/// The thread that serves files rests too.
#[test]
fn a_pause_stops_the_writing_of_files() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let _writer = shared
        .machine
        .request("sh 0 while true; do echo more >>/share/log; done")
        .expect("the probe listens");
    let path = shared.dir.join("log");
    let written = || fs::metadata(&path).map_or(0, |file| file.len());
    let grows = |before: u64| {
        let started = std::time::Instant::now();
        while written() <= before {
            assert!(
                started.elapsed() < crate::machine::LIMIT,
                "nothing is written"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for _ in 0..10 {
        grows(written());
        shared.machine.vm.pause().expect("pause");
        let before = written();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(written(), before);
        shared.machine.vm.resume();
    }
    Ok(())
}
