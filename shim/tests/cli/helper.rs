//! The hidden verb, called as the shim daemon calls it: a request on descriptor 3, an answer there.
#![expect(
    unsafe_code,
    reason = "only pre_exec can give a child a descriptor by number"
)]

use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use cofferdam_shim::helper::{
    self, CHANNEL_FD, Create, Exec, FailureKind, Request, Response, Target,
};
use serde_json::json;

use super::harness::{Bench, Outcome, needs_root};

fn ask(bench: &Bench, request: &Request) -> Response {
    let (outcome, answer) = send(bench, |channel| helper::send(channel, request).unwrap());
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    answer
}

fn send(bench: &Bench, write: impl FnOnce(&mut UnixStream)) -> (Outcome, Response) {
    send_to(bench, bench.command(&[helper::VERB]), write)
}

fn send_to(
    bench: &Bench,
    mut command: Command,
    write: impl FnOnce(&mut UnixStream),
) -> (Outcome, Response) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: dup2 and fcntl are async-signal-safe; `theirs` is moved in, so it is open in the child.
    unsafe {
        command.pre_exec(move || {
            // dup2 onto itself would keep close-on-exec.
            let rc = if theirs.as_raw_fd() == CHANNEL_FD {
                libc::fcntl(CHANNEL_FD, libc::F_SETFD, 0)
            } else {
                libc::dup2(theirs.as_raw_fd(), CHANNEL_FD)
            };
            if rc < 0 {
                Err(std::io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
    write(&mut ours);
    ours.shutdown(Shutdown::Write).unwrap();
    let outcome = bench.finish(command);
    assert_eq!(outcome.stderr, "", "the standard error is a container's");
    let answer = helper::receive(&mut ours).unwrap();
    (outcome, answer)
}

fn target(bench: &Bench) -> Target {
    Target {
        root: bench.root(),
        id: "c1".to_owned(),
    }
}

fn create(bench: &Bench) -> Request {
    Request::Create(Create {
        microvm: false,
        target: target(bench),
        bundle: bench.bundle(),
        policy: None,
        systemd_cgroup: false,
        no_pivot: false,
        no_new_keyring: false,
        map_layers: false,
        console: false,
        events: false,
    })
}

fn kind(answer: Response) -> FailureKind {
    match answer {
        Response::Failed(failure) => failure.kind,
        other => panic!("it did not fail: {other:?}"),
    }
}

#[test]
fn the_daemon_gets_its_answers_as_data() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    let Response::Created(created) = ask(&bench, &create(&bench)) else {
        panic!("not created");
    };
    assert!(created.pid > 1, "{created:?}");
    assert!(created.policy.contains("baseline"), "{created:?}");
    assert_eq!(
        kind(ask(&bench, &create(&bench))),
        FailureKind::AlreadyExists
    );
    assert!(matches!(
        ask(&bench, &Request::Start(target(&bench))),
        Response::Done
    ));
    bench.wait_for_status("c1", "running");

    let exec = |process| {
        Request::Exec(Exec {
            target: target(&bench),
            process,
            no_new_keyring: false,
            console: false,
        })
    };
    let sleep = json!({"args": ["/bin/sleep", "9"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    assert!(matches!(ask(&bench, &exec(sleep)), Response::Execed { pid } if pid > 1));
    let broken = ask(&bench, &exec(json!({"args": 1})));
    assert_eq!(kind(broken), FailureKind::InvalidArgument);

    let update = Request::Update {
        target: target(&bench),
        resources: json!({"pids": {"limit": 55}}),
        systemd_cgroup: false,
    };
    assert!(matches!(ask(&bench, &update), Response::Done));
    let delete = |force| Request::Delete {
        target: target(&bench),
        force,
    };
    assert_eq!(
        kind(ask(&bench, &delete(false))),
        FailureKind::FailedPrecondition
    );
    assert!(matches!(ask(&bench, &delete(true)), Response::Done));
    assert!(matches!(ask(&bench, &delete(true)), Response::Done));
    assert_eq!(kind(ask(&bench, &delete(false))), FailureKind::NotFound);
    bench.assert_nothing_left("delete");
}

/// The environment is the engine's own and the same for every handler; a handler that names a policy
/// means it.
#[test]
fn the_handlers_policy_outranks_the_environments() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    let created_under = |environment: &str, handler: Option<&str>| {
        let Request::Create(create) = create(&bench) else {
            panic!("not a create request");
        };
        let request = Request::Create(Create {
            policy: handler.map(str::to_owned),
            ..create
        });
        let mut command = bench.command(&[helper::VERB]);
        command.env("COFFERDAM_POLICY", environment);
        send_to(&bench, command, |channel| {
            helper::send(channel, &request).unwrap();
        })
        .1
    };
    // `restricted` refuses this container, which runs as root.
    for (environment, handler) in [
        ("baseline", Some("restricted")),
        ("restricted", None),
        ("no-such-policy", None),
    ] {
        let answer = created_under(environment, handler);
        assert_eq!(kind(answer), FailureKind::Refused, "{environment}");
    }
    let Response::Created(created) = created_under("restricted", Some("baseline")) else {
        panic!("not created");
    };
    assert!(created.policy.contains("runtime handler"), "{created:?}");
    let delete = Request::Delete {
        target: target(&bench),
        force: true,
    };
    assert!(matches!(ask(&bench, &delete), Response::Done));
    bench.assert_nothing_left("delete");
}

#[test]
fn refusals_and_nonsense_are_told_apart() {
    let bench = Bench::new(&["/bin/true"]);
    bench.configure(|spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    });
    assert_eq!(kind(ask(&bench, &create(&bench))), FailureKind::Refused);
    bench.configure(|spec| spec["process"]["args"] = json!([]));
    assert_eq!(
        kind(ask(&bench, &create(&bench))),
        FailureKind::InvalidArgument
    );
    let escape = Request::Start(Target {
        root: bench.root(),
        id: "../escape".to_owned(),
    });
    assert_eq!(kind(ask(&bench, &escape)), FailureKind::InvalidArgument);
    let (outcome, answer) = send(&bench, |channel| {
        std::io::Write::write_all(channel, b"nonsense\n").unwrap();
    });
    assert_eq!(outcome.code(), 0);
    assert_eq!(kind(answer), FailureKind::Internal);
    bench.assert_nothing_left("refusals");
}
