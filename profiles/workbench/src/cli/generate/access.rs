//! The files that the analysis saw are used, as an access document.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cofferdam_analysis::Generated;
use cofferdam_profiles::access::{
    Access, AccessError, AccessPath, Confidence, Place, Right, Rights, Source,
};

/// What the C library reads for nearly every program.
const LIBRARY: [&str; 12] = [
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/usr/lib/locale",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Programs, their libraries, plugins and loaders, and what the C library reads. What a program opens by
/// a name of its configuration or of its own making is not found, so the confidence is low.
pub(super) fn document(made: &Generated) -> Result<Access, AccessError> {
    let mut access = Access::new();
    let loaded = Rights::of(&[Right::Read, Right::MapExecute]);
    let executed = loaded | Right::Execute.into();
    for program in &made.programs {
        allow(&mut access, &program.program, executed)?;
        for object in &program.objects {
            let name = object.path.file_name().unwrap_or_default().as_bytes();
            // The kernel executes it for the program.
            let loader = name.starts_with(b"ld-") || name.starts_with(b"ld.");
            let rights = if loader { executed } else { loaded };
            allow(&mut access, &object.path, rights)?;
        }
    }
    for left_out in &made.left_out {
        allow(&mut access, &left_out.program, executed)?;
    }
    for path in LIBRARY {
        let rights = Rights::of(&[Right::Read, Right::List]);
        let place = AccessPath::new(path).map(Place::subtree);
        if let Ok(place) = place {
            access.allow(place, rights, Source::Analysis)?;
        }
    }
    for path in DEVICES {
        allow(
            &mut access,
            Path::new(path),
            Rights::of(&[Right::Read, Right::Write]),
        )?;
    }
    access.confidence = Some(Confidence::Low);
    access.note(
        "made of the files, not of a run: programs, libraries, loaders and what the C library reads; \
         what a program opens by its configuration, its arguments or a name it makes is not here. \
         Complete it by a recording (`cofferdam profile record --emit access`)"
            .to_owned(),
    );
    Ok(access)
}

fn allow(access: &mut Access, path: &Path, rights: Rights) -> Result<(), AccessError> {
    match AccessPath::new(path.as_os_str().as_bytes()) {
        Ok(path) => access.allow(Place::exact(path), rights, Source::Analysis),
        // The analysis names files by their real, absolute paths.
        Err(_) => Ok(()),
    }
}
