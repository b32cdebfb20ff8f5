//! Stopping and continuing all processes of a cgroup.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::host::Mode;
use super::location::Location;
use super::{Error, file};

/// How long the processes may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the v1 freezer may hang in FREEZING before it is thawed and tried again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

const STATE: &str = "freezer.state";
const V2: &str = "cgroup.freeze";

pub(super) fn freeze(location: &Location) -> Result<(), Error> {
    let dir = freezer(location, "pause")?;
    let frozen = match location.mode {
        Mode::V1 => freeze_v1(dir),
        Mode::V2 => freeze_v2(dir),
    };
    if frozen.is_err() {
        // Half frozen is worse than running: nobody would thaw it.
        let _ = thaw(location);
    }
    frozen
}

pub(super) fn thaw(location: &Location) -> Result<(), Error> {
    let dir = freezer(location, "resume")?;
    match location.mode {
        Mode::V1 => file::write(&dir.join(STATE), "THAWED"),
        Mode::V2 => file::write(&dir.join(V2), "0"),
    }
}

/// Thaws what may be gone: a cgroup whose last process was killed can be removed by systemd, or by whoever
/// waits for that, at any time. Only an empty one can be.
pub(super) fn thaw_killed(location: &Location) -> Result<(), Error> {
    match thaw(location) {
        Err(Error::Write { source, .. }) if file::gone(&source) => Ok(()),
        other => other,
    }
}

pub(super) fn frozen(location: &Location) -> Result<bool, Error> {
    dir_frozen(freezer(location, "the paused state")?)
}

/// Whether one directory is frozen, or freezing; `false` for one without a freezer.
pub(super) fn dir_frozen(dir: &Path) -> Result<bool, Error> {
    if let Some(state) = file::read_optional(&dir.join(STATE))? {
        return Ok(state.trim() != "THAWED");
    }
    let asked = file::read_optional(&dir.join(V2))?;
    Ok(asked.is_some_and(|text| text.trim() == "1"))
}

fn freezer<'a>(location: &'a Location, operation: &'static str) -> Result<&'a Path, Error> {
    location
        .controller("freezer")
        .ok_or(Error::MissingController {
            controller: "freezer",
            operation,
        })
}

/// The v1 freezer can stay in FREEZING for ever when a process forks or waits for one already
/// stopped; thawing for a moment and freezing again gets it through.
fn freeze_v1(dir: &Path) -> Result<(), Error> {
    let state = dir.join(STATE);
    let start = Instant::now();
    loop {
        file::write(&state, "FROZEN")?;
        let attempt = Instant::now();
        let mut pause = Duration::from_micros(10);
        while attempt.elapsed() < RETRY_AFTER {
            match file::read(&state)?.trim() {
                "FROZEN" => return Ok(()),
                "FREEZING" => {}
                other => {
                    return Err(Error::Parse {
                        path: state,
                        text: other.to_owned(),
                    });
                }
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        if start.elapsed() >= LIMIT {
            return Err(timeout(dir));
        }
        file::write(&state, "THAWED")?;
        sleep(Duration::from_millis(1));
    }
}

fn freeze_v2(dir: &Path) -> Result<(), Error> {
    file::write(&dir.join(V2), "1")?;
    let events = dir.join("cgroup.events");
    let start = Instant::now();
    let mut pause = Duration::from_micros(10);
    while start.elapsed() < LIMIT {
        let text = file::read(&events)?;
        if file::parse_flat_keyed(&text).any(|pair| pair == ("frozen", 1)) {
            return Ok(());
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Err(timeout(dir))
}

fn timeout(dir: &Path) -> Error {
    Error::FreezeTimeout {
        path: dir.to_owned(),
        seconds: LIMIT.as_secs(),
    }
}
