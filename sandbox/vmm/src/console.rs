//! The serial port and its last lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, SerialState};
use vmm_sys_util::eventfd::EventFd;

/// What is kept of what the guest wrote: enough for the report of a panic.
const KEPT: usize = 16 << 10;
/// What a guest may write into the log in all: the first so many bytes.
const LOGGED: u64 = 1 << 20;

/// What the guest's first process writes as a line of its own as soon as it runs: the boot is measured by it.
pub const BOOTED: &str = "cofferdam: the first process runs";

/// How the kernel begins the report of its own end (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";
/// The longest line that is looked through for that, and the most that is written into the log at once, bytes.
const LINE: usize = 256;

/// The end of what the guest wrote, and its beginning in a file, if there is one.
#[derive(Debug)]
pub(crate) struct Log {
    last: VecDeque<u8>,
    /// What has been written since the last line's end.
    line: Vec<u8>,
    file: Option<File>,
    left: u64,
    panicked: bool,
    started: Instant,
    boot_time: Option<Duration>,
}

impl Log {
    /// The file must be one that nobody else writes to, for it is made not to block.
    pub(crate) fn new(started: Instant, file: Option<File>) -> Self {
        if let Some(file) = &file {
            unblock(file);
        }
        Self {
            last: VecDeque::new(),
            line: Vec::new(),
            file,
            left: LOGGED,
            panicked: false,
            started,
            boot_time: None,
        }
    }

    pub(crate) const fn boot_time(&self) -> Option<Duration> {
        self.boot_time
    }

    /// Whether the guest's kernel said that it panicked.
    pub(crate) const fn panicked(&self) -> bool {
        self.panicked
    }

    /// A line is complete, or long enough. A pipe that is full and a disk that is lose it: the vCPU that writes does
    /// not wait.
    fn end_line(&mut self) {
        let panic = PANIC.as_bytes();
        self.panicked |= self.line.windows(panic.len()).any(|part| part == panic);
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let part = self.line.get(..most).unwrap_or(&self.line);
        if let Some(file) = &mut self.file
            && !part.is_empty()
        {
            self.left -= u64::try_from(part.len()).unwrap_or(0);
            match file.write(part) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.file = None,
            }
        }
        self.line.clear();
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
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' || self.line.len() == LINE {
                self.end_line();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end_line();
    }
}

/// Regular files do not block anyway, and where it fails nothing else can be done.
fn unblock(file: &File) {
    let Ok(flags) = fcntl(file, FcntlArg::F_GETFL) else {
        return;
    };
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    let _ = fcntl(file, FcntlArg::F_SETFL(flags));
}

/// Raises the serial port's interrupt.
pub(crate) struct Line(pub(crate) EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The port's registers, as plain data: the fields of `vm_superio::SerialState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSerial {
    /// Divisor latch, low byte.
    pub baud_divisor_low: u8,
    /// Divisor latch, high byte.
    pub baud_divisor_high: u8,
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Interrupt identification register.
    pub interrupt_identification: u8,
    /// Line control register.
    pub line_control: u8,
    /// Line status register.
    pub line_status: u8,
    /// Modem control register.
    pub modem_control: u8,
    /// Modem status register.
    pub modem_status: u8,
    /// Scratch register.
    pub scratch: u8,
    /// What was received and not read.
    pub in_buffer: Vec<u8>,
}

/// A 16550 that nothing is typed into.
pub(crate) struct Serial(vm_superio::Serial<Line, NoEvents, Log>);

impl Serial {
    pub(crate) fn new(line: Line, log: Log) -> Self {
        Self(vm_superio::Serial::new(line, log))
    }

    /// The port as it was. None where its buffer has more than a port's can.
    pub(crate) fn restore(line: Line, log: Log, saved: &SavedSerial) -> Option<Self> {
        let state = SerialState {
            baud_divisor_low: saved.baud_divisor_low,
            baud_divisor_high: saved.baud_divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.in_buffer.clone(),
        };
        let serial = vm_superio::Serial::from_state(&state, line, NoEvents, log);
        serial.ok().map(Self)
    }

    pub(crate) fn state(&self) -> SavedSerial {
        let state = self.0.state();
        SavedSerial {
            baud_divisor_low: state.baud_divisor_low,
            baud_divisor_high: state.baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.in_buffer,
        }
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
        assert!(!log.panicked());
        assert_eq!(
            log.last_lines(2),
            ["line 199999", &format!("[31mpanic\u{fffd}{BOOTED}")]
        );
    }
    #[test]
    fn a_pipe_that_nobody_empties_stops_nobody() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut log = Log::new(
            Instant::now(),
            Some(File::from(std::os::fd::OwnedFd::from(writer))),
        );
        let line = [b"x".repeat(62), b"\r\n".to_vec()].concat();
        // Four times of what a pipe holds.
        for _ in 0..4096 {
            log.write_all(&line).expect("write");
        }
        let mut held = vec![0; 32 << 10];
        io::Read::read_exact(&mut reader, &mut held).expect("read");
        log.write_all(b"after\n").expect("write");
        drop(log);
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut reader, &mut rest).expect("read");
        assert!(rest.ends_with(b"after\n") && rest.len() < 64 << 10);
    }

    #[test]
    fn a_panic_is_known_by_its_line() {
        for (said, panicked) in [
            (
                "[    1.5] Kernel panic - not syncing: Attempted to kill init!\r\n",
                true,
            ),
            ("[    1.5] Kernel panic - not\r\n syncing\r\n", false),
            ("all is well\r\n", false),
        ] {
            let mut log = Log::new(Instant::now(), None);
            for byte in said.bytes() {
                log.write_all(&[byte]).expect("write");
            }
            assert_eq!(log.panicked(), panicked, "{said}");
        }
    }
}
