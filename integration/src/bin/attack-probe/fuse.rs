//! A file system in user space, for the host's side of a test: `/file` (root's, mode 0600) and whatever is
//! made beside it. Speaks the kernel's protocol (`linux/fuse.h`) itself, for none of Debian 12's servers can let
//! its mounts be id-mapped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::Path,
};

use nix::mount::{MsFlags, mount};

/// The server's flags in its answer to INIT: it gives more flags, and its mounts may be id-mapped.
const INIT_EXT: u32 = 1 << 30;
const ALLOW_IDMAP: u32 = 1 << 8;

const HEADER: usize = 40;
const ROOT: u64 = 1;

struct Node {
    name: Vec<u8>,
    owner: (u32, u32),
    mode: u32,
    content: &'static [u8],
}

/// Mounts at `at` and serves until it is unmounted. Whether a mount may be id-mapped is the server's to say.
pub(super) fn serve(at: &str, mappable: bool) -> Result<String, String> {
    let run = || -> io::Result<()> {
        let mut device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("fuse-probe"),
            Path::new(at),
            Some("fuse"),
            flags,
            Some(&*data),
        )?;
        let mut nodes = vec![Node {
            name: b"file".to_vec(),
            owner: (0, 0),
            mode: 0o100_600,
            content: b"x\n",
        }];
        let mut request = vec![0; 1 << 20];
        loop {
            let length = match device.read(&mut request) {
                Ok(length) => length,
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                Err(error) => return Err(error),
            };
            answer(
                &mut device,
                request.get(..length).unwrap_or_default(),
                mappable,
                &mut nodes,
            )?;
        }
    };
    run().map_or_else(
        |error| Err(error.to_string()),
        |()| Ok("unmounted".to_owned()),
    )
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    u32::from_ne_bytes(bytes.unwrap_or_default())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    u64::from_ne_bytes(bytes.unwrap_or_default())
}

/// One request: its number, unique id, node and caller are in its header.
fn answer(
    device: &mut File,
    request: &[u8],
    mappable: bool,
    nodes: &mut Vec<Node>,
) -> io::Result<()> {
    let (number, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let owner = (u32_at(request, 24), u32_at(request, 28));
    let body = request.get(HEADER..).unwrap_or_default();
    let result = match number {
        // FORGET, INTERRUPT and BATCH_FORGET have no answer.
        2 | 36 | 42 => return Ok(()),
        26 => Ok(init(body, mappable)),
        1 => look_up(nodes, text(body)),
        // GETATTR and SETATTR.
        3 | 4 => attributes(nodes, node).map(|found| words(&[1, 0], &[], &found)),
        // OPEN, OPENDIR.
        14 | 27 => Ok(vec![0; 16]),
        15 => Ok(read(nodes, node, body)),
        // CREATE: flags, mode, umask; whose it is to be is the caller.
        35 => {
            let (name, mode) = (text(body.get(16..).unwrap_or_default()), u32_at(body, 4));
            nodes.push(Node {
                name: name.to_vec(),
                owner,
                mode,
                content: b"",
            });
            look_up(nodes, name).map(|entry| [entry, vec![0; 16]].concat())
        }
        17 => Ok(vec![0; 80]),
        // RELEASE, FLUSH, RELEASEDIR, DESTROY.
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    };
    let (error, payload) = match result {
        Ok(payload) => (0, payload),
        Err(errno) => (-errno, Vec::new()),
    };
    let length = u32::try_from(16 + payload.len()).unwrap_or_default();
    let mut reply = length.to_ne_bytes().to_vec();
    reply.extend(error.to_ne_bytes());
    reply.extend(unique.to_ne_bytes());
    reply.extend(payload);
    match device.write(&reply) {
        // Who asked was killed meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// Longs, then ints, then bytes: the kernel's structures.
fn words(longs: &[u64], ints: &[u32], rest: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = longs.iter().flat_map(|long| long.to_ne_bytes()).collect();
    bytes.extend(ints.iter().flat_map(|int| int.to_ne_bytes()));
    bytes.extend(rest);
    bytes
}

fn init(body: &[u8], mappable: bool) -> Vec<u8> {
    let (major, minor) = (u32_at(body, 0), u32_at(body, 4));
    let more = if mappable { ALLOW_IDMAP } else { 0 };
    // major, minor, readahead, flags, background, write size, granularity, pages, more flags.
    let ints = [major, minor, 0, INIT_EXT, 0, 4096, 1, 0, more];
    let mut out = words(&[], &ints, &[]);
    out.resize(64, 0);
    out
}

fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn look_up(nodes: &[Node], name: &[u8]) -> Result<Vec<u8>, i32> {
    let index = nodes.iter().position(|node| node.name == name);
    let node = index.ok_or(libc::ENOENT)? as u64 + ROOT + 1;
    let found = attributes(nodes, node)?;
    Ok(words(&[node, 0, 1, 1], &[0, 0], &found))
}

fn of(nodes: &[Node], node: u64) -> Option<&Node> {
    let index = node.checked_sub(ROOT + 1)?;
    nodes.get(usize::try_from(index).ok()?)
}

/// A `struct fuse_attr`.
fn attributes(nodes: &[Node], node: u64) -> Result<Vec<u8>, i32> {
    let (size, mode, (uid, gid)) = match of(nodes, node) {
        _ if node == ROOT => (0, 0o40_755, (0, 0)),
        Some(found) => (found.content.len() as u64, found.mode, found.owner),
        None => return Err(libc::ENOENT),
    };
    let times = [0, 0, 0];
    let longs = [node, size, 0, 0, 0, 0];
    let ints = [mode, 1, uid, gid, 0, 4096, 0];
    Ok(words(&longs, &[times.as_slice(), &ints].concat(), &[]))
}

fn read(nodes: &[Node], node: u64, body: &[u8]) -> Vec<u8> {
    let content = of(nodes, node).map_or(&[][..], |found| found.content);
    let start = usize::try_from(u64_at(body, 8)).unwrap_or(usize::MAX);
    let left = content.get(start..).unwrap_or_default();
    left.iter()
        .copied()
        .take(u32_at(body, 16) as usize)
        .collect()
}
