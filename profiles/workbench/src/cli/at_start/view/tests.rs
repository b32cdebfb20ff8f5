//! What an image may try with a view of it.

use std::fs;
use std::path::Path;
use std::thread;

use cofferdam_profiles::generated::{Process, VERSION};
use nix::sys::stat::{makedev, mknod};

use super::*;

/// A device that it harms nobody to open.
fn device(path: &Path) {
    mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
}

/// Opens it as its owner could, and says what the kernel does.
fn opened(path: &Path) -> Result<(), Errno> {
    fs::File::open(path).map(drop).map_err(|e| errno(&e))
}

#[test]
fn no_device_of_the_view_can_be_opened() {
    // Only root makes devices, and mounts in a namespace that is not a user's own.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    // A mount namespace is a thread's own.
    let tried = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let nothing = MsFlags::empty();
        mount(Some("tmpfs"), &path, Some("tmpfs"), nothing, None::<&str>).unwrap();
        for name in ["root/etc", "root/data", "source/below"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let below = path.join("source/below");
        mount(Some("tmpfs"), &below, Some("tmpfs"), nothing, None::<&str>).unwrap();
        device(&path.join("root/etc/ld.so.conf"));
        device(&path.join("source/device"));
        device(&path.join("source/below/device"));
        // Without a view each of them is opened.
        opened(&path.join("root/etc/ld.so.conf")).unwrap();
        opened(&path.join("source/below/device")).unwrap();
        let request = |destination: &str| Request {
            version: VERSION,
            root: path.join("root"),
            mounts: vec![Mount {
                destination: destination.into(),
                source: Some(path.join("source")),
                recursive: true,
            }],
            process: Process {
                args: vec!["x".into()],
                path: None,
                cwd: "/".into(),
            },
            recordings: Vec::new(),
            summaries: path.clone(),
        };
        // The first lies on what is there, the second on what is made in memory.
        for destination in ["data", "new"] {
            make(&request(&format!("/{destination}"))).unwrap();
            let seen = path.join("root").join(destination);
            for device in [
                path.join("root/etc/ld.so.conf"),
                seen.join("device"),
                seen.join("below/device"),
            ] {
                assert!(fs::symlink_metadata(&device).is_ok(), "{device:?}");
                assert_eq!(opened(&device), Err(Errno::EACCES), "{device:?}");
            }
        }
    });
    tried.join().unwrap();
}
