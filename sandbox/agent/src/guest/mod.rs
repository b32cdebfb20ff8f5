//! The guest's first process: makes the pod's containers with `cofferdam-container`, as the host tells it.
//!
//! One thread reaps; each connection has a thread of its own. What clones without executing happens in a process of its
//! own ([`helper`]), which has one thread.

/// Mounts, devices, the clock: from the kernel to a place where containers can be made.
mod boot;
/// What is asked: checked, and done.
mod calls;
/// The process that creates containers and joins them.
pub mod helper;
/// Who has ended.
mod reap;
/// A process's standard streams.
mod streams;
/// The pod's containers and their processes.
mod table;
/// Sockets between guest and host.
mod vsock;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;

use crate::protocol::{CALLS, STREAMS};
use table::Table;

/// Prints on the console, which the host keeps the end of.
pub(crate) fn say(what: &str) {
    #[expect(
        clippy::print_stdout,
        reason = "the console is what is read of a guest"
    )]
    {
        println!("cofferdam-agent: {what}");
    }
}

/// Runs the guest; comes back only where it cannot go on.
///
/// # Errors
///
/// What of the guest could not be set up.
pub fn run() -> io::Result<()> {
    boot::set_up()?;
    let table = Arc::new(Table::default());
    for (port, serve) in [
        (CALLS, calls::serve as Serve),
        (STREAMS, streams::serve as Serve),
    ] {
        let listener = vsock::listen(port)?;
        let table = Arc::clone(&table);
        thread::Builder::new().spawn(move || accept(&listener, &table, serve))?;
    }
    table.reap_for_ever()
}

/// Serves one connection.
type Serve = fn(File, &Arc<Table>);

fn accept(listener: &vsock::Listener, table: &Arc<Table>, serve: Serve) {
    loop {
        let stream = match listener.accept() {
            Ok(stream) => stream,
            Err(error) => {
                say(&format!("cannot accept a connection: {error}"));
                thread::sleep(std::time::Duration::from_millis(100));
                continue;
            }
        };
        let table = Arc::clone(table);
        let started = thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || serve(stream, &table));
        if let Err(error) = started {
            say(&format!("cannot serve a connection: {error}"));
        }
    }
}
