//! Which containers have which profile: a directory for each profile, in it a file for each
//! container, named by a digest of its state directory's path, which it holds.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cofferdam_profiles::apparmor;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::kernel::Kernel;
use super::{ApparmorError, failed};

/// For all state roots of the machine, as the kernel's list is. Hidden: it is no container.
pub(super) const DIRECTORY: &str = "/run/cofferdam/.apparmor";
/// The file that is locked.
const LOCK: &str = "lock";

/// The list of users, locked.
#[derive(Debug)]
pub(super) struct Users {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Users {
    /// Waits for whoever changes the list at the moment.
    pub(super) fn lock(directory: &Path) -> Result<Self, ApparmorError> {
        let lock = || {
            if let Some(parent) = directory.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o711)
                    .create(parent)?;
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(directory.join(LOCK))?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        };
        let lock = lock().map_err(failed("lock", directory))?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Writes down that the container of the state directory `user` has the profile.
    pub(super) fn add(&self, profile: &str, user: &Path) -> Result<(), ApparmorError> {
        let place = self.directory.join(profile);
        let path = place.join(file_name(user));
        let write = || {
            match DirBuilder::new().mode(0o700).create(&place) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&path)?.write_all(user.as_os_str().as_bytes())
        };
        write().map_err(failed("write", &path))
    }

    /// The container has no profile any more.
    pub(super) fn remove(&self, user: &Path) -> Result<(), ApparmorError> {
        for profile in self.profiles() {
            let path = profile.join(file_name(user));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Unloads what nobody has. A container is gone when its state directory is: a killed runtime
    /// leaves neither more nor less. What cannot be unloaded now can be the next time.
    pub(super) fn sweep(&self, kernel: &Kernel) {
        for profile in self.profiles() {
            if let Err(error) = sweep_one(&profile, kernel) {
                tracing::warn!(profile = %profile.display(), %error, "cannot unload a profile");
            }
        }
    }

    /// The directories of profiles.
    fn profiles(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let named = |name: &std::ffi::OsStr| name.to_str().is_some_and(apparmor::is_ours);
        entries
            .filter(|entry| named(&entry.file_name()))
            .map(|entry| entry.path())
            .collect()
    }
}

fn sweep_one(profile: &Path, kernel: &Kernel) -> Result<(), ApparmorError> {
    let looked = failed("look at", profile);
    if has_users(profile).map_err(looked)? {
        return Ok(());
    }
    let name = profile.file_name().and_then(|name| name.to_str());
    if kernel.unload(name.unwrap_or_default())? {
        fs::remove_dir(profile).map_err(failed("remove", profile))?;
    }
    Ok(())
}

/// Whether a container has the profile; those that are gone are forgotten.
fn has_users(profile: &Path) -> io::Result<bool> {
    let mut some = false;
    for entry in fs::read_dir(profile)? {
        let path = entry?.path();
        let user = PathBuf::from(std::ffi::OsString::from_vec(fs::read(&path)?));
        match fs::symlink_metadata(&user) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_file(&path)?,
            // Also what cannot be told.
            _ => some = true,
        }
    }
    Ok(some)
}

fn file_name(user: &Path) -> String {
    let digest = Sha256::digest(user.as_os_str().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        kernel: Kernel,
    }

    const NAME: &str = "cofferdam-00112233445566778899aabbccddeeff";

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let interface = dir.path().join("interface");
            fs::create_dir_all(&interface).expect("made");
            fs::create_dir(dir.path().join("proc")).expect("made");
            let kernel = Kernel::at(interface, dir.path().join("proc"));
            let fixture = Self { dir, kernel };
            fixture.forget();
            fixture
        }

        fn users(&self) -> Users {
            Users::lock(&self.dir.path().join("users")).expect("locked")
        }

        fn container(&self, name: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::create_dir_all(&path).expect("made");
            path
        }

        fn unloaded(&self) -> bool {
            let path = self.dir.path().join("interface/.remove");
            fs::read_to_string(path).expect("read") == NAME
        }

        fn forget(&self) {
            fs::write(self.dir.path().join("interface/.remove"), "").expect("written");
        }
    }

    #[test]
    fn the_last_container_takes_its_profile_along() {
        let fixture = Fixture::new();
        let (a, b) = (fixture.container("a"), fixture.container("b"));
        let users = fixture.users();
        users.add(NAME, &a).expect("added");
        users.add(NAME, &a).expect("added again");
        users.add(NAME, &b).expect("added");
        users.remove(&a).expect("removed");
        users.sweep(&fixture.kernel);
        assert!(!fixture.unloaded());
        users.remove(&b).expect("removed");
        users.sweep(&fixture.kernel);
        assert!(fixture.unloaded());
        fixture.forget();
        users.sweep(&fixture.kernel);
        assert!(!fixture.unloaded(), "it is forgotten");
    }

    #[test]
    fn what_a_killed_runtime_left_is_unloaded_later() {
        let fixture = Fixture::new();
        let gone = fixture.container("gone");
        fixture.users().add(NAME, &gone).expect("added");
        // The state directory is removed, and the process killed before it says so.
        fs::remove_dir(&gone).expect("removed");
        fixture.users().sweep(&fixture.kernel);
        assert!(fixture.unloaded());
    }

    #[test]
    fn a_profile_in_use_stays_until_it_is_not() {
        let fixture = Fixture::new();
        let a = fixture.container("a");
        let users = fixture.users();
        users.add(NAME, &a).expect("added");
        users.remove(&a).expect("removed");
        let attr = fixture.dir.path().join("proc/1/attr");
        fs::create_dir_all(&attr).expect("made");
        fs::write(attr.join("current"), format!("{NAME} (enforce)\n")).expect("written");
        users.sweep(&fixture.kernel);
        assert!(!fixture.unloaded());
        fs::remove_dir_all(fixture.dir.path().join("proc/1")).expect("removed");
        users.sweep(&fixture.kernel);
        assert!(fixture.unloaded());
    }

    #[test]
    fn nothing_that_is_not_ours_is_unloaded() {
        let fixture = Fixture::new();
        let users = fixture.users();
        for name in ["docker-default", "cofferdam-x"] {
            fs::create_dir(fixture.dir.path().join("users").join(name)).expect("made");
        }
        users.sweep(&fixture.kernel);
        let removed = fs::read(fixture.dir.path().join("interface/.remove")).expect("read");
        assert_eq!(removed, b"");
    }
}
