//! The log in the two formats that containerd, Podman and their users parse from runc.
//!
//! Every crate logs through `tracing`. This subscriber writes a line per event, names the container,
//! and opens nothing before there is something to write, so a quiet run pays nothing for it.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="..." level=error msg="..."`, as logrus writes it.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

/// Where lines go and how they look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The file; `None` is the standard error.
    pub(crate) file: Option<PathBuf>,
    /// The format.
    pub(crate) format: Format,
    /// Also write what helps to find a fault.
    pub(crate) debug: bool,
}

/// The container that the command line is about; every line names it.
static CONTAINER: OnceLock<String> = OnceLock::new();

/// Names the container in every line from now on.
pub(crate) fn name_container(id: &str) {
    // A second name would be a second container in one process: the first stays.
    let _ = CONTAINER.set(id.to_owned());
}

/// Sends every event of this process to the log.
pub(crate) fn install(settings: Settings) {
    let to_stderr = settings
        .file
        .as_deref()
        .is_none_or(|file| file == "/dev/stderr");
    let log = Log {
        settings: Settings {
            file: settings.file.filter(|_| !to_stderr),
            ..settings
        },
        file: Mutex::new(None),
    };
    // It fails only when a subscriber is there already, which then serves.
    let _ = tracing::subscriber::set_global_default(log);
}

/// Writes the one error that ends this process: to the log, and in plain words to the standard error
/// when the log is elsewhere or a person is watching.
pub(crate) fn fatal(settings: &Settings, message: &str) {
    let elsewhere = settings
        .file
        .as_deref()
        .is_some_and(|file| file != "/dev/stderr");
    let watched = settings.format == Format::Text && io::stderr().is_terminal();
    if elsewhere || !watched {
        tracing::error!("{message}");
    }
    if elsewhere || watched {
        // Nowhere to report that the standard error is closed.
        let _ = writeln!(io::stderr(), "{message}");
    }
}

struct Log {
    settings: Settings,
    file: Mutex<Option<File>>,
}

impl Log {
    fn write(&self, line: &str) {
        let Some(path) = &self.settings.file else {
            let _ = io::stderr().write_all(line.as_bytes());
            return;
        };
        let Ok(mut file) = self.file.lock() else {
            return;
        };
        if file.is_none() {
            match OpenOptions::new().append(true).create(true).open(path) {
                Ok(opened) => *file = Some(opened),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "cannot open log {}: {error}", path.display());
                }
            }
        }
        if let Some(file) = file.as_mut() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.max_level_hint()
            .is_some_and(|most| metadata.level() <= &most)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.settings.debug {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        })
    }

    // Spans are not used here: the container's name is on every line.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(id) = CONTAINER.get() {
            fields.rest.push(("id", id.clone()));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = rfc3339(now.map_or(0, |since| since.as_secs()));
        self.write(&line(
            self.settings.format,
            *event.metadata().level(),
            &time,
            &fields,
        ));
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.rest.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn line(format: Format, level: Level, time: &str, fields: &Fields) -> String {
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    };
    match format {
        Format::Json => {
            let mut object = serde_json::Map::new();
            for (name, value) in &fields.rest {
                object.insert((*name).to_owned(), value.as_str().into());
            }
            for (name, value) in [("level", level), ("msg", &fields.message), ("time", time)] {
                object.insert(name.to_owned(), value.into());
            }
            let mut line = serde_json::Value::Object(object).to_string();
            line.push('\n');
            line
        }
        Format::Text => {
            let mut line = format!("time=\"{time}\" level={level} msg={:?}", fields.message);
            for (name, value) in &fields.rest {
                // Writing to a String cannot fail.
                let _ = if value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._/@^+".contains(&b))
                {
                    write!(line, " {name}={value}")
                } else {
                    write!(line, " {name}={value:?}")
                };
            }
            line.push('\n');
            line
        }
    }
}

/// Seconds since 1970 as `2026-11-22T10:56:32Z`.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_date_prints() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn lines_are_what_engines_parse() {
        let fields = Fields {
            message: "exec: \"x\":\nno".to_owned(),
            rest: vec![("id", "web-1".to_owned()), ("field", "a b".to_owned())],
        };
        assert_eq!(
            line(Format::Json, Level::ERROR, "T", &fields),
            "{\"field\":\"a b\",\"id\":\"web-1\",\"level\":\"error\",\"msg\":\"exec: \\\"x\\\":\\nno\",\"time\":\"T\"}\n"
        );
        assert_eq!(
            line(Format::Text, Level::WARN, "T", &fields),
            "time=\"T\" level=warning msg=\"exec: \\\"x\\\":\\nno\" id=web-1 field=\"a b\"\n"
        );
    }
}
