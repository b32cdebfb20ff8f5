//! observe only, for now
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints")]
use cofferdam_integration::{
    error::Result,
    loads::{Load, PROGRAMS, stage::Stage},
};
use std::process::ExitCode;
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for program in PROGRAMS {
        if !arguments.is_empty() && !arguments.iter().any(|a| a == program.name) {
            continue;
        }
        for load in program.loads() {
            if let Err(error) = one(program, load) {
                eprintln!("{} {load:?}: {}", program.name, error.chain());
            }
        }
    }
    ExitCode::SUCCESS
}
fn one(program: &cofferdam_integration::loads::Program, load: Load) -> Result<()> {
    let observe = std::env::var_os("NO_TRACE").is_none();
    let outcome = Stage::new(program, load, None)?.run(observe)?;
    println!(
        "{} {load:?}: {} calls, {:?}, killed {:?}",
        program.name,
        outcome.observed.all().len(),
        outcome.took,
        outcome.killed
    );
    if let Some(why) = outcome.failed {
        println!("FAILED: {why}");
    }
    for (exe, calls) in &outcome.observed.by_executable {
        println!(
            "  {exe}: {}: {}",
            calls.len(),
            calls.iter().cloned().collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}
