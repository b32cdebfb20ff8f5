//! `cargo xtask`: tasks of the work tree that are too much for a script.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use cofferdam_xtask::{
    agent,
    error::{At, Error, Result},
    lab::{Init, Lab, PROGRAMS, job::Job, machine::Machine, suite},
};

const HELP: &str = "\
cargo xtask lab [--systemd] [--qemu] [--with PATH]... [--limit SECONDS] -- COMMAND [ARG]...
    Boots the lab guest, runs the command in it, returns its output and status (255: the lab failed).
    This build's binaries are on the guest's PATH. PATH, a file or directory, is there as /job/with/NAME.
    --systemd boots with systemd as the first process, --limit (600) is the command's time. --qemu puts the
    lab's qemu-system-x86_64 and qemu-system-x86_64-microvm on the PATH, for a guest in the guest.
cargo xtask test-lab [--all] [NAME]
    Runs the tests that want the lab, or those of the test binaries with NAME in their name; with --all
    also those that take long there.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(error) => {
            complain(&error);
            ExitCode::from(255)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
fn complain(error: &dyn std::error::Error) {
    eprint!("xtask: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
}

fn run(args: &[String]) -> Result<i32> {
    match args.split_first() {
        Some((verb, rest)) if verb == "lab" => lab(rest),
        Some((verb, rest)) if verb == "test-lab" => test_lab(rest),
        // In the guest; not for people.
        Some((verb, [])) if verb == "agent" => {
            let Err(error) = agent::serve();
            Err(Error::Agent(error))
        }
        Some((verb, [])) if verb == "help" || verb == "--help" => {
            let _ = io::stdout().write_all(HELP.as_bytes());
            Ok(0)
        }
        Some((verb, _)) => Err(Error::Usage(format!("there is no task {verb:?}"))),
        None => Err(Error::Usage("no task is named".to_owned())),
    }
}

fn test_lab(args: &[String]) -> Result<i32> {
    let (all, names) = match args.split_first() {
        Some((first, rest)) if first == "--all" => (true, rest),
        _ => (false, args),
    };
    let name = match names {
        [] => "",
        [name] if !name.starts_with('-') => name,
        _ => return Err(Error::Usage("test-lab takes --all and one name".to_owned())),
    };
    let this = std::env::current_exe().at("find", "this executable")?;
    let failed = suite::run(suite::Wanted { name, all }, target(&this))?;
    Ok(i32::from(failed > 0))
}

/// What `lab` was asked for.
struct Wanted {
    init: Init,
    qemu: bool,
    with: Vec<PathBuf>,
    limit: Duration,
    command: Vec<String>,
}

fn wanted(args: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted {
        init: Init::Script,
        qemu: false,
        with: Vec::new(),
        limit: Duration::from_secs(600),
        command: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            let missing = || Error::Usage(format!("{arg} wants a value"));
            args.next().ok_or_else(missing)
        };
        match arg.as_str() {
            "--systemd" => wanted.init = Init::Systemd,
            "--qemu" => wanted.qemu = true,
            "--with" => wanted.with.push(PathBuf::from(value()?)),
            "--limit" => {
                let text = value()?;
                let seconds = text
                    .parse()
                    .map_err(|_| Error::Usage(format!("{text:?} is not a number of seconds")))?;
                wanted.limit = Duration::from_secs(seconds);
            }
            "--" => {
                wanted.command = args.cloned().collect();
                break;
            }
            other => return Err(Error::Usage(format!("lab does not know {other:?}"))),
        }
    }
    if wanted.command.is_empty() {
        return Err(Error::Usage("lab wants a command after --".to_owned()));
    }
    Ok(wanted)
}

fn lab(args: &[String]) -> Result<i32> {
    let wanted = wanted(args)?;
    let lab = Lab::fetch()?;
    let this = std::env::current_exe().at("find", "this executable")?;
    let job = Job::new(&this)?;
    let target = target(&this);
    // The release build, as the tests prefer; what was not built is not there.
    for name in PROGRAMS {
        let found = ["release", "debug"]
            .iter()
            .map(|profile| target.join(profile).join(name))
            .find(|file| file.exists());
        if let Some(file) = found {
            job.add(&file, &format!("bin/{name}"))?;
        }
    }
    for path in &wanted.with {
        let name = path.file_name().unwrap_or_else(|| "root".as_ref());
        job.add(path, &format!("with/{}", Path::new(name).display()))?;
    }
    if wanted.qemu {
        job.add_qemu(&lab)?;
    }
    let disk = job.disk()?;
    let mut machine = Machine::boot(&lab, wanted.init, &disk)?;
    machine.run(
        &wanted.command,
        wanted.limit,
        &mut io::stdout(),
        &mut io::stderr(),
    )
}

/// The directory of this build's profiles, `target/TRIPLE`; this program is in one of them.
fn target(this: &Path) -> &Path {
    this.parent().and_then(Path::parent).unwrap_or(this)
}
