use std::{fs, os::unix::fs::MetadataExt};

use cofferdam_integration::{
    cases::Case,
    containerd::Containerd,
    error::{At, Result},
};

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("keeps_the_engines_ids", keeps_the_engines_ids),
    ("gives_ids_of_its_own", gives_ids_of_its_own),
];

/// The id maps that a container's init, and one that joined it, see.
fn maps(engine: &Containerd, id: &str) -> Result<[Vec<u32>; 2]> {
    let map = |process: &str| -> Result<Vec<u32>> {
        let files = ["uid_map", "gid_map"].map(|file| format!("/proc/{process}/{file}"));
        let text = engine.exec(id, &["cat", &files[0], &files[1]])?.stdout;
        let words = text.split_whitespace();
        Ok(words.filter_map(|word| word.parse().ok()).collect())
    };
    Ok([map("1")?, map("self")?])
}

fn keeps_the_engines_ids(engine: &Containerd) -> Result<()> {
    const USERS: u32 = 1_000_000_000;
    const GROUPS: u32 = 1_100_000_000;
    let (users, groups) = (format!("0:{USERS}:65536"), format!("0:{GROUPS}:65536"));
    let flags = ["--uidmap", &users, "--gidmap", &groups];
    let script = "echo x >/tmp/mine; chown 7:8 /tmp/mine; exec sleep 1000";
    let container = engine.detached(&flags, "mapped", &["sh", "-euc", script])?;
    let expected = vec![0, USERS, 65536, 0, GROUPS, 65536];
    let [init, exec] = maps(engine, "mapped")?;
    assert_eq!((&init, &exec), (&expected, &expected));
    let pid = engine.init_of("mapped")?;
    let process = format!("/proc/{pid}");
    let owner = fs::metadata(&process).at("look at", &process)?;
    assert_eq!((owner.uid(), owner.gid()), (USERS, GROUPS));
    let file = format!("/proc/{pid}/root/tmp/mine");
    let owner = fs::metadata(&file).at("look at", &file)?;
    assert_eq!((owner.uid(), owner.gid()), (USERS + 7, GROUPS + 8));
    container.remove()
}

/// The control of the above: without a mapping of the engine's there is one all the same.
fn gives_ids_of_its_own(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("own")?;
    let [init, exec] = maps(engine, "own")?;
    assert_eq!(init, exec);
    assert_eq!((init[0], init[2], &init[..3]), (0, 65536, &init[3..]));
    let pid = engine.init_of("own")?;
    let process = format!("/proc/{pid}");
    let owner = fs::metadata(&process).at("look at", &process)?;
    assert_eq!(owner.uid(), init[1]);
    assert!(owner.uid() >= 65536);
    container.remove()
}
