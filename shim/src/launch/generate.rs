//! A profile made of the container's files, for policies that say `seccomp = "generate"`: kept from an
//! earlier start of the same files, or made now by `cofferdam-profile`.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cofferdam_profiles::generated::{
    Answer, FailureKind, GeneratedCache, Identity, Key, LayersError, MAX_ANSWER, Made, Mount,
    MountKey, Origin, Outcome, Process, Request, RootIdentity, VERB, VERSION,
};
use cofferdam_profiles::policy::Wanted;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Spec;

use super::{filter_cache, turn};
use crate::{companion, sys};

/// Below the directory of compiled filters: made profiles.
const PROFILES: &str = "generated";
/// And what is known of single files.
const SUMMARIES: &str = "objects";
/// How long an analysis may take. The largest programs of Debian take some seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// As much of the analyst's complaint is told, in bytes.
const COMPLAINT: u64 = 4096;
/// More recordings are not merged for one container.
const MAX_RECORDINGS: usize = 64;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("the spec has no {0}")]
    Missing(&'static str),
    #[error("cannot execute {}, which analyses programs", program.display())]
    Execute {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot talk to {}", program.display())]
    Talk {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the analysis took longer than {} s and was ended", PATIENCE.as_secs())]
    TooSlow,
    #[error(
        "other analyses on this host took all turns ({}) for {} s", turn::most(), PATIENCE.as_secs()
    )]
    Busy,
    #[error("the analysis ended without an answer ({status}): {complaint}")]
    Ended { status: String, complaint: String },
    #[error("the answer of the analysis is none")]
    Answer(#[source] serde_json::Error),
    #[error("{message}")]
    Failed { kind: FailureKind, message: String },
    #[error("cannot look at the recordings in {}", path.display())]
    Recordings {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there are no recordings in {}", path.display())]
    NoRecordings { path: PathBuf },
    #[error("there are more than {MAX_RECORDINGS} recordings in {}", path.display())]
    ManyRecordings { path: PathBuf },
    #[error("cannot look at the root file system's layers")]
    Layers(#[from] LayersError),
}

impl GenerateError {
    /// What can be done about it.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Execute { .. } | Self::Answer(_) => {
                "install cofferdam-profile of this release beside cofferdam (`make install` does)"
            }
            Self::Busy => "start it again when fewer containers of new images start",
            Self::Recordings { .. } | Self::NoRecordings { .. } | Self::ManyRecordings { .. } => {
                "correct seccomp_recordings in the policy"
            }
            Self::Failed { kind, .. } => match kind {
                FailureKind::Request => "install cofferdam and cofferdam-profile of one release",
                FailureKind::View => "look at the container's mounts",
                FailureKind::Program => {
                    "see what `cofferdam profile generate` says of the image's program"
                }
                FailureKind::Recording => {
                    "record again, or correct seccomp_recordings in the policy"
                }
            },
            Self::Missing(_)
            | Self::Talk { .. }
            | Self::TooSlow
            | Self::Ended { .. }
            | Self::Layers(_) => {
                "see what `cofferdam profile generate` says of the image's program"
            }
        }
    }
}

/// What a profile is made of, as the host has it.
pub(super) struct Files<'a> {
    pub(super) spec: &'a Spec,
    /// The root file system, symlinks resolved.
    pub(super) root: &'a Path,
    /// A bind mount's source, symlinks resolved.
    pub(super) source: &'a dyn Fn(&Path) -> Option<PathBuf>,
}

/// The profile, or why there is none.
pub(super) fn profile(files: &Files<'_>, wanted: &Wanted) -> Outcome {
    try_profile(files, wanted).unwrap_or_else(|error| Outcome::Failed {
        why: crate::cli::chain(&error),
        remedy: error.remedy().to_owned(),
    })
}

fn try_profile(files: &Files<'_>, wanted: &Wanted) -> Result<Outcome, GenerateError> {
    let program = companion::path().map_err(|source| GenerateError::Execute {
        program: companion::PROGRAM.into(),
        source,
    })?;
    let found = fs::metadata(&program).map_err(|source| GenerateError::Execute {
        program: program.clone(),
        source,
    })?;
    let asked = SystemTime::now().duration_since(UNIX_EPOCH);
    let asked = asked.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
    let process = process(files.spec)?;
    let mounts = mounts(files);
    let recordings = recordings(wanted.recordings.as_deref())?;
    let root = match root_identity(files) {
        Ok(root) => Ok(root),
        Err(error) if error.is_for_this_start_only() => Err(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let key = root.map(|root| Key {
        analyst: Identity::of(&found),
        directory: (!root.is_layers()).then(|| files.root.to_owned()),
        root,
        process: process.clone(),
        mounts: mounts.iter().map(mount_key).collect(),
        recordings: recordings.clone(),
    });
    let directory = filter_cache();
    let cache = GeneratedCache::at(&directory.join(PROFILES));
    let sources: Vec<_> = mounts.iter().map(|mount| mount.source.clone()).collect();
    let kept = || {
        let key = key.as_ref().ok()?;
        let kept = cache.get(key, files.root, &sources)?;
        Some(Outcome::Made(Box::new(kept)))
    };
    if let Some(kept) = kept() {
        return Ok(kept);
    }
    let turns = directory.join(turn::TURNS);
    let turn = match turn::wait(&turns, turn::most(), Instant::now() + PATIENCE) {
        Ok(Some(turn)) => Some(turn),
        Ok(None) => return Err(GenerateError::Busy),
        // Where nothing can be kept there are no turns either, as for users without that directory.
        Err(_) => None,
    };
    // Whoever had the turn before may have made this very one.
    if turn.is_some()
        && let Some(kept) = kept()
    {
        return Ok(kept);
    }
    let summaries = directory.join(SUMMARIES);
    // Without it the analysis only takes longer the next time.
    let _ = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&summaries);
    let request = Request {
        version: VERSION,
        root: files.root.to_owned(),
        mounts,
        process,
        recordings: recordings.into_iter().map(|(path, _)| path).collect(),
        summaries,
    };
    let made = ask(&program, &request)?;
    let generated = match key {
        Ok(key) => cache.keep(&key, made, asked),
        Err(why) => {
            let mut generated = made.generated;
            generated.provenance.origin = Origin::NotKept(why);
            generated
        }
    };
    Ok(Outcome::Made(Box::new(generated)))
}

fn root_identity(files: &Files<'_>) -> Result<RootIdentity, LayersError> {
    let mounts = files.spec.mounts().iter().flatten();
    RootIdentity::of(
        files.root,
        mounts.map(|mount| mount.destination().as_path()),
    )
}

fn process(spec: &Spec) -> Result<Process, GenerateError> {
    let process = spec.process().as_ref();
    let process = process.ok_or(GenerateError::Missing("process"))?;
    let args = process.args().clone();
    // Of two the last one counts, as where the runtime looks for the program.
    let variables = process.env().iter().flatten().rev();
    let path = variables
        .filter_map(|entry| entry.strip_prefix("PATH="))
        .next();
    Ok(Process {
        args: args.ok_or(GenerateError::Missing("process.args"))?,
        path: path.map(str::to_owned),
        cwd: process.cwd().clone(),
    })
}

fn mounts(files: &Files<'_>) -> Vec<Mount> {
    let all = files.spec.mounts().iter().flatten();
    all.map(|mount| {
        let options = || mount.options().iter().flatten().map(String::as_str);
        let bound = mount.typ().as_deref() == Some("bind")
            || options().any(|option| matches!(option, "bind" | "rbind"));
        let source = mount.source().as_deref().filter(|_| bound);
        Mount {
            destination: mount.destination().clone(),
            source: source.and_then(files.source),
            recursive: options().any(|option| option == "rbind"),
        }
    })
    .collect()
}

fn mount_key(mount: &Mount) -> MountKey {
    let found = mount
        .source
        .as_ref()
        .and_then(|path| fs::metadata(path).ok());
    MountKey {
        destination: mount.destination.clone(),
        bound: found.map(|found| Identity::of(&found).kind),
        recursive: mount.recursive,
    }
}

/// The policy's recordings: a file, or every `.json` in a directory.
fn recordings(path: Option<&Path>) -> Result<Vec<(PathBuf, Identity)>, GenerateError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let failed = |source| GenerateError::Recordings {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_dir() {
        return Ok(vec![(path.to_owned(), Identity::of(&found))]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let found = fs::metadata(&file).map_err(failed)?;
        all.push((file, Identity::of(&found)));
        if all.len() > MAX_RECORDINGS {
            let path = path.to_owned();
            return Err(GenerateError::ManyRecordings { path });
        }
    }
    all.sort();
    if all.is_empty() {
        let path = path.to_owned();
        return Err(GenerateError::NoRecordings { path });
    }
    Ok(all)
}

/// Asks the analyst, and waits for it no longer than [`PATIENCE`].
fn ask(program: &Path, request: &Request) -> Result<Made, GenerateError> {
    let deadline = Instant::now() + PATIENCE;
    let talk = |source| GenerateError::Talk {
        program: program.to_owned(),
        source,
    };
    let mut analyst = Command::new(program);
    analyst
        .arg(VERB)
        // Nothing of the engine's or the user's environment is its business.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals of the terminal are for the container.
        .process_group(0);
    // Those that a caller leaves to the container (`--preserve-fds`) are not its business either.
    sys::inherit_no_more_than_streams(&mut analyst);
    let mut analyst = analyst.spawn().map_err(|source| GenerateError::Execute {
        program: program.to_owned(),
        source,
    })?;
    let said = converse(&mut analyst, request, deadline);
    // It may have ended by itself; then this changes nothing.
    let _ = analyst.kill();
    let status = analyst.wait().map_err(talk)?;
    let text = said.map_err(talk)?.ok_or(GenerateError::TooSlow)?;
    if !status.success() || text.is_empty() {
        return Err(GenerateError::Ended {
            status: status.to_string(),
            complaint: complaint(&mut analyst),
        });
    }
    match serde_json::from_slice(&text).map_err(GenerateError::Answer)? {
        Answer::Made(made) => Ok(*made),
        Answer::Failed(failure) => Err(GenerateError::Failed {
            kind: failure.kind,
            message: failure.message,
        }),
    }
}

/// Sends the request and reads the answer to its end; `None` if that takes too long.
fn converse(
    analyst: &mut Child,
    request: &Request,
    deadline: Instant,
) -> io::Result<Option<Vec<u8>>> {
    if let Some(mut input) = analyst.stdin.take() {
        // It reads all of it before it does anything else. One that ended is found out below.
        match input.write_all(&serde_json::to_vec(request)?) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    match analyst.stdout.take() {
        Some(output) => read_until(output, deadline),
        None => Ok(Some(Vec::new())),
    }
}

/// Reads to the end of a pipe, at most [`MAX_ANSWER`] bytes; `None` at the deadline.
fn read_until(mut output: ChildStdout, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) => return Ok(None),
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let count = output.read(&mut part)?;
        if count == 0 {
            return Ok(Some(text));
        }
        text.extend_from_slice(part.get(..count).unwrap_or_default());
        if text.len() as u64 > MAX_ANSWER {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
    }
}

/// What the analyst said before it ended, on one line.
fn complaint(analyst: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(errors) = analyst.stderr.take() {
        // What cannot be read cannot be told.
        let _ = errors.take(COMPLAINT).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("it did not say why").trim().to_owned()
}
