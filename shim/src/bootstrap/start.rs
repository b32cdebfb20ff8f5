//! The `start` verb: bind a socket, execute the daemon with it, print the address.
//!
//! It runs for every container and containerd waits for it, so it does no more than that.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde::Deserialize;

use super::BootstrapError;
use super::args::Args;
use super::daemon::SOCKET_FD;
use super::place::{self, Bound};
use crate::options::Options;
use crate::sys;

/// Annotations that name the group whose containers share a shim, in the order they count.
const GROUPS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// Bytes of options that are read at most.
const MAX_OPTIONS: u64 = 1 << 20;

/// Returns what is printed: the bare address, or for containerd 2.x the bootstrap parameters.
pub(super) fn start(args: &Args) -> Result<String, BootstrapError> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => env::current_dir().map_err(file("find the bundle in", Path::new(".")))?,
    };
    let options = read_options()?;
    let group = group(&bundle)?.unwrap_or_else(|| args.id.clone());
    let socket = place::socket_path(&args.address, &args.namespace, &group);
    let address = format!("unix://{}", socket.display());
    // Before the socket, so that `delete` finds it even if this process is killed in between. It is also
    // how containerd 1.6 finds the shim again after it restarted.
    let path = bundle.join("address");
    fs::write(&path, &address).map_err(file("write", &path))?;
    let bound = place::bind(&socket).map_err(file("bind the socket", &socket))?;
    if let Bound::New(listener) = bound {
        let started = start_daemon(args, &bundle, &socket, &options, listener.into());
        if started.is_err() {
            place::remove_socket(&socket).map_err(file("remove the socket", &socket))?;
        }
        started?;
    }
    Ok(announce(
        &address,
        env::var("MAX_SHIM_VERSION").ok().as_deref(),
    ))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BootstrapError {
    let path = path.to_owned();
    move |source| BootstrapError::File {
        action,
        path,
        source,
    }
}

/// The bare address means protocol version 2. A containerd that speaks version 3 says so.
fn announce(address: &str, max_version: Option<&str>) -> String {
    match max_version.and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version >= 3 => {
            serde_json::json!({"version": 3, "address": address, "protocol": "ttrpc"}).to_string()
        }
        _ => address.to_owned(),
    }
}

/// The runtime options on standard input, if containerd sends them.
fn read_options() -> Result<Options, BootstrapError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(Options::default());
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .take(MAX_OPTIONS)
        .read_to_end(&mut bytes)
        .map_err(file("read the options from", Path::new("standard input")))?;
    // containerd 2.3 may send its bootstrap parameters as JSON, which repeat the command line.
    if bytes.is_empty() || bytes.first() == Some(&b'{') {
        return Ok(Options::default());
    }
    Ok(Options::from_any(Some(&Any::parse_from_bytes(&bytes)?))?)
}

/// The group that the bundle's annotations name.
fn group(bundle: &Path) -> Result<Option<String>, BootstrapError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<HashMap<String, String>>,
    }
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(file("read", &path))?;
    let config: Config = serde_json::from_slice(&text)
        .map_err(|source| BootstrapError::Annotations { path, source })?;
    let mut annotations = config.annotations.unwrap_or_default();
    Ok(GROUPS
        .iter()
        .find_map(|key| annotations.remove(*key))
        .filter(|group| !group.is_empty()))
}

fn start_daemon(
    args: &Args,
    bundle: &Path,
    socket: &Path,
    options: &Options,
    listener: OwnedFd,
) -> Result<(), BootstrapError> {
    if let Some(cgroup) = &options.shim_cgroup {
        place::join_cgroup(cgroup).map_err(|source| BootstrapError::Cgroup {
            cgroup: cgroup.clone(),
            source,
        })?;
    }
    place::raise_oom_score().map_err(file("raise", Path::new("/proc/self/oom_score_adj")))?;
    let null: PathBuf = "/dev/null".into();
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open(&null)
        .map_err(file("open", &null))?
        .into();
    spawn(args, bundle, socket, &listener, &null).map_err(BootstrapError::Spawn)
}

fn spawn(
    args: &Args,
    bundle: &Path,
    socket: &Path,
    listener: &OwnedFd,
    null: &OwnedFd,
) -> io::Result<()> {
    let program = env::current_exe()?;
    // The daemon has the name that this was called by: it can ask for a virtual machine (`launch::is_called_vm`).
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.as_deref().and_then(Path::file_name);
    let name = called.map_or_else(|| program.clone(), |called| program.with_file_name(called));
    let mut words: Vec<Vec<u8>> = vec![name.as_os_str().as_encoded_bytes().to_vec()];
    let mut flag = |name: &str, value: &[u8]| {
        words.push(name.as_bytes().to_vec());
        words.push(value.to_vec());
    };
    flag("-namespace", args.namespace.as_bytes());
    flag("-id", args.id.as_bytes());
    flag("-address", args.address.as_bytes());
    if let Some(binary) = &args.publish_binary {
        flag("-publish-binary", binary.as_os_str().as_encoded_bytes());
    }
    flag("-bundle", bundle.as_os_str().as_encoded_bytes());
    flag("-socket", socket.as_os_str().as_encoded_bytes());
    if args.debug {
        words.push(b"-debug".to_vec());
    }
    let words = words
        .iter()
        .map(|word| sys::c_string(word))
        .collect::<io::Result<Vec<_>>>()?;
    let program = sys::c_string(program.as_os_str().as_encoded_bytes())?;
    let fds = [(null, 0), (null, 1), (null, 2), (listener, SOCKET_FD)];
    sys::spawn(&program, &words, &sys::environment(), &fds).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.json");
        let cases = [
            ("{}", None),
            (r#"{"annotations":null,"process":{"args":["x"]}}"#, None),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#,
                Some("pod"),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":""}}"#,
                None,
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"b","io.containerd.runc.v2.group":"a"}}"#,
                Some("a"),
            ),
        ];
        for (text, expected) in cases {
            fs::write(&config, text).unwrap();
            assert_eq!(group(dir.path()).unwrap().as_deref(), expected, "{text}");
        }
        for bad in ["", "7", r#"{"annotations":{"a":1}}"#, "\u{0}"] {
            fs::write(&config, bad).unwrap();
            assert!(group(dir.path()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_answer_fits_containerd() {
        for old in [None, Some("2"), Some(""), Some("x")] {
            assert_eq!(announce("unix:///s", old), "unix:///s", "{old:?}");
        }
        let new: serde_json::Value =
            serde_json::from_str(&announce("unix:///s", Some("3"))).unwrap();
        assert_eq!(new["version"], 3);
        assert_eq!(new["address"], "unix:///s");
        assert_eq!(new["protocol"], "ttrpc");
    }
}
