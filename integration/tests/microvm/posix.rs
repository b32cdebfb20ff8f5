//! What POSIX asks of a file system: the suite `pjdfstest` on an overlay, and in the guest on an overlay that is
//! shared. It takes minutes, so `make test-lab-all` runs it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_integration::binaries::cache_dir;
use cofferdam_integration::command::Cmd;
use cofferdam_integration::error::{At, Error, Result};

use crate::mounts::Mounted;
use crate::shares::Shared;

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
const LIMIT: Duration = Duration::from_secs(900);

/// How cases end that do not end alike: here, and in the guest. The reasons are in docs/virtio-fs.md.
const OTHERWISE: &[(&str, &str, &str)] = &[];

/// Each case, and how it ended.
type Ends = BTreeMap<String, String>;

fn parse(text: &str) -> Ends {
    let ends = text.lines().filter_map(|line| {
        let (name, end) = line.rsplit_once(' ')?;
        let known = ["ok", "FAILED", "skipped"].contains(&end);
        (known && name.contains("::")).then(|| (name.trim().to_owned(), end.to_owned()))
    });
    ends.collect()
}

/// Mounts an overlay there, with the suite's place in it.
fn overlay(dir: &Path, place: PathBuf) -> Result<Mounted> {
    let make = |path: PathBuf| -> Result<PathBuf> {
        fs::create_dir_all(&path).at("make", &path)?;
        Ok(path)
    };
    let [lower, upper, scratch] = ["lower", "upper", "scratch"].map(|name| make(dir.join(name)));
    let mounted = Mounted::overlay(&lower?, &upper?, &scratch?, make(place)?)?;
    let work = make(mounted.0.join("work"))?;
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&work, open).at("open", &work)?;
    Ok(mounted)
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
    fs::write(&file, CONFIGURATION).at("write", &file)
}

fn run_here(dir: &Path) -> Result<Ends> {
    let overlay = overlay(&dir.join("here"), dir.join("overlay"))?;
    install(dir)?;
    let suite = Cmd::new(dir.join("pjdfstest"))
        .arg("-c")
        .arg(dir.join("pjdfstest.toml"))
        .arg("-p")
        .arg(overlay.0.join("work"))
        .args(["-s", "/dev/shm"]);
    Ok(parse(&suite.limit(LIMIT).run()?.stdout))
}

fn run_there(shared: &Shared) -> Result<Ends> {
    let (dir, share) = (shared.machine.dir.path(), &shared.dir);
    install(share)?;
    let _overlay = overlay(&dir.join("there"), share.join("overlay"))?;
    let bin = share.join("bin");
    fs::create_dir(&bin).at("make", &bin)?;
    for name in ["mount", "sleep", "umount", "which"] {
        let link = bin.join(name);
        symlink("../busybox", &link).at("link", &link)?;
    }
    let mut accounts = String::new();
    for (name, group, id) in [
        ("root", "root", 0),
        ("daemon", "daemon", 1),
        ("nobody", "nogroup", 65534),
    ] {
        accounts += &format!(
            "echo {name}:x:{id}:{id}::/: >>/etc/passwd; echo {group}:x:{id}: >>/etc/group; "
        );
    }
    let mut answer = shared
        .machine
        .request(&format!(
            "sh 0 /share/busybox mkdir -p /etc /tmp; {accounts} PATH=/share/bin /share/pjdfstest \
             -c /share/pjdfstest.toml -p /share/overlay/work -s /tmp >/share/said 2>&1"
        ))
        .expect("the probe listens");
    answer.set_read_timeout(Some(LIMIT)).expect("set a limit");
    answer.read_to_end(&mut Vec::new()).expect("it ends");
    let said = share.join("said");
    let text = fs::read_to_string(&said).at("read", &said)?;
    Ok(parse(&text))
}

#[test]
fn a_share_does_what_the_overlay_below_it_does() -> Result<()> {
    let Some(shared) = Shared::with_validity(1000)? else {
        return Ok(());
    };
    let here = run_here(shared.machine.dir.path())?;
    let there = run_there(&shared)?;
    let count = |ends: &Ends, end: &str| ends.values().filter(|&known| known == end).count();
    for (place, ends) in [("here", &here), ("there", &there)] {
        println!(
            "{place}: {} ok, {} failed, {} skipped",
            count(ends, "ok"),
            count(ends, "FAILED"),
            count(ends, "skipped")
        );
    }
    assert!(here.len() > 390 && count(&here, "ok") > 330, "{here:#?}");
    let none = "none".to_owned();
    let otherwise: Vec<(&str, &str, &str)> = here
        .iter()
        .map(|(name, end)| {
            (
                name.as_str(),
                end.as_str(),
                there.get(name).unwrap_or(&none).as_str(),
            )
        })
        .filter(|(_, here, there)| here != there)
        .collect();
    assert_eq!(otherwise, OTHERWISE);
    Ok(())
}
