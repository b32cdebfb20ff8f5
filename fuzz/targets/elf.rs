//! An object file from an image.
#![no_main]

use cofferdam_analysis::inspect_object;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = inspect_object(data);
});
