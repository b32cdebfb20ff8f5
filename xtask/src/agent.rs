//! The guest's side. It takes a command from the virtio-serial port, runs it, sends what it prints
//! and how it ends. One command at a time.

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::wire::{self, BREATH, PORT, Request, ToHost};

/// Serves until the port fails.
///
/// # Errors
/// What ended it.
pub fn serve() -> Result<Infallible, wire::Error> {
    let mut port = open()?;
    wire::send(&mut port, &ToHost::Ready)?;
    loop {
        match wire::receive::<Request>(&mut port) {
            Ok(request) => {
                let status = run(&request, &mut port)?;
                wire::send(&mut port, &ToHost::Ended(status))?;
            }
            // Nobody is connected on the host's side; the port reads as ended until somebody is.
            Err(wire::Error::Port(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The port is found by its name in sysfs: without udev no link in /dev tells it. The driver's module
/// may still be looking at its devices.
fn open() -> io::Result<File> {
    let mut tries = 0;
    loop {
        for entry in std::fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
        {
            let entry = entry?;
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                let device = std::path::Path::new("/dev").join(entry.file_name());
                return OpenOptions::new().read(true).write(true).open(device);
            }
        }
        tries += 1;
        if tries > 200 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no virtio-serial port has the lab's name",
            ));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Runs the command to its end. What it printed is all sent before its status; processes that it left
/// behind with its output open do not hold the status back for longer than a second.
fn run(request: &Request, port: &mut File) -> Result<i32, wire::Error> {
    let Some((program, args)) = request.argv.split_first() else {
        return Ok(127);
    };
    let started = Command::new(program)
        .args(args)
        .envs(request.env.iter().map(|(key, value)| (key, value)))
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            let bytes = format!("lab-agent: cannot start {program}: {error}\n").into_bytes();
            wire::send(port, &ToHost::Output { error: true, bytes })?;
            return Ok(127);
        }
    };
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        pass_on(pipe, false, sender.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        pass_on(pipe, true, sender);
    }
    let (ended, at_end) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait()));
    let (mut status, mut said) = (None, Instant::now());
    loop {
        match receiver.recv_timeout(Duration::from_millis(200)) {
            Ok(output) => {
                wire::send(port, &output)?;
                said = Instant::now();
                continue;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if said.elapsed() > BREATH {
            wire::send(port, &ToHost::Alive)?;
            said = Instant::now();
        }
        if status.is_some() {
            break;
        }
        status = at_end.try_recv().ok();
    }
    // It may have closed its output and go on.
    let status = loop {
        if let Some(status) = status {
            break status;
        }
        match at_end.recv_timeout(BREATH) {
            Ok(ended) => status = Some(ended),
            Err(mpsc::RecvTimeoutError::Timeout) => wire::send(port, &ToHost::Alive)?,
            Err(error) => return Err(io::Error::other(error).into()),
        }
    }?;
    let signal = 128 + status.signal().unwrap_or_default();
    Ok(status.code().unwrap_or(signal))
}

fn pass_on(mut pipe: impl Read + Send + 'static, error: bool, to: Sender<ToHost>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length) = pipe.read(&mut buffer)
            && length > 0
        {
            let bytes = buffer[..length].to_vec();
            if to.send(ToHost::Output { error, bytes }).is_err() {
                break;
            }
        }
    });
}
