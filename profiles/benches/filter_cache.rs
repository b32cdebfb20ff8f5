//! What a container start pays for its seccomp filter: compiled each time, or from the cache.
//!
//! `cargo bench -p cofferdam-profiles` prints one row per round, in microseconds, and the medians
//! at the end. A round takes the measures in a new order, so that none always runs on what another
//! left in the CPU's caches.
#![expect(unsafe_code, reason = "seccomp(2) itself is measured")]

/// What every bench prints.
mod rows;

use std::collections::HashSet;
use std::error::Error;
use std::hint::black_box;
use std::io::stdout;
use std::path::Path;
use std::thread;
use std::time::Instant;

use cofferdam_profiles::seccomp::{
    Arch, Filter, FilterCache, Intersection, allowed_native, compile, default_profile, intersect,
    validate,
};
use oci_spec::runtime::{Capability, LinuxSeccomp};
use rows::Rows;

const ROUNDS: usize = 51;
const MEASURES: [&str; 7] = [
    "compile",
    "cache_hit",
    "attach",
    "hit_and_attach",
    "intersect",
    "validate",
    "count",
];

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("filter-cache-{}", std::process::id()));
    let result = run(&directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn run(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    let capabilities = HashSet::from([Capability::NetRaw, Capability::SysChroot]);
    let profile = default_profile(&capabilities, Arch::NATIVE);
    let cache = FilterCache::at(directory);
    let filter = cache.get_or_compile(&profile)?;
    let mut rows = Rows::new(&mut out, MEASURES)?;
    for round in 0..ROUNDS {
        let mut took = [0.0; MEASURES.len()];
        for step in 0..MEASURES.len() {
            let which = (step * 2 + round) % MEASURES.len();
            took[which] = measure(which, &profile, &cache, &filter)?;
        }
        rows.add(&mut out, took)?;
    }
    rows.finish(&mut out)?;
    Ok(())
}

/// One measure, in microseconds, on a thread of its own: a filter stays on its thread for good.
fn measure(
    which: usize,
    profile: &LinuxSeccomp,
    cache: &FilterCache,
    filter: &Filter,
) -> Result<f64, Box<dyn Error>> {
    let measured = thread::scope(|scope| {
        let work = move || -> Result<f64, String> {
            no_new_privileges();
            let start = Instant::now();
            match which {
                0 => drop(compile(profile).map_err(|e| e.to_string())?),
                1 => drop(cache.get_or_compile(profile).map_err(|e| e.to_string())?),
                2 => attach(filter)?,
                3 => attach(&cache.get_or_compile(profile).map_err(|e| e.to_string())?)?,
                4 => {
                    let both = intersect(profile, profile).map_err(|e| e.to_string())?;
                    if matches!(both, Intersection::Stacked { .. }) {
                        return Err("a profile with itself needs two filters".to_owned());
                    }
                }
                5 => drop(validate(profile).map_err(|e| e.to_string())?),
                _ => {
                    black_box(allowed_native(profile));
                }
            }
            Ok(start.elapsed().as_secs_f64() * 1e6)
        };
        scope
            .spawn(work)
            .join()
            .map_err(|_| "a measure panicked".to_owned())?
    });
    Ok(measured?)
}

fn no_new_privileges() {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes plain numbers only.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
}

fn attach(filter: &Filter) -> Result<(), String> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.program.len() / 8).map_err(|e| e.to_string())?,
        filter: filter.program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` points to `len` records of 8 bytes that outlive the call; the kernel copies
    // them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().to_string())
    }
}
