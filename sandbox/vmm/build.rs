//! Compiles the profiles of the machine's threads to filters, which are all that the monitor links of them.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use cofferdam_profiles::seccomp::{Arch, compile, table};
use serde_json::{Value, json};

/// With debug assertions the standard library looks whether a descriptor is open before it closes it: `F_GETFD`.
fn checks() -> Value {
    json!({
        "names": ["fcntl"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=profiles");
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let out = Path::new(&out);
    let debug = env::var_os("PROFILE").is_some_and(|profile| profile == "debug");
    for entry in fs::read_dir("profiles")? {
        let path = entry?.path();
        let Some(name) = path.file_stem() else {
            continue;
        };
        let mut profile: Value = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if debug && let Some(calls) = profile.get_mut("syscalls").and_then(Value::as_array_mut) {
            calls.push(checks());
        }
        let profile = serde_json::from_value(profile)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let filter = compile(&profile).map_err(|error| format!("{}: {error:?}", path.display()))?;
        if filter.flags != 0 {
            return Err(format!("{} has flags", path.display()).into());
        }
        fs::write(out.join(name).with_extension("bpf"), filter.program)?;
    }
    // For the report of a refusal: lines of a number, a space and a name.
    let names: String = table(Arch::NATIVE)
        .iter()
        .map(|(number, name)| format!("{number} {name}\n"))
        .collect();
    fs::write(out.join("calls"), names)?;
    Ok(())
}
