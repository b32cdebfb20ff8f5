use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::error::{At, Error, Result};

/// A command with a time limit.
#[derive(Debug, Clone)]
pub struct Cmd {
    /// What runs the command elsewhere, `nsenter` for instance. The time limit is put after it,
    /// because a killed nsenter would leave the command behind.
    prefix: Vec<OsString>,
    argv: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    limit: Duration,
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Cmd {
    /// A command that is given a minute.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            prefix: Vec::new(),
            argv: vec![program.as_ref().to_owned()],
            envs: Vec::new(),
            stdin: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// Runs the command through another, which gets it as its last arguments.
    #[must_use]
    pub fn through<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, prefix: I) -> Self {
        self.prefix = prefix
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the command reads from standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The time after which the command is killed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command on a pseudo-terminal of its own (with script(1)); what it prints all comes as
    /// standard output, with CR LF.
    #[must_use]
    pub fn on_terminal(mut self) -> Self {
        let words = self.prefix.drain(..).chain(self.argv).map(|word| {
            let word = word.to_string_lossy().replace('\'', r"'\''");
            format!("'{word}'")
        });
        let line = words.collect::<Vec<_>>().join(" ");
        self.argv = [
            "script",
            "--quiet",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ]
        .map(OsString::from)
        .to_vec();
        self
    }

    fn command(&self) -> Command {
        let limit = patient(self.limit).as_secs_f32().to_string();
        let timeout = ["timeout", "--foreground", "-k", "2", &limit].map(OsString::from);
        let words = self.prefix.iter().chain(&timeout).chain(&self.argv);
        let words: Vec<_> = words.collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .envs(self.envs.iter().map(|(key, value)| (key, value)));
        command
    }

    /// The command line, without what runs it elsewhere. Words are not quoted.
    #[must_use]
    pub fn line(&self) -> String {
        let words: Vec<_> = self
            .argv
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    /// Runs the command to its end, whatever that is.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(self) -> Result<Done> {
        let line = self.line();
        let started = Instant::now();
        let spawned = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let failed = |source| Error::Spawn {
            program: line.clone(),
            source,
        };
        let mut child = spawned.map_err(failed)?;
        let mut pipe = child.stdin.take();
        let input = self.stdin;
        let feeder = thread::spawn(move || {
            if let Some(pipe) = pipe.as_mut() {
                // The reader may close its end early: that is for the test to judge.
                let _ = pipe.write_all(&input);
            }
        });
        let output = child.wait_with_output().map_err(failed)?;
        let _ = feeder.join();
        Ok(Done {
            command: line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
        })
    }

    /// Runs the command, which must succeed.
    ///
    /// # Errors
    /// If it cannot be started or ends with another status than 0.
    pub fn ok(self) -> Result<Done> {
        self.run()?.ok()
    }

    /// Starts the command in the background, its output going to a file; the command is killed when
    /// the job is dropped.
    ///
    /// # Errors
    /// If the file cannot be made or the command not started.
    pub fn background(self, output: &Path) -> Result<Job> {
        let file = File::create(output).at("make", output)?;
        let copy = file.try_clone().at("make", output)?;
        let words: Vec<_> = self.prefix.iter().chain(&self.argv).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .envs(self.envs.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(copy)
            // A group of its own, so that what nsenter has started ends with it.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn {
                program: self.line(),
                source,
            })?;
        Ok(Job {
            child,
            output: output.to_owned(),
        })
    }
}

impl Done {
    /// Fails unless the command succeeded.
    ///
    /// # Errors
    /// [`Error::Command`] with all it printed.
    pub fn ok(self) -> Result<Self> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(self.into())
        }
    }

    /// The exit code; 128 + N when signal N ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).map_err(|source| Error::Json {
            what: self.command.clone(),
            text: self.stdout.clone(),
            source,
        })
    }
}

impl From<Done> for Error {
    fn from(done: Done) -> Self {
        Self::Command {
            command: done.command,
            status: done.status,
            stdout: done.stdout,
            stderr: done.stderr,
        }
    }
}

/// A command in the background.
#[derive(Debug)]
pub struct Job {
    child: Child,
    output: std::path::PathBuf,
}

impl Job {
    /// What it has printed so far, standard error included.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its process id, as this process sees it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// If it has closed its standard input.
    pub fn send(&mut self, text: &str) -> Result<()> {
        match self.child.stdin.as_mut() {
            Some(pipe) => pipe.write_all(text.as_bytes()).at("write to", &self.output),
            None => Ok(()),
        }
    }

    /// Sends the text, waits until the job has printed `answer`, closes standard input, waits for the
    /// end. This is for clients that forget an end of input which comes before the container runs, as
    /// `ctr` does.
    ///
    /// # Errors
    /// [`Error::Timeout`] with its output if the answer or the end does not come.
    pub fn converse(&mut self, text: &str, answer: &str) -> Result<ExitStatus> {
        self.send(text)?;
        self.wait_for(answer)?;
        self.close_stdin();
        self.wait(Duration::from_secs(20))
    }

    /// Waits until the job has printed a text.
    ///
    /// # Errors
    /// [`Error::Timeout`] with its output.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        eventually(
            &format!("{text:?} is printed"),
            Duration::from_secs(20),
            || {
                let output = self.output();
                if output.contains(text) {
                    Ok(())
                } else {
                    Err(output)
                }
            },
        )
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] with its output if it does not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let mut status = None;
        eventually("the job ends", within, || {
            status = self.child.try_wait().ok().flatten();
            match status {
                Some(_) => Ok(()),
                None => Err(self.output()),
            }
        })?;
        status.ok_or_else(|| Error::Missing {
            what: "the job's status".to_owned(),
            remedy: "none",
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A time limit on this machine: longer by the factor `COFFERDAM_TEST_PATIENCE`, which the lab sets where
/// its guest is emulated.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var("COFFERDAM_TEST_PATIENCE").ok();
    let factor = factor.and_then(|text| text.parse().ok());
    limit.saturating_mul(factor.unwrap_or(1))
}

/// Asks again and again until the answer is yes; limits are [`patient`].
///
/// # Errors
/// [`Error::Timeout`] with the last reason why not.
pub fn eventually(
    what: &str,
    within: Duration,
    mut is_so: impl FnMut() -> std::result::Result<(), String>,
) -> Result<()> {
    let within = patient(within);
    let deadline = Instant::now() + within;
    loop {
        match is_so() {
            Ok(()) => return Ok(()),
            Err(detail) if Instant::now() >= deadline => {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    within,
                    detail,
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
