//! Names that change while the runtime looks at them: each attack is won against who trusts a path.

use std::{fs, os::unix::fs::symlink, path::Path};

use cofferdam_integration::{
    binaries::Runtime,
    error::{At, Result},
};
use serde_json::json;

use crate::arena::{Arena, outcome};

/// Containers started while names are exchanged. One exchange takes some microseconds, a start
/// thousands of them.
const ROUNDS: u32 = 40;

/// The size of the tmpfs by which a mount of the test is told from others.
const MARK: &str = "size=4420k";

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).at("list", directory)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

/// CVE-2021-30465: the image's /swap is now a directory, now a link to a directory of the host.
#[test]
fn a_destination_that_changes_does_not_lead_outside() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let script = "cat /proc/self/mountinfo; echo shown";
    let mut bundle = arena.ordinary("swap", &["sh", "-c", script])?;
    let outside = arena.enclave.dir().join("outside");
    let volume = arena.enclave.dir().join("volume");
    let (real, link) = (bundle.rootfs().join("swap"), bundle.rootfs().join("link"));
    for dir in [&outside.join("inner"), &real.join("inner"), &volume] {
        fs::create_dir_all(dir).at("make", dir)?;
    }
    symlink(&outside, &link).at("link", &link)?;
    let swapper = arena.swapper(&real, &link)?;

    let naive = arena.enclave.cmd(&arena.probe).arg("mount-by-path");
    let naive = naive.arg(real.join("inner")).arg(outside.join("inner"));
    let free = outcome(&naive.ok()?.stdout).expect("the probe answers");
    assert!(free.worked, "control: {}", free.how);

    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": [MARK]});
    let mounts = bundle.spec["mounts"].as_array_mut().expect("an array");
    mounts.push(tmpfs("/swap/inner"));
    mounts.push(tmpfs("/swap/made/deep"));
    mounts.push(json!({"destination": "/swap/volume", "type": "bind", "source": volume, "options": ["rbind", "rw"]}));
    let mut ran = 0;
    for round in 0..ROUNDS {
        let shown = arena.show(Runtime::Cofferdam, &bundle, &format!("swap-{round}"))?;
        assert_eq!(names(&outside)?, ["inner"], "made outside: {shown}");
        let inner = outside.join("inner");
        assert!(names(&inner)?.is_empty(), "{}", inner.display());
        if shown.ends_with("shown\n") {
            ran += 1;
            // Every mount is in the container: none is lost, that is, somewhere else.
            let found = shown.lines().filter(|line| line.contains(MARK)).count();
            assert_eq!(found, 2, "{shown}");
        }
    }
    drop(swapper);
    assert!(ran > 0, "no container ran");
    // Where the link's text leads inside the root: the runtime did meet the link.
    let by_link = bundle
        .rootfs()
        .join(outside.strip_prefix("/").unwrap_or(&outside));
    assert!(by_link.join("made").exists(), "the race was never met");
    Ok(())
}

/// The directory that was judged as the root file system is exchanged for a link to another one.
#[test]
fn a_root_that_changes_is_not_entered() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let show = ["sh", "-c", "cat /marker; echo; echo shown"];
    let bundle = arena.ordinary("root", &show)?;
    let other = arena.ordinary("other", &show)?;
    bundle.put("/marker", b"inside", 0o644)?;
    other.put("/marker", b"outside", 0o644)?;
    let (real, link) = (bundle.rootfs(), bundle.dir().join("link"));
    symlink(other.rootfs(), &link).at("link", &link)?;
    let swapper = arena.swapper(&real, &link)?;

    let naive = arena.enclave.cmd(&arena.probe).arg("chroot-by-path");
    let free = outcome(&naive.arg(&real).ok()?.stdout).expect("the probe answers");
    assert!(free.worked, "control: {}", free.how);

    let mut refused = 0;
    for round in 0..ROUNDS {
        let shown = arena.show(Runtime::Cofferdam, &bundle, &format!("root-{round}"))?;
        assert!(!shown.contains("outside"), "{shown}");
        refused += u32::from(!shown.ends_with("shown\n"));
    }
    drop(swapper);
    assert!(refused > 0, "the race was never met");
    // Left alone, the same bundle runs.
    if fs::symlink_metadata(&real)
        .at("look at", &real)?
        .is_symlink()
    {
        fs::remove_file(&real).at("remove", &real)?;
        fs::rename(&link, &real).at("rename", &link)?;
    }
    let shown = arena.show(Runtime::Cofferdam, &bundle, "root")?;
    assert_eq!(shown, "inside\nshown\n");
    Ok(())
}
