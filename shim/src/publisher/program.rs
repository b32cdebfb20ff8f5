//! containerd's publish binary, for a containerd without a ttrpc socket.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use containerd_shim_protos::protobuf::Message;

use crate::events::Encoded;
use crate::sys;

/// Runs the program with one event on its standard input.
pub(super) fn publish(
    program: &Path,
    address: &str,
    namespace: &str,
    event: &Encoded,
) -> io::Result<()> {
    let path = sys::c_string(program.as_os_str().as_encoded_bytes())?;
    let mut args = vec![path.clone()];
    for arg in [
        "--address",
        address,
        "publish",
        "--topic",
        event.topic,
        "--namespace",
        namespace,
    ] {
        args.push(sys::c_string(arg.as_bytes())?);
    }
    let body = event.any.write_to_bytes().map_err(io::Error::other)?;
    // An event is far smaller than a pipe, so this write does not wait for the program.
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut writer = File::from(writer);
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into();
    sys::spawn(
        &path,
        &args,
        &sys::environment(),
        &[(&reader, 0), (&null, 1), (&null, 2)],
    )?;
    writer.write_all(&body)
}
