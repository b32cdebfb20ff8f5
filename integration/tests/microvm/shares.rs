//! Directories of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_integration::error::{At, Result};
use cofferdam_vmm::config::ShareConfig;

use crate::machine::{LIMIT, Machine};

/// A machine with a directory mounted at `/share`, where busybox lies.
pub(crate) struct Shared {
    pub(crate) machine: Machine,
    pub(crate) dir: PathBuf,
}

impl Shared {
    /// The guest sees at once what the host changes, as tests do.
    pub(crate) fn boot() -> Result<Option<Self>> {
        Self::with_validity(0)
    }

    pub(crate) fn with_validity(validity: u32) -> Result<Option<Self>> {
        let machine = Machine::boot(|config, dir| {
            let path = dir.join("share");
            fs::create_dir(&path).expect("make the directory");
            fs::copy("/bin/busybox", path.join("busybox")).expect("copy busybox");
            config.shares.push(ShareConfig {
                tag: "files".to_owned(),
                path,
                read_only: false,
                validity,
            });
        })?;
        Ok(machine.map(|machine| {
            assert_eq!(machine.ask_text("mount files /share"), "done\n");
            let dir = machine.dir.path().join("share");
            Self { machine, dir }
        }))
    }

    /// What the guest's shell says, in the shared directory.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.sh_as(0, script)
    }

    pub(crate) fn sh_as(&self, user: u32, script: &str) -> String {
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

/// Names, contents and attributes that the guest has read, and takes for granted: for a second it may see old ones, and
/// no longer.
#[test]
fn what_the_guest_takes_for_granted_it_looks_up_again_after_a_second() -> Result<()> {
    let Some(shared) = Shared::with_validity(1000)? else {
        return Ok(());
    };
    let (path, next) = (shared.dir.join("map"), shared.dir.join("next"));
    fs::write(&path, "old\n").at("write", &path)?;
    for (text, replaced) in [("new\n", false), ("newer\n", true), ("last!\n", false)] {
        // It may say either.
        let _ = shared.sh("bb cat map; bb ls");
        if replaced {
            fs::write(&next, text).at("write", &next)?;
            fs::rename(&next, &path).at("rename", &next)?;
        } else {
            fs::write(&path, text).at("write", &path)?;
        }
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(shared.sh("bb cat map"), text);
    }
    fs::remove_file(&path).at("remove", &path)?;
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(shared.sh("bb ls"), "busybox\n");
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
    let ask = |line: &str| shared.machine.ask_text(line);
    assert_eq!(ask("call-socket /share/socket"), "through\n");
    let socket = fs::metadata(shared.dir.join("socket")).at("look at", "socket")?;
    assert!(socket.file_type().is_socket());
    // The host's are not the guest's: nobody listens there.
    let path = shared.dir.join("host");
    let _listener = UnixListener::bind(&path).at("listen at", &path)?;
    let said = ask("sh 0 /share/busybox nc local:/share/host");
    assert!(said.contains("exit"), "{said}");
    Ok(())
}

#[test]
fn attributes_locks_and_mappings_do_what_they_do_elsewhere() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let ask = |line: &str| shared.machine.ask_text(line);
    let path = shared.dir.join("file");
    fs::write(&path, [b'.'; 10_000]).at("write", &path)?;

    assert_eq!(ask("set-attribute /share/file user.colour red"), "done\n");
    let mut value = [0; 100];
    let size = rustix::fs::getxattr(&path, "user.colour", &mut value[..]).expect("it is there");
    assert_eq!(&value[..size], b"red");
    let flags = rustix::fs::XattrFlags::REPLACE;
    rustix::fs::setxattr(&path, "user.colour", b"blue", flags).expect("it is replaced");
    assert_eq!(ask("attribute /share/file user.colour"), "blue");
    assert!(ask("attributes /share/file").contains("user.colour\0"));
    // A capability of a file means what it says in the guest, so it must arrive.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::CREATE;
    rustix::fs::setxattr(&path, "security.capability", &capability, flags).expect("it is set");
    let read = shared
        .machine
        .ask("attribute /share/file security.capability");
    assert_eq!(read, capability);
    // And go when the file is written to.
    assert_eq!(shared.sh("echo more >>file"), "");
    let read = ask("attribute /share/file security.capability");
    assert!(read.starts_with("error: "), "{read}");

    // Refused while it is held, given when it is free: whole files, and ranges.
    assert_eq!(ask("lock /share/file"), "false true false true\n");

    let said = shared.sh("bb dd if=file of=direct bs=4096 count=2 iflag=direct oflag=direct 2>&1");
    assert!(said.contains("2+0 records out"), "{said}");
    assert_eq!(
        fs::read(shared.dir.join("direct")).at("read", "direct")?,
        [b'.'; 8192]
    );

    assert_eq!(ask("map /share/file mapped"), "done\n");
    let text = fs::read(&path).at("read", &path)?;
    assert!(text.starts_with(b"mapped...") && text.ends_with(b"more\n"));
    assert_eq!(text.len(), 10_005);
    Ok(())
}

/// A link out of the directory leads to the guest's own files, and where there are none, nowhere.
#[test]
fn links_lead_nowhere_but_into_the_guest() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let secret = shared.machine.dir.path().join("secret");
    fs::write(&secret, "secret").at("write", &secret)?;
    let link = |name: &str, to: &Path| symlink(to, shared.dir.join(name)).at("link", name);
    link("absolute", &secret)?;
    link("up", "../secret".as_ref())?;
    link("process", "/proc/self/root/etc/hostname".as_ref())?;
    for name in [
        "absolute",
        "up",
        "process",
        "../secret",
        "absolute/../secret",
    ] {
        let said = shared.sh(&format!(
            "bb cat {name}; echo new >{name}; bb rm -f /secret"
        ));
        assert!(
            !said.contains("secret\n") && !said.contains("lab"),
            "{name}: {said}"
        );
        assert_eq!(fs::read(&secret).at("read", &secret)?, b"secret", "{name}");
    }
    // The guest's own links are not followed on the way either.
    let said = shared.sh("bb ln -s / root; bb ln -s .. above; bb touch root/touched above/touched");
    assert_eq!(said, "");
    assert!(!shared.machine.dir.path().join("touched").exists());
    Ok(())
}

#[test]
fn of_a_share_that_is_only_read_nothing_is_changed() -> Result<()> {
    let machine = Machine::boot(|config, dir| {
        let path = dir.join("share");
        fs::create_dir(&path).expect("make the directory");
        fs::copy("/bin/busybox", path.join("busybox")).expect("copy busybox");
        fs::write(path.join("file"), "text").expect("write a file");
        config.shares.push(ShareConfig {
            tag: "files".to_owned(),
            path,
            read_only: true,
            validity: 1000,
        });
    })?;
    let Some(machine) = machine else {
        return Ok(());
    };
    assert_eq!(machine.ask_text("mount files /share"), "done\n");
    assert_eq!(machine.ask_text("file /share/file"), "text");
    let tries = [
        "echo x >file",
        "echo x >>file",
        "echo x >new",
        "bb rm file",
        "bb mv file new",
        "bb mkdir new",
        "bb chmod 777 file",
        "bb ln file new",
        "bb touch file",
    ];
    for script in tries {
        let script = script.replace("bb ", "/share/busybox ");
        let said = machine.ask_text(&format!("sh 0 cd /share; {script}"));
        assert!(said.contains("Read-only file system"), "{script}: {said}");
    }
    let names: Vec<_> = fs::read_dir(machine.dir.path().join("share"))
        .at("list", "share")?
        .collect();
    assert_eq!(names.len(), 2);
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
            assert!(started.elapsed() < LIMIT, "nothing is written");
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
