//! Files of the host's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use std::time::Duration;

use cofferdam_integration::command::eventually;
use cofferdam_integration::error::{At as _, Result};
use serde_json::json;

use crate::yard::Yard;

#[test]
fn volumes_are_live_and_keep_their_owners() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let volume = yard.dir().join("volume");
    fs::create_dir(&volume).at("make", &volume)?;
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o1777)).at("open", &volume)?;
    let fixed = yard.dir().join("fixed");
    fs::write(&fixed, "from the host\n").at("write", &fixed)?;
    let mut bundle = yard.bundle("volumes", &["sleep", "1000"])?;
    let mounts = bundle.spec["mounts"].as_array_mut().expect("a list");
    mounts.push(json!({"destination": "/data", "source": volume, "type": "bind", "options": ["rbind", "rw"]}));
    mounts.push(json!({"destination": "/etc/fixed", "source": fixed, "type": "bind", "options": ["bind", "ro"]}));
    let running = yard.start(&bundle, "volumes")?;
    let asked = |user: &str, script: &str| -> Result<String> {
        let words = ["exec", "--user", user, "volumes", "sh", "-c", script];
        let done = running.command(&words)?.run()?;
        Ok(done.stdout + &done.stderr)
    };
    assert_eq!(asked("0", "cat /etc/fixed")?, "from the host\n");
    let denied = asked("0", "echo no > /etc/fixed; echo $?")?;
    assert!(denied.contains("Read-only"), "{denied}");
    assert_eq!(
        fs::read_to_string(&fixed).at("read", &fixed)?,
        "from the host\n"
    );
    asked(
        "1000:1001",
        "echo hers > /data/hers; ln -s /etc/passwd /data/link; mkfifo /data/fifo",
    )?;
    let made = volume.join("hers");
    let found = fs::metadata(&made).at("look at", &made)?;
    assert_eq!((found.uid(), found.gid()), (1000, 1001));
    asked("0", "echo roots > /data/roots")?;
    let made = volume.join("roots");
    assert_eq!(fs::metadata(&made).at("look at", &made)?.uid(), 0);
    // A config map changes by rename.
    let (new, map) = (volume.join("new"), volume.join("map"));
    fs::write(&map, "one\n").at("write", &map)?;
    assert_eq!(asked("0", "cat /data/map")?, "one\n");
    fs::write(&new, "two\n").at("write", &new)?;
    fs::rename(&new, &map).at("rename", &map)?;
    // The guest remembers names for a second.
    eventually(
        "the new map is seen",
        Duration::from_secs(10),
        || match asked("0", "cat /data/map") {
            Ok(text) if text == "two\n" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    // What the guest makes of links and names stays in the share: the host's file is not the guest's.
    let passwd = asked("0", "cat /data/link /data/../../../etc/shadow 2>&1")?;
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    assert!(
        !passwd.contains(shadow.lines().next().unwrap_or("root:")),
        "{passwd}"
    );
    running.delete()
}
