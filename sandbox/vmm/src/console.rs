//! The serial port and its last lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use vm_superio::Trigger;
use vmm_sys_util::eventfd::EventFd;

/// What is kept of what the guest wrote: enough for the report of a panic.
const KEPT: usize = 16 << 10;
/// What a guest may write into the log in all: the first so many bytes.
const LOGGED: u64 = 1 << 20;

/// What the guest's first process writes as a line of its own as soon as it runs: the boot is measured by it.
pub const BOOTED: &str = "cofferdam: the first process runs";

/// The end of what the guest wrote, and its beginning in a file, if there is one.
#[derive(Debug)]
pub(crate) struct Log {
    last: VecDeque<u8>,
    file: Option<File>,
    left: u64,
    started: Instant,
    boot_time: Option<Duration>,
}

impl Log {
    pub(crate) fn new(started: Instant, file: Option<File>) -> Self {
        Self {
            last: VecDeque::new(),
            file,
            left: LOGGED,
            started,
            boot_time: None,
        }
    }

    pub(crate) const fn boot_time(&self) -> Option<Duration> {
        self.boot_time
    }

    fn ends_with(&self, line: &str) -> bool {
        let ending = line.bytes().rev();
        self.last.len() >= line.len()
            && self
                .last
                .iter()
                .rev()
                .copied()
                .zip(ending)
                .all(|(a, b)| a == b)
    }

    /// The last lines, with what is no text replaced.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.last.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(|letter| !letter.is_control()).collect())
            .filter(|line: &String| !line.is_empty())
            .collect();
        let skipped = lines.len().saturating_sub(count);
        lines.into_iter().skip(skipped).collect()
    }
}

impl Write for Log {
    /// A guest can neither make it grow nor fail: what the file does not take is left out.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last.extend(bytes);
        let over = self.last.len().saturating_sub(KEPT);
        self.last.drain(..over);
        if self.boot_time.is_none() && self.ends_with(BOOTED) {
            self.boot_time = Some(self.started.elapsed());
        }
        let logged = bytes
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if let (Some(file), Some(part)) = (&mut self.file, bytes.get(..logged))
            && file.write_all(part).is_err()
        {
            self.file = None;
        }
        self.left = self
            .left
            .saturating_sub(u64::try_from(logged).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Raises the serial port's interrupt.
pub(crate) struct Line(pub(crate) EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A 16550 that nothing is typed into.
pub(crate) struct Serial(vm_superio::Serial<Line, vm_superio::serial::NoEvents, Log>);

impl Serial {
    pub(crate) fn new(line: Line, log: Log) -> Self {
        Self(vm_superio::Serial::new(line, log))
    }

    pub(crate) fn read(&mut self, offset: u8) -> u8 {
        self.0.read(offset)
    }

    pub(crate) fn write(&mut self, offset: u8, value: u8) {
        // It fails where the interrupt cannot be raised: its counter is full, so one is pending.
        drop(self.0.write(offset, value));
    }

    pub(crate) fn log(&self) -> &Log {
        self.0.writer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_last_lines_stay() {
        let file = tempfile::tempfile().expect("a file");
        let mut log = Log::new(Instant::now(), Some(file.try_clone().expect("clone")));
        for number in 0..200_000 {
            log.write_all(format!("line {number}\r\n").as_bytes())
                .expect("write");
        }
        log.write_all(b"\x1b[31mpanic\xff").expect("write");
        assert!(log.boot_time().is_none());
        // As the port gives it, byte by byte.
        for byte in BOOTED.bytes() {
            log.write_all(&[byte]).expect("write");
        }
        assert!(log.boot_time().is_some());
        assert!(log.last.len() <= KEPT);
        assert_eq!(file.metadata().expect("metadata").len(), LOGGED);
        assert_eq!(
            log.last_lines(2),
            ["line 199999", &format!("[31mpanic\u{fffd}{BOOTED}")]
        );
    }
}
