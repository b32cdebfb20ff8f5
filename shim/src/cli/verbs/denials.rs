//! `denials`: which system calls of a container were denied, and what would allow them.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cofferdam_container::denials::{Apparmor, ApparmorSuppressed, Denied, Line, Suppressed, log};
use cofferdam_container::{self as container, ContainerId, StateError};

use super::{FORMAT, Flag, Output, PLAIN, Verb, output};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print};
use crate::denials_verb;

pub(super) const VERB: Verb = Verb {
    name: "denials",
    summary: "show what was denied, and what would allow it",
    description: "For containers whose policy has `denials = \"explain\"`, also after they were deleted.\n\
                  Prints each denied call with its arguments, what the caller got, the rule that\n\
                  decided, and the smallest edit of the profile that would allow it; likewise what a\n\
                  generated AppArmor profile denied, or would have in complain mode. Calls that come\n\
                  too often are counted. With --format json each line is one JSON object, and `edit.add`\n\
                  is a rule for `linux.seccomp.syscalls`.",
    example: "cofferdam denials --follow web-1",
    flags: &[
        FORMAT,
        Flag::switch("follow", '\0', "go on until the container is deleted"),
    ],
    run,
    ..PLAIN
};

/// How often --follow looks for more.
const TICK: Duration = Duration::from_millis(200);

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let output = output("denials", words)?;
    let id = container_id(words)?;
    let path = find(context, &id)?;
    let mut reader = Reader::open(&path)?;
    show(&mut reader.older, output)?;
    loop {
        // Asked before reading: what is written in between is read this time.
        let alive = words.on("follow") && exists(context, &id);
        show(&mut reader.current, output)?;
        if !alive {
            return Ok(0);
        }
        thread::sleep(TICK);
        reader.turn()?;
    }
}

/// The log of a container, whether it is still there or not.
fn find(context: &Context, id: &ContainerId) -> Result<PathBuf, CliError> {
    let state = match container::load(&context.root, id) {
        Ok(state) => Ok(state),
        Err(unknown @ StateError::Unknown { .. }) => Err(unknown),
        Err(error) => return Err(error.into()),
    };
    match state {
        Ok(state) => match state.denials {
            Some(listener) => Ok(listener.log),
            None => Err(CliError::NotExplained { id: id.to_string() }),
        },
        Err(unknown) => {
            let path = denials_verb::log(&context.root, id);
            if path.exists() {
                return Ok(path);
            }
            Err(unknown.into())
        }
    }
}

fn exists(context: &Context, id: &ContainerId) -> bool {
    container::load(&context.root, id).is_ok()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::Log {
        path: path.to_owned(),
        source,
    }
}

/// Reads the two files of a log as one.
struct Reader {
    path: PathBuf,
    inode: u64,
    older: Lines,
    current: Lines,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, CliError> {
        let older = match File::open(log::older(path)) {
            Ok(file) => Lines::of(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Lines::of(None),
            Err(error) => return Err(failed(path)(error)),
        };
        let current = File::open(path).map_err(failed(path))?;
        let inode = current.metadata().map_err(failed(path))?.ino();
        Ok(Self {
            path: path.to_owned(),
            inode,
            older,
            current: Lines::of(Some(current)),
        })
    }

    /// Goes on with the new file when the log has begun one. The old one has been read to its end
    /// but for what came since, which is read first.
    fn turn(&mut self) -> Result<(), CliError> {
        let Ok(found) = fs::metadata(&self.path) else {
            return Ok(());
        };
        if found.ino() == self.inode {
            return Ok(());
        }
        let file = File::open(&self.path).map_err(failed(&self.path))?;
        self.inode = file.metadata().map_err(failed(&self.path))?.ino();
        let last = std::mem::replace(&mut self.current, Lines::of(Some(file)));
        self.current.before = Some(Box::new(last));
        Ok(())
    }
}

/// The whole lines of a file that grows.
struct Lines {
    file: Option<BufReader<File>>,
    /// A line of which only the beginning is there.
    partial: Vec<u8>,
    /// What is to be read first.
    before: Option<Box<Lines>>,
}

impl Lines {
    fn of(file: Option<File>) -> Self {
        Self {
            file: file.map(BufReader::new),
            partial: Vec::new(),
            before: None,
        }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(before) = &mut self.before {
            if let Some(line) = before.next()? {
                return Ok(Some(line));
            }
            self.before = None;
        }
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        file.read_until(b'\n', &mut self.partial)?;
        if self.partial.last() == Some(&b'\n') {
            return Ok(Some(std::mem::take(&mut self.partial)));
        }
        Ok(None)
    }
}

fn show(lines: &mut Lines, output: Output) -> Result<(), CliError> {
    while let Some(line) = lines.next().map_err(failed(Path::new("the log")))? {
        let text = String::from_utf8_lossy(&line);
        match output {
            Output::Json => print(&text)?,
            // A line that this version cannot read is shown as it is.
            Output::Table => match serde_json::from_str::<Line>(&text) {
                Ok(Line::Denied(denied)) => print(&denied_text(&denied))?,
                Ok(Line::Suppressed(counted)) => print(&suppressed_text(&counted))?,
                Ok(Line::Apparmor(denied)) => print(&apparmor_text(&denied))?,
                Ok(Line::ApparmorSuppressed(counted)) => print(&apparmor_counted(&counted))?,
                Err(_) => print(&text)?,
            },
        };
    }
    Ok(())
}

fn denied_text(denied: &Denied) -> String {
    let arguments: Vec<String> = denied
        .arguments
        .iter()
        .map(|argument| {
            let shown = argument.meaning.as_ref().unwrap_or(&argument.value);
            format!("{}={shown}", argument.name)
        })
        .collect();
    let incomplete = if denied.complete {
        ""
    } else {
        "\n    the caller's memory could not be read"
    };
    let edit = denied.cause.edit.as_ref().map_or_else(
        || "no edit of the profile allows it".to_owned(),
        |edit| match &edit.add {
            Some(rule) => format!("{}\n    {rule}", edit.text),
            None => edit.text.clone(),
        },
    );
    let executable = if denied.executable.is_empty() {
        "(gone)"
    } else {
        &denied.executable
    };
    format!(
        "{} {executable}[{}] {}({}) = {}{incomplete}\n    why: {}\n    to allow it: {edit}\n    \
         where: {}\n",
        denied.time,
        denied.pid,
        denied.syscall,
        arguments.join(", "),
        denied.errno,
        denied.cause.text,
        denied.place,
    )
}

fn apparmor_text(denied: &Apparmor) -> String {
    let meaning = &denied.meaning;
    let verdict = if denied.allowed { "allowed" } else { "denied" };
    let rule = meaning
        .add
        .as_ref()
        .map_or_else(String::new, |rule| format!("\n    {rule}"));
    format!(
        "{} {}[{}] AppArmor {verdict}: {}\n    why: {}\n    to allow it: {}{rule}\n    where: the \
         profile {}\n",
        denied.time,
        denied.command,
        denied.pid,
        meaning.tried,
        meaning.why,
        meaning.edit,
        denied.profile,
    )
}

fn apparmor_counted(counted: &ApparmorSuppressed) -> String {
    let lost = if counted.lost {
        ", and some that were lost"
    } else {
        ""
    };
    format!(
        "{} {} more denied by AppArmor{lost}; {} so far\n",
        counted.time, counted.count, counted.total
    )
}

fn suppressed_text(counted: &Suppressed) -> String {
    let what = match (counted.executable.as_str(), counted.syscall.as_str()) {
        ("", "") => "of several programs".to_owned(),
        (executable, syscall) => format!("of {syscall} by {executable}"),
    };
    format!(
        "{} {} more denied calls {what}; {} so far\n",
        counted.time, counted.count, counted.total
    )
}
