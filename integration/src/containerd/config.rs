use std::path::Path;

use super::Version;

/// The image of a pod's sandbox.
pub const PAUSE: &str = "localhost/pause:latest";

/// What a test wants of its containerd beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Load the CRI plug-in, with the runtime as a handler called `cofferdam`.
    pub cri: bool,
    /// Environment of the daemon, and so of its shims.
    pub envs: Vec<(String, String)>,
    /// Files to put into the enclave's directory; `policy.toml` there is the runtime's policy file.
    pub files: Vec<(String, String)>,
}

/// The configuration file. Version 2 is read by all three release lines.
pub(super) fn render(dir: &Path, version: Version, options: &Options) -> String {
    let dir = dir.display();
    let disabled = match (options.cri, version) {
        (true, _) => "[]",
        (false, Version::V2_1) => {
            r#"["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]"#
        }
        (false, _) => r#"["io.containerd.grpc.v1.cri"]"#,
    };
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = {disabled}

[grpc]
  address = "{dir}/containerd.sock"

[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
{cri}"#,
        cri = if options.cri {
            cri(&dir)
        } else {
            String::new()
        },
    )
}

/// The CRI plug-in with the handler `cofferdam`; containerd 2.x translates these names itself. The
/// sandbox's image is whatever the test imports under [`PAUSE`].
fn cri(dir: &std::path::Display<'_>) -> String {
    format!(
        r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "cofferdam"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cofferdam]
    runtime_type = "io.containerd.cofferdam.v2"
    pod_annotations = ["cofferdam.dev/*"]
    container_annotations = ["cofferdam.dev/*"]
"#
    )
}
