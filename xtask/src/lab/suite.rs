use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    Init, Lab,
    artifacts::Artifacts,
    job::{Disk, Job},
    machine::Machine,
    steps::{ALL, Step},
    test_cache,
};
use crate::error::{At, Error, Result};

/// How long a guest may take for its quick steps, and for all of them.
const QUICK_LIMIT: Duration = Duration::from_secs(35 * 60);
const WHOLE_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// How often a guest is started again because it stood still.
const RESTARTS: u32 = 1;

/// Which steps are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// A part of their targets' names.
    pub name: &'a str,
    /// The slow ones too.
    pub all: bool,
}

/// Runs the wanted steps, each guest's in one boot of it, both guests at the same time. Returns how many
/// failed; progress goes to standard error, and all that was printed to `target/TRIPLE/lab/GUEST.log`.
///
/// # Errors
/// If the lab, the build or a guest fails.
pub fn run(wanted: Wanted<'_>, target: &Path) -> Result<usize> {
    let steps: Vec<Step> = ALL
        .iter()
        .filter(|step| step.is_called(wanted.name) && (step.quick || wanted.all))
        .copied()
        .collect();
    if steps.is_empty() {
        return Err(Error::Usage(format!("no step is called {:?}", wanted.name)));
    }
    let lab = Lab::fetch()?;
    let artifacts = Artifacts::build(&steps, wanted.name.is_empty())?;
    let disk = job(&artifacts, &steps, target)?.disk()?;
    let logs = target.join("lab");
    fs::create_dir_all(&logs).at("make", &logs)?;
    let limit = if wanted.all { WHOLE_LIMIT } else { QUICK_LIMIT };
    let deadline = Instant::now() + limit;
    let guest = |init| {
        let steps: Vec<_> = steps.iter().filter(|step| step.init == init).collect();
        if steps.is_empty() {
            return Ok(0);
        }
        let guest = Guest {
            init,
            lab: &lab,
            disk: &disk,
            artifacts: &artifacts,
            log: logs.join(format!("{init}.log")),
            target,
            deadline,
        };
        guest.run(&steps)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| guest(Init::Systemd));
        let ended = [
            guest(Init::Script),
            other.join().unwrap_or(Err(Error::Panicked)),
        ];
        ended.into_iter().sum()
    })
}

/// The steps' tests and every program, below `/job/target` as they lie in the target directory.
fn job(artifacts: &Artifacts, steps: &[Step], target: &Path) -> Result<Job> {
    let this = std::env::current_exe().at("find", "this executable")?;
    let job = Job::new(&this)?;
    for name in super::PROGRAMS {
        let built = target.join("release").join(name);
        if !built.exists() {
            return Err(Error::NotBuilt { program: name });
        }
        job.add(&built, &format!("target/release/{name}"))?;
    }
    job.link("bin", "target/release")?;
    let tests: Result<Vec<_>> = steps.iter().map(|step| artifacts.test(step)).collect();
    for path in tests?.into_iter().chain(artifacts.programs()) {
        if let Ok(below) = path.strip_prefix(target) {
            job.add(path, &format!("target/{}", below.display()))?;
        }
    }
    let read: BTreeSet<_> = steps.iter().flat_map(|step| step.cache).collect();
    let read = read.into_iter().map(|below| test_cache().join(below));
    // What is not there the test will miss, and say how to get.
    let read = read.filter(|path| path.exists());
    for kept in cached()?.into_iter().chain(read) {
        let below = kept.strip_prefix(test_cache()).unwrap_or(&kept);
        job.add_tree(&kept, &format!("cache/{}", below.display()))?;
    }
    Ok(job)
}

/// What is costly to make and may be there: unpacked engines, bindfs, the kernel of microVMs, and of the
/// tests' images the last of each name. The guest makes the images that it lacks, as this machine would.
fn cached() -> Result<Vec<PathBuf>> {
    let list = |kind: &str| -> Result<Vec<PathBuf>> {
        let dir = test_cache().join(kind);
        match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => {
                let entries: io::Result<Vec<_>> =
                    other.and_then(|all| all.map(|entry| Ok(entry?.path())).collect());
                entries.at("list", &dir)
            }
        }
    };
    let mut last = BTreeMap::new();
    for image in list("images")? {
        let made = fs::metadata(&image)
            .and_then(|meta| meta.modified())
            .at("look at", &image)?;
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        // NAME-HASH; others are being made just now.
        if let Some((name, _)) = name
            .rsplit_once('-')
            .filter(|(name, _)| !name.starts_with('.'))
        {
            let known = last.entry(name.to_owned()).or_insert((made, image.clone()));
            if known.0 < made {
                *known = (made, image);
            }
        }
    }
    let mut found = list("engines")?;
    found.extend(
        list("roots")?
            .into_iter()
            .filter(|root| root.ends_with("bindfs")),
    );
    found.extend(guest_kernel()?);
    found.extend(last.into_values().map(|(_, image)| image));
    Ok(found)
}

/// Where the kernel of microVMs is, of the recipe as it is now; none where it is not built.
fn guest_kernel() -> Result<Option<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-guest");
    let found = Command::new(&script)
        .arg("--find")
        .output()
        .at("run", &script)?;
    let text = String::from_utf8_lossy(&found.stdout);
    let place = text.lines().last().map(PathBuf::from);
    Ok(place.filter(|_| found.status.success()))
}

/// One guest's part.
struct Guest<'a> {
    init: Init,
    lab: &'a Lab,
    disk: &'a Disk,
    artifacts: &'a Artifacts,
    log: PathBuf,
    target: &'a Path,
    deadline: Instant,
}

impl Guest<'_> {
    fn run(&self, steps: &[&Step]) -> Result<usize> {
        let mut log = fs::File::create(&self.log).at("make", &self.log)?;
        let mut machine = self.boot()?;
        let (mut failed, mut restarts) = (0, 0);
        for step in steps {
            let started = Instant::now();
            let mut before = machine.processor_time();
            let printed = loop {
                match self.step(&mut machine, step, &mut log) {
                    // The guest stands still, or has ended: nothing is known of the step.
                    Err(error @ Error::Lost { .. }) if restarts < RESTARTS => {
                        restarts += 1;
                        self.say(&format!(
                            "{}: {error}\nThe guest is started once more.",
                            step.target
                        ));
                        machine = self.boot()?;
                        before = Duration::ZERO;
                    }
                    other => break other?,
                }
            };
            let used = machine.processor_time().saturating_sub(before);
            let took = format!(
                "{} s, {} s of processor time",
                started.elapsed().as_secs(),
                used.as_secs()
            );
            let what = format!("{} {}", step.target, step.args.join(" "));
            match printed.verdict() {
                Ok(count) => self.say(&format!("{what}: {count} tests passed ({took})")),
                Err(why) => {
                    failed += 1;
                    let end = printed.end(LAST_LINES);
                    let all = self.log.display();
                    self.say(&format!(
                        "{what}: FAILED, {why} ({took}); the end of what it printed, all of it is in \
                         {all}:\n{end}"
                    ));
                }
            }
        }
        Ok(failed)
    }

    fn boot(&self) -> Result<Machine> {
        let started = Instant::now();
        let mut machine = Machine::boot(self.lab, self.init, self.disk)?;
        machine.link_target(self.target)?;
        self.say(&format!("ready ({:.0?})", started.elapsed()));
        Ok(machine)
    }

    /// Everything goes to the log as it comes.
    fn step(&self, machine: &mut Machine, step: &Step, log: &mut fs::File) -> Result<Printed> {
        let before = log.metadata().at("look at", &self.log)?.len();
        let test = self.artifacts.test(step)?;
        let mut argv = vec![test.display().to_string()];
        argv.extend(step.args.iter().map(|&arg| arg.to_owned()));
        // In order: what waits for time suffers when others want the one processor.
        argv.extend(["--nocapture", "--test-threads=1"].map(str::to_owned));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = step.limit.min(left).max(Duration::from_secs(1));
        let mut copy = log.try_clone().at("write", &self.log)?;
        let status = machine.run(&argv, limit, log, &mut copy)?;
        let text = fs::read(&self.log).at("read", &self.log)?;
        let before = usize::try_from(before).unwrap_or_default();
        Ok(Printed {
            status,
            limit,
            text: text.get(before..).unwrap_or_default().to_vec(),
        })
    }

    #[expect(clippy::print_stderr, reason = "this is a test's report")]
    fn say(&self, what: &str) {
        eprintln!("lab ({}): {what}", self.init);
    }
}

/// What a step's test binary did.
struct Printed {
    status: i32,
    limit: Duration,
    text: Vec<u8>,
}

/// How much of a failed step's output is shown.
const LAST_LINES: usize = 120;

impl Printed {
    /// How many tests passed, or why that is not all. Nothing may be skipped in the guest.
    fn verdict(&self) -> std::result::Result<u32, String> {
        match self.status {
            0 => {}
            // What `timeout` says of what it killed.
            137 => return Err(format!("killed after {} s", self.limit.as_secs())),
            status => return Err(format!("status {status}")),
        }
        let text = String::from_utf8_lossy(&self.text);
        if let Some(line) = text.lines().find(|line| line.contains("SKIPPED")) {
            return Err(format!("something was skipped: {line}"));
        }
        let counted = text.lines().find_map(|line| {
            let rest = line.strip_prefix("test result: ok. ")?;
            rest.split_once(" passed")?.0.parse().ok()
        });
        match counted {
            Some(0) | None => Err("no test ran".to_owned()),
            Some(count) => Ok(count),
        }
    }

    /// The last lines of it.
    fn end(&self, count: usize) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_ran_count() {
        let result = "test result: ok. 3 passed; 0 failed; 0 ignored\n";
        for (status, text, expected) in [
            (0, result.to_owned(), Some(3)),
            (101, result.to_owned(), None),
            (0, result.replace('3', "0"), None),
            (0, String::new(), None),
            (0, format!("SKIPPED: needs root\n{result}"), None),
        ] {
            let printed = Printed {
                status,
                limit: Duration::from_secs(60),
                text: text.clone().into_bytes(),
            };
            assert_eq!(printed.verdict().ok(), expected, "{status} {text}");
        }
    }
}
