//! Servers, and those who load them: Debian's programs from their own root file systems.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cofferdam_recorder::{Capacity, NotifyRecorder};

use super::Outcome;

const ROOTS: &str = "/var/cache/cofferdam-tests/roots";
const REQUESTS: u32 = 30_000;
const SECONDS: &str = "1";
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

fn root(name: &str) -> PathBuf {
    let roots = std::env::var_os("COFFERDAM_BENCH_ROOTS").unwrap_or_else(|| ROOTS.into());
    Path::new(&roots).join(name)
}

/// A program of a root file system, run where this one runs, with its own loader and libraries.
fn program(root: &Path, path: &str) -> Option<Command> {
    let path = root.join(path);
    let loader = root.join("lib64/ld-linux-x86-64.so.2");
    let loader = [loader, root.join("usr/lib64/ld-linux-x86-64.so.2")]
        .into_iter()
        .find_map(|path| fs::canonicalize(path).ok())
        .filter(|loader| loader.starts_with(root))
        .or_else(|| {
            let plain = root.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
            plain.exists().then_some(plain)
        })?;
    if !path.exists() {
        return None;
    }
    let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|d| root.join(d));
    let mut command = Command::new(loader);
    command.arg("--library-path");
    command.arg(std::env::join_paths(libraries).ok()?).arg(path);
    Some(command)
}

/// A port that nobody has now.
fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

/// A server that ends when dropped, with its files.
struct Server {
    child: Child,
    port: u16,
    /// Answers until the server has ended.
    _recorder: Option<NotifyRecorder>,
    _files: tempfile::TempDir,
}

impl Server {
    /// With `predicted` calls, under a filter that asks about every other one.
    fn start(
        command: &mut Command,
        port: u16,
        files: tempfile::TempDir,
        predicted: Option<&BTreeSet<u32>>,
    ) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let (recorder, child) = match predicted {
            None => (None, command.spawn()?),
            Some(predicted) => {
                let capacity = Capacity::default();
                let (recorder, child) = NotifyRecorder::spawn(command, predicted, &capacity, true)?;
                (Some(recorder), child)
            }
        };
        let mut server = Self {
            child,
            port,
            _recorder: recorder,
            _files: files,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{command:?}: {status}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("{command:?} does not listen").into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is our child; if it has ended already, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) struct Redis(Server);

impl Redis {
    pub(super) fn start(predicted: Option<&BTreeSet<u32>>) -> Outcome<Option<Self>> {
        let Some(mut command) = program(&root("redis"), "usr/bin/redis-server") else {
            return Ok(None);
        };
        let (port, files) = (free_port()?, tempfile::tempdir()?);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--dir"]).arg(files.path());
        Server::start(&mut command, port, files, predicted).map(|server| Some(Self(server)))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.child.id()
    }

    /// Sends requests; how many were answered.
    pub(super) fn load(&self) -> Outcome<f64> {
        let command = program(&root("redis"), "usr/bin/redis-benchmark");
        let mut command = command.ok_or("no redis-benchmark")?;
        let done = command
            .args(["-p", &self.0.port.to_string(), "-t", "set,get"])
            .args(["-n", &REQUESTS.to_string(), "-c", "20", "--csv"])
            .output()?;
        let text = String::from_utf8(done.stdout)?;
        let tests = text
            .lines()
            .filter(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""));
        if tests.count() != 2 {
            return Err(format!("redis-benchmark said: {text}").into());
        }
        Ok(2.0 * f64::from(REQUESTS))
    }
}

pub(super) struct Nginx(Server);

impl Nginx {
    pub(super) fn start(predicted: Option<&BTreeSet<u32>>) -> Outcome<Option<Self>> {
        let Some(mut command) = program(&root("nginx"), "usr/sbin/nginx") else {
            return Ok(None);
        };
        if program(&root("clients"), "usr/bin/wrk").is_none() {
            return Ok(None);
        }
        let (port, files) = (free_port()?, tempfile::tempdir()?);
        let at = files.path().display();
        // One process, so that its CPU time is the server's.
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr crit;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; root {at}; keepalive_requests 1000000;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; }} }}\n"
        );
        fs::write(files.path().join("nginx.conf"), configuration)?;
        fs::write(files.path().join("index.html"), "x".repeat(612))?;
        command.arg("-e").arg("stderr");
        command.arg("-p").arg(files.path());
        command.arg("-c").arg(files.path().join("nginx.conf"));
        Server::start(&mut command, port, files, predicted).map(|server| Some(Self(server)))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.child.id()
    }

    /// Sends requests for a while; how many were answered.
    pub(super) fn load(&self) -> Outcome<f64> {
        let command = program(&root("clients"), "usr/bin/wrk").ok_or("no wrk")?;
        let mut command = command;
        let url = format!("http://127.0.0.1:{}/index.html", self.0.port);
        let done = command
            .args(["-t", "1", "-c", "16", "-d", SECONDS, &url])
            .output()?;
        let text = String::from_utf8(done.stdout)?;
        if text.contains("Non-2xx") {
            return Err(format!("wrk said: {text}").into());
        }
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .ok_or_else(|| format!("wrk said: {text}"))?;
        Ok(requests.0.parse()?)
    }
}
