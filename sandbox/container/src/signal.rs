//! Signals by name and number, the real-time ones included.

use std::fmt;
use std::str::FromStr;

/// A signal number that kill(2) accepts; 0 only asks whether the process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

/// The text is neither a signal's name nor its number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(String);

/// The kernel's first and last real-time signal as libc hands them out.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// SIGTERM.
    pub const TERM: Self = Self(libc::SIGTERM);

    /// The signal with this number, from 0 to 64.
    pub fn from_number(number: i32) -> Result<Self, UnknownSignal> {
        if (0..=RTMAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(UnknownSignal(number.to_string()))
        }
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Sends it to a process that the caller has not reaped.
    pub fn send(self, pid: i32) -> std::io::Result<()> {
        let process = crate::sys::pidfd::open(nix::unistd::Pid::from_raw(pid))?;
        crate::sys::pidfd::signal(&process, self.0)
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads `15`, `TERM`, `SIGTERM`, `sigterm`, `RTMIN+3`, `SIGRTMAX-2`.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).map_err(|_| unknown());
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            return real_time(RTMIN, rest).ok_or_else(unknown);
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            return real_time(RTMAX, rest).ok_or_else(unknown);
        }
        let alias = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            other => other,
        };
        nix::sys::signal::Signal::from_str(&format!("SIG{alias}"))
            .map(|signal| Self(signal as i32))
            .map_err(|_| unknown())
    }
}

/// `+3` after RTMIN or `-2` after RTMAX.
fn real_time(base: i32, offset: &str) -> Option<Signal> {
    let offset = match offset {
        "" => 0,
        signed if signed.starts_with(['+', '-']) => signed.parse::<i32>().ok()?,
        _ => return None,
    };
    let number = base.checked_add(offset)?;
    (RTMIN..=RTMAX).contains(&number).then_some(Signal(number))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("0", 0),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-2", 62),
            ("64", 64),
            ("IOT", 6),
            ("POLL", 29),
        ] {
            assert_eq!(
                Signal::from_str(text).map(Signal::number),
                Ok(number),
                "{text}"
            );
        }
        for bad in [
            "",
            "SIG",
            "-1",
            "65",
            "RTMIN-1",
            "RTMIN3",
            "RTMAX+1",
            "NOPE",
            "99999999999",
        ] {
            assert!(
                Signal::from_str(bad).is_err(),
                "{bad:?} was taken for a signal"
            );
        }
    }
}
