//! What KVM emulates of a machine besides its processors.

use std::fmt;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;

use crate::error::{KvmAt as _, VmResult};

/// The interrupt controllers but the local ones, the timer, and the clock, as plain data.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct ChipsState {
    /// The two old controllers and the new one.
    pub controllers: [kvm_irqchip; 3],
    /// The timer.
    pub pit: kvm_pit_state2,
    /// The clock of the paravirtual kind, nanoseconds.
    pub clock: kvm_clock_data,
}

impl fmt::Debug for ChipsState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The controllers are unions.
        formatter
            .debug_struct("ChipsState")
            .field("pit", &self.pit)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl ChipsState {
    /// Reads all of it from a machine whose processors do not run. After their state was read: that of the local
    /// controllers decides what those here may still deliver.
    ///
    /// # Errors
    ///
    /// [`VmError::Kvm`](crate::VmError::Kvm).
    pub fn read(vm: &VmFd) -> VmResult<Self> {
        let controller = |chip_id| -> VmResult<kvm_irqchip> {
            let mut chip = kvm_irqchip {
                chip_id,
                ..kvm_irqchip::default()
            };
            vm.get_irqchip(&mut chip)
                .kvm("read an interrupt controller")?;
            Ok(chip)
        };
        Ok(Self {
            controllers: [
                controller(KVM_IRQCHIP_PIC_MASTER)?,
                controller(KVM_IRQCHIP_PIC_SLAVE)?,
                controller(KVM_IRQCHIP_IOAPIC)?,
            ],
            pit: vm.get_pit2().kvm("read the timer")?,
            clock: vm.get_clock().kvm("read the clock")?,
        })
    }

    /// Gives it to a machine whose processors have theirs. The clock goes on from where it was, however long that is
    /// ago.
    ///
    /// # Errors
    ///
    /// [`VmError::Kvm`](crate::VmError::Kvm).
    pub fn write(&self, vm: &VmFd) -> VmResult {
        for chip in &self.controllers {
            vm.set_irqchip(chip).kvm("set an interrupt controller")?;
        }
        vm.set_pit2(&self.pit).kvm("set the timer")?;
        let clock = kvm_clock_data {
            clock: self.clock.clock,
            ..kvm_clock_data::default()
        };
        vm.set_clock(&clock).kvm("set the clock")
    }
}
