use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use super::{
    Init, Lab,
    artifacts::Artifacts,
    job::{Disk, Job},
    machine::Machine,
    steps::{ALL, Step},
};
use crate::error::{At, Error, Result};

/// Runs the steps whose target's name contains `wanted`, each guest's in one boot of it, both guests at
/// the same time. Returns how many failed; progress goes to standard error, and all that was printed to
/// `target/lab/GUEST.log`.
///
/// # Errors
/// If the lab, the build or a guest fails.
pub fn run(wanted: &str, target: &Path) -> Result<usize> {
    let steps: Vec<Step> = ALL
        .iter()
        .filter(|step| step.target.contains(wanted))
        .copied()
        .collect();
    if steps.is_empty() {
        return Err(Error::Usage(format!("no step is called {wanted:?}")));
    }
    let lab = Lab::fetch()?;
    let artifacts = Artifacts::build(&steps, wanted.is_empty())?;
    let disk = job(&artifacts, &steps, target)?.disk()?;
    let logs = target.join("lab");
    fs::create_dir_all(&logs).at("make", &logs)?;
    let guest = |init| {
        let steps: Vec<_> = steps.iter().filter(|step| step.init == init).collect();
        if steps.is_empty() {
            return Ok(0);
        }
        let guest = Guest {
            init,
            log: logs.join(format!("{init}.log")),
            target,
        };
        guest.run(&lab, &disk, &artifacts, &steps)
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
    Ok(job)
}

/// One guest's part.
struct Guest<'a> {
    init: Init,
    log: PathBuf,
    target: &'a Path,
}

impl Guest<'_> {
    fn run(&self, lab: &Lab, disk: &Disk, artifacts: &Artifacts, steps: &[&Step]) -> Result<usize> {
        let mut log = fs::File::create(&self.log).at("make", &self.log)?;
        let started = Instant::now();
        let mut machine = Machine::boot(lab, self.init, disk)?;
        machine.link_target(self.target)?;
        self.say(&format!("ready ({:.0?})", started.elapsed()));
        let mut failed = 0;
        for step in steps {
            let started = Instant::now();
            let printed = self.step(&mut machine, artifacts.test(step)?, step, &mut log)?;
            let took = started.elapsed().as_secs();
            let what = format!("{} {}", step.target, step.args.join(" "));
            match printed.verdict() {
                Ok(count) => self.say(&format!("{what}: {count} tests passed ({took} s)")),
                Err(why) => {
                    failed += 1;
                    let text = String::from_utf8_lossy(&printed.text);
                    self.say(&format!("{what}: FAILED, {why} ({took} s)\n{text}"));
                }
            }
        }
        Ok(failed)
    }

    /// Everything goes to the log as it comes.
    fn step(
        &self,
        machine: &mut Machine,
        test: &Path,
        step: &Step,
        log: &mut fs::File,
    ) -> Result<Printed> {
        let before = log.metadata().at("look at", &self.log)?.len();
        let mut argv = vec![test.display().to_string()];
        argv.extend(step.args.iter().map(|&arg| arg.to_owned()));
        // In order: what waits for time suffers when others want the one processor.
        argv.extend(["--nocapture", "--test-threads=1"].map(str::to_owned));
        let mut copy = log.try_clone().at("write", &self.log)?;
        let status = machine.run(&argv, step.limit, log, &mut copy)?;
        let text = fs::read(&self.log).at("read", &self.log)?;
        let before = usize::try_from(before).unwrap_or_default();
        Ok(Printed {
            status,
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
    text: Vec<u8>,
}

impl Printed {
    /// How many tests passed, or why that is not all. Nothing may be skipped in the guest.
    fn verdict(&self) -> std::result::Result<u32, String> {
        if self.status != 0 {
            return Err(format!("status {}", self.status));
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
                text: text.clone().into_bytes(),
            };
            assert_eq!(printed.verdict().ok(), expected, "{status} {text}");
        }
    }
}
