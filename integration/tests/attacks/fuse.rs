//! Volumes on file systems in user space. The kernel (6.12 and newer) lets a mount of one be id-mapped if its
//! server says so, which none of Debian 12's can. What is not mapped is refused by name, or nobody's.

use std::fs;

use cofferdam_integration::{
    command::Cmd,
    error::{At, Result},
    fuse::{self, Served},
    gate,
};
use serde_json::json;

use crate::{
    arena::Arena,
    users::{oci, refused_or_nobodys},
};

/// Of the probe's own server.
fn probes<'a>(arena: &'a Arena, name: &str, kind: &str) -> Result<Served<'a>> {
    Served::new(&arena.enclave, name, |volume| {
        let server = arena.enclave.cmd(&arena.probe).arg("serve-fuse");
        server.arg(volume).arg(kind)
    })
}

/// bindfs, as people use it for volumes.
#[test]
fn a_volume_of_bindfs_is_refused_by_name_or_nobodys() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let source = arena.enclave.dir().join("behind");
    fs::create_dir(&source).at("make", &source)?;
    let script = format!("echo x >{0}/file; chmod 600 {0}/file", source.display());
    Cmd::new("sh").args(["-c", &script]).ok()?;
    let Some(served) = Served::bindfs(&arena.enclave, "bound", &source)? else {
        return Ok(());
    };
    refused_or_nobodys(&arena, "fuse", served.at())?;
    // The control wrote through it.
    assert!(source.join("new").exists());
    Ok(())
}

/// The same server, but for the flag that it gives the kernel.
#[test]
fn a_volume_whose_server_allows_it_is_mapped() -> Result<()> {
    let (Some(arena), Some(())) = (Arena::new()?, gate::present(fuse::device())?) else {
        return Ok(());
    };
    let plain = probes(&arena, "plain", "plain")?;
    refused_or_nobodys(&arena, "fuse", plain.at())?;
    let version = gate::linux()?;
    let served = probes(&arena, "mappable", "mappable")?;
    if version < (6, 12) {
        // The kernel does not know the flag: then it is one like the others.
        return refused_or_nobodys(&arena, "fuse", served.at());
    }
    let look = "stat -c %u /vol/file; cat /vol/file; touch /vol/new && stat -c %u:%g /vol/new";
    let mut bundle = arena.ordinary("volume-mapped", &["sh", "-c", look])?;
    let bind = json!({"destination": "/vol", "type": "bind", "source": served.at(),
                      "options": ["rbind", "rw"]});
    let mounts = bundle.spec["mounts"].as_array_mut();
    mounts.expect("a list").push(bind);
    // Under the strictest of the policies: nothing may be unmapped.
    let id = format!("{}-mapped", arena.enclave.tag());
    let mapped = oci(&arena, "own", "run", &bundle, &id)?;
    assert_eq!(mapped.stdout, "0\nx\n0:0\n", "{mapped:?}");
    // What it made has the owner that a container with the host's ids would have given it.
    let found = arena.enclave.cmd("stat").args(["-c", "%u:%g"]);
    let found = found.arg(served.at().join("new")).ok()?;
    assert_eq!(found.stdout, "0:0\n");
    Ok(())
}
