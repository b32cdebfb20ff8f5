//! Whatever a guest asks of a shared directory, nothing outside of it changes, and the device goes on or stops.

#![no_main]

use cofferdam_vmm::virtio::hostile::share::{limit_files, requests};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    limit_files().expect("a limit");
    requests(bytes).expect("a device");
});
