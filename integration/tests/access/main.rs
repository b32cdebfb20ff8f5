//! What was done with files is recorded, and bounds the next run by Landlock: the same load passes, and
//! what it never did fails.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_integration::{
    binaries::build_dir,
    bundle::Bundle,
    command::{Cmd, Done},
    error::{At, Error, Result},
    gate,
    image::Image,
    loads::stage::rootfs,
};
use serde_json::Value;

use kernel::{PORTS, assert_refused, lacking};

/// Engines.
mod engines;
/// The kernel's Landlock.
mod kernel;

/// Reads, writes, makes, moves, removes, lists, locks, links, talks TCP; can be run again.
const LOAD: &str = "set -e
  cd /tmp; echo one > first; cat first ./first > second; mv second third; rm third
  mkdir -p /var/data/deep; echo two > /var/data/deep/file; mv /var/data/deep/file /tmp/moved
  cat moved >> first; rm moved first; rmdir /var/data/deep; rmdir /var/data
  cat /etc/passwd > /dev/null; ls /etc > /dev/null; ln -s first link; readlink link; rm link
  echo three > /tmp/run.$$; rm /tmp/run.$$; cat /proc/self/status > /dev/null
  timeout 1 nc -l -p 8123 < /dev/null || true; nc -w 1 127.0.0.1 8123 < /dev/null || true
  echo passed";

/// What the load never did, each alone.
const ATTACKS: &[&str] = &[
    "cat /etc/group",
    "echo x > /etc/passwd",
    "echo x > /bin/new",
    "ls /bin",
    CONNECT,
    "rm /etc/group",
    "mkdir /srv",
];

const CONNECT: &str = "nc -w 1 127.0.0.1 8124";

struct Place {
    directory: tempfile::TempDir,
    policy: PathBuf,
    document: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let policy = directory.path().join("policy.toml");
        let document = directory.path().join("access.json");
        let text = policy_of(&document);
        fs::write(&policy, text).at("write", &policy)?;
        Ok(Self {
            directory,
            policy,
            document,
        })
    }

    fn bundle(&self, name: &str, script: &str) -> Result<Bundle> {
        let path = self.directory.path().join(name);
        let bundle = Bundle::ordinary(&path, &Image::busybox()?, &["sh", "-c", script])?;
        // A name that is made in the root would be the root's own right.
        let var = bundle.rootfs().join("var");
        fs::create_dir_all(&var).at("make", var)?;
        let group = bundle.rootfs().join("etc/group");
        fs::write(&group, "root:x:0:\n").at("write", group)?;
        bundle.save()?;
        Ok(bundle)
    }

    fn cofferdam(&self) -> Result<Cmd> {
        Ok(Cmd::new(build_dir()?.join("cofferdam"))
            .env("COFFERDAM_POLICY_FILE", &self.policy)
            .arg("--root")
            .arg(self.directory.path().join("state")))
    }

    fn run(&self, policy: &str, name: &str, script: &str) -> Result<Done> {
        let bundle = self.bundle(name, script)?;
        self.cofferdam()?
            .args(["--policy", policy, "run", "--bundle"])
            .arg(bundle.dir())
            .arg(format!("access-{name}-{}", std::process::id()))
            .run()
    }

    /// The policy that bounds here. Where the kernel's Landlock lacks something, the one that wants all of it is
    /// seen to start nothing, and it is the other, whose report says what is not bound.
    fn bounding(&self, lacks: &[&str]) -> Result<&'static str> {
        if lacks.is_empty() {
            return Ok("bound");
        }
        let refused = self.run("bound", "refused", "echo started")?;
        assert!(!refused.stdout.contains("started"), "{refused:?}");
        assert_refused(&refused, lacks);
        let bundle = self.bundle("explained", "true")?;
        let explain = self.cofferdam()?.args(["--policy", "possible", "policy"]);
        let explain = explain.args(["explain", "--format", "json", "--bundle"]);
        let report = explain.arg(bundle.dir()).ok()?.json()?;
        let findings = report["findings"].as_array().into_iter().flatten();
        let unenforced: Vec<_> = findings
            .filter(|f| f["rule"] == "landlock" && f["action"] == "unenforced")
            .filter_map(|f| f["asked"].as_str()?.strip_prefix("a bound on "))
            .collect();
        let [mut said, mut wanted] = [unenforced, lacks.to_vec()];
        said.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(said, wanted, "{report:#}");
        Ok("possible")
    }

    fn record(&self, script: &str) -> Result<Value> {
        let bundle = self.bundle("recorded", script)?;
        let record = self
            .cofferdam()?
            .args(["--policy", "baseline", "profile", "record"]);
        let done = record
            .args(["--emit", "access", "--bundle"])
            .arg(bundle.dir())
            .arg("--output")
            .arg(&self.document)
            .ok()?;
        assert!(done.stdout.contains("passed"), "{done:?}");
        parsed(fs::read_to_string(&self.document).at("read", &self.document)?)
    }
}

fn parsed(text: String) -> Result<Value> {
    serde_json::from_str(&text).map_err(|source| Error::Json {
        what: "an access document".to_owned(),
        text,
        source,
    })
}

fn policy_of(document: &Path) -> String {
    format!(
        "[policy.bound.landlock]\ndocuments = [\"{}\"]\n\
         [policy.possible]\nextends = \"bound\"\nbest_effort = [\"apparmor\", \"landlock\"]\n",
        document.display()
    )
}

/// The rights that a document gives exactly at `path`.
fn rights<'d>(document: &'d Value, path: &str) -> Vec<&'d str> {
    let files = document["files"].as_array();
    let rules = files.into_iter().flatten().filter(|r| r["path"] == path);
    let rights = rules.filter_map(|rule| rule["rights"].as_array());
    rights.flatten().filter_map(Value::as_str).collect()
}

#[test]
fn what_was_recorded_bounds_the_same_load_and_lets_it_pass() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let place = Place::new()?;
    let document = place.record(LOAD)?;
    assert_eq!(rights(&document, "/etc/passwd"), ["read"], "{document:#}");
    assert_eq!(rights(&document, "/etc"), ["list"], "{document:#}");
    assert!(rights(&document, "/bin/busybox").contains(&"execute"));
    assert_eq!(document["network"]["tcp_bind"], serde_json::json!([8123]));
    let lacks = lacking(&document)?;
    let policy = place.bounding(&lacks)?;
    let passed = place.run(policy, "same", LOAD)?;
    assert!(passed.stdout.contains("passed"), "{passed:?}\n{document:#}");
    // Nor was anything denied whose failure the load does not mind.
    assert!(!passed.stderr.contains("denied"), "{passed:?}");
    for (number, attack) in ATTACKS.iter().enumerate() {
        let script = format!("{attack} && echo worked");
        let free = place.run("baseline", &format!("free-{number}"), &script)?;
        // Nobody listens there: a refusal is an answer.
        let refused = free.stderr.contains("refused");
        let works = free.stdout.contains("worked") || refused;
        assert!(works, "control of {attack}: {free:?}");
        let bound = place.run(policy, &format!("bound-{number}"), &script)?;
        if *attack == CONNECT && lacks.contains(&PORTS) {
            assert!(bound.stderr.contains("refused"), "{bound:?}");
            continue;
        }
        assert!(!bound.stdout.contains("worked"), "{attack}: {bound:?}");
        assert!(bound.stderr.contains("ermission denied"), "{bound:?}");
    }
    Ok(())
}

/// What the files of a program tell is enough to start it, its libraries and its loader, and for nothing
/// else.
#[test]
fn what_was_generated_starts_the_program_and_nothing_else() -> Result<()> {
    let Some(root) = gate::root().and(gate::present(rootfs("git"))?) else {
        return Ok(());
    };
    let root = fs::canonicalize(&root).at("find", root)?;
    let place = Place::new()?;
    let generate = place.cofferdam()?.args(["profile", "generate", "--rootfs"]);
    let cache = place.directory.path().join("summaries");
    let generate = generate.arg(&root).arg("--access").arg(&place.document);
    let generate = generate.arg("--cache").arg(cache).arg("--output");
    let made = generate
        .arg(place.directory.path().join("seccomp.json"))
        .args(["--", "/usr/bin/git", "--version"])
        .run()?;
    // 1: git starts what its configuration names, which is said.
    assert!(matches!(made.status.code(), Some(0 | 1)), "{made:?}");
    let text = fs::read_to_string(&place.document).at("read", &place.document)?;
    let document = parsed(text)?;
    assert_eq!(document["confidence"], "low", "{document:#}");
    let own = rights(&document, "/usr/bin/git");
    assert!(own.contains(&"execute"), "{document:#}");
    let policy = place.bounding(&lacking(&document)?)?;
    let run = |policy: &str, name: &str, args: &[&str]| {
        let path = place.directory.path().join(name);
        let mut bundle = Bundle::without_rootfs(&path, args)?;
        bundle.spec["root"] = serde_json::json!({"path": root, "readonly": true});
        bundle.save()?;
        let id = format!("generated-{name}-{}", std::process::id());
        let cofferdam = place.cofferdam()?.args(["--policy", policy, "run"]);
        cofferdam.arg("--bundle").arg(bundle.dir()).arg(id).run()
    };
    let version = run(policy, "version", &["/usr/bin/git", "--version"])?;
    assert!(version.stdout.starts_with("git version"), "{version:?}");
    let read = ["/usr/bin/git", "hash-object", "/etc/debian_version"];
    let free = run("baseline", "free", &read)?;
    assert_eq!(free.stdout.trim().len(), 40, "control: {free:?}");
    let bound = run(policy, "read", &read)?;
    assert!(bound.stderr.contains("ermission denied"), "{bound:?}");
    let other = ["/usr/bin/factor", "6"];
    let free = run("baseline", "free-other", &other)?;
    assert!(free.stdout.contains("2 3"), "control: {free:?}");
    let bound = run(policy, "other", &other)?;
    assert!(!bound.stdout.contains("2 3"), "{bound:?}");
    Ok(())
}

/// A document that somebody else could have written starts nothing.
#[test]
fn a_document_that_is_not_roots_own_is_refused() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let place = Place::new()?;
    let missing = place.run("bound", "missing", "echo started")?;
    assert!(missing.stderr.contains("rule landlock"), "{missing:?}");
    fs::write(&place.document, "{\"version\": 1}").at("write", &place.document)?;
    std::os::unix::fs::chown(&place.document, Some(1000), None).at("give", &place.document)?;
    let foreign = place.run("bound", "foreign", "echo started")?;
    assert!(foreign.stderr.contains("chown"), "{foreign:?}");
    for done in [missing, foreign] {
        assert!(!done.stdout.contains("started"), "{done:?}");
    }
    Ok(())
}
