//! Who owns what a container makes, as the host and other containers see it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::Client;
use crate::{
    command::eventually,
    error::{At, Result},
};

/// Files of root, of users and of what is shared, with modes that only their makers can give.
const MAKES: &str = "echo x >root; echo x >user; chown 1000:2000 user; chmod 600 user; echo x >last; \
     chown 65535:65534 last; mkdir -m 2775 shared; chown 33:44 shared; chmod 2775 shared; \
     su user -c 'echo x >open/by-su; ln -s ../root open/link'; touch shared/in; cp root set; \
     chown 1000 set; chmod 6755 set; mkfifo fifo; chown 7 fifo; mv user open/moved; ln root hard";

/// Everything below a directory of the host's, with numeric owners and modes.
fn owners(engine: &impl Client, dir: &Path) -> Result<String> {
    let find = engine.enclave().cmd("find").arg(dir);
    let found = find.args(["-printf", "%P %y %U:%G %m\n"]).ok()?.stdout;
    let mut lines: Vec<&str> = found.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// A directory of the enclave's that anybody may enter.
fn open_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path.join("open")).at("make", path)?;
    for dir in [path.to_owned(), path.join("open")] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).at("open", dir)?;
    }
    Ok(())
}

pub(super) fn gives_files_in_volumes_the_owners_of_runc<E: Client>(engine: &E) -> Result<()> {
    let mut seen = Vec::new();
    for runc in [true, false] {
        let dir = engine.enclave().dir().join(format!("volume-{runc}"));
        open_dir(&dir)?;
        let volume = format!("{}:/v", dir.display());
        for (user, script) in [
            ("0", MAKES),
            ("1000:2000", "echo x >open/by-user; chmod 640 open/by-user"),
        ] {
            let flags = ["--rm", "--user", user, "-v", &volume, "--workdir", "/v"];
            let argv = ["sh", "-euc", script];
            let cmd = if runc {
                engine.run_by_runc(engine.image(), &flags, &argv)?
            } else {
                engine.run_with(&flags, &argv)
            };
            cmd.ok()?;
        }
        seen.push(owners(engine, &dir)?);
        fs::remove_dir_all(&dir).at("remove", &dir)?;
    }
    for line in [
        "last f 65535:65534 644",
        "open/by-user f 1000:2000 640",
        "open/by-su f 1000:1000 644",
        "set f 1000:0 6755",
        "shared/in f 0:44 644",
    ] {
        assert!(seen[0].lines().any(|l| l == line), "control: {}", seen[0]);
    }
    assert_eq!(seen[1], seen[0]);
    Ok(())
}

pub(super) fn commits_what_root_made<E: Client>(engine: &E) -> Result<()> {
    let script = format!(
        "umask 022; mkdir -p /made/open && chmod 777 /made /made/open && cd /made && {MAKES}; \
         chown 33 /home; rm /bin/yes; echo more >>/etc/passwd; echo made; exec sleep 1000"
    );
    engine.detached("maker", &[], &["sh", "-euc", &script])?;
    eventually(
        "everything is made",
        Duration::from_secs(10),
        || match engine.cli(["logs", "maker"]).run() {
            Ok(done) if done.stdout == "made\n" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    let lists = "cd /made && find . | sort | xargs stat -c '%n %F %u:%g %a' && stat -c %u /home";
    let list = |done: crate::command::Cmd| done.ok().map(|done| done.stdout);
    let before = list(engine.cli(["exec", "maker", "sh", "-c", lists]))?;
    assert!(
        before.contains("./last regular file 65535:65534 644"),
        "{before}"
    );
    let image = "localhost/committed:latest";
    engine
        .cli(["commit", "--change", "USER 1000", "maker", image])
        .ok()?;
    engine.remove("maker")?;
    let run = |user: &[&str], script: &str| {
        let flags = [&["--rm"], user].concat();
        engine.run_of(image, &flags, &["sh", "-c", script]).ok()
    };
    assert_eq!(run(&["--user", "0"], lists)?.stdout, before);
    // The image's user is 1000, whose files are open to it, those of others as their modes say.
    let script = "id -u; cat /made/open/moved; echo y >>/made/open/moved && echo writes; \
                  echo y >>/made/root || echo denied; test -L /bin/yes || echo removed; \
                  tail -n 1 /etc/passwd";
    let said = run(&[], script)?.stdout;
    assert_eq!(said, "1000\nx\nwrites\ndenied\nremoved\nmore\n");
    engine.cli(["rmi", image]).ok().map(drop)
}
