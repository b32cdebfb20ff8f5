//! Real images under `baseline`, with runc as the control: the same image and the same load, under the
//! same containerd. What they are made of and what they do is said by the scripts in
//! `integration/compat`; `scripts/fetch-images` builds them.

/// The page for the documentation.
mod page;
/// One run of one subject.
mod run;
/// What is run.
mod subjects;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub use page::markdown;
pub use run::Confinement;
pub use subjects::{Otherwise, SUBJECTS, Subject};

use crate::{
    binaries::{Runtime, cache_dir},
    cases::{Engine as _, tail},
    containerd::{Containerd, Options, Version},
    error::{At, Error, Result},
};

/// How many images are at work at a time.
const AT_ONCE: usize = 2;

/// The policies besides `baseline` that a subject can name.
const POLICIES: &str = r#"
[annotations]
allow = ["cofferdam.dev/policy"]

[policy.gains]
no_new_privileges = false

[policy.shared-ids]
user_namespace = "engine"

[policy.raw]
[policy.raw.capabilities]
bounding = [
  "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
  "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]
"#;

/// How a subject did.
#[derive(Debug)]
pub struct Outcome {
    /// What was run.
    pub subject: &'static Subject,
    /// By what.
    pub under: Confinement,
    /// What went wrong.
    pub failed: Option<String>,
    /// The exit status of a server that was stopped.
    pub ended_with: Option<i32>,
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Images that are built and run quickly: `make test`.
    Light,
    /// All: `make compat`.
    All,
}

/// A containerd with both shims, to which the images are imported one after the other.
#[derive(Debug)]
pub struct Suite {
    engine: Containerd,
    /// `ctr` uses one name for what two imports at a time write.
    importing: Mutex<()>,
}

impl Suite {
    /// Starts containerd and imports the base that the images share.
    ///
    /// # Errors
    /// If the images have not been built, or containerd does not come up.
    pub fn start() -> Result<Self> {
        let base = archive("base")?;
        let options = Options {
            files: vec![("policy.toml".to_owned(), POLICIES.to_owned())],
            ..Options::default()
        };
        let engine = Containerd::start_with(Version::V1_6, Runtime::Cofferdam, &options)?;
        let scripts = engine.scratch("load");
        std::fs::create_dir(&scripts).at("make", &scripts)?;
        let hosts = engine.scratch("hosts");
        let name = nix::unistd::gethostname().unwrap_or_default();
        let text = format!("127.0.0.1 localhost {}\n", name.display());
        std::fs::write(&hosts, text).at("write", hosts)?;
        let source = scripts_dir();
        for file in std::fs::read_dir(&source).at("list", &source)? {
            let file = file.at("list", &source)?.path();
            let copy = scripts.join(file.file_name().unwrap_or_default());
            std::fs::copy(&file, copy).at("copy", file)?;
        }
        let suite = Self {
            engine,
            importing: Mutex::new(()),
        };
        suite.import(base)?;
        Ok(suite)
    }

    /// Runs every subject whose name or image contains `wanted` under everything that it is to run
    /// under.
    ///
    /// # Errors
    /// If the script of a subject cannot be read.
    pub fn run(&self, wanted: &str, extent: Extent) -> Result<Vec<Outcome>> {
        let mut images: Vec<(&str, Vec<&'static Subject>)> = Vec::new();
        for subject in SUBJECTS.iter().filter(|subject| subject.matches(wanted)) {
            if extent == Extent::Light && subject.is_heavy()? {
                continue;
            }
            match images.iter_mut().find(|(image, _)| *image == subject.image) {
                Some((_, subjects)) => subjects.push(subject),
                None => images.push((subject.image, vec![subject])),
            }
        }
        let total = images.len();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut outcomes = Vec::new();
            while let Some((image, subjects)) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                outcomes.extend(self.judge(image, subjects));
            }
            outcomes
        };
        let mut outcomes: Vec<Outcome> = thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE.min(total)).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .filter_map(|worker| worker.join().ok())
                .flatten()
                .collect()
        });
        outcomes.sort_by_key(|outcome| {
            let place = SUBJECTS.iter().position(|s| s.name == outcome.subject.name);
            (place, outcome.under)
        });
        compare_statuses(&mut outcomes);
        Ok(outcomes)
    }

    /// Everything that runs from one image.
    #[expect(clippy::print_stderr, reason = "this is a test's report")]
    fn judge(&self, image: &str, subjects: &[&'static Subject]) -> Vec<Outcome> {
        let imported = archive(image).and_then(|archive| self.import(archive));
        let imported = imported.map_err(|error| error.chain());
        let mut outcomes = Vec::new();
        for subject in subjects {
            for under in subject.confinements() {
                let started = std::time::Instant::now();
                let run = || match &imported {
                    Ok(()) => run::run(&self.engine, subject, under).map_err(|e| e.chain()),
                    Err(why) => Err(why.clone()),
                };
                let outcome = catch_unwind(AssertUnwindSafe(run))
                    .unwrap_or_else(|_| Err("panicked; the message is above".to_owned()));
                let said = if outcome.is_ok() { "ok" } else { "FAILED" };
                let seconds = started.elapsed().as_secs_f32();
                eprintln!("{} under {under}: {said} ({seconds:.1} s)", subject.name);
                let (ended_with, failed) = match outcome {
                    Ok(status) => (status, None),
                    Err(why) => {
                        eprintln!("{why}");
                        eprintln!("--- containerd's log\n{}", tail(&self.engine.log(), 10));
                        (None, Some(why))
                    }
                };
                outcomes.push(Outcome {
                    subject,
                    under,
                    failed,
                    ended_with,
                });
            }
        }
        outcomes
    }

    fn import(&self, archive: PathBuf) -> Result<()> {
        let _alone = self.importing.lock();
        let import = self.engine.ctr(["images", "import"]).arg(archive);
        import.limit(Duration::from_secs(120)).ok().map(drop)
    }
}

/// A server that is stopped must end under every confinement as it does under runc.
fn compare_statuses(outcomes: &mut [Outcome]) {
    let control: BTreeMap<&str, Option<i32>> = outcomes
        .iter()
        .filter(|outcome| outcome.under == Confinement::Runc && outcome.failed.is_none())
        .map(|outcome| (outcome.subject.name, outcome.ended_with))
        .collect();
    for outcome in outcomes.iter_mut().filter(|o| o.failed.is_none()) {
        if let Some(expected) = control.get(outcome.subject.name)
            && *expected != outcome.ended_with
        {
            let ended = outcome.ended_with;
            outcome.failed = Some(format!(
                "ended with {ended:?}, under runc with {expected:?}"
            ));
        }
    }
}

/// Fails if anything did.
///
/// # Errors
/// [`Error::Cases`] with the subjects and what they ran under.
pub fn verdict(outcomes: &[Outcome]) -> Result<()> {
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.failed.is_some())
        .map(|outcome| format!("{} under {}", outcome.subject.name, outcome.under))
        .collect();
    if failed.is_empty() && !outcomes.is_empty() {
        return Ok(());
    }
    let total = outcomes.len();
    Err(Error::Cases { failed, total })
}

/// Where the scripts of the images are.
fn scripts_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// An image that `scripts/fetch-images` has built.
fn archive(image: &str) -> Result<PathBuf> {
    let path = cache_dir()
        .join("compatibility")
        .join(image)
        .join("oci.tar");
    if path.exists() {
        return Ok(path);
    }
    Err(Error::Missing {
        what: format!("the image of {image}"),
        remedy: "run scripts/fetch-images",
    })
}
