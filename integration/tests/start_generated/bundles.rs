use std::fs;

use cofferdam_integration::{
    error::{At as _, Result},
    gate, tiny,
};
use serde_json::json;

use super::place::{EFAULT, EPERM, MQ_UNLINK, Place, copy, rest};

#[test]
fn the_second_start_uses_what_the_first_made() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("")?;
    rest();
    assert_eq!(place.run()?.code(), EFAULT);
    let entries = place.entries()?;
    assert_eq!(entries.len(), 1, "{entries:?}");
    let (origin, found) = place.made()?;
    assert_eq!(origin, "kept");
    assert!(found.contains(&"uname".to_owned()), "{found:?}");
    assert!(!found.contains(&"mq_unlink".to_owned()), "{found:?}");
    assert_eq!(place.run()?.code(), EFAULT);
    assert_eq!(place.entries()?, entries);

    // Other arguments, another search path and another program are other containers.
    place.args(&["/quick", "more"])?;
    assert_eq!(place.made()?.0, "made");
    place.args(&["/other"])?;
    let (origin, found) = place.made()?;
    assert_eq!(origin, "made");
    assert!(found.contains(&"mq_unlink".to_owned()), "{found:?}");
    Ok(())
}

#[test]
fn a_replaced_program_is_analysed_again() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let place = Place::new("")?;
    rest();
    place.run()?;
    // Of the same length, and with the times of the old one: the inode's own time tells.
    let program = place.bundle.rootfs().join("quick");
    let old = fs::metadata(&program).at("look at", &program)?;
    fs::write(&program, tiny::caller(MQ_UNLINK)).at("write", &program)?;
    let file = fs::File::options().write(true).open(&program);
    let times = fs::FileTimes::new().set_modified(old.modified().at("look at", &program)?);
    file.and_then(|file| file.set_times(times))
        .at("set the times of", &program)?;
    rest();
    let (origin, found) = place.made()?;
    assert_eq!(origin, "made");
    assert!(found.contains(&"mq_unlink".to_owned()), "{found:?}");
    assert_eq!(place.run()?.code(), EFAULT);
    // One that is too young is analysed at each start.
    place
        .bundle
        .put("/quick", &tiny::caller(MQ_UNLINK), 0o755)?;
    for _ in 0..2 {
        let (origin, _) = place.made()?;
        assert!(origin.contains("not-kept"), "{origin}");
    }
    Ok(())
}

#[test]
fn what_is_mounted_over_a_program_is_what_is_analysed() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("")?;
    let volume = place.path("volume");
    fs::create_dir(&volume).at("make", &volume)?;
    copy(&place.bundle.rootfs().join("other"), &volume.join("quick"))?;
    copy(&place.bundle.rootfs().join("other"), &volume.join("file"))?;
    rest();
    assert_eq!(place.made()?.0, "made");
    let mount = |source: &str, destination: &str| {
        json!({"destination": destination, "type": "bind", "options": ["rbind", "ro"],
               "source": volume.join(source)})
    };
    let bare = place.bundle.spec["mounts"].clone();
    let with = |place: &mut Place, mount| {
        place.bundle.spec["mounts"] = bare.clone();
        if let Some(mounts) = place.bundle.spec["mounts"].as_array_mut() {
            mounts.push(mount);
        }
        place.bundle.save()
    };
    // Over the program itself.
    with(&mut place, mount("file", "/quick"))?;
    for origin in ["made", "kept"] {
        let (found, calls) = place.made()?;
        assert_eq!(found, origin);
        assert!(calls.contains(&"mq_unlink".to_owned()), "{calls:?}");
    }
    assert_eq!(place.run()?.code(), EFAULT);
    fs::write(volume.join("file"), tiny::sleeper()).at("write", &volume)?;
    let (_, calls) = place.made()?;
    assert!(!calls.contains(&"mq_unlink".to_owned()), "{calls:?}");
    // At a place that the image does not have; nothing is made there.
    with(&mut place, mount("", "/srv/app"))?;
    place.args(&["/srv/app/quick"])?;
    for origin in ["made", "kept"] {
        let (found, calls) = place.made()?;
        assert_eq!(found, origin);
        assert!(calls.contains(&"mq_unlink".to_owned()), "{calls:?}");
    }
    assert!(!place.bundle.rootfs().join("srv").exists());
    assert_eq!(place.run()?.code(), EFAULT);
    Ok(())
}

#[test]
fn a_damaged_entry_is_made_again() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let place = Place::new("")?;
    rest();
    place.run()?;
    let entries = place.entries()?;
    let [entry] = entries.as_slice() else {
        panic!("one entry: {entries:?}");
    };
    let good = fs::read(entry).at("read", entry)?;
    // What somebody would like to have allowed, and what a bad disk makes of it.
    let text = String::from_utf8_lossy(&good).replace("\"uname\"", "\"mount\"");
    let cut = good.get(..good.len() / 2).unwrap_or_default();
    for bad in [text.as_bytes(), cut, b"", b"{}"] {
        fs::write(entry, bad).at("write", entry)?;
        let (origin, found) = place.made()?;
        assert_eq!(origin, "made");
        assert!(found.contains(&"uname".to_owned()), "{found:?}");
        assert_eq!(place.made()?.0, "kept");
    }
    assert_eq!(place.run()?.code(), EFAULT);
    Ok(())
}

#[test]
fn without_its_analyst_the_container_is_refused_unless_that_is_best_effort() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("")?;
    let alone = place.path("alone");
    fs::create_dir(&alone).at("make", &alone)?;
    copy(&place.binaries.join("cofferdam"), &alone.join("cofferdam"))?;
    let beside = std::mem::replace(&mut place.binaries, alone.clone());
    let refused = |place: &Place, why: &str| -> Result<()> {
        let done = place.run()?;
        assert_ne!(done.code(), 0);
        for text in [
            "none could be made",
            why,
            "generated-seccomp",
            "rule seccomp",
        ] {
            assert!(done.stderr.contains(text), "{text}: {done:?}");
        }
        Ok(())
    };
    refused(&place, "cofferdam-profile")?;
    // One that is in the PATH is no other.
    let done = place
        .cofferdam()
        .env("PATH", format!("{}:/usr/bin:/bin", beside.display()))
        .args(["run", "--bundle"])
        .arg(place.bundle.dir())
        .arg("tried")
        .run()?;
    assert!(done.stderr.contains("none could be made"), "{done:?}");
    // One that ends, or answers what is none.
    for script in ["#!/bin/sh\necho no >&2\nexit 3\n", "#!/bin/sh\necho '{}'\n"] {
        let path = alone.join("cofferdam-profile");
        fs::write(&path, script).at("write", &path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .at("change", &path)?;
        refused(&place, "answer")?;
    }
    place.policy("best_effort = [\"apparmor\", \"generated-seccomp\"]")?;
    assert_eq!(place.run()?.code(), EFAULT);
    let report = place.report()?;
    assert!(report["summary"]["generated"].is_null());
    let findings = report["findings"].to_string();
    assert!(findings.contains("\"unenforced\""), "{findings}");
    Ok(())
}

#[test]
fn a_program_that_cannot_be_analysed_is_refused_with_a_reason() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("")?;
    let whole = tiny::caller(MQ_UNLINK);
    let mut lying = whole.clone();
    // More program headers, further away, than there are bytes.
    lying[32..40].fill(0xff);
    lying[56] = 0xff;
    for bad in [
        whole[..40].to_vec(),
        lying,
        b"no program".to_vec(),
        Vec::new(),
    ] {
        place.bundle.put("/quick", &bad, 0o755)?;
        let done = place.run()?;
        assert_ne!(done.code(), 0);
        assert!(done.stderr.contains("none could be made"), "{done:?}");
        assert!(done.stderr.contains("/quick"), "{done:?}");
        assert!(!done.stderr.contains("panicked"), "{done:?}");
    }
    place.args(&["/none"])?;
    let done = place.run()?;
    assert!(
        done.stderr.contains("is no program of the root"),
        "{done:?}"
    );
    // A link to itself, and one that leads out of the root to a program of the host.
    let rootfs = place.bundle.rootfs();
    for (name, target) in [("loop", "loop"), ("out", "../../../../../bin/busybox")] {
        let link = rootfs.join(name);
        std::os::unix::fs::symlink(target, &link).at("link", link)?;
        place.args(&[&format!("/{name}")])?;
        let done = place.run()?;
        assert!(
            done.stderr.contains("is no program of the root"),
            "{done:?}"
        );
    }
    Ok(())
}

#[test]
fn what_breaks_is_explained_and_a_recording_mends_it() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("denials = \"explain\"")?;
    place.args(&["/sleeper"])?;
    let started = Place::start;
    let exec = |place: &Place| place.cofferdam().args(["exec", "sleeping", "/other"]).run();
    let delete = |place: &Place| {
        let deleted = place.cofferdam().args(["delete", "--force", "sleeping"]);
        deleted.ok().map(drop)
    };
    assert_eq!(started(&place)?, "");
    assert_eq!(exec(&place)?.code(), EPERM);
    let said = place.cofferdam().args(["denials", "sleeping"]).ok()?;
    delete(&place)?;
    for text in ["mq_unlink", "EPERM", "seccomp_recordings"] {
        assert!(said.stdout.contains(text), "{text}: {said:?}");
    }

    // As `cofferdam profile record` writes it.
    let recordings = place.path("recordings");
    fs::create_dir(&recordings).at("make", &recordings)?;
    let recording = |lost: u32| {
        json!({"version": 1, "name": "other", "runs": 1, "lost": lost,
               "phases": {"startup": {"mq_unlink": {"count": 1}}}})
    };
    let file = recordings.join("other.json");
    let policy = format!(
        "denials = \"explain\"\nseccomp_recordings = {:?}",
        recordings.display().to_string()
    );
    place.policy(&policy)?;
    let empty = started(&place)?;
    assert!(empty.contains("there are no recordings"), "{empty:?}");
    fs::write(&file, recording(1).to_string()).at("write", &file)?;
    let lossy = started(&place)?;
    assert!(lossy.contains("lost 1 events"), "{lossy}");
    fs::write(&file, recording(0).to_string()).at("write", &file)?;
    assert_eq!(started(&place)?, "");
    assert_eq!(exec(&place)?.code(), EFAULT);
    let made = place.report()?["summary"]["generated"].clone();
    delete(&place)?;
    assert_eq!(made["calls"]["mq_unlink"], "recording");
    assert_eq!(made["calls"]["pause"], "analysis");
    assert_eq!(made["confidence"], "low");
    let why = made["reasons"].to_string();
    assert!(why.contains("mq_unlink"), "{why}");
    Ok(())
}

#[test]
fn the_filter_lets_the_runtime_start_a_program_that_needs_nothing() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    // Without no_new_privs the filter comes before the privileges are dropped.
    for lines in [
        "no_new_privileges = false",
        "no_new_privileges = false\ndenials = \"explain\"",
        "denials = \"explain\"",
        "",
    ] {
        let mut place = Place::new(lines)?;
        place.bundle.spec["process"]["noNewPrivileges"] = false.into();
        place.bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000,
            "additionalGids": [5]});
        place.bundle.save()?;
        let done = place.run()?;
        assert_eq!(done.code(), EFAULT, "{lines}: {done:?}");
        if lines.contains("explain") {
            let said = place.cofferdam().args(["denials", "tried"]).run()?;
            assert!(!said.stdout.contains("EPERM"), "{said:?}");
        }
    }
    Ok(())
}

/// The files of a container that will not start are nobody's business.
#[test]
fn what_the_policy_refuses_is_not_analysed() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("")?;
    let allowed = place.bundle.spec["linux"]["namespaces"].clone();
    place.bundle.spec["linux"]["namespaces"] = serde_json::json!([{"type": "pid"}]);
    place.bundle.save()?;
    let done = place.run()?;
    assert_ne!(done.code(), EFAULT);
    assert!(!place.path("cache/objects").exists());
    place.bundle.spec["linux"]["namespaces"] = allowed;
    place.bundle.save()?;
    assert_eq!(place.run()?.code(), EFAULT);
    assert!(place.path("cache/objects").exists());
    Ok(())
}
