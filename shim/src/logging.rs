//! The daemon's log: one line of key=value pairs per event, in the form of containerd's own log,
//! written to the FIFO `log` in the bundle that containerd copies into its log.
//!
//! A full or unread FIFO loses lines rather than stopping the daemon. Nothing from a container's
//! environment or arguments is ever logged.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::sync::lock;

/// Writes events as lines.
pub(crate) struct LineLog {
    out: Mutex<File>,
    level: Level,
    namespace: String,
}

impl LineLog {
    /// Opens the FIFO at `path`. Reading and writing at once, so that neither the opening waits for
    /// containerd nor a write fails while containerd restarts.
    pub(crate) fn open(path: &Path, namespace: &str, debug: bool) -> io::Result<Self> {
        let mut options = File::options();
        let out = options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        let level = if debug { Level::DEBUG } else { Level::INFO };
        Ok(Self {
            out: Mutex::new(out),
            level,
            namespace: namespace.to_owned(),
        })
    }

    /// Makes this the process's log.
    pub(crate) fn install(self) {
        // It fails only if there is one already, which then goes on serving.
        tracing::subscriber::set_global_default(self).unwrap_or_default();
    }
}

impl Subscriber for LineLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let text = format!(
            "time=\"{}\" level={level} msg=\"{}\" runtime=cofferdam namespace={}{}\n",
            Utc(SystemTime::now()),
            line.message,
            Quoted(&self.namespace),
            line.fields
        );
        // One write per line, so that lines of several threads do not mix.
        lock(&self.out)
            .write_all(text.as_bytes())
            .unwrap_or_default();
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // Writing to a String does not fail.
        if field.name() == "message" {
            write!(self.message, "{}", Escaped(&text)).unwrap_or_default();
        } else {
            write!(self.fields, " {}={}", field.name(), Quoted(&text)).unwrap_or_default();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Text for the inside of double quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Text quoted if it is not a plain word.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", Escaped(self.0))
        }
    }
}

/// A time as RFC 3339 in UTC, to the microsecond.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self
            .0
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Days since 1970-03-01 era arithmetic: years start in March, so leap days come last
        // (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let micros = since.subsec_micros();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Utc(time).to_string(), text);
        }
    }

    #[test]
    fn lines_are_quoted_and_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let log = LineLog::open(&path, "k8s.io", false).unwrap();
        let mut reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        tracing::subscriber::with_default(log, || {
            tracing::debug!("not shown");
            tracing::warn!(id = "a\nb", pid = 7, "said \"no\"");
        });
        let mut text = [0; 512];
        let n = reader.read(&mut text).unwrap();
        let line = std::str::from_utf8(&text[..n]).unwrap();
        assert!(
            line.ends_with(
                "level=warning msg=\"said \\\"no\\\"\" runtime=cofferdam namespace=k8s.io \
             id=\"a\\nb\" pid=7\n"
            ),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
}
