//! The fields of the spec, seen from inside.

use serde_json::json;

use crate::bundle::{Bundle, needs_root};

#[test]
fn the_process_is_as_the_spec_says() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new()
        .script(
            "id -u; id -g; id -G; umask; pwd; echo $HOME; hostname; ulimit -n; ulimit -Hc;
             cat /proc/self/oom_score_adj; grep -c lo: /proc/net/dev; readlink /dev/stdin",
        )
        .with(
            "/process/user",
            json!({"uid": 1000, "gid": 1001, "umask": 63, "additionalGids": [7, 8]}),
        )
        .with("/process/cwd", json!("/tmp"))
        .with("/process/oomScoreAdj", json!(345))
        .with(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100},
                   {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
        );
    let said = bundle.run();
    let expected =
        "1000\n1001\n1001 7 8\n0077\n/tmp\n/srv/web\nlife\n99\n0\n345\n1\n/proc/self/fd/0\n";
    assert_eq!(said.out, expected, "{}", said.err);
}

/// Descriptors from 3 upward are inherited only as far as asked for.
#[test]
fn preserved_descriptors_and_no_others_are_inherited() {
    if !needs_root() {
        return;
    }
    let look = "for n in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$n ] && echo $n; done; cat <&3";
    let bundle = Bundle::new().script(look);
    std::fs::write(bundle.path().join("given"), "given\n").unwrap();
    let up = Bundle::new().up();
    for (container, verb) in [(&bundle, "run"), (&up, "exec")] {
        let life = container.command(verb, &["sh", "-c", look]);
        let mut line = std::ffi::OsString::from("exec \"$@\" 3<");
        line.push(bundle.path().join("given"));
        line.push(" 4</dev/null 5</ 6</ 9</");
        let said = std::process::Command::new("bash")
            .arg("-c")
            .arg(line)
            .arg("bash")
            .arg(life.get_program())
            .args(life.get_args())
            .current_dir(container.path())
            .env("LIFE_PRESERVE", "2")
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(
            out,
            "3\n4\ngiven\n",
            "{verb}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

/// An execed process runs with init's OOM score, not with that of the shim that executes it.
#[test]
fn an_execed_process_has_inits_oom_score() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().with("/process/oomScoreAdj", json!(321)).up();
    assert_eq!(bundle.exec("cat /proc/self/oom_score_adj").out, "321\n");
}

#[test]
fn an_unmet_wish_is_an_error_and_leaves_nothing() {
    if !needs_root() {
        return;
    }
    let cases = [
        ("/process/cwd", json!("tmp"), "cwd"),
        (
            "/process/cwd",
            json!("/nowhere"),
            "chdir to cwd (\"/nowhere\")",
        ),
        ("/process/args", json!([]), "args"),
        ("/root/path", json!("nowhere"), "nowhere"),
        ("/linux/intelRdt", json!({"closID": "x"}), "intelRdt"),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "personality",
        ),
        (
            "/linux/namespaces/1",
            json!({"type": "network", "path": "/etc/passwd"}),
            "network",
        ),
        (
            "/linux/namespaces/1",
            json!({"type": "network", "path": "/proc/self/ns/uts"}),
            "network",
        ),
        ("/process/terminal", json!(true), "console"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]),
            "RLIMIT_NOFILE",
        ),
        ("/process/env", json!(["NOVALUE"]), "env"),
    ];
    for (pointer, value, word) in cases {
        let bundle = Bundle::new().with(pointer, value.clone());
        let created = bundle.create();
        assert_ne!(created.status, 0, "{pointer} {value}");
        assert!(
            created.err.contains(word),
            "{pointer} {value}: {}",
            created.err
        );
        assert_eq!(created.err.lines().count(), 1, "{}", created.err);
        bundle.assert_gone();
    }
}

#[test]
fn hooks_run_in_their_order_and_places() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new();
    let log = bundle.path().join("log");
    std::fs::write(&log, "").unwrap();
    // One of them runs as the container's root, who is nobody on the host.
    for (path, mode) in [(bundle.path(), 0o711), (log.as_path(), 0o666)] {
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    }
    // A hook in the container's namespaces has the container's pid namespace: it is not pid 1 there,
    // but its parent is.
    let hook = |name: &str| {
        let line = format!(
            "read -r s; case $s in *'\"status\":\"'*'\"bundle\":'*) ok=ok;; esac; \
             echo {name} $ok $(hostname) >> {}",
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let inside = json!([{"path": "/bin/sh",
        "args": ["sh", "-c", "read -r s; echo startContainer $(hostname) > /tmp/log"],
        "env": ["PATH=/bin"]}]);
    let bundle = bundle
        .with("/hostname", json!("inside"))
        .with(
            "/hooks",
            json!({
                "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
                "createContainer": hook("createContainer"), "startContainer": inside,
                "poststart": hook("poststart"), "poststop": hook("poststop"),
            }),
        )
        .script("cat /tmp/log; sleep 100")
        .up();
    assert_eq!(bundle.life("delete", &["force"]).status, 0);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let expected: String = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ]
    .iter()
    .map(|name| format!("{name} ok {host}\n"))
    .collect();
    assert_eq!(std::fs::read_to_string(log).unwrap(), expected);
    assert_eq!(bundle.output(), "startContainer inside\n");
}

#[test]
fn a_failing_hook_stops_the_container() {
    if !needs_root() {
        return;
    }
    let fail = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo because; exit 1"]}]);
    for point in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new().with("/hooks", json!({point: fail}));
        let created = bundle.create();
        assert!(created.err.contains(point), "{}", created.err);
        assert!(created.err.contains("because"), "{}", created.err);
        bundle.assert_gone();
    }
    let bundle = Bundle::new().with("/hooks", json!({"poststart": fail}));
    assert_eq!(bundle.create().status, 0);
    let started = bundle.life("start", &[]);
    assert!(started.err.contains("poststart"), "{}", started.err);
    crate::bundle::eventually("stopped", || bundle.status() == "stopped");
    let slow = json!([{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]);
    let bundle = Bundle::new().with("/hooks", json!({"createRuntime": slow}));
    assert!(bundle.create().err.contains("timeout"));
    bundle.assert_gone();
}

#[test]
fn clocks_of_a_time_namespace_are_shifted() {
    if !needs_root() {
        return;
    }
    let mut bundle = Bundle::new().script("cat /proc/uptime").with(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000_000}}),
    );
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "time"}));
    let said = bundle.run();
    let uptime: f64 = said
        .out
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .expect(&said.err);
    assert!(uptime > 1e9, "{uptime}");
}

#[test]
fn a_pod_shares_what_it_joins_by_path() {
    if !needs_root() {
        return;
    }
    let pod = Bundle::new().up();
    let pid = pod.pid();
    let joined =
        |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
    let bundle = Bundle::new()
        .with(
            "/linux/namespaces",
            json!([joined("pid", "pid"), joined("network", "net"), joined("ipc", "ipc"),
                   joined("uts", "uts"), {"type": "mount"}, {"type": "cgroup"}]),
        )
        .with("/hostname", json!(null))
        .up();
    let kinds = "for k in pid net ipc uts mnt; do readlink /proc/self/ns/$k; done";
    let (ours, theirs) = (bundle.exec(kinds), pod.exec(kinds));
    let split = |said: &crate::bundle::Said| {
        let lines: Vec<String> = said.out.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 5, "{said:?}");
        lines
    };
    let (ours, theirs) = (split(&ours), split(&theirs));
    assert_eq!(ours[..4], theirs[..4]);
    assert_ne!(ours[4], theirs[4]);
}
