//! The root file system, and what its container starts with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cofferdam_analysis::RootFs;
use indicatif::ProgressBar;
use nix::sys::signal::{SigSet, Signal};

use super::{Arguments, GenerateError};
use crate::image::{self, Image, ImageError, Limits, Scratch};

/// See the module.
pub(super) struct Place {
    pub(super) root: RootFs,
    pub(super) path: Option<String>,
    pub(super) cwd: PathBuf,
    pub(super) image: Option<Image>,
    /// Dropped last: the root file system is in it.
    _scratch: Option<Scratch>,
}

impl Place {
    pub(super) fn of(
        arguments: &Arguments,
        signals: Option<SigSet>,
        progress: &ProgressBar,
    ) -> Result<Self, GenerateError> {
        if let Some(file) = &arguments.image {
            return Self::image(arguments, file, signals, progress);
        }
        let path = arguments.rootfs.as_deref().unwrap_or(Path::new("/"));
        Ok(Self {
            root: open(path)?.watched(),
            path: None,
            cwd: PathBuf::from("/"),
            image: None,
            _scratch: None,
        })
    }

    fn image(
        arguments: &Arguments,
        file: &Path,
        signals: Option<SigSet>,
        progress: &ProgressBar,
    ) -> Result<Self, GenerateError> {
        let limits = Limits {
            bytes: arguments.max_unpacked << 20,
            entries: arguments.max_entries,
            ..Limits::default()
        };
        let scratch = Scratch::new().map_err(|source| GenerateError::Scratch {
            path: std::env::temp_dir(),
            source,
        })?;
        if let Some(signals) = signals {
            clean_up_on(signals, &limits.interrupted, scratch.path());
        }
        progress.set_message(format!("unpacking {}", file.display()));
        let tell = |bytes: u64| {
            progress.set_message(format!("unpacking {}: {} MiB", file.display(), bytes >> 20));
        };
        let image = image::unpack(file, arguments.tag.as_deref(), &limits, &scratch, &tell);
        if matches!(image, Err(ImageError::Interrupted)) {
            // The other thread ends the program as the signal asks.
            loop {
                thread::park();
            }
        }
        let image = image?;
        Ok(Self {
            root: open(scratch.root())?,
            path: image.command.path.clone(),
            cwd: PathBuf::from(&image.command.cwd),
            image: Some(image),
            _scratch: Some(scratch),
        })
    }

    /// The command line: as Docker puts it together.
    pub(super) fn command(&self, arguments: &Arguments) -> Vec<String> {
        let command = self.image.as_ref().map(|image| &image.command);
        let given = arguments.entrypoint.as_ref();
        let entrypoint = given.or(command.map(|command| &command.entrypoint));
        let cmd = command
            .map(|command| &command.cmd)
            .filter(|_| given.is_none());
        let rest = match arguments.args.is_empty() {
            true => cmd,
            false => Some(&arguments.args),
        };
        let words = entrypoint.into_iter().flatten();
        words.chain(rest.into_iter().flatten()).cloned().collect()
    }
}

fn open(path: &Path) -> Result<RootFs, GenerateError> {
    RootFs::open(path).map_err(|source| GenerateError::Root {
        path: path.to_owned(),
        source,
    })
}

/// Holds the signals back that would end the program, in this thread and those it makes: before it
/// makes any, and before there is anything to clean up.
pub(super) fn hold_back() -> Option<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().ok().map(|()| signals)
}

/// As often it is tried to remove the directory: whoever unpacks may still be making a file.
const TRIES: u32 = 100;

/// Removes the directory and ends the program when one of the signals comes. Without this the next run
/// would remove it.
fn clean_up_on(signals: SigSet, interrupted: &Arc<AtomicBool>, directory: &Path) {
    let interrupted = Arc::clone(interrupted);
    let directory = directory.to_owned();
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else {
            return;
        };
        interrupted.store(true, Ordering::Relaxed);
        for _ in 0..TRIES {
            let _ = std::fs::remove_dir_all(&directory);
            if !directory.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // As shells say that a signal ended a program.
        std::process::exit(128 + signal as i32);
    });
}
