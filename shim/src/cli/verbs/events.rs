//! `events`: a container's figures, once or again and again, and its out-of-memory kills.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use cofferdam_container::cgroup::{Cgroup, OomWatch};
use cofferdam_container::{self as container, ContainerId, State, Status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::{Flag, PLAIN, Verb, flag};
use crate::cli::flags::{Words, bad};
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print};
use crate::vm;

pub(super) const VERB: Verb = Verb {
    name: "events",
    summary: "show a container's CPU, memory, I/O and process figures",
    description: "Prints a line of JSON every --interval until the container stops, and one whenever the\n\
                  kernel kills in it for lack of memory.",
    example: "cofferdam events --stats web-1",
    flags: &[
        Flag::value(
            "interval",
            '\0',
            "TIME",
            "the time between two lines, such as 5s (default) or 500ms",
        ),
        Flag::switch("stats", '\0', "print one line and exit"),
    ],
    run,
    ..PLAIN
};

/// How soon a stopped container is noticed while waiting for the next line.
const TICK: Duration = Duration::from_millis(100);

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let id = container_id(words)?;
    let interval = match words.text("interval").map_err(flag("events"))? {
        None => Duration::from_secs(5),
        Some(text) => duration(text).ok_or_else(|| {
            flag("events")(bad(
                "interval",
                text.as_ref(),
                "a time such as 5s, 500ms or 1m30s",
            ))
        })?,
    };
    if interval.is_zero() {
        return Err(CliError::Usage("duration interval must be greater than 0"));
    }
    let state = container::load(&context.root, &id)?;
    if state.status() == Status::Stopped {
        return Err(CliError::NotRunning { id: id.to_string() });
    }
    print_stats(context, &id)?;
    if words.on("stats") {
        return Ok(0);
    }
    let mut memory = Memory::watch(&state);
    let mut next = Instant::now() + interval;
    loop {
        let wait = TICK.min(next.saturating_duration_since(Instant::now()));
        if memory.ran_out_within(wait)? {
            print_event("oom", &id, Value::Null)?;
        }
        // Deleted or stopped: that is how the stream ends, not an error.
        if container::load(&context.root, &id).is_ok_and(|now| now.status() != Status::Stopped) {
            if Instant::now() >= next {
                print_stats(context, &id)?;
                next += interval;
            }
        } else {
            return Ok(0);
        }
    }
}

/// The container's out-of-memory kills, as far as its cgroup counts them.
struct Memory {
    watch: Option<OomWatch>,
    count: u64,
}

impl Memory {
    fn watch(state: &State) -> Self {
        let watch = match (vm::events_of(state), &state.cgroup) {
            (Some(events), _) => OomWatch::of_bytes(&events).ok(),
            (None, Some(location)) => Cgroup::open(location)
                .and_then(|cgroup| cgroup.oom_watch())
                .ok(),
            (None, None) => None,
        };
        let count = watch
            .as_ref()
            .and_then(|watch| watch.count().ok())
            .flatten();
        Self {
            watch,
            count: count.unwrap_or(0),
        }
    }

    /// Waits; whether the count has grown.
    fn ran_out_within(&mut self, wait: Duration) -> Result<bool, CliError> {
        let Some(watch) = &self.watch else {
            thread::sleep(wait);
            return Ok(false);
        };
        let failed = |source| CliError::System {
            action: "wait for events",
            source,
        };
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno.into())),
            Ok(_) if watch.drain().is_err() => {
                self.watch = None;
                return Ok(false);
            }
            Ok(_) => {}
        }
        // Only the count tells, and at every tick: v1 reports before it counts, and reports the
        // removal of the cgroup the same way.
        let before = self.count;
        self.count = watch.count().ok().flatten().unwrap_or(before);
        Ok(self.count > before)
    }
}

fn print_stats(context: &Context, id: &ContainerId) -> Result<(), CliError> {
    let stats = vm::stats(&context.root, id)?;
    print_event(
        "stats",
        id,
        serde_json::to_value(stats).map_err(super::unprintable)?,
    )
}

fn print_event(kind: &str, id: &ContainerId, data: Value) -> Result<(), CliError> {
    let mut event = json!({ "type": kind, "id": id.as_str() });
    if !data.is_null() {
        event["data"] = data;
    }
    print(&format!("{event}\n"))?;
    Ok(())
}

/// Go's durations: numbers with a unit, one after the other.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let number: f64 = number.parse().ok()?;
        let unit_end = tail
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("2h", Some(7_200_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1y", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), millis, "{text:?}");
        }
    }
}
