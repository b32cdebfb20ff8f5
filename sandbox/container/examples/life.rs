//! The life cycle of a container in one small program: what the tests drive, and how to use this
//! crate.
//!
//! `life [--root DIR] [--policy FILE] VERB ID [ARGUMENT...]`, where VERB is run, create, start,
//! exec, kill, delete, pause, resume or state; `create` and `run` read the bundle in the working
//! directory, `exec` runs its arguments.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

use std::error::Error;
use std::fs;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use cofferdam_container::{
    ContainerId, CreateOptions, ExecOptions, cgroup, create, delete, exec, kill, load, load_record,
    pause, resume, self_exe, start,
};
use cofferdam_profiles::policy::{
    Hardened, HostFacts, NamespaceOwner, PolicyFile, Questions, Selection, harden, harden_exec,
};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::{Process, Spec};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() {
    let outcome = self_exe_protect().and_then(|()| verb());
    match outcome {
        Ok(status) => std::process::exit(status),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text.push_str(": ");
                text.push_str(&error.to_string());
                source = error.source();
            }
            eprintln!("{text}");
            std::process::exit(1);
        }
    }
}

/// The attack test turns it off to show that the attack works then.
fn self_exe_protect() -> Outcome {
    if std::env::var_os("LIFE_UNPROTECTED").is_none() {
        self_exe::protect()?;
    }
    Ok(())
}

fn verb() -> Outcome<i32> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut root = PathBuf::from("/run/cofferdam-life");
    let mut policy = PolicyFile::builtin();
    while let Some(flag) = arguments.next_if(|a| a.starts_with("--")) {
        let value = arguments.next().ok_or("the flag needs a value")?;
        match flag.as_str() {
            "--root" => root = value.into(),
            "--policy" => policy = PolicyFile::load(Path::new(&value))?,
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    let verb = arguments.next().ok_or("no verb")?;
    let id = ContainerId::parse(&arguments.next().ok_or("no id")?)?;
    let rest: Vec<String> = arguments.collect();
    match verb.as_str() {
        "create" => {
            let spec = hardened_spec(&policy)?;
            create(&spec, create_options(&root, &id)?)?;
        }
        "run" => {
            let spec = hardened_spec(&policy)?;
            let state = create(&spec, create_options(&root, &id)?)?;
            start(&root, &id)?;
            let status = wait(state.pid.ok_or("no pid")?)?;
            delete(&root, &id, true)?;
            return Ok(status);
        }
        "start" => start(&root, &id)?,
        "exec" => {
            let process = hardened_process(&root, &id, &rest)?;
            let options = ExecOptions {
                console_socket: console_socket(),
                preserve_fds: preserve_fds(),
                ..ExecOptions::default()
            };
            return wait(exec(&root, &id, &process, options)?.as_raw());
        }
        "kill" => {
            let signal = rest.first().map_or("TERM", String::as_str).parse()?;
            kill(&root, &id, signal, rest.get(1).is_some_and(|a| a == "all"))?;
        }
        "delete" => delete(&root, &id, rest.first().is_some_and(|a| a == "force"))?,
        "pause" => pause(&root, &id)?,
        "resume" => resume(&root, &id)?,
        "state" => {
            let state = load(&root, &id)?;
            println!("{} {}", state.status(), state.pid.unwrap_or(0));
        }
        other => return Err(format!("unknown verb {other}").into()),
    }
    Ok(0)
}

fn create_options(root: &Path, id: &ContainerId) -> Outcome<CreateOptions> {
    Ok(CreateOptions {
        root: root.to_owned(),
        id: id.clone(),
        bundle: std::env::current_dir()?,
        pid_file: None,
        console_socket: console_socket(),
        preserve_fds: preserve_fds(),
        no_pivot: false,
        no_new_keyring: false,
        map_layers: false,
        cgroup_driver: cgroup::Driver::Fs,
        filter_cache: Some(root.join(".cache")),
        ignore_cgroup_errors: false,
        listener: None,
    })
}

/// A number in `LIFE_PRESERVE`.
fn preserve_fds() -> u32 {
    let text = std::env::var("LIFE_PRESERVE");
    text.ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A descriptor number in `LIFE_CONSOLE`.
fn console_socket() -> Option<OwnedFd> {
    let number = std::env::var("LIFE_CONSOLE").ok()?.parse().ok()?;
    #[expect(unsafe_code, reason = "an inherited descriptor has no other owner")]
    // SAFETY: whoever set the variable handed us this descriptor.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn hardened_spec(policy: &PolicyFile) -> Outcome<Hardened<Spec>> {
    let spec: Spec = serde_json::from_slice(&fs::read("config.json")?)?;
    let questions = Questions::of(&spec);
    let host = HostFacts {
        mount_sources: questions
            .mount_sources
            .into_iter()
            .filter_map(|path| Some((path.clone(), fs::canonicalize(&path).ok()?)))
            .collect(),
        namespaces: questions
            .namespaces
            .into_iter()
            .map(|path| (path, NamespaceOwner::Other))
            .collect(),
        limits: [
            ("nofile", Resource::RLIMIT_NOFILE),
            ("core", Resource::RLIMIT_CORE),
        ]
        .into_iter()
        .filter_map(|(name, resource)| Some((name.to_owned(), getrlimit(resource).ok()?)))
        .collect(),
        ..HostFacts::default()
    };
    Ok(harden(spec, policy, &Selection::default(), &host)?)
}

/// Init's process with other arguments, or the process in `LIFE_PROCESS` (JSON).
fn hardened_process(
    root: &Path,
    id: &ContainerId,
    arguments: &[String],
) -> Outcome<Hardened<Process>> {
    let record = load_record(root, id)?;
    let mut process: Process = match std::env::var("LIFE_PROCESS") {
        Ok(json) => serde_json::from_str(&json)?,
        Err(_) => record.spec.process().clone().ok_or("no process")?,
    };
    if !arguments.is_empty() {
        process.set_args(Some(arguments.to_vec()));
    }
    Ok(harden_exec(process, &record)?)
}

fn wait(pid: i32) -> Outcome<i32> {
    Ok(match waitpid(Pid::from_raw(pid), None)? {
        WaitStatus::Exited(_, status) => status,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => return Err(format!("unexpected {other:?}").into()),
    })
}
