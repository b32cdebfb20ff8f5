use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    binaries::{build_dir, cache_dir},
    command::Cmd,
    error::{At, Error, Result},
    initramfs,
};

/// A script of the work tree.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    tree().join("scripts").join(name)
}

/// What is asked of the guest's kernel: options, one a line, and comments.
#[must_use]
pub fn fragment() -> PathBuf {
    tree().join("sandbox/guest/kernel.config")
}

/// The directory with the kernel that microVMs boot: `vmlinux`, `config`, and `sha256`, which `sha256sum
/// --check` reads.
///
/// # Errors
/// If `scripts/fetch-guest` has not built it, or cannot tell.
pub fn kernel() -> Result<PathBuf> {
    // What the script says of itself.
    const NOT_BUILT: i32 = 3;
    let found = Cmd::new(script("fetch-guest")).arg("--find").run()?;
    if found.code() == NOT_BUILT {
        return Err(Error::Missing {
            what: "the guest's kernel".to_owned(),
            remedy: "run make guest",
        });
    }
    Ok(PathBuf::from(found.ok()?.stdout.trim()))
}

/// Names the directory of what machines are made of to the runtime.
pub const VARIABLE: &str = "COFFERDAM_GUEST";

/// A directory with this build's programs under the names that ask for a virtual machine, and with the guest's kernel
/// and agent: what `make install` makes.
///
/// # Errors
/// If something was not built.
pub fn installed() -> Result<PathBuf> {
    let build = build_dir()?;
    let agent = build.join("cofferdam-agent");
    let content = fs::read(&agent).at("read", &agent)?;
    let mut hash = DefaultHasher::new();
    (&build, content).hash(&mut hash);
    let parent = cache_dir().join("machines");
    let dir = parent.join(format!("{:016x}", hash.finish()));
    if dir.exists() {
        return Ok(dir);
    }
    fs::create_dir_all(&parent).at("make", &parent)?;
    let draft = tempfile::tempdir_in(&parent).at("make a directory in", &parent)?;
    let link = |from: PathBuf, name: &str| {
        let to = draft.path().join(name);
        symlink(&from, &to).at("link", to)
    };
    for (program, name) in [
        ("cofferdam", "cofferdam"),
        ("cofferdam", "cofferdam-vm"),
        (
            "containerd-shim-cofferdam-v2",
            "containerd-shim-cofferdam-v2",
        ),
        (
            "containerd-shim-cofferdam-v2",
            "containerd-shim-cofferdam-vm-v2",
        ),
    ] {
        link(build.join(program), name)?;
    }
    link(built_kernel()?, "vmlinux")?;
    initramfs::write(&draft.path().join("agent.cpio"), &agent)?;
    match fs::rename(draft.path(), &dir) {
        // Another test was quicker.
        Err(_) if dir.exists() => Ok(dir),
        other => other.at("make", &dir).map(|()| {
            drop(draft.keep());
            dir
        }),
    }
}

/// The guest's kernel that is kept; the lab brings it along.
///
/// # Errors
/// If there is none.
pub fn built_kernel() -> Result<PathBuf> {
    let guests = cache_dir().join("guest");
    let entries = fs::read_dir(&guests).at("list", &guests)?;
    // Others are being made just now.
    let made = entries
        .flatten()
        .filter(|entry| entry.path().join(".complete").exists());
    let found = made.map(|entry| entry.path().join("vmlinux"));
    found
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| Error::Missing {
            what: "the kernel of microVMs".to_owned(),
            remedy: "make guest",
        })
}

fn tree() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
