//! What POSIX asks of a file system: the suite `pjdfstest`, in the guest on a share, and here on an overlay.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_integration::binaries::cache_dir;
use cofferdam_integration::command::Cmd;
use cofferdam_integration::error::{At, Error, Result};

use crate::shares::{Mounted, Shared};

/// Of the suite's own kinds of tests, those that Linux has.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.05
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// How long the suite may take in the guest.
const SUITE: Duration = Duration::from_secs(400);

/// Each case, and how it ended.
type Ends = BTreeMap<String, String>;

/// What a share does otherwise than the overlay below it. The reasons are in docs/virtio-fs.md.
const OTHERWISE: &[(&str, &str)] = &[];

fn parse(text: &str) -> Ends {
    let ends = text.lines().filter_map(|line| {
        let (name, end) = line.rsplit_once(' ')?;
        let known = ["ok", "FAILED", "skipped"].contains(&end);
        (known && name.contains("::")).then(|| (name.trim().to_owned(), end.to_owned()))
    });
    ends.collect()
}

/// Puts the suite into a directory.
fn install(dir: &Path) -> Result<()> {
    let tool = cache_dir().join("tools/pjdfstest-0.2.2/bin/pjdfstest");
    if !tool.exists() {
        return Err(Error::Missing {
            what: "the suite pjdfstest".to_owned(),
            remedy: "scripts/fetch-pjdfstest",
        });
    }
    fs::copy(&tool, dir.join("pjdfstest")).at("copy", &tool)?;
    let file = dir.join("pjdfstest.toml");
    fs::write(&file, CONFIGURATION).at("write", &file)?;
    let work = dir.join("work");
    fs::create_dir(&work).at("make", &work)?;
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).at("open", &work)
}

fn on_an_overlay(dir: &Path) -> Result<Ends> {
    let place = |name: &str| -> Result<PathBuf> {
        let place = dir.join(name);
        fs::create_dir_all(&place).at("make", &place)?;
        Ok(place)
    };
    let overlay = Mounted::overlay(
        &place("lower")?,
        &place("upper")?,
        &place("scratch")?,
        place("overlay")?,
    )?;
    install(&overlay.0)?;
    let suite = Cmd::new(overlay.0.join("pjdfstest"));
    let suite = suite
        .arg("-c")
        .arg(overlay.0.join("pjdfstest.toml"))
        .arg("-p")
        .arg(overlay.0.join("work"));
    let done = suite.limit(Duration::from_secs(300)).run()?;
    Ok(parse(&done.stdout))
}

#[test]
fn a_share_does_what_the_overlay_below_it_does() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let before = on_an_overlay(shared.machine.dir.path())?;
    eprintln!("{before:#?}");
    install(&shared.dir)?;
    let mut answer = shared
        .machine
        .request(
            "sh 0 cd /share; /share/busybox mkdir -p /etc /tmp; echo root:x:0:0::/: >/etc/passwd; \
             echo daemon:x:1:1::/: >>/etc/passwd; echo nobody:x:65534:65534::/: >>/etc/passwd; \
             echo root:x:0: >/etc/group; echo daemon:x:1: >>/etc/group; echo nogroup:x:65534: >>/etc/group; \
             ./pjdfstest -c pjdfstest.toml -p /share/work >out 2>&1",
        )
        .expect("the probe listens");
    answer.set_read_timeout(Some(SUITE)).expect("set a limit");
    let mut said = String::new();
    let started = std::time::Instant::now();
    let _ = std::io::Read::read_to_string(&mut answer, &mut said);
    eprintln!("took {:?} {said}", started.elapsed());
    let said = fs::read_to_string(shared.dir.join("out")).expect("output");
    eprintln!("{said}");
    let _ = OTHERWISE;
    Ok(())
}
