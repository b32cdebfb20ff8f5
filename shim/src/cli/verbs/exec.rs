//! `exec`: runs one more process in a container.

use std::path::PathBuf;

use cofferdam_container::{self as container, ContainerId, ExecOptions};
use cofferdam_profiles::capability;
use cofferdam_profiles::policy::Hardened;
use nix::unistd::Pid;
use oci_spec::runtime::{Process, UserBuilder};

use super::create::protect;
use super::{Flag, PLAIN, Verb, flag, read_json};
use crate::cli::flags::{Until, Words};
use crate::cli::foreground::Foreground;
use crate::cli::process::{
    announce_listen_fds, check_terminal, connect_console, container_id, inherited_descriptors,
    listen_fds,
};
use crate::cli::{CliError, Context};
use crate::launch;
use crate::vm;

/// The longest process.json that is read, in bytes.
const MAX_PROCESS: u64 = 4 << 20;

pub(super) const VERB: Verb = Verb {
    name: "exec",
    arguments: "<container-id> <command> [command options] || -p process.json <container-id>",
    count: (1, usize::MAX),
    summary: "run one more process inside a container",
    description: "The process is confined as the container's init is: the same namespaces, cgroup and\n\
                  seccomp filters, and never more capabilities. Without --process it is the\n\
                  container's own process with other arguments.",
    example: "cofferdam exec web-1 ps",
    flags: &[
        Flag::value(
            "console-socket",
            '\0',
            "PATH",
            "a Unix socket that gets the terminal's master",
        ),
        Flag::value("cwd", '\0', "DIR", "the working directory in the container"),
        Flag::value(
            "env",
            'e',
            "NAME=VALUE",
            "set an environment variable; may be repeated",
        ),
        Flag::switch("tty", 't', "give the process a terminal"),
        Flag::value("user", 'u', "UID[:GID]", "the user and group, by number"),
        Flag::value(
            "additional-gids",
            'g',
            "GID",
            "one more group; may be repeated",
        ),
        Flag::value(
            "process",
            'p',
            "FILE",
            "read the process from this JSON file",
        ),
        Flag::switch("detach", 'd', "do not wait for the process"),
        Flag::value(
            "pid-file",
            '\0',
            "FILE",
            "write the pid of the process here",
        ),
        Flag::value(
            "process-label",
            '\0',
            "LABEL",
            "the SELinux label of the process",
        ),
        Flag::value(
            "apparmor",
            '\0',
            "PROFILE",
            "the AppArmor profile of the process",
        ),
        Flag::switch("no-new-privs", '\0', "the process may not gain privileges"),
        Flag::value(
            "cap",
            'c',
            "CAPABILITY",
            "ask for one more capability; may be repeated",
        ),
        Flag::value(
            "preserve-fds",
            '\0',
            "N",
            "pass on N descriptors after the standard ones and $LISTEN_FDS",
        ),
        Flag::value(
            "cgroup",
            '\0',
            "PATH",
            "run in this cgroup below the container's",
        ),
        Flag::switch("ignore-paused", '\0', "join a paused container"),
    ],
    until: Until::FirstPlain,
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    protect()?;
    let id = container_id(words)?;
    let (record, guest) = vm::record(&context.root, &id)?;
    let mut process = match words.path("process") {
        Some(path) => read_json(path, MAX_PROCESS, "an OCI process")?,
        None => {
            let own = record.spec.process().clone().unwrap_or_default();
            from_flags(own, words)?
        }
    };
    let listen = listen_fds();
    announce_listen_fds(&mut process, listen);
    let detach = words.on("detach");
    let terminal = process.terminal().unwrap_or(false);
    let socket = words.path("console-socket");
    check_terminal(terminal, detach, socket.is_some())?;
    let mut options = ExecOptions {
        pid_file: words.path("pid-file").map(PathBuf::from),
        console_socket: None,
        preserve_fds: inherited_descriptors(words, listen)?,
        no_new_keyring: false,
        filter_cache: Some(launch::filter_cache()),
        ignore_paused: words.on("ignore-paused"),
        cgroup: words
            .text("cgroup")
            .map_err(flag("exec"))?
            .map(str::to_owned),
    };
    let process = launch::harden_process(process, &record)?;

    if detach {
        options.console_socket = socket.map(connect_console).transpose()?;
        join(context, &id, guest.as_ref(), &process, options)?;
        return Ok(0);
    }
    let (foreground, console) = Foreground::prepare(terminal, false)?;
    options.console_socket = console;
    let pid = join(context, &id, guest.as_ref(), &process, options)?;
    foreground.attach()?.wait(pid)
}

fn join(
    context: &Context,
    id: &ContainerId,
    guest: Option<&vm::Guest>,
    process: &Hardened<Process>,
    options: ExecOptions,
) -> Result<Pid, CliError> {
    Ok(match guest {
        Some(guest) => vm::exec(&context.root, id, guest, process, options)?,
        None => container::exec(&context.root, id, process, options)?,
    })
}

/// The container's own process with what the flags change.
fn from_flags(mut process: Process, words: &Words) -> Result<Process, CliError> {
    let flag = flag("exec");
    let arguments = words.plain.get(1..).unwrap_or_default();
    if arguments.is_empty() {
        return Err(CliError::Usage("process args cannot be empty"));
    }
    let arguments = arguments.iter().map(|word| match word.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CliError::NotText(word.to_string_lossy().into_owned())),
    });
    process.set_args(Some(arguments.collect::<Result<_, _>>()?));
    if let Some(cwd) = words.path("cwd") {
        process.set_cwd(cwd.to_owned());
    }
    if let Some(profile) = words.text("apparmor").map_err(&flag)? {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = words.text("process-label").map_err(&flag)? {
        process.set_selinux_label(Some(label.to_owned()));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for pair in words.texts("env").map_err(&flag)? {
        if !pair.contains('=') || pair.starts_with('=') {
            return Err(CliError::Value {
                what: "environment variable",
                value: pair.to_owned(),
                expected: "NAME=VALUE expected",
            });
        }
        env.push(pair.to_owned());
    }
    process.set_env(Some(env));
    process.set_terminal(Some(words.on("tty")));
    if let Some(on) = words.switch("no-new-privs") {
        process.set_no_new_privileges(Some(on));
    }
    add_capabilities(&mut process, &words.texts("cap").map_err(&flag)?)?;
    set_user(&mut process, words)?;
    Ok(process)
}

/// Asks for more capabilities; the container's bounding set and the policy still limit them.
fn add_capabilities(process: &mut Process, names: &[&str]) -> Result<(), CliError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let capability = capability::parse(name).ok_or_else(|| CliError::Value {
            what: "capability",
            value: (*name).to_owned(),
            expected: "a name such as CAP_NET_RAW expected",
        })?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let asked = (
            with(sets.bounding()),
            with(sets.effective()),
            with(sets.permitted()),
        );
        let ambient = with(sets.ambient());
        sets.set_bounding(asked.0)
            .set_effective(asked.1)
            .set_permitted(asked.2)
            .set_ambient(ambient);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

fn set_user(process: &mut Process, words: &Words) -> Result<(), CliError> {
    let flag = flag("exec");
    let number = |what, text: &str| {
        text.parse::<u32>().map_err(|_| CliError::Value {
            what,
            value: text.to_owned(),
            expected: "a number from 0 to 4294967295 expected",
        })
    };
    let old = process.user();
    let (mut uid, mut gid) = (old.uid(), old.gid());
    if let Some(user) = words.text("user").map_err(&flag)? {
        let (first, second) = user
            .split_once(':')
            .map_or((user, None), |(u, g)| (u, Some(g)));
        uid = number("uid", first)?;
        if let Some(second) = second {
            gid = number("gid", second)?;
        }
    }
    let mut groups = old.additional_gids().clone().unwrap_or_default();
    for text in words.texts("additional-gids").map_err(&flag)? {
        groups.push(number("additional gid", text)?);
    }
    let mut user = UserBuilder::default().uid(uid).gid(gid);
    if !groups.is_empty() {
        user = user.additional_gids(groups);
    }
    if let Some(umask) = old.umask() {
        user = user.umask(umask);
    }
    let user = user
        .build()
        .map_err(|_| CliError::Usage("the user is not complete"))?;
    process.set_user(user);
    Ok(())
}
