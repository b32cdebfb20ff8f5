//! Text to what the kernel takes, by `apparmor_parser`, and a cache of it.
//!
//! What the compiler makes depends on itself and on the kernel's features, so both are part of the
//! key. A file is used only if nobody else can have written it, if it has this very key, and if what
//! follows has the digest it had. A cache that cannot be written costs time, never a container.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cofferdam_profiles::apparmor::Profile;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

use super::ApparmorError;
use crate::sys::pidfd;

/// Where the compiler is.
const PARSERS: &[&str] = &["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that is taken of it, in bytes.
const MAX_COMPILED: u64 = 64 << 20;
/// The most of its complaint that is shown, in bytes.
const MAX_MESSAGE: usize = 600;
/// The first bytes of a file.
const MAGIC: &[u8; 8] = b"cofferA1";
const DIGEST: usize = 32;
/// How many files are kept.
const MAX_FILES: usize = 256;

/// The compiler, if there is one.
pub fn find_parser() -> Option<PathBuf> {
    PARSERS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// What the kernel takes for `profile`.
pub(super) fn compile(profile: &Profile, cache: Option<&Path>) -> Result<Vec<u8>, ApparmorError> {
    let program = find_parser().ok_or(ApparmorError::NoParser)?;
    let key = key(profile, &program);
    let place = cache.map(|cache| cache.join("apparmor"));
    let path = place.as_ref().map(|place| place.join(&profile.name));
    if let (Some(path), Ok(key)) = (&path, &key)
        && let Some(compiled) = kept(path, key)
    {
        return Ok(compiled);
    }
    let compiled = run(profile, &program)?;
    if let (Some(place), Some(path), Ok(key)) = (&place, &path, &key)
        && let Err(error) = keep(place, path, key, &compiled)
    {
        tracing::debug!(path = %path.display(), %error, "a compiled profile is not kept");
    }
    Ok(compiled)
}

/// Tells what this compiler makes of this text on this kernel.
fn key(profile: &Profile, program: &Path) -> io::Result<[u8; DIGEST]> {
    let found = fs::metadata(program)?;
    let kernel = nix::sys::utsname::uname()?;
    let mut digest = Sha256::new();
    for number in [
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime().cast_unsigned(),
        found.mtime_nsec().cast_unsigned(),
    ] {
        digest.update(number.to_le_bytes());
    }
    for text in [kernel.release(), kernel.version()] {
        digest.update(text.as_encoded_bytes());
        digest.update([0]);
    }
    digest.update(&profile.text);
    Ok(digest.finalize().into())
}

fn kept(path: &Path, key: &[u8; DIGEST]) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    let ours = found.is_file()
        && found.uid() == nix::unistd::geteuid().as_raw()
        && found.mode() & 0o077 == 0
        && found.len() <= MAX_COMPILED;
    if !ours {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_COMPILED).read_to_end(&mut bytes).ok()?;
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(key)?;
    let (digest, compiled) = rest.split_at_checked(DIGEST)?;
    let whole = Sha256::digest(compiled).as_slice() == digest && !compiled.is_empty();
    whole.then(|| compiled.to_vec())
}

fn keep(place: &Path, path: &Path, key: &[u8; DIGEST], compiled: &[u8]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(place)?;
    let found = fs::symlink_metadata(place)?;
    if !found.is_dir()
        || found.uid() != nix::unistd::geteuid().as_raw()
        || found.mode() & 0o022 != 0
    {
        return Err(io::Error::other("others can write the directory"));
    }
    prune(place)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let digest = Sha256::digest(compiled);
    let whole = [MAGIC, key.as_slice(), digest.as_slice(), compiled].concat();
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(&whole))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Makes room for one more file; the oldest go, and what a killed process left beside is old soon.
fn prune(place: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let written = entry.metadata().and_then(|found| found.modified());
        files.push((written.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
    }
    files.sort();
    let over = (files.len() + 1).saturating_sub(MAX_FILES);
    for (_, path) in files.iter().take(over) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn run(profile: &Profile, program: &Path) -> Result<Vec<u8>, ApparmorError> {
    let failed = |source: io::Error| ApparmorError::Run {
        program: program.to_owned(),
        source,
    };
    // Files in memory: nobody waits for a pipe, whoever writes first.
    let memory =
        || -> io::Result<File> { Ok(memfd_create(c"apparmor", MFdFlags::MFD_CLOEXEC)?.into()) };
    let (mut text, mut compiled, mut complaint) = (
        memory().map_err(failed)?,
        memory().map_err(failed)?,
        memory().map_err(failed)?,
    );
    text.write_all(profile.text.as_bytes())
        .and_then(|()| text.rewind())
        .map_err(failed)?;
    let mut child = Command::new(program)
        .args(["--skip-kernel-load", "--skip-cache", "--stdout", "--quiet"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(text))
        .stdout(Stdio::from(compiled.try_clone().map_err(failed)?))
        .stderr(Stdio::from(complaint.try_clone().map_err(failed)?))
        .spawn()
        .map_err(failed)?;
    // Our child, not waited for yet: the number is its own.
    let pid = Pid::from_raw(child.id().cast_signed());
    let ended = pidfd::open(pid).and_then(|file| pidfd::wait_end(&file, PATIENCE));
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    if !ended.map_err(failed)? {
        return Err(ApparmorError::Slow {
            program: program.to_owned(),
            profile: profile.name.clone(),
            seconds: PATIENCE.as_secs(),
        });
    }
    let out = contents(&mut compiled).map_err(failed)?;
    if !status.success() || out.is_empty() {
        let said = contents(&mut complaint).map_err(failed)?;
        return Err(ApparmorError::Refused {
            program: program.to_owned(),
            profile: profile.name.clone(),
            message: cut(&said),
        });
    }
    Ok(out)
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MAX_COMPILED).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The end of what the compiler said, on one line.
fn cut(said: &[u8]) -> String {
    let from = said.len().saturating_sub(MAX_MESSAGE);
    let text = String::from_utf8_lossy(said.get(from..).unwrap_or_default());
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_what_was_kept_for_this_key_is_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("apparmor");
        let path = place.join("cofferdam-x");
        let (key, other) = ([1; DIGEST], [2; DIGEST]);
        keep(&place, &path, &key, b"compiled").expect("kept");
        assert_eq!(kept(&path, &key).as_deref(), Some(b"compiled".as_slice()));
        assert_eq!(kept(&path, &other), None);
        // Another one takes its place.
        keep(&place, &path, &other, b"newer").expect("kept");
        assert_eq!(kept(&path, &other).as_deref(), Some(b"newer".as_slice()));
        assert_eq!(fs::read_dir(&place).expect("listed").count(), 1);

        let whole = fs::read(&path).expect("read");
        for (at, _) in whole.iter().enumerate() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("written");
            assert_eq!(kept(&path, &other), None, "byte {at}");
            fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(kept(&path, &other), None, "cut at {at}");
        }
        fs::write(&path, &whole).expect("written");
        assert!(kept(&path, &other).is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert_eq!(kept(&path, &other), None);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("set");
        assert!(keep(&place, &path, &key, b"x").is_err());
    }

    #[test]
    fn a_complaint_is_one_line_of_bounded_length() {
        let said = [b"x".repeat(5000), b"\n\x1b[2J syntax error".to_vec()].concat();
        let text = cut(&said);
        assert!(text.len() < 2 * MAX_MESSAGE && text.ends_with("syntax error"));
        assert!(!text.contains('\u{1b}') && !text.contains('\n'));
    }
}
