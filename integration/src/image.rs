//! Images are made from Debian's static busybox by umoci, without a registry, and kept in the cache.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{
    binaries::{cache_dir, on_path},
    command::Cmd,
    error::{At, Result},
};

/// An image that is ready to be imported.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it gets in an engine.
    pub name: String,
    /// A tar of its OCI layout, for `ctr images import` and `podman load`.
    pub oci: PathBuf,
    /// A `docker save` archive, for `docker load`.
    pub docker: PathBuf,
    /// Its unpacked root file system, for bundles. Not to be written to: copy it.
    pub rootfs: PathBuf,
}

/// What is added to busybox.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Files: the path in the image, the file on this machine, the mode.
    pub files: Vec<(String, PathBuf, u32)>,
    /// Arguments to `umoci config`, for instance `--config.user=65534`.
    pub config: Vec<String>,
}

impl Image {
    /// Busybox with a shell, `/etc/passwd` and little else.
    ///
    /// # Errors
    /// If busybox-static, umoci or skopeo are not installed, or the cache cannot be written.
    pub fn busybox() -> Result<Self> {
        Self::busybox_with("busybox", &Extra::default())
    }

    /// Busybox with additions. The image is made again when the content of an added file changes.
    ///
    /// # Errors
    /// As [`Image::busybox`].
    pub fn busybox_with(name: &str, extra: &Extra) -> Result<Self> {
        let busybox = on_path("busybox")?;
        let mut hash = DefaultHasher::new();
        // By content, for the same file may lie elsewhere the next time.
        (name, &extra.config, RECIPE).hash(&mut hash);
        for (place, file, mode) in &extra.files {
            let content = fs::read(file).at("read", file)?;
            (place, content, mode).hash(&mut hash);
        }
        fs::read(&busybox).at("read", &busybox)?.hash(&mut hash);
        let parent = cache_dir().join("images");
        let dir = parent.join(format!("{name}-{:016x}", hash.finish()));
        if !dir.exists() {
            fs::create_dir_all(&parent).at("make", &parent)?;
            let draft = tempfile::tempdir_in(&parent).at("make a directory in", &parent)?;
            make(name, &busybox, extra, draft.path())?;
            // Another test may have made the same meanwhile; both are right.
            if fs::rename(draft.path(), &dir).is_ok() {
                let _ = draft.keep();
            }
        }
        Ok(Self {
            name: format!("localhost/{name}:latest"),
            oci: dir.join("oci.tar"),
            docker: dir.join("docker.tar"),
            rootfs: dir.join("bundle/rootfs"),
        })
    }
}

/// Raised when [`make`] changes.
const RECIPE: u32 = 3;

fn make(name: &str, busybox: &Path, extra: &Extra, dir: &Path) -> Result<()> {
    let layout = dir.join("layout");
    let tagged = format!("{}:latest", layout.display());
    let bundle = dir.join("bundle");
    umoci(&["init", "--layout", &layout.display().to_string()])?;
    umoci(&["new", "--image", &tagged])?;
    umoci(&["unpack", "--image", &tagged, &bundle.display().to_string()])?;
    fill(&bundle.join("rootfs"), busybox, extra)?;
    umoci(&["repack", "--image", &tagged, &bundle.display().to_string()])?;
    let mut config = vec!["config", "--image", &tagged, "--config.cmd", "/bin/sh"];
    config.extend(["--config.env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    config.extend(extra.config.iter().map(String::as_str));
    umoci(&config)?;
    // Without the name annotation `ctr images import` would not know what to call it.
    let source = format!("oci:{}:latest", layout.display());
    let reference = format!("localhost/{name}:latest");
    for (kind, file) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let target = format!("{kind}:{}:{reference}", dir.join(file).display());
        Cmd::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", &source, &target])
            .ok()?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).at("open", dir)?;
    fs::remove_dir_all(&layout).at("remove", &layout)
}

fn umoci(args: &[&str]) -> Result<()> {
    Cmd::new("umoci").args(args).ok().map(drop)
}

fn fill(rootfs: &Path, busybox: &Path, extra: &Extra) -> Result<()> {
    for dir in [
        "bin", "etc", "root", "home", "var", "dev", "proc", "sys", "tmp",
    ] {
        let path = rootfs.join(dir);
        fs::create_dir_all(&path).at("make", path)?;
    }
    let tmp = rootfs.join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).at("open", tmp)?;
    install(busybox, &rootfs.join("bin/busybox"), 0o755)?;
    for applet in Cmd::new(busybox).arg("--list").ok()?.stdout.lines() {
        let link = rootfs.join("bin").join(applet);
        if applet != "busybox" {
            symlink("busybox", &link).at("link", link)?;
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    let group = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n";
    for (file, text) in [("etc/passwd", passwd), ("etc/group", group)] {
        let path = rootfs.join(file);
        fs::write(&path, text).at("write", path)?;
    }
    for (target, source, mode) in &extra.files {
        let path = rootfs.join(target.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        install(source, &path, *mode)?;
    }
    Ok(())
}

fn install(source: &Path, target: &Path, mode: u32) -> Result<()> {
    fs::copy(source, target).at("copy", source)?;
    fs::set_permissions(target, fs::Permissions::from_mode(mode)).at("set the mode of", target)
}
