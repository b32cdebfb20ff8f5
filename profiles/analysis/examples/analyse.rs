//! `analyse --rootfs DIR [--cache DIR] [--json | --profile] [--why] PROGRAM...`
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use cofferdam_analysis::{Options, RootFs, analyse, to_profile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut root = PathBuf::from("/");
    let mut options = Options::default();
    let (mut json, mut profile, mut why) = (false, false, false);
    let mut programs = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rootfs" => root = arguments.next().ok_or("--rootfs needs a directory")?.into(),
            "--cache" => options.cache = arguments.next().map(PathBuf::from),
            "--json" => json = true,
            "--profile" => profile = true,
            "--why" => why = true,
            _ => programs.push(argument),
        }
    }
    let root = RootFs::open(&root)?;
    for program in &programs {
        let start = Instant::now();
        let analysis = analyse(&root, Path::new(program), &options)?;
        let elapsed = start.elapsed();
        if json {
            println!("{}", serde_json::to_string_pretty(&analysis)?);
        } else if profile {
            println!("{}", serde_json::to_string_pretty(&to_profile(&analysis))?);
        } else {
            println!(
                "{program}: {} allowed, {} unresolved, {:?}, {:?}, {}/{} functions, {} objects, {:.3} s, {} MB",
                analysis.syscalls.len(),
                analysis.unresolved.len(),
                analysis.kind,
                analysis.confidence,
                analysis.functions.0,
                analysis.functions.1,
                analysis.objects.len(),
                elapsed.as_secs_f64(),
                peak_megabytes(),
            );
            if let Some(serving) = &analysis.serving {
                println!(
                    "serving: {} from {}",
                    serving.syscalls.len(),
                    serving.main_loop
                );
            }
            for (name, evidence) in &analysis.syscalls {
                if why {
                    println!("  {name} {:?} {:?}", evidence.certainty, evidence.arguments);
                    println!("      {}", evidence.path.join(" > "));
                } else {
                    print!(" {name}");
                }
            }
            println!();
            for site in &analysis.unresolved {
                println!(
                    "  ? {} {:#x} {:?} {}",
                    site.function,
                    site.address,
                    site.why,
                    site.path.join(" > ")
                );
            }
            for reason in &analysis.reasons {
                println!("  ! {reason}");
            }
        }
    }
    Ok(())
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}
