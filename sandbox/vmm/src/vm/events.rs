//! The thread that serves devices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use event_manager::{
    EventManager, EventOps, EventSet, EventSubscriber, Events, SubscriberOps as _,
};
use vmm_sys_util::eventfd::EventFd;

use crate::error::{VmError, VmResult};
use crate::filter;
use crate::virtio::Transport;
use crate::virtio::fs::prepare_thread;

type Subscriber = Arc<dyn EventSubscriber + Send + Sync>;

/// The thread, which can be halted and ended.
pub(super) struct EventThread {
    control: Arc<Control>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Halt {
    wanted: bool,
    reached: bool,
    /// There is no thread any more.
    ended: bool,
}

struct Control {
    wake: EventFd,
    end: AtomicBool,
    halt: Mutex<Halt>,
    changed: Condvar,
}

impl EventSubscriber for Control {
    fn process(&self, _: Events, _: &mut EventOps) {
        drop(self.wake.read());
    }

    fn init(&self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.wake, EventSet::IN)) {
            super::say(format_args!("cannot be woken: {error:?}"));
        }
    }
}

impl Control {
    fn wake(&self) {
        // It fails where the counter is full: it is awake then.
        drop(self.wake.write(1));
    }

    fn halt_if_wanted(&self) {
        let mut halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        while halt.wanted && !self.end.load(Ordering::SeqCst) {
            halt.reached = true;
            self.changed.notify_all();
            halt = self
                .changed
                .wait(halt)
                .unwrap_or_else(PoisonError::into_inner);
        }
        halt.reached = false;
    }
}

impl EventThread {
    /// Starts a thread of that kind, which first confines itself.
    pub(super) fn start(kind: filter::Thread, devices: &[Arc<Transport>]) -> VmResult<Self> {
        let wake = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map_err(|source| VmError::Host("make an event", source))?;
        let control = Arc::new(Control {
            wake,
            end: AtomicBool::new(false),
            halt: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut manager = EventManager::<Subscriber>::new().map_err(VmError::Events)?;
        manager.add_subscriber(Arc::clone(&control) as Subscriber);
        for device in devices {
            manager.add_subscriber(Arc::clone(device) as Subscriber);
        }
        let inside = Arc::clone(&control);
        let (sender, prepared) = channel();
        let handle = Builder::new()
            .name(kind.name().to_owned())
            .spawn(move || {
                let outcome = prepare(kind);
                let ready = outcome.is_ok();
                // Whoever starts the thread waits for this.
                drop(sender.send(outcome));
                if ready {
                    serve(manager, &inside);
                }
            })
            .map_err(|source| VmError::Host("start the devices' thread", source))?;
        let thread = Self {
            control,
            handle: Some(handle),
        };
        prepared.recv().unwrap_or(Err(VmError::Ended))?;
        Ok(thread)
    }

    /// Returns once no device is at work; none will be before [`EventThread::resume`].
    pub(super) fn pause(&self) {
        let control = &self.control;
        let mut halt = control.halt.lock().unwrap_or_else(PoisonError::into_inner);
        halt.wanted = true;
        control.wake();
        while !halt.reached && !halt.ended {
            halt = control
                .changed
                .wait(halt)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn resume(&self) {
        let mut halt = self
            .control
            .halt
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        halt.wanted = false;
        self.control.changed.notify_all();
    }
}

fn prepare(kind: filter::Thread) -> VmResult {
    if kind == filter::Thread::Share {
        // Its filter forbids it.
        prepare_thread()
            .map_err(|source| VmError::Host("prepare the thread of a shared directory", source))?;
    }
    filter::confine(kind)
}

/// Tells whoever waits that the thread has ended, however it does.
struct Ended<'a>(&'a Control);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut halt = self.0.halt.lock().unwrap_or_else(PoisonError::into_inner);
        halt.ended = true;
        self.0.changed.notify_all();
    }
}

fn serve(mut manager: EventManager<Subscriber>, control: &Control) {
    let _ended = Ended(control);
    while !control.end.load(Ordering::SeqCst) {
        control.halt_if_wanted();
        match manager.run() {
            Ok(_) => {}
            Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
            Err(error) => {
                super::say(format_args!(
                    "cannot wait for the devices' events: {error:?}"
                ));
                return;
            }
        }
    }
}

impl Drop for EventThread {
    fn drop(&mut self) {
        self.control.end.store(true, Ordering::SeqCst);
        self.control.wake();
        // Under the lock: a thread that is about to wait must see the end or be woken.
        drop(
            self.control
                .halt
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.control.changed.notify_all();
        if let Some(handle) = self.handle.take() {
            drop(handle.join());
        }
    }
}
