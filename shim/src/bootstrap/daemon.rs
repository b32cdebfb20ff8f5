//! The daemon: one thread that waits, and a short-lived one for each request that may block.

use std::env;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use super::args::Args;
use super::{BootstrapError, place};
use crate::host::HostBackend;
use crate::logging::LineLog;
use crate::publisher::{Destination, Publisher};
use crate::reactor::{Idle, Reactor};
use crate::reap::{self, Reaper};
use crate::rpc::Listener;
use crate::service::Service;
use crate::sync::in_background;
use crate::sys;
use crate::tasks::Tasks;

/// The listening socket in the daemon.
pub(super) const SOCKET_FD: i32 = 3;

/// How long the last events may take when the shim ends.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// For how many idle periods of the loop (half a second each) a daemon without a container stays.
const ABANDONED_ROUNDS: u32 = 20;

/// Serves until containerd asks an empty shim to end.
pub(super) fn serve(args: &Args) -> Result<(), BootstrapError> {
    sys::small_heap();
    // Before any thread: a thread without the mask would take SIGCHLD and lose it.
    reap::block_signals().map_err(BootstrapError::Daemon)?;
    if let Some(bundle) = &args.bundle {
        // Without the FIFO there is nowhere to log to, which is no reason not to serve.
        if let Ok(log) = LineLog::open(&bundle.join("log"), &args.namespace, args.debug) {
            log.install();
        }
    }
    set_up_and_run(args).map_err(BootstrapError::Daemon)
}

fn set_up_and_run(args: &Args) -> io::Result<()> {
    // Before the first container: an init that is orphaned earlier would go to somebody else.
    sys::become_subreaper()?;
    // The bundle is removed while the daemon of its pod lives on; it must not pin it.
    env::set_current_dir("/")?;
    let socket = UnixListener::from(sys::inherited(SOCKET_FD)?);

    let reactor = Arc::new(Reactor::new()?);
    let publisher = Publisher::attach(&reactor, args.namespace.clone(), destination(args))?;
    let backend = HostBackend::new(args.namespace.clone())?;
    let sink = Arc::clone(&publisher);
    let tasks = Arc::new(Tasks::new(
        args.namespace.clone(),
        backend,
        sink,
        Arc::clone(&reactor),
    ));
    Reaper::attach(&reactor, Arc::clone(&tasks))?;
    let stop = Arc::clone(&reactor);
    let address = args.socket.clone();
    let shutdown = Box::new(move || {
        // First, and once: containerd calls nobody to clear up after a daemon that is asked to end, so
        // one that is killed now must not leave its socket; and the name may soon be a new daemon's.
        leave(address.as_deref());
        end(&publisher, &stop);
    });
    let service = Arc::new(Service::new(Arc::clone(&tasks), shutdown));
    Listener::attach(&reactor, socket, service)?;
    tracing::debug!(id = args.id, "serving");
    let swept = Once::new();
    reactor.run(|rounds| {
        if rounds == 0 {
            swept.call_once(sweep);
            sys::release_memory();
        }
        // Without a container for so long, nobody will ask for one: `start` was killed before it could
        // print the address, or containerd ended before it asked and, started again, holds a
        // connection to a shim that it has no task for. A container being created counts as one.
        let abandoned = tasks.is_empty();
        if abandoned && rounds >= ABANDONED_ROUNDS {
            leave(args.socket.as_deref());
            reactor.stop();
        }
        if abandoned {
            Idle::AskAgain
        } else {
            Idle::Sleep
        }
    })?;
    // One that never was idle.
    swept.call_once(sweep);
    Ok(())
}

/// Clears up after shims that nobody else clears up after, once and when there is nothing to do.
fn sweep() {
    if let Err(error) = place::sweep_sockets(Path::new(place::SOCKETS)) {
        tracing::warn!(%error, "cannot remove the sockets of dead shims");
    }
}

/// Removes the socket, so that nobody comes any more.
fn leave(socket: Option<&Path>) {
    if let Some(Err(error)) = socket.map(place::remove_socket) {
        tracing::warn!(%error, "cannot remove the socket");
    }
}

/// Ends the loop once the last events are out, or containerd does not take them in time.
fn end(publisher: &Publisher, reactor: &Arc<Reactor>) {
    let emptied = Arc::clone(reactor);
    publisher.when_empty(Box::new(move || emptied.stop()));
    let late = Arc::clone(reactor);
    let waiting = in_background("shutdown", move || {
        std::thread::sleep(LAST_EVENTS);
        late.stop();
    });
    if waiting.is_err() {
        reactor.stop();
    }
}

/// Where events go: containerd's ttrpc socket if it names one, else its publish binary.
fn destination(args: &Args) -> Destination {
    let socket = env::var("TTRPC_ADDRESS").unwrap_or_default();
    let socket = socket.strip_prefix("unix://").unwrap_or(&socket);
    match (&args.publish_binary, socket) {
        (_, path) if path.starts_with('/') => Destination::Socket(PathBuf::from(path)),
        (Some(program), _) => Destination::Program {
            program: program.clone(),
            address: args.address.clone(),
        },
        (None, _) => Destination::Nowhere,
    }
}
