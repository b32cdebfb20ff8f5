//! Attaches a filter with a listener, and hands the listener over.
//!
//! Once the filter is attached this thread may not make a call that it denies: nobody would answer.
//! Sending the listener is such a call, as the profile may deny it. So a second thread, made before
//! and without the filter, sends it, and this one makes no call at all until that is done. The second
//! thread has ended its work by then; `execve` ends what is left of it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{At as _, Step};
use crate::error::{Cause, InitFailure, Stage};
use crate::seccomp::Program;
use crate::sys::confine;

/// What comes with the listener.
pub(crate) const MESSAGE: &[u8] = b"L";

/// The sender does little more than one call.
const STACK: usize = 64 * 1024;

const WAITING: u8 = 0;
const SENT: u8 = 1;
const FAILED: u8 = 2;
/// There is nothing to send.
const GIVEN_UP: u8 = 3;

#[derive(Debug, Default)]
struct Shared {
    listener: Mutex<Option<OwnedFd>>,
    state: AtomicU8,
}

/// Attaches `program` to this thread and sends its listener over `socket`.
pub(crate) fn attach(program: &Program, socket: &OwnedFd) -> Step {
    const HAND_OVER: &str = "hand the seccomp listener over";
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let socket = socket.try_clone().at(Stage::Seccomp, HAND_OVER)?;
    let sender = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || send(&theirs, &socket))
        .at(
            Stage::Seccomp,
            "make a second thread to hand the seccomp listener over (explained denials need room for \
             one more process in the limits)",
        )?;
    // Not joined: that is a call, and so is letting go of a thread that has ended.
    std::mem::forget(sender);
    let attached = confine::attach_seccomp(&program.program, program.flags);
    let listener = match attached {
        Ok(Some(listener)) => listener,
        Ok(None) => {
            shared.state.store(GIVEN_UP, Ordering::SeqCst);
            return Err(InitFailure::new(
                Stage::Seccomp,
                HAND_OVER,
                Cause::Text("the kernel gave none".to_owned()),
            ));
        }
        Err(error) => {
            shared.state.store(GIVEN_UP, Ordering::SeqCst);
            return Err(error).at(Stage::Seccomp, "attach the seccomp filter");
        }
    };
    // No call from here on. `try_lock`, because waiting for a lock is one; nobody holds it for long.
    let mut listener = Some(listener);
    while listener.is_some() {
        if let Ok(mut slot) = shared.listener.try_lock() {
            *slot = listener.take();
        }
    }
    let state = loop {
        match shared.state.load(Ordering::SeqCst) {
            WAITING => std::hint::spin_loop(),
            state => break state,
        }
    };
    // Freeing it may be a call.
    std::mem::forget(shared);
    match state {
        SENT => Ok(()),
        _ => Err(InitFailure::new(
            Stage::Seccomp,
            HAND_OVER,
            Cause::Text("the process that explains denials is gone".to_owned()),
        )),
    }
}

/// The second thread.
fn send(shared: &Shared, socket: &OwnedFd) {
    let listener = loop {
        if let Ok(mut slot) = shared.listener.try_lock()
            && let Some(listener) = slot.take()
        {
            break listener;
        }
        if shared.state.load(Ordering::SeqCst) == GIVEN_UP {
            return;
        }
        thread::sleep(Duration::from_micros(20));
    };
    let sent = send_listener(&listener, socket);
    // Closed here, in the table that both threads share: the listener's process has the only one,
    // so that its end is the end of waiting.
    drop(listener);
    let state = if sent.is_ok() { SENT } else { FAILED };
    shared.state.store(state, Ordering::SeqCst);
}

fn send_listener(listener: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
    let descriptors = [listener.as_fd().as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(MESSAGE)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}
