//! Compiled filters on disk, by the content of the profile.
//!
//! A file is used only if its owner and mode say that nobody else can have written it, and its
//! header and digest say that it is whole and belongs to this very profile. Everything else is
//! compiled anew and replaced; a cache that cannot be written costs time, never a container.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use libseccomp::ScmpVersion;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use sha2::{Digest, Sha256};

use super::action::Action;
use super::arch::Arch;
use super::bpf::{Instruction, MAX_INSTRUCTIONS};
use super::compile::{CompileError, Filter, compile, hex};

/// Of the file and of the compiler: a change of what `compile` makes of a profile must raise it.
const VERSION: u32 = 3;
const MAGIC: [u8; 8] = *b"cofferd\n";
const DIGEST: usize = 32;
/// Magic, version, flags, the program's length, the key, the filter's id, the digest of these.
const HEADER: usize = MAGIC.len() + 4 + 4 + 4 + DIGEST + DIGEST + DIGEST;
const MAX_PROGRAM: usize = MAX_INSTRUCTIONS * Instruction::SIZE;

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
        let key = key(profile);
        let path = self.path(&key);
        if let Some(filter) = load(&path, &key) {
            return Ok(filter);
        }
        let filter = compile(profile)?;
        // Not being able to keep it is no reason to fail: the next start compiles again.
        let _ = self.store(&path, &key, &filter);
        Ok(filter)
    }

    /// Where the filter of `profile` is kept.
    pub fn path_of(&self, profile: &LinuxSeccomp) -> PathBuf {
        self.path(&key(profile))
    }

    fn path(&self, key: &[u8; DIGEST]) -> PathBuf {
        self.directory.join(format!("{}.bpf", hex(key)))
    }

    /// Writes beside and renames, so that a reader sees nothing or all of it.
    fn store(&self, path: &Path, key: &[u8; DIGEST], filter: &Filter) -> io::Result<()> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .directory
            .join(format!("{}.{}.{unique}.tmp", hex(key), process::id()));
        // What a killed process of the same id may have left behind.
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&encode(key, filter)))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// What the compiled form depends on: the profile and all that compiles it.
fn key(profile: &LinuxSeccomp) -> [u8; DIGEST] {
    static COMPILER: OnceLock<String> = OnceLock::new();
    let compiler = COMPILER.get_or_init(|| {
        let library = ScmpVersion::current().map_or(String::new(), |v| {
            format!("{}.{}.{}", v.major, v.minor, v.micro)
        });
        format!(
            "cofferdam filter {VERSION}, {:?}, libseccomp {library}\n",
            Arch::NATIVE
        )
    });
    let mut text = Vec::with_capacity(16 * 1024);
    describe(profile, &mut text);
    let hasher = Sha256::new().chain_update(compiler).chain_update(text);
    hasher.finalize().into()
}

/// All of a profile that its filter depends on. No two profiles have the same description: every
/// list and text comes after its length. (JSON would do too, but this is on the path of every
/// start, and writing and hashing the JSON took longer than reading the filter.)
fn describe(profile: &LinuxSeccomp, out: &mut Vec<u8>) {
    let number = |out: &mut Vec<u8>, value: u64| out.extend(value.to_le_bytes());
    let length = |out: &mut Vec<u8>, value: usize| {
        out.extend(u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    };
    let action = |out: &mut Vec<u8>, action, errno: Option<u32>| {
        // Invalid errnos differ from valid ones too, lest an invalid profile find a filter.
        out.extend(Action::from_oci(action, None).ret().to_le_bytes());
        number(out, errno.map_or(u64::MAX, u64::from));
    };
    action(out, profile.default_action(), profile.default_errno_ret());
    let arches = profile.architectures().as_deref().unwrap_or_default();
    length(out, arches.len());
    for arch in arches {
        out.extend((*arch as u32).to_le_bytes());
    }
    let flags = profile.flags().as_deref().unwrap_or_default();
    length(out, flags.len());
    out.extend(flags.iter().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 0u8,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 2,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 3,
    }));
    out.push(u8::from(profile.listener_path().is_some()));
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    length(out, rules.len());
    for rule in rules {
        action(out, rule.action(), rule.errno_ret());
        let args = rule.args().as_deref().unwrap_or_default();
        length(out, args.len());
        for arg in args {
            length(out, arg.index());
            number(out, arg.value());
            number(out, arg.value_two().unwrap_or(0));
            out.extend((arg.op() as u32).to_le_bytes());
        }
        length(out, rule.names().len());
        for name in rule.names() {
            length(out, name.len());
            out.extend(name.as_bytes());
        }
    }
}

fn encode(key: &[u8; DIGEST], filter: &Filter) -> Vec<u8> {
    let length = u32::try_from(filter.program.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER + filter.program.len());
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(filter.flags.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(key);
    // The id covers the program, so one pass over it at each load checks both.
    out.extend(Filter::digest(&filter.program, filter.flags));
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out.extend(&filter.program);
    out
}

/// The filter in `path`, if it can be trusted in every respect.
fn load(path: &Path, key: &[u8; DIGEST]) -> Option<Filter> {
    let file = OpenOptions::new()
        .read(true)
        // A link or a FIFO somebody put there must neither be followed nor block.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)
        .ok()?;
    let bytes = read_trusted(&file).ok().flatten()?;
    decode(&bytes, key)
}

/// The bytes of a file that nobody but this user can have written.
fn read_trusted(file: &File) -> io::Result<Option<Vec<u8>>> {
    let meta = file.metadata()?;
    let limit = HEADER + MAX_PROGRAM;
    let fits = usize::try_from(meta.len()).is_ok_and(|length| length <= limit);
    let own = meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if !meta.is_file() || !own || !fits {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(limit) + 1);
    file.take(u64::try_from(limit).unwrap_or(u64::MAX) + 1)
        .read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn decode(bytes: &[u8], key: &[u8; DIGEST]) -> Option<Filter> {
    let (head, program) = bytes.split_at_checked(HEADER)?;
    let (fields, digest) = head.split_at_checked(HEADER - DIGEST)?;
    let rest = fields.strip_prefix(&MAGIC)?;
    let (version, rest) = rest.split_first_chunk()?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (own_key, id) = rest.split_at_checked(DIGEST)?;
    let flags = u32::from_le_bytes(*flags);
    let whole = Sha256::digest(fields).as_slice() == digest
        && Filter::digest(program, flags).as_slice() == id
        && u32::from_le_bytes(*version) == VERSION
        && own_key == key
        && usize::try_from(u32::from_le_bytes(*length)).ok()? == program.len()
        && !program.is_empty()
        && program.len().is_multiple_of(Instruction::SIZE);
    whole.then(|| Filter {
        program: program.to_vec(),
        flags,
        id: hex(id),
    })
}
