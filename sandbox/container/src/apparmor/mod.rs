//! AppArmor profiles of ours: compiled, loaded before init is cloned, and unloaded when the last
//! container that has one is gone.
//!
//! The kernel knows profiles by name for the whole machine, and a process whose profile is removed
//! runs unconfined. So who uses which is written down (`users`) before anything is loaded, under a
//! lock that all state roots share, and nothing is unloaded while a process carries it.

/// Text to what the kernel takes, and a cache of it.
mod compile;
/// What the kernel has loaded.
mod kernel;
/// Which containers have which profile.
mod users;

use std::io;
use std::path::{Path, PathBuf};

use cofferdam_profiles::apparmor::Profile;

use kernel::Kernel;
use users::Users;

pub use compile::find_parser;

/// Why a profile could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApparmorError {
    /// There is no compiler.
    #[error("cannot find apparmor_parser; install the package apparmor")]
    NoParser,
    /// The compiler does not run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The compiler took too long.
    #[error("{} did not compile the AppArmor profile {profile} in {seconds} s", program.display())]
    Slow {
        /// The program.
        program: PathBuf,
        /// The profile.
        profile: String,
        /// How long it had.
        seconds: u64,
    },
    /// The compiler refused the text.
    #[error("{} refused the AppArmor profile {profile}: {message}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// The profile.
        profile: String,
        /// What it said, cut.
        message: String,
    },
    /// The kernel's files, or our list of users, could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel took it and does not have it.
    #[error("the kernel does not list the AppArmor profile {profile} after it was loaded")]
    NotLoaded {
        /// The profile.
        profile: String,
    },
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ApparmorError + 'a {
    move |source| ApparmorError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Sees to it that `profile` is loaded for as long as the container of the state directory
/// `directory` is there. `cache` is where compiled profiles are kept.
pub(crate) fn hold(
    profile: &Profile,
    directory: &Path,
    cache: Option<&Path>,
) -> Result<(), ApparmorError> {
    let kernel = Kernel::of_this_machine();
    // Compiled before the lock is taken: others need not wait for that.
    let mut compiled = match kernel.has(&profile.name)? {
        true => None,
        false => Some(compile::compile(profile, cache)?),
    };
    let users = Users::lock(Path::new(users::DIRECTORY))?;
    users.add(&profile.name, directory)?;
    let loaded = (|| {
        if kernel.has(&profile.name)? {
            return Ok(());
        }
        let compiled = match compiled.take() {
            Some(compiled) => compiled,
            None => compile::compile(profile, cache)?,
        };
        kernel.load(&compiled)?;
        match kernel.has(&profile.name)? {
            true => Ok(()),
            false => Err(ApparmorError::NotLoaded {
                profile: profile.name.clone(),
            }),
        }
    })();
    if loaded.is_err() {
        let _ = users.remove(directory);
    }
    // What a killed runtime left, a failed load of ours included.
    users.sweep(&kernel);
    loaded
}

/// The container of the state directory `directory` is gone, all its processes included: what only
/// it used is unloaded. Costs one system call where no container has a profile of ours.
pub(crate) fn release(directory: &Path) -> Result<(), ApparmorError> {
    let at = Path::new(users::DIRECTORY);
    if !at.exists() {
        return Ok(());
    }
    let users = Users::lock(at)?;
    users.remove(directory)?;
    users.sweep(&Kernel::of_this_machine());
    Ok(())
}
