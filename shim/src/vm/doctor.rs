//! Whether this host can run a machine: tried, not guessed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam_agent::protocol::BOOTED;
use cofferdam_container::doctor::{Check, Status};

use super::files::Files;

/// How long the guest's kernel may take to its first process. Where hardware runs it, that is a fraction of a second;
/// a lab that emulates takes some seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Boots the guest's kernel once, and says what came of it.
pub(crate) fn check() -> Check {
    let (status, found) = match attempt() {
        Ok(took) => (
            Status::Ok,
            format!("a guest's first process ran after {} ms", took.as_millis()),
        ),
        Err(why) => (Status::Degraded, why),
    };
    let means = match status {
        Status::Ok => "`cofferdam.dev/isolation: microvm` gives a pod a kernel of its own",
        _ => "a pod cannot have a kernel of its own; one that asks for it is refused",
    };
    Check {
        name: "virtual machines".to_owned(),
        status,
        found,
        means: means.to_owned(),
    }
}

fn attempt() -> Result<Duration, String> {
    let files = Files::find().map_err(|error| error.to_string())?;
    super::create::kvm().map_err(|error| crate::cli::chain(&error))?;
    let place = std::env::temp_dir().join(format!("cofferdam-doctor-{}", std::process::id()));
    fs::create_dir(&place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
    let outcome = boot(&files, &place);
    drop(fs::remove_dir_all(&place));
    outcome
}

fn boot(files: &Files, place: &Path) -> Result<Duration, String> {
    let description = place.join("description.json");
    let text = serde_json::json!({
        "kernel": files.kernel, "initramfs": files.initramfs, "memory": 128,
    });
    let failed = |error| format!("cannot try it in {}: {error}", place.display());
    fs::write(&description, text.to_string()).map_err(failed)?;
    let console = place.join("console");
    let started = Instant::now();
    let child = Command::new(&files.monitor)
        .arg(&description)
        .arg(&console)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(failed)?;
    let outcome = loop {
        let said = fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&said).contains(BOOTED) {
            break Ok(started.elapsed());
        }
        if started.elapsed() > LIMIT {
            let seconds = LIMIT.as_secs();
            break Err(format!(
                "/dev/kvm is there, but does not start the guest's kernel within {seconds} s"
            ));
        }
        if child.try_wait().map_err(failed)?.is_some() {
            break Err("/dev/kvm is there, but refuses the guest's kernel".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // It has said what it was asked.
    drop(child.kill());
    drop(child.wait());
    outcome
}
