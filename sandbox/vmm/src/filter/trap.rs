//! What happens when a call is refused: the kernel sends SIGSYS, and the process ends with one line.

use std::io;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{OWN, REFUSED};

/// Lines of a number, a space and a name.
static CALLS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/calls"));

/// Catches the signal, for all threads.
pub(super) fn catch() -> io::Result<()> {
    let action = SigAction::new(
        SigHandler::SigAction(refused),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler makes only calls that are safe in one, and does not return.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    Ok(())
}

/// The beginning of `siginfo_t` for SIGSYS (siginfo.h).
#[repr(C)]
struct Refusal {
    _signal: [libc::c_int; 4],
    _at: usize,
    number: libc::c_int,
    _architecture: libc::c_uint,
}

/// A line that is put together without memory of the allocator's.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.used) {
                *place = *byte;
                self.used += 1;
            }
        }
    }

    fn add_hex(&mut self, number: u64) {
        self.add(b"0x");
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            let digit = usize::try_from(number >> (4 * place) & 0xf).unwrap_or(0);
            self.add(b"0123456789abcdef".get(digit..=digit).unwrap_or_default());
        }
    }

    fn add_number(&mut self, number: u32) {
        let mut digits = [0; 10];
        let mut first = digits.len();
        let mut rest = number;
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            first -= 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.add(digits.get(first..).unwrap_or_default());
    }
}

/// The registers of a call's arguments but the last two.
const ARGUMENTS: [usize; 4] = [8, 9, 12, 2]; // REG_RDI, REG_RSI, REG_RDX, REG_R10 of ucontext.h

/// The call's name, if it had one when this was built.
fn name(number: u32) -> Option<&'static [u8]> {
    let mut lines = CALLS.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let space = line.iter().position(|&byte| byte == b' ')?;
        let (digits, name) = line.split_at_checked(space)?;
        let value = digits
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        (value == number).then(|| name.trim_ascii())
    })
}

extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a whole `siginfo_t`, of which this is the beginning for SIGSYS.
    let number = unsafe { (*info.cast::<Refusal>()).number };
    let number = number.cast_unsigned();
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
    };
    line.add(b"cofferdam-vmm: the filter of the ");
    line.add(OWN.get().map_or("unknown", |own| own.name()).as_bytes());
    line.add(b" thread refuses the system call ");
    line.add(name(number).unwrap_or(b"number"));
    line.add(b" (");
    line.add_number(number);
    line.add(b") with the arguments");
    // SAFETY: with SA_SIGINFO the kernel gives a whole context, whose registers are those of the call.
    let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    for register in ARGUMENTS {
        line.add(b" ");
        line.add_hex(
            registers
                .get(register)
                .copied()
                .unwrap_or(0)
                .cast_unsigned(),
        );
    }
    line.add(b"; the machine ends\n");
    // SAFETY: the bytes are there, and neither call has other conditions.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.used);
        libc::_exit(REFUSED.into())
    }
}
