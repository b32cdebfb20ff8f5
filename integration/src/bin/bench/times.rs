use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    binaries::{Runtime, on_path},
    bundle::Bundle,
    cases::Engine,
    containerd::{Containerd, Options, Version},
    enclave::Enclave,
    error::{At, Error, Result},
    image::Image,
    loads::stage::rootfs,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde_json::json;

use crate::sample::{Rows, turns};

/// A pause after each, in which the engine finishes what it does after its client has gone.
pub(crate) const PAUSE: Duration = Duration::from_millis(150);

/// `ctr run --rm` through Debian's containerd, with our shim and with the Go shim.
pub(crate) fn containerd(rows: &mut Rows, rounds: usize) -> Result<()> {
    let what = "ctr run --rm busybox true";
    let options = Options::default();
    let engine = Containerd::start_with(Version::V1_6, Runtime::Cofferdam, &options)?;
    for who in turns(&["cofferdam", "runc"], rounds + 1) {
        let runtime = match who {
            "cofferdam" => Runtime::Cofferdam,
            _ => Runtime::Runc,
        };
        rows.add(what, who, ctr_run(&engine, runtime, &[])?);
    }
    Ok(())
}

/// `ctr run --rm` of `true`, with `more` options; milliseconds.
pub(crate) fn ctr_run(engine: &Containerd, runtime: Runtime, more: &[&str]) -> Result<f64> {
    let ctr = on_path("ctr")?.display().to_string();
    let socket = engine.socket().display().to_string();
    let engines = ["--address", &socket, "--namespace", engine.namespace()];
    let run = ["run", "--rm", "--runtime", runtime.containerd_name()];
    let container = [engine.image(), "bench", "true"];
    let command = [&[ctr.as_str()][..], &engines, &run, more, &container].concat();
    let took = time_inside(engine.enclave(), &command)?;
    thread::sleep(PAUSE);
    Ok(took)
}

/// `run` of the three command lines in the same bundle, in an enclave without the cgroup v2 mount of a
/// hybrid set-up (crun refuses that).
pub(crate) fn command_line(rows: &mut Rows, rounds: usize) -> Result<()> {
    let what = "OCI command line, run true";
    let (enclave, bundle) = enclave_with_bundle(&["true"])?;
    let programs = programs()?;
    let names: Vec<&str> = programs.iter().map(|(name, _)| *name).collect();
    let path = bundle.dir().display().to_string();
    for who in turns(&names, rounds + 1) {
        let Some((_, program)) = programs.iter().find(|(name, _)| *name == who) else {
            continue;
        };
        let root = format!("/run/bench-{who}");
        let command = [program, "--root", &root, "run", "--bundle", &path, "bench"];
        rows.add(what, who, time_inside(&enclave, &command)?);
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The second start under `seccomp = "generate"` against a start without, of the same program: nginx,
/// which says its version and ends.
pub(crate) fn generated(rows: &mut Rows, rounds: usize) -> Result<()> {
    let what = "run nginx -v, profile kept";
    let enclave = Enclave::new()?;
    let policies = enclave.dir().join("policy.toml");
    let text =
        "[policy.generate]\nseccomp = \"generate\"\n[policy.intersect]\nseccomp = \"intersect\"\n";
    fs::write(&policies, text).at("write", &policies)?;
    let mut bundle = Bundle::without_rootfs(&enclave.dir().join("bundle"), &["nginx", "-v"])?;
    bundle.spec["root"] = json!({"path": rootfs("nginx")?, "readonly": true});
    bundle.spec["linux"]["cgroupsPath"] = format!("/{}/generated", enclave.tag()).into();
    bundle.save()?;
    let program = Runtime::Cofferdam.oci()?.display().to_string();
    let path = bundle.dir().display().to_string();
    let variables = [
        format!("COFFERDAM_POLICY_FILE={}", policies.display()),
        format!("COFFERDAM_CACHE={}", enclave.dir().join("cache").display()),
    ];
    let [policies, cache] = &variables;
    // The first of each makes what the others find.
    for who in turns(&["generate", "intersect"], rounds + 1) {
        let command = [
            "env",
            policies,
            cache,
            &program,
            "--root",
            "/run/bench",
            "--policy",
            who,
            "run",
            "--bundle",
            &path,
            "bench",
        ];
        rows.add(what, who, time_inside(&enclave, &command)?);
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// From the start of our command line to the container's first output, with nothing else running and
/// with a hundred containers.
pub(crate) fn crowd(rows: &mut Rows, rounds: usize) -> Result<()> {
    let what = "start to first output, 100 running";
    let (enclave, bundle) = enclave_with_bundle(&["echo", "here"])?;
    let program = Runtime::Cofferdam.oci()?.display().to_string();
    let path = bundle.dir().display().to_string();
    let root = "/run/bench";
    let command = [&program, "--root", root, "run", "--bundle", &path, "bench"];
    for _ in 0..=rounds {
        rows.add(what, "with none", time_inside(&enclave, &command)?);
        thread::sleep(PAUSE);
    }
    for number in 0..100 {
        let name = format!("sleeper-{number}");
        let (_, path) = bundle_in(&enclave, &name, &["sleep", "1000"])?;
        let command = ["--root", root, "run", "--detach", "--bundle", &path, &name];
        // The containers outlive the command: they must not hold its pipes.
        let line = format!("{program} {} >/dev/null 2>&1 </dev/null", command.join(" "));
        enclave.cmd("sh").args(["-c", &line]).ok()?;
    }
    for _ in 0..=rounds {
        rows.add(what, "with 100", time_inside(&enclave, &command)?);
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn enclave_with_bundle(argv: &[&str]) -> Result<(Enclave, Bundle)> {
    let enclave = Enclave::new()?;
    // Absent on a machine with cgroup v2 only.
    enclave.cmd("umount").arg("/sys/fs/cgroup/unified").run()?;
    let (bundle, _) = bundle_in(&enclave, "bundle", argv)?;
    Ok((enclave, bundle))
}

pub(crate) fn bundle_in(enclave: &Enclave, name: &str, argv: &[&str]) -> Result<(Bundle, String)> {
    let dir = enclave.dir().join(name);
    let mut bundle = Bundle::ordinary(&dir, &Image::busybox()?, argv)?;
    // Below the enclave's own cgroup, so that nothing is left on the machine.
    bundle.spec["linux"]["cgroupsPath"] = format!("/{}/{name}", enclave.tag()).into();
    bundle.save()?;
    Ok((bundle, dir.display().to_string()))
}

fn programs() -> Result<Vec<(&'static str, String)>> {
    let mut found = vec![("cofferdam", Runtime::Cofferdam.oci()?.display().to_string())];
    for name in ["crun", "runc"] {
        found.push((name, on_path(name)?.display().to_string()));
    }
    Ok(found)
}

/// Has this program time a command inside the enclave; milliseconds.
pub(crate) fn time_inside(enclave: &Enclave, command: &[&str]) -> Result<f64> {
    Ok(both_inside(enclave, command)?.0)
}

/// The time by the clock, and the CPU time of the command and of all that it waited for; milliseconds.
pub(crate) fn both_inside(enclave: &Enclave, command: &[&str]) -> Result<(f64, f64)> {
    let own = std::env::current_exe().at("find", "/proc/self/exe")?;
    let cmd = enclave.cmd(own).arg("inside").args(command);
    let done = cmd.limit(Duration::from_secs(300)).ok()?;
    let missing = || Error::Missing {
        what: format!("two times in {:?}", done.stdout),
        remedy: "report this",
    };
    let (clock, cpu) = done.stdout.trim().split_once(' ').ok_or_else(missing)?;
    let figure = |text: &str| text.parse().map_err(|_| missing());
    Ok((figure(clock)?, figure(cpu)?))
}

/// Runs the command and prints how long it took to its end, or to its first output if it prints
/// something, and how long it was on a CPU, in milliseconds.
pub(crate) fn inside(command: &[String]) -> Result<()> {
    let [program, arguments @ ..] = command else {
        return Err(Error::Missing {
            what: "a command".to_owned(),
            remedy: "bench inside COMMAND ...",
        });
    };
    let failed = |source| Error::Spawn {
        program: program.clone(),
        source,
    };
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut first = [0];
    let printed = child
        .stdout
        .as_mut()
        .is_some_and(|pipe| pipe.read(&mut first).is_ok_and(|n| n > 0));
    let to_output = started.elapsed();
    let status = child.wait().map_err(failed)?;
    let took = if printed {
        to_output
    } else {
        started.elapsed()
    };
    if !status.success() {
        return Err(Error::Command {
            command: command.join(" "),
            status,
            stdout: String::new(),
            stderr: "(printed above)\n".to_owned(),
        });
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|source| failed(source.into()))?;
    let cpu: f64 = [usage.user_time(), usage.system_time()]
        .map(|time| time.num_microseconds() as f64 / 1000.0)
        .iter()
        .sum();
    println!("{} {cpu}", took.as_secs_f64() * 1000.0);
    Ok(())
}
