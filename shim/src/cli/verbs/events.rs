//! `events`: a container's figures, once or again and again, and its out-of-memory kills.

use std::thread;
use std::time::{Duration, Instant};

use cofferdam_container::{self as container, ContainerId, Status};
use serde_json::json;

use super::{Flag, PLAIN, Verb, flag};
use crate::cli::flags::{Words, bad};
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print};

pub(super) const VERB: Verb = Verb {
    name: "events",
    summary: "show a container's CPU, memory, I/O and process figures",
    description: "Prints a line of JSON every --interval until the container stops.",
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

/// How often a stopped container is noticed while waiting for the next line.
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
    let stopped = || -> Result<bool, CliError> {
        Ok(container::load(&context.root, &id)?.status() == Status::Stopped)
    };
    if stopped()? {
        return Err(CliError::NotRunning { id: id.to_string() });
    }
    print_stats(context, &id)?;
    if words.on("stats") {
        return Ok(0);
    }
    let mut next = Instant::now() + interval;
    loop {
        thread::sleep(TICK.min(next.saturating_duration_since(Instant::now())));
        // Deleted or stopped: that is how the stream ends, not an error.
        if stopped().unwrap_or(true) {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_stats(context, &id)?;
            next += interval;
        }
    }
}

fn print_stats(context: &Context, id: &ContainerId) -> Result<(), CliError> {
    let stats = container::stats(&context.root, id)?;
    let event = json!({ "type": "stats", "id": id.as_str(), "data": stats });
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
