//! Generated AppArmor profiles on a kernel that has AppArmor: loaded, attached, inherited, unloaded;
//! attacks, each with its control; complaints; denials.

use std::{fs, path::PathBuf, time::Duration};

use cofferdam_integration::{
    binaries::{self, Runtime},
    bundle::Bundle,
    command::{Cmd, Done, eventually},
    containerd::{self, Containerd},
    error::{At as _, Error, Result},
    gate::{self, Guest},
    image::{Extra, Image},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `bare` is the control: no AppArmor, and no filter that could be in the way of an attack.
const POLICIES: &str = r#"
[policy.bare]
seccomp = "engine"
apparmor_unconfined = "allow"
[policy.made]
seccomp = "engine"
apparmor = "generate"
best_effort = []
[policy.rules]
extends = "made"
seccomp = "default"
denials = "explain"
apparmor_documents = ["DIR/access.json"]
[policy.tuning]
extends = "rules"
apparmor_mode = "complain"
"#;

const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

struct Place {
    dir: TempDir,
    image: Image,
}

impl Place {
    fn new() -> Result<Option<Self>> {
        if gate::lab(Guest::Script).is_none() {
            return Ok(None);
        }
        let dir = tempfile::tempdir().at("make", "a temporary directory")?;
        let probe = PathBuf::from(env!("CARGO_BIN_EXE_attack-probe"));
        let extra = Extra {
            files: vec![("/bin/attack-probe".to_owned(), probe, 0o755)],
            config: Vec::new(),
        };
        let place = Self {
            dir,
            image: Image::busybox_with("attack", &extra)?,
        };
        let here = place.dir.path().display().to_string();
        place.write("policy.toml", &POLICIES.replace("DIR", &here))?;
        place.allow(&json!([]))?;
        for name in ["vol", "vol/open"] {
            let path = place.dir.path().join(name);
            fs::create_dir(&path).at("make", path)?;
        }
        Ok(Some(place))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        fs::write(&path, text).at("write", path)
    }

    /// The access document: programs run, `/vol/open` is written, and what `more` says.
    fn allow(&self, more: &Value) -> Result<()> {
        let mut files = vec![
            json!({"path": "/bin", "subtree": true,
                "rights": ["read", "list", "execute", "map-execute"]}),
            json!({"path": "/proc", "subtree": true, "rights": ["read", "list"]}),
            json!({"path": "/vol/open", "subtree": true,
                "rights": ["read", "write", "create", "remove", "list"]}),
        ];
        files.extend(more.as_array().into_iter().flatten().cloned());
        self.write(
            "access.json",
            &json!({"version": 1, "files": files}).to_string(),
        )
    }

    fn bundle(&self, id: &str, args: &[&str]) -> Result<Bundle> {
        let mut bundle = Bundle::ordinary(&self.dir.path().join(id), &self.image, args)?;
        let volume = json!({"destination": "/vol", "type": "bind", "options": ["rbind", "rw"],
            "source": self.dir.path().join("vol")});
        if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
            mounts.push(volume);
        }
        Ok(bundle)
    }

    fn oci(&self, policy: &str) -> Result<Cmd> {
        let dir = self.dir.path();
        Ok(Cmd::new(Runtime::Cofferdam.oci()?)
            .env("COFFERDAM_POLICY_FILE", dir.join("policy.toml"))
            .env("COFFERDAM_LOGS", dir.join("logs"))
            .arg("--root")
            .arg(dir.join("state"))
            .args(["--policy", policy]))
    }

    /// Runs a bundle to its end.
    fn run(&self, policy: &str, bundle: &Bundle, id: &str) -> Result<Done> {
        bundle.save()?;
        let run = self.oci(policy)?.args(["run", "--bundle"]);
        run.arg(bundle.dir()).arg(id).run()
    }

    /// Runs a shell script under a policy: what it wrote.
    fn script(&self, policy: &str, id: &str, script: &str) -> Result<String> {
        let done = self.run(policy, &self.bundle(id, &["sh", "-c", script])?, id)?;
        assert!(done.status.success(), "{id}: {done:?}");
        Ok(done.stdout)
    }

    /// Starts a bundle; its init's pid.
    fn start(&self, policy: &str, bundle: &Bundle, id: &str) -> Result<u32> {
        self.make(policy, &["run", "--detach", "--bundle"], bundle, id)
    }

    fn make(&self, policy: &str, words: &[&str], bundle: &Bundle, id: &str) -> Result<u32> {
        bundle.save()?;
        let line = self.oci(policy)?.args(words);
        let dir = self.dir.path().display();
        let script = format!(
            "export COFFERDAM_POLICY_FILE={dir}/policy.toml COFFERDAM_LOGS={dir}/logs; \
             exec {} {} {id} </dev/null >{dir}/log-{id} 2>&1",
            line.line(),
            bundle.dir().display(),
        );
        let done = Cmd::new("bash").args(["-c", &script]).run()?;
        if !done.status.success() {
            let log = self.dir.path().join(format!("log-{id}"));
            let stderr = fs::read_to_string(&log).at("read", log)?;
            return Err(Error::from(Done { stderr, ..done }));
        }
        let state = self.oci(policy)?.args(["state", id]).ok()?.json()?;
        let pid = state["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        Ok(pid.unwrap_or_default())
    }

    fn delete(&self, id: &str) -> Result<()> {
        let delete = self.oci("made")?.args(["delete", "--force", id]);
        delete.ok().map(drop)
    }

    /// The lines about AppArmor that `cofferdam denials` has of a container.
    fn denials(&self, id: &str) -> Result<Vec<Value>> {
        let done = self
            .oci("rules")?
            .args(["denials", "--format", "json", id])
            .ok()?;
        let lines = done.stdout.lines().map(serde_json::from_str);
        let lines: Vec<Value> =
            lines
                .collect::<serde_json::Result<_>>()
                .map_err(|source| Error::Json {
                    what: "denials".to_owned(),
                    text: done.stdout.clone(),
                    source,
                })?;
        let ours = lines.into_iter().filter(|line| line["type"] == "apparmor");
        Ok(ours.collect())
    }
}

/// What `/proc/PID/attr/current` says: the profile's name and its mode.
fn label(pid: u32) -> Result<(String, String)> {
    let path = format!("/proc/{pid}/attr/current");
    let text = fs::read_to_string(&path).at("read", path)?;
    let (name, mode) = text.trim().rsplit_once(' ').unwrap_or((text.trim(), ""));
    Ok((name.to_owned(), mode.to_owned()))
}

fn is_loaded(profile: &str) -> Result<bool> {
    let text = fs::read_to_string(LOADED).at("read", LOADED)?;
    let mut names = text.lines().filter_map(|line| line.rsplit_once(' '));
    Ok(names.any(|(name, _)| name == profile))
}

#[test]
fn a_profile_is_shared_inherited_and_goes_with_the_last_that_has_it() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let sleep = ["sleep", "1000"];
    let first = place.start("made", &place.bundle("one", &sleep)?, "one")?;
    let second = place.start("made", &place.bundle("two", &sleep)?, "two")?;
    let (name, mode) = label(first)?;
    assert!(name.starts_with("cofferdam-"), "{name}");
    assert_eq!(mode, "(enforce)");
    assert_eq!(label(second)?.0, name);
    let exec = place.oci("made")?.args(["exec", "one"]);
    let done = exec.args(["cat", "/proc/self/attr/current"]).ok()?;
    assert_eq!(done.stdout.trim(), format!("{name} (enforce)"));
    place.delete("one")?;
    assert!(is_loaded(&name)?, "the other has it");
    place.delete("two")?;
    assert!(!is_loaded(&name)?);
    // It comes with the container's program: that it is not there before is no finding of `inspect`.
    let made = place.bundle("created", &sleep)?;
    let created = place.make("made", &["create", "--bundle"], &made, "created")?;
    assert_eq!(label(created)?.0, "unconfined");
    place.oci("made")?.args(["inspect", "created"]).ok()?;
    place.delete("created")?;
    // The control: without the policy there is none.
    let bare = place.start("bare", &place.bundle("three", &sleep)?, "three")?;
    assert_eq!(label(bare)?.0, "unconfined");
    place.delete("three")
}

#[test]
fn what_a_killed_runtime_left_is_unloaded() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    // A hook that waits keeps `create` in the middle.
    let mut bundle = place.bundle("half", &["true"])?;
    bundle.spec["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 300"]}]});
    bundle.save()?;
    let log = place.dir.path().join("half.log");
    let create = place
        .oci("made")?
        .args(["create", "--bundle"])
        .arg(bundle.dir());
    let job = create.arg("half").background(&log)?;
    let mut name = String::new();
    eventually("the profile is loaded", Duration::from_secs(30), || {
        let text = fs::read_to_string(LOADED).map_err(|error| error.to_string())?;
        let ours = text.lines().find(|line| line.starts_with("cofferdam-"));
        name = ours.ok_or(text.clone())?.replace(" (enforce)", "");
        Ok(())
    })?;
    let pid = nix::unistd::Pid::from_raw(job.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
        .map_err(std::io::Error::from)
        .at("kill", "create")?;
    drop(job);
    assert!(is_loaded(&name)?, "nobody was there to unload it");
    place.delete("half")?;
    assert!(!is_loaded(&name)?);
    Ok(())
}

#[test]
fn a_volume_is_written_only_where_the_rules_say() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let attack = "echo x >/vol/stolen && echo written; echo y >/vol/open/file && echo allowed; \
                  ls /vol >/dev/null && echo listed; sleep 1";
    // The control.
    let done = place.script("bare", "free", attack)?;
    assert_eq!(done, "written\nallowed\nlisted\n");
    fs::remove_file(place.dir.path().join("vol/stolen")).at("remove", "the control's file")?;
    let bundle = place.bundle("bound", &["sh", "-c", attack])?;
    let done = place.run("rules", &bundle, "bound")?;
    assert_eq!(done.stdout, "allowed\n", "{done:?}");
    assert!(!place.dir.path().join("vol/stolen").exists());

    // It is told what was denied, and what would allow it.
    let lines = place.denials("bound")?;
    let of = |name: &str| lines.iter().find(|line| line["name"] == name).cloned();
    let written = of("/vol/stolen").unwrap_or_default();
    assert_eq!(written["allowed"], json!(false), "{lines:?}");
    assert_eq!(
        written["add"],
        json!({"path": "/vol/stolen", "rights": ["create"]})
    );
    let listed = of("/vol/").unwrap_or_default();
    assert_eq!(listed["add"], json!({"path": "/vol", "rights": ["list"]}));
    assert!(lines.iter().all(|line| line["container"] == "bound"));
    Ok(())
}

#[test]
fn complaints_are_the_rules_that_are_missing() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let load =
        "echo x >/vol/new; cat /vol/new; rm /vol/new; ls /vol >/dev/null && echo listed; sleep 1";
    let (expected, bundle) = ("x\nlisted\n", place.bundle("load", &["sh", "-c", load])?);
    let done = place.run("rules", &bundle, "load")?;
    assert_ne!(done.stdout, expected, "the control: the rules do not do");
    let done = place.run("tuning", &bundle, "load")?;
    assert_eq!(done.stdout, expected, "{done:?}");
    let lines = place.denials("load")?;
    assert!(
        lines.iter().all(|line| line["allowed"] == json!(true)),
        "{lines:?}"
    );
    // All of them added, the load passes.
    let rules: Vec<Value> = lines.iter().map(|line| line["add"].clone()).collect();
    assert!(
        rules.len() > 2 && rules.iter().all(Value::is_object),
        "{lines:?}"
    );
    place.allow(&json!(rules))?;
    let done = place.run("rules", &bundle, "load")?;
    assert_eq!(done.stdout, expected, "{done:?} under {rules:?}");
    Ok(())
}

#[test]
fn nothing_is_mounted_not_even_in_a_user_namespace() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let attack = "unshare -U -r -m mount -t tmpfs x /tmp && echo mounted; true";
    assert_eq!(place.script("bare", "free", attack)?, "mounted\n");
    assert_eq!(place.script("made", "bound", attack)?, "");
    Ok(())
}

/// Two containers in one pid namespace, as in a pod that shares it: neither signals nor traces the
/// other, unless both have the very same profile.
#[test]
fn neighbours_are_neither_signalled_nor_traced() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    for (policy, reached) in [("bare", true), ("made", false)] {
        let [victim, attacker] = ["victim", "attacker"].map(|name| format!("{policy}-{name}"));
        let mut bundle = place.bundle(&victim, &["sh", "-c", "sleep 1000 & wait"])?;
        // One capability less: another profile, and all that the attacker has is enough for the control.
        for set in ["bounding", "effective", "permitted"] {
            if let Some(list) = bundle.spec["process"]["capabilities"][set].as_array_mut() {
                list.retain(|name| name != "CAP_NET_BIND_SERVICE");
            }
        }
        let pid = place.start(policy, &bundle, &victim)?;
        let attack = "for p in $(pidof sleep); do \
             cat /proc/$p/environ >/dev/null 2>&1 && echo read; \
             attack-probe ptrace $p; kill -9 $p && echo killed; done; true";
        let mut bundle = place.bundle(&attacker, &["sh", "-c", attack])?;
        let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.into_iter().flatten() {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
            }
        }
        let done = place.run(policy, &bundle, &attacker)?;
        let found = [
            done.stdout.contains("read\n"),
            done.stdout.contains("\"worked\":true"),
            done.stdout.contains("killed\n"),
        ];
        assert!(done.stdout.contains("\"worked\""), "{done:?}");
        assert_eq!(found, [reached; 3], "{policy}: {done:?}");
        // Who runs it can end it.
        place.delete(&victim)?;
    }
    Ok(())
}

#[test]
fn what_belongs_to_a_container_still_works() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let load = "sleep 100 & kill $! && wait; echo $?; cat /proc/self/environ >/dev/null && echo read; \
                touch /tmp/a && ln /tmp/a /tmp/b && mv /tmp/b /tmp/c && rm /tmp/c && echo files; \
                cat /proc/1/cmdline >/dev/null && echo init";
    for policy in ["bare", "made"] {
        let done = place.script(policy, policy, load)?;
        assert_eq!(done, "0\nread\nfiles\ninit\n", "{policy}");
    }
    Ok(())
}

#[test]
fn a_selinux_label_is_refused_and_never_dropped() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let mut bundle = place.bundle("label", &["true"])?;
    assert!(
        place.run("made", &bundle, "label")?.status.success(),
        "the control"
    );
    bundle.spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2");
    let done = place.run("made", &bundle, "label")?;
    assert!(
        !done.status.success() && done.stderr.contains("SELinux"),
        "{done:?}"
    );
    Ok(())
}

#[test]
fn the_profile_that_an_engine_names_is_honoured() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let named = "profile lab-named flags=(attach_disconnected,mediate_deleted) {\n  file,\n  network,\n  \
                 capability,\n  signal,\n  deny /tmp/** w,\n}\n";
    place.write("named", named)?;
    let profile = place.dir.path().join("named");
    let parser = binaries::on_path("apparmor_parser")?;
    Cmd::new(&parser)
        .args(["--replace", "--skip-cache"])
        .arg(&profile)
        .ok()?;
    let result = under_containerd(&place);
    Cmd::new(&parser).arg("--remove").arg(&profile).ok()?;
    result
}

fn under_containerd(place: &Place) -> Result<()> {
    let here = place.dir.path().display().to_string();
    let policies = format!("default = \"made\"\n{}", POLICIES.replace("DIR", &here));
    let options = containerd::Options {
        files: vec![("policy.toml".to_owned(), policies)],
        ..Default::default()
    };
    let engine = Containerd::start_with(containerd::Version::V1_6, Runtime::Cofferdam, &options)?;
    let script = "cat /proc/self/attr/current; echo x >/tmp/file && echo written; true";
    let run = |flags: &[&str], id: &str| {
        let flags = [&["--rm"], flags].concat();
        let done = engine.ctr_run(&flags, id, &["sh", "-c", script]).ok()?;
        Ok::<_, Error>(done.stdout)
    };
    let chosen = run(&["--apparmor-profile", "lab-named"], "named")?;
    assert_eq!(chosen, "lab-named (enforce)\n");
    // Another one is made where none is named, and is gone afterwards.
    let made = run(&[], "made")?;
    assert!(
        made.starts_with("cofferdam-") && made.ends_with("(enforce)\nwritten\n"),
        "{made}"
    );
    let name = made.split(' ').next().unwrap_or_default();
    assert!(!is_loaded(name)?);
    // Under documents the streams are kept, which are FIFOs of containerd's, those of an exec too.
    let flags = ["--rm", "--annotation", "cofferdam.dev/policy=rules"];
    let bound = "echo in; echo x >/tmp/file; echo err >&2";
    let done = engine
        .ctr_run(&flags, "bound", &["sh", "-c", bound])
        .run()?;
    assert_eq!(done.stdout, "in\n", "{done:?}");
    assert!(
        done.stderr.contains("denied") && done.stderr.contains("err\n"),
        "{done:?}"
    );
    let flags = ["--annotation", "cofferdam.dev/policy=rules"];
    let running = engine.detached(&flags, "joined", &["sleep", "1000"])?;
    let done = engine.exec("joined", &["sh", "-c", "cat /proc/self/attr/current"])?;
    assert!(done.stdout.starts_with("cofferdam-"), "{done:?}");
    running.remove()?;
    // One that is not loaded is an error.
    let flags = ["--rm", "--apparmor-profile", "lab-absent"];
    let done = engine.ctr_run(&flags, "absent", &["true"]).run()?;
    assert!(!done.status.success(), "{done:?}");
    Ok(())
}
