//! A vCPU and its thread.

use std::os::unix::thread::JoinHandleExt as _;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::arch::VcpuState;
use crate::bus::Bus;
use crate::error::{VmError, VmResult};
use crate::filter;

/// Takes a vCPU out of the guest. Its handler does nothing: that the call is interrupted is enough.
const KICK: Signal = Signal::SIGUSR1;
/// A kick between the look at the orders and the entry into the guest is lost: it is repeated.
const REPEAT: Duration = Duration::from_millis(1);

/// What the vCPUs are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Pause,
    End,
}

#[derive(Debug)]
struct Orders {
    order: Order,
    /// Which pause it is: who has slept through a short run must still be told apart from who was there.
    pause: u64,
    /// How many wait, and have said so in this pause.
    paused: usize,
}

/// How vCPUs are told what to do.
#[derive(Debug)]
pub(crate) struct Control {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            orders: Mutex::new(Orders {
                order: Order::Pause,
                pause: 0,
                paused: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, order: Order) {
        let mut orders = self.lock();
        if order == Order::Pause {
            orders.pause += 1;
            orders.paused = 0;
        }
        orders.order = order;
        self.changed.notify_all();
    }

    /// Returns once the vCPU shall run, or false once it shall end. `on_pause` is called at the beginning of
    /// each pause.
    fn obey(&self, mut on_pause: impl FnMut()) -> bool {
        let mut orders = self.lock();
        let mut seen = None;
        while orders.order == Order::Pause {
            if seen != Some(orders.pause) {
                seen = Some(orders.pause);
                on_pause();
                orders.paused += 1;
                self.changed.notify_all();
            }
            orders = self
                .changed
                .wait(orders)
                .unwrap_or_else(PoisonError::into_inner);
        }
        orders.order == Order::Run
    }
}

/// Why a vCPU's thread ended by itself.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The guest reset the machine: there is no other way out of a kernel of ours.
    Reset,
    /// Something no kernel of ours does.
    Wrong(VmError),
}

/// The threads of all vCPUs.
pub(crate) struct Vcpus {
    control: Arc<Control>,
    threads: Vec<Thread>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// What it was at the last pause.
    state: Arc<Mutex<Option<VmResult<VcpuState>>>>,
}

impl Vcpus {
    /// Starts a thread for each, confined and paused. `msrs` are the model-specific registers that a pause reads.
    pub(crate) fn new(
        vcpus: Vec<VcpuFd>,
        bus: &Bus,
        msrs: &Arc<[u32]>,
        stops: &Sender<Stop>,
    ) -> VmResult<Self> {
        let action = SigAction::new(
            SigHandler::Handler(ignore),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing at all.
        #[expect(unsafe_code, reason = "a signal handler")]
        unsafe { sigaction(KICK, &action) }
            .map_err(|errno| VmError::Host("catch the signal for vCPUs", errno.into()))?;
        let control = Arc::new(Control::new());
        let mut all = Self {
            control: Arc::clone(&control),
            threads: Vec::new(),
        };
        let (ready, confined) = channel();
        for (index, fd) in (0_u8..).zip(vcpus) {
            let state = Arc::new(Mutex::new(None));
            let runner = Runner {
                index,
                fd,
                bus: bus.clone(),
                msrs: Arc::clone(msrs),
                state: Arc::clone(&state),
                control: Arc::clone(&control),
            };
            let (stops, ready) = (stops.clone(), ready.clone());
            let handle = Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || {
                    // Whoever started this process may have blocked it.
                    let _ = SigSet::from(KICK).thread_unblock();
                    let outcome = filter::confine(filter::Thread::Vcpu);
                    let failed = outcome.is_err();
                    drop(ready.send(outcome));
                    drop(ready);
                    if failed {
                        return;
                    }
                    if let Some(stop) = runner.run() {
                        // Nobody listens where the machine is being ended.
                        drop(stops.send(stop));
                    }
                })
                .map_err(|source| VmError::Host("start a vCPU's thread", source))?;
            all.threads.push(Thread { handle, state });
        }
        drop(ready);
        for outcome in confined {
            outcome?;
        }
        Ok(all)
    }

    pub(crate) fn resume(&self) {
        self.control.give(Order::Run);
    }

    /// Takes all vCPUs out of the guest and returns what they are.
    pub(crate) fn pause(&self) -> VmResult<Vec<VcpuState>> {
        self.control.give(Order::Pause);
        let mut orders = self.control.lock();
        while orders.paused < self.threads.len() {
            if self
                .threads
                .iter()
                .any(|thread| thread.handle.is_finished())
            {
                // The others go on to their own ends.
                drop(orders);
                self.resume();
                return Err(VmError::Ended);
            }
            self.kick();
            (orders, _) = self
                .control
                .changed
                .wait_timeout(orders, REPEAT)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(orders);
        let state = |thread: &Thread| {
            let mut state = thread.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.take().unwrap_or(Err(VmError::Ended))
        };
        self.threads.iter().map(state).collect()
    }

    fn kick(&self) {
        for thread in &self.threads {
            // It fails where the thread has ended.
            let _ = pthread_kill(thread.handle.as_pthread_t(), KICK);
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.control.give(Order::End);
        for thread in std::mem::take(&mut self.threads) {
            while !thread.handle.is_finished() {
                let _ = pthread_kill(thread.handle.as_pthread_t(), KICK);
                std::thread::sleep(REPEAT);
            }
            drop(thread.handle.join());
        }
    }
}

extern "C" fn ignore(_: libc::c_int) {}

struct Runner {
    index: u8,
    fd: VcpuFd,
    bus: Bus,
    msrs: Arc<[u32]>,
    state: Arc<Mutex<Option<VmResult<VcpuState>>>>,
    control: Arc<Control>,
}

impl Runner {
    /// Until the machine ends: none if it was told to.
    fn run(mut self) -> Option<Stop> {
        let control = Arc::clone(&self.control);
        loop {
            let running = control.obey(|| {
                self.complete();
                let state = VcpuState::read(&self.fd, &self.msrs);
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
            });
            if !running {
                return None;
            }
            match self.fd.run() {
                Ok(VcpuExit::MmioRead(address, data)) => self.bus.read(address, data),
                Ok(VcpuExit::MmioWrite(address, data)) => self.bus.write(address, data),
                Ok(VcpuExit::IoIn(port, data)) => self.bus.read_port(port, data),
                Ok(VcpuExit::IoOut(port, data)) => self.bus.write_port(port, data),
                // A triple fault (`reboot=t`), or what KVM makes of a reset.
                Ok(VcpuExit::Shutdown | VcpuExit::SystemEvent(..)) => return Some(Stop::Reset),
                Ok(VcpuExit::Intr) => {}
                Ok(exit) => {
                    let why = format!("KVM gave back {exit:?}");
                    return Some(self.wrong(why));
                }
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {}
                Err(error) => return Some(self.wrong(format!("KVM cannot run it: {error}"))),
            }
        }
    }

    /// KVM ends an instruction that left the guest only when the guest is entered again: here at once, and out again
    /// before the next one (api.rst, KVM_RUN).
    fn complete(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // Interrupted, as it is meant to be; whatever else it says it says again.
        drop(self.fd.run());
        self.fd.set_kvm_immediate_exit(0);
    }

    fn wrong(&self, why: String) -> Stop {
        Stop::Wrong(VmError::Vcpu {
            index: self.index,
            why,
        })
    }
}
