use super::Load;

/// A program, where it lies and how it is started.
#[derive(Debug)]
pub struct Program {
    /// Its name, also of its root file system and its script.
    pub name: &'static str,
    /// Its executable.
    pub main: &'static str,
    /// What it starts, and what starts it: part of the container's profile too.
    pub also: &'static [&'static str],
    /// User and group.
    pub user: u32,
    /// How it is run.
    pub run: Run,
    /// Whether it has a second load.
    pub has_held_out: bool,
}

/// How a program is run.
#[derive(Debug)]
pub enum Run {
    /// Serves until it gets SIGTERM; clients make the load.
    Server {
        /// Its command line.
        argv: &'static [&'static str],
    },
    /// Ends by itself, having printed [`Program::DONE`].
    Batch {
        /// The recorded load's command line.
        recorded: &'static [&'static str],
        /// The other's.
        held_out: &'static [&'static str],
    },
}

impl Program {
    /// What a batch prints last.
    pub const DONE: &'static str = "LOAD DONE";

    /// The command line for a load.
    #[must_use]
    pub fn argv(&self, load: Load) -> &'static [&'static str] {
        match (&self.run, load) {
            (Run::Server { argv }, _) => argv,
            (Run::Batch { recorded, .. }, Load::Recorded) => recorded,
            (Run::Batch { held_out, .. }, Load::HeldOut) => held_out,
        }
    }

    /// Whether it serves until it is stopped.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self.run, Run::Server { .. })
    }

    /// Every executable that runs in its container.
    pub fn executables(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.main).chain(self.also.iter().copied())
    }

    /// The loads it has.
    pub fn loads(&self) -> impl Iterator<Item = Load> {
        let second = self.has_held_out.then_some(Load::HeldOut);
        std::iter::once(Load::Recorded).chain(second)
    }
}

const fn server(name: &'static str, main: &'static str, argv: &'static [&'static str]) -> Program {
    Program {
        name,
        main,
        also: &[],
        user: 0,
        run: Run::Server { argv },
        has_held_out: true,
    }
}

const fn batch(
    name: &'static str,
    main: &'static str,
    recorded: &'static [&'static str],
    held_out: &'static [&'static str],
) -> Program {
    Program {
        name,
        main,
        also: &[],
        user: 0,
        run: Run::Batch { recorded, held_out },
        has_held_out: true,
    }
}

/// Every program, the C servers first.
pub const PROGRAMS: &[Program] = &[
    server("nginx", "/usr/sbin/nginx", &["nginx", "-g", "daemon off;"]),
    Program {
        user: 100,
        ..server(
            "redis",
            "/usr/bin/redis-server",
            &["redis-server", "/etc/redis/redis.conf"],
        )
    },
    server(
        "memcached",
        "/usr/bin/memcached",
        &[
            "memcached",
            "-u",
            "memcache",
            "-l",
            "127.0.0.1",
            "-U",
            "11211",
        ],
    ),
    server(
        "lighttpd",
        "/usr/sbin/lighttpd",
        &["lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"],
    ),
    server(
        "haproxy",
        "/usr/sbin/haproxy",
        &["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"],
    ),
    Program {
        also: &[
            "/usr/bin/bash",
            "/usr/bin/dash",
            "/usr/bin/locale",
            "/usr/lib/postgresql/15/bin/initdb",
        ],
        user: 105,
        ..server(
            "postgres",
            "/usr/lib/postgresql/15/bin/postgres",
            &["bash", "/load/start.sh"],
        )
    },
    server(
        "mariadb",
        "/usr/sbin/mariadbd",
        &["mariadbd", "--user=mysql", "--datadir=/data", "--log-bin"],
    ),
    batch(
        "sqlite",
        "/usr/bin/sqlite3",
        &["sqlite3", "/data/db", ".read /load/recorded.sql"],
        &["sqlite3", "/data/db", ".read /load/held_out.sql"],
    ),
    server(
        "named",
        "/usr/sbin/named",
        &["named", "-g", "-u", "bind", "-c", "/etc/bind/named.conf"],
    ),
    server(
        "apache",
        "/usr/sbin/apache2",
        &["apache2", "-DFOREGROUND", "-f", "/etc/apache2/test.conf"],
    ),
    Program {
        also: &[
            "/usr/bin/bash",
            // The message of the day.
            "/usr/bin/dash",
            "/usr/bin/env",
            "/usr/bin/run-parts",
            "/usr/bin/uname",
            "/usr/bin/id",
            "/usr/bin/cat",
            "/usr/bin/tty",
            "/usr/bin/sleep",
        ],
        ..server("sshd", "/usr/sbin/sshd", &["/usr/sbin/sshd", "-D", "-e"])
    },
    batch(
        "curl",
        "/usr/bin/curl",
        &["curl", "--config", "/load/recorded"],
        &["curl", "--config", "/load/held_out"],
    ),
    Program {
        also: &["/usr/bin/dash", "/usr/bin/cat", "/usr/bin/sleep"],
        ..batch(
            "git",
            "/usr/bin/git",
            &["sh", "/load/recorded.sh"],
            &["sh", "/load/held_out.sh"],
        )
    },
    Program {
        also: COREUTILS,
        ..batch(
            "bash",
            "/usr/bin/bash",
            &["bash", "/load/bash-recorded.sh"],
            &["bash", "/load/bash-held-out.sh"],
        )
    },
    batch(
        "busybox",
        "/usr/bin/busybox",
        &["busybox", "sh", "/load/recorded.sh"],
        &["busybox", "sh", "/load/held_out.sh"],
    ),
    batch(
        "python",
        "/usr/bin/python3.11",
        &[
            "python3",
            "/load/run.py",
            "test_zlib",
            "test_select",
            "test_tempfile",
            "test_thread",
        ],
        &[
            "python3",
            "/load/run.py",
            "test_epoll",
            "test_glob",
            "test_selectors",
        ],
    ),
    Program {
        also: &["/usr/bin/true", "/usr/bin/date", "/usr/bin/cat"],
        ..batch(
            "perl",
            "/usr/bin/perl",
            &["perl", "/load/recorded.pl"],
            &["perl", "/load/held_out.pl"],
        )
    },
    Program {
        also: &["/usr/bin/echo", "/usr/bin/cat"],
        ..batch(
            "node",
            "/usr/bin/node",
            &["node", "/tmp/node-recorded.js"],
            &["node", "/tmp/node-held-out.js"],
        )
    },
    server("containerd", "/usr/bin/containerd", &["containerd"]),
];

/// What the scripts of `bash` run.
const COREUTILS: &[&str] = &[
    "/usr/bin/dash",
    "/usr/bin/base64",
    "/usr/bin/basename",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/chown",
    "/usr/bin/cmp",
    "/usr/bin/comm",
    "/usr/bin/cp",
    "/usr/bin/cut",
    "/usr/bin/date",
    "/usr/bin/dd",
    "/usr/bin/df",
    "/usr/bin/du",
    "/usr/bin/env",
    "/usr/bin/expr",
    "/usr/bin/factor",
    "/usr/bin/find",
    "/usr/bin/fold",
    "/usr/bin/grep",
    "/usr/bin/groups",
    "/usr/bin/gzip",
    "/usr/bin/head",
    "/usr/bin/hostname",
    "/usr/bin/id",
    "/usr/bin/install",
    "/usr/bin/join",
    "/usr/bin/ln",
    "/usr/bin/ls",
    "/usr/bin/mkdir",
    "/usr/bin/mkfifo",
    "/usr/bin/mktemp",
    "/usr/bin/mv",
    "/usr/bin/nice",
    "/usr/bin/nl",
    "/usr/bin/nohup",
    "/usr/bin/nproc",
    "/usr/bin/numfmt",
    "/usr/bin/od",
    "/usr/bin/paste",
    "/usr/bin/pr",
    "/usr/bin/printenv",
    "/usr/bin/readlink",
    "/usr/bin/rev",
    "/usr/bin/rm",
    "/usr/bin/rmdir",
    "/usr/bin/sed",
    "/usr/bin/seq",
    "/usr/bin/sha256sum",
    "/usr/bin/shred",
    "/usr/bin/shuf",
    "/usr/bin/sleep",
    "/usr/bin/sort",
    "/usr/bin/split",
    "/usr/bin/stat",
    "/usr/bin/stty",
    "/usr/bin/sync",
    "/usr/bin/tac",
    "/usr/bin/tail",
    "/usr/bin/tar",
    "/usr/bin/tee",
    "/usr/bin/timeout",
    "/usr/bin/touch",
    "/usr/bin/tr",
    "/usr/bin/true",
    "/usr/bin/truncate",
    "/usr/bin/tty",
    "/usr/bin/uname",
    "/usr/bin/uniq",
    "/usr/bin/wc",
    "/usr/bin/who",
    "/usr/bin/xargs",
];
