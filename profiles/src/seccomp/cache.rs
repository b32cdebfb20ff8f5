//! Compiled filters on disk, by the content of the profile.
//!
//! A file is used only if its owner and mode say that nobody else can have written it, if it holds
//! the description of this very profile byte for byte, and if the program has the digest it had.
//! Everything else is compiled anew and replaced; a cache that cannot be written costs time, never
//! a container.
//!
//! The file's name is a quick hash of the description. Two profiles of one name would only take
//! turns in one file: what tells them apart is the description itself, which is compared whole.
//! That is stricter than a digest as the key, and hashing the description took longer than all else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use libseccomp::ScmpVersion;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use super::action::Action;
use super::arch::Arch;
use super::bpf::{Instruction, MAX_INSTRUCTIONS};
use super::compile::{CompileError, Filter, compile, hex};

/// Of the file. What `compile` makes of a profile is told by [`COMPILER`].
const VERSION: u32 = 5;
/// The release, and a hash of the compiler's sources and tables, so that a filter which another
/// compiler made is never used, say after an upgrade that corrects one. It is worked out when this is
/// built. A change of a comment counts as well: that costs a machine one compilation for each profile.
const COMPILER: (&str, u64) = (env!("CARGO_PKG_VERSION"), hash_all(SOURCES));
/// Everything that decides what `compile` makes of a profile.
const SOURCES: &[&[u8]] = &[
    include_bytes!("action.rs"),
    include_bytes!("arch.rs"),
    include_bytes!("args.rs"),
    include_bytes!("assembly.rs"),
    include_bytes!("bpf.rs"),
    include_bytes!("calls.rs"),
    include_bytes!("calls.txt"),
    include_bytes!("compile.rs"),
    include_bytes!("model.rs"),
    include_bytes!("numbers.rs"),
    include_bytes!("validate.rs"),
];
const MAGIC: [u8; 8] = *b"cofferd\n";
const DIGEST: usize = 32;
/// Magic, version, flags, the lengths of description and program, the filter's id.
const HEADER: usize = MAGIC.len() + 4 + 4 + 4 + 4 + DIGEST;
const MAX_PROGRAM: usize = MAX_INSTRUCTIONS * Instruction::SIZE;
/// The longest description that is kept. Docker's default makes one of 12 KiB.
const MAX_DESCRIPTION: usize = 256 * 1024;
/// How many files are kept. A machine has a handful of profiles, but who starts containers may bring
/// one more with each; and the files of an older format stay behind.
const MAX_FILES: usize = 512;

/// Compiled filters by content, below one directory that only its owner may write.
#[derive(Debug, Clone)]
pub struct FilterCache {
    directory: PathBuf,
}

impl FilterCache {
    /// A cache below `directory`, which is made on first use.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The filter of `profile`, from the cache if it is there and intact, else compiled and kept.
    pub fn get_or_compile(&self, profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
        let description = describe(profile);
        let path = self.path(&description, "bpf");
        if let Some(filter) = load(&path, &description) {
            return Ok(filter);
        }
        let filter = compile(profile)?;
        // Not being able to keep it is no reason to fail: the next start compiles again.
        let _ = self.store(&path, &description, &filter);
        Ok(filter)
    }

    /// Where the filter of `profile` is kept.
    pub fn path_of(&self, profile: &LinuxSeccomp) -> PathBuf {
        self.path(&describe(profile), "bpf")
    }

    fn path(&self, description: &[u8], extension: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        hasher.write(description);
        let name = format!("{:016x}.{extension}", hasher.finish());
        self.directory.join(name)
    }

    /// Writes beside and renames, so that a reader sees nothing or all of it.
    fn store(&self, path: &Path, description: &[u8], filter: &Filter) -> io::Result<()> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        if description.len() > MAX_DESCRIPTION {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        make_room(&self.directory)?;
        let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path(description, &format!("{}.{unique}.tmp", process::id()));
        // What a killed process of the same id may have left behind.
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&encode(description, filter)))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Starts anew when there are too many files. One that somebody else is writing just now is lost to
/// them, which costs them a compilation.
fn make_room(directory: &Path) -> io::Result<()> {
    let paths = || {
        let entries = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
        io::Result::Ok(entries.filter(|path| is_own(path)))
    };
    if paths()?.count() >= MAX_FILES {
        for path in paths()? {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// Whether the cache makes files of such names: the directory is the administrator's choice and may
/// hold others'.
fn is_own(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let hash = stem.and_then(|stem| stem.get(..16));
    hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && path
            .extension()
            .is_some_and(|end| end == "bpf" || end == "tmp")
}

/// FNV-1a over the sources and their lengths, by eight bytes at a time: it runs in the Rust compiler,
/// which is slow.
const fn hash_all(sources: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut next = 0;
    while next < sources.len() {
        let source = sources[next];
        hash = stir(hash, source.len() as u64);
        let mut rest = source;
        while let Some((word, after)) = rest.split_first_chunk() {
            hash = stir(hash, u64::from_le_bytes(*word));
            rest = after;
        }
        while let [byte, after @ ..] = rest {
            hash = stir(hash, *byte as u64);
            rest = after;
        }
        next += 1;
    }
    hash
}

/// The fold of the high half brings every bit of a word down to where the next product spreads it.
const fn stir(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    mixed ^ (mixed >> 32)
}

/// All that a filter depends on: the compiler and the profile. No two profiles have the same
/// description: every list and text comes after its length. (JSON would do too, but this is on the
/// path of every start, and writing it took longer than reading the filter.)
fn describe(profile: &LinuxSeccomp) -> Vec<u8> {
    let mut out = Description(Vec::with_capacity(16 * 1024));
    let library = ScmpVersion::current().map_or([0; 3], |v| [v.major, v.minor, v.micro]);
    for number in library.into_iter().chain([VERSION, Arch::NATIVE.audit()]) {
        out.number(number);
    }
    out.text(COMPILER.0);
    out.long(COMPILER.1);
    out.action(profile.default_action(), profile.default_errno_ret());
    let arches = profile.architectures().as_deref().unwrap_or_default();
    out.length(arches.len());
    for arch in arches {
        out.number(*arch as u32);
    }
    let flags = profile.flags().as_deref().unwrap_or_default();
    out.length(flags.len());
    for flag in flags {
        out.number(match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 3,
        });
    }
    let listener = profile.listener_path().as_ref();
    out.number(u32::from(
        listener.is_some_and(|path| !path.as_os_str().is_empty()),
    ));
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    out.length(rules.len());
    for rule in rules {
        out.action(rule.action(), rule.errno_ret());
        let args = rule.args().as_deref().unwrap_or_default();
        out.length(args.len());
        for arg in args {
            out.length(arg.index());
            out.long(arg.value());
            out.long(arg.value_two().unwrap_or(0));
            out.number(arg.op() as u32);
        }
        out.length(rule.names().len());
        for name in rule.names() {
            out.text(name);
        }
    }
    out.0
}

struct Description(Vec<u8>);

impl Description {
    fn number(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn length(&mut self, value: usize) {
        self.number(u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn action(&mut self, action: LinuxSeccompAction, errno: Option<u32>) {
        // Invalid errnos differ from valid ones too, lest an invalid profile find a filter.
        self.number(Action::from_oci(action, None).ret());
        self.long(errno.map_or(u64::MAX, u64::from));
    }
}

fn encode(description: &[u8], filter: &Filter) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    [
        &MAGIC[..],
        &VERSION.to_le_bytes(),
        &filter.flags.to_le_bytes(),
        &length(description),
        &length(&filter.program),
        // The id covers the program and the flags, so one pass over them at each load checks both.
        &Filter::digest(&filter.program, filter.flags),
        description,
        &filter.program,
    ]
    .concat()
}

/// The filter in `path`, if it can be trusted in every respect.
fn load(path: &Path, description: &[u8]) -> Option<Filter> {
    let file = OpenOptions::new()
        .read(true)
        // A link or a FIFO somebody put there must neither be followed nor block.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)
        .ok()?;
    let bytes = read_trusted(file, HEADER + description.len() + MAX_PROGRAM)?;
    decode(&bytes, description)
}

/// The bytes of a file that nobody but this user can have written.
fn read_trusted(mut file: File, limit: usize) -> Option<Vec<u8>> {
    let meta = file.metadata().ok()?;
    let length = usize::try_from(meta.len()).ok()?;
    let own = meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if !meta.is_file() || !own || length > limit {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn decode(bytes: &[u8], description: &[u8]) -> Option<Filter> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (version, rest) = number(rest)?;
    let (flags, rest) = number(rest)?;
    let (described, rest) = number(rest)?;
    let (length, rest) = number(rest)?;
    let (id, rest) = rest.split_at_checked(DIGEST)?;
    let (own, program) = rest.split_at_checked(description.len())?;
    let whole = version == VERSION
        && usize::try_from(described).ok()? == description.len()
        && own == description
        && usize::try_from(length).ok()? == program.len()
        && !program.is_empty()
        && program.len().is_multiple_of(Instruction::SIZE)
        && Filter::digest(program, flags).as_slice() == id;
    whole.then(|| Filter {
        program: program.to_vec(),
        flags,
        id: hex(id),
    })
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A file that the hash leaves out could change and old filters would stay in use.
    #[test]
    fn every_source_of_the_compiler_counts() {
        const OTHERS: &[&str] = &["cache.rs", "intersect.rs", "mod.rs", "notify.rs"];
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp");
        let mut texts = BTreeSet::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && !OTHERS.contains(&name) {
                let text = fs::read(&path).unwrap();
                assert!(SOURCES.contains(&&text[..]), "{name} is not in SOURCES");
                texts.insert(text);
            }
        }
        assert_eq!(texts.len(), SOURCES.len());
    }

    #[test]
    fn every_byte_of_a_source_changes_the_hash() {
        let source: Vec<u8> = (0..=36).collect();
        let mut hashes = BTreeSet::from([hash_all(&[&source])]);
        for at in 0..source.len() {
            for bit in [1, 0x80] {
                let mut changed = source.clone();
                changed[at] ^= bit;
                hashes.insert(hash_all(&[&changed]));
            }
            hashes.insert(hash_all(&[&source[..at], &source[at..]]));
        }
        assert_eq!(hashes.len(), 1 + 3 * source.len());
        assert_eq!(hash_all(SOURCES), COMPILER.1);
    }

    /// What an older release leaves behind: a file that is whole and of this profile, but another compiler's.
    #[test]
    fn a_filter_of_another_compiler_is_not_used() {
        let profile = serde_json::from_str(r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#).unwrap();
        let lax = serde_json::from_str(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
        let other = compile(&lax).unwrap();
        let now = describe(&profile);
        let mut then = now.clone();
        let hash = COMPILER.1.to_le_bytes();
        let at = then.windows(8).position(|part| part == hash).unwrap();
        then[at] ^= 1;
        let directory = tempfile::tempdir().unwrap();
        let cache = FilterCache::at(directory.path());
        cache
            .store(&cache.path_of(&profile), &then, &other)
            .unwrap();
        assert_eq!(
            cache.get_or_compile(&profile).unwrap(),
            compile(&profile).unwrap()
        );
        // The same file is used when nothing but the compiler's hash differs from the above.
        cache.store(&cache.path_of(&profile), &now, &other).unwrap();
        assert_eq!(cache.get_or_compile(&profile).unwrap(), other);
    }
}
