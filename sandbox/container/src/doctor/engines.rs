//! Engines on PATH, and how each can use us.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::software::on_path;

/// How long an engine may take to say its version.
const LIMIT: Duration = Duration::from_secs(5);

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// Its name.
    pub name: String,
    /// Its executable.
    pub path: PathBuf,
    /// Its version; `None` when it does not say.
    pub version: Option<String>,
    /// Whether it can use us.
    pub usable: bool,
    /// How, or why not.
    pub how: String,
}

pub(super) fn find() -> Vec<Engine> {
    ["containerd", "dockerd", "podman", "crio"]
        .into_iter()
        .filter_map(|name| {
            let path = on_path(name)?;
            let version = ask(&path).as_deref().and_then(version);
            let (usable, how) = advice(name, version.as_deref());
            Some(Engine {
                name: name.to_owned(),
                path,
                version,
                usable,
                how,
            })
        })
        .collect()
}

/// `ENGINE --version`, a bounded time and a bounded amount of it.
fn ask(path: &Path) -> Option<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    while let Ok(None) = child.try_wait() {
        if start.elapsed() >= LIMIT {
            // It cannot be asked again; that it ends is all that is wanted.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    child.stdout?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The first word that looks like a version.
fn version(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v').trim_end_matches(','))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

/// Major and minor number.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn advice(engine: &str, version: Option<&str>) -> (bool, String) {
    let at_least = |major, minor| {
        // An engine that does not tell its version is taken for a new one.
        version
            .and_then(numbers)
            .is_none_or(|have| have >= (major, minor))
    };
    let (usable, how) = match engine {
        "containerd" if at_least(1, 6) => (
            true,
            "config.toml: [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.cofferdam] \
             runtime_type = \"io.containerd.cofferdam.v2\"; or ctr run --runtime \
             io.containerd.cofferdam.v2",
        ),
        "containerd" => (false, "containerd 1.6 or later is needed"),
        "dockerd" if at_least(23, 0) => (
            true,
            "daemon.json: {\"runtimes\": {\"cofferdam\": {\"runtimeType\": \
             \"io.containerd.cofferdam.v2\"}}}",
        ),
        "dockerd" => (
            true,
            "daemon.json: {\"runtimes\": {\"cofferdam\": {\"path\": \
             \"/usr/local/bin/cofferdam\"}}}",
        ),
        "podman" => (true, "podman --runtime /usr/local/bin/cofferdam run ..."),
        _ => (
            true,
            "crio.conf: [crio.runtime.runtimes.cofferdam] runtime_path = \
             \"/usr/local/bin/cofferdam\" (not tested)",
        ),
    };
    (usable, how.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_engines_print_them() {
        for (text, expected) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1",
                Some(("1.6.20~ds1", (1, 6))),
            ),
            (
                "containerd github.com/containerd/containerd v2.1.0 abcdef",
                Some(("2.1.0", (2, 1))),
            ),
            (
                "Docker version 20.10.24+dfsg1, build 297e128",
                Some(("20.10.24+dfsg1", (20, 10))),
            ),
            ("podman version 4.3.1\n", Some(("4.3.1", (4, 3)))),
            ("no idea", None),
        ] {
            let found = version(text);
            assert_eq!(found.as_deref(), expected.map(|e| e.0), "{text}");
            assert_eq!(found.as_deref().and_then(numbers), expected.map(|e| e.1));
        }
    }

    #[test]
    fn old_engines_get_other_advice() {
        assert!(!advice("containerd", Some("1.5.9")).0);
        assert!(advice("dockerd", Some("20.10.24")).1.contains("path"));
        assert!(advice("dockerd", Some("28.0.1")).1.contains("runtimeType"));
        assert!(advice("dockerd", None).1.contains("runtimeType"));
    }
}
