//! What the analysis looked at, in a form that can be looked at again without the view: below the
//! root without its mounts, or below what is bound over it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cofferdam_analysis::Touched;
use cofferdam_profiles::generated::{Dependency, MAX_DEPENDENCIES, Media, Request};

use super::view::View;

/// Where a path lies.
enum Place<'a> {
    /// In the root file system itself.
    Root,
    /// In a file system of its own, which is taken for empty.
    Empty,
    /// Behind a bind mount, at this path below its source.
    Behind(usize, &'a Path),
}

/// All that was looked at; or why it cannot be looked at again, in plain words.
pub(super) fn of(
    touched: &[Touched],
    request: &Request,
    view: &View,
) -> Result<Vec<Dependency>, String> {
    if touched.len() > MAX_DEPENDENCIES {
        return Err(format!(
            "the analysis looked at more than {MAX_DEPENDENCIES} files"
        ));
    }
    let media = Media::default();
    let mut all = Vec::with_capacity(touched.len());
    for one in touched {
        all.extend(dependency(one, request, view, &media)?);
    }
    Ok(all)
}

fn dependency(
    one: &Touched,
    request: &Request,
    view: &View,
    media: &Media,
) -> Result<Option<Dependency>, String> {
    let asked = request
        .root
        .join(one.path.strip_prefix("/").unwrap_or(&one.path));
    let real = one.found.as_ref().map(|found| found.path.as_path());
    // By what is asked for where nothing is there.
    let place = find(real.unwrap_or(&asked), request, view);
    let through = || {
        format!(
            "a link leads through a mount to {}, which cannot be looked at alone",
            one.path.display()
        )
    };
    // The way there must lie in the same mount as the end of it.
    let way = find(&asked, request, view);
    let (mount, path) = match (place, way) {
        (Place::Empty, _) => return Ok(None),
        (Place::Root, Place::Root) => (None, one.path.clone()),
        (Place::Behind(mount, _), Place::Behind(way, path)) if mount == way => {
            (Some(mount), path.to_owned())
        }
        // Nothing is there, or something else than the name says.
        _ => return Err(through()),
    };
    let now = match (mount, source(request, mount)) {
        (None, _) => Dependency::inside(&view.bare, &path, media),
        (Some(_), Some(source)) => Dependency::behind(source, &path, media),
        (Some(_), None) => return Err(through()),
    };
    let now = now.map_err(|error| match error.kind() {
        ErrorKind::Unsupported => format!("{} cannot be relied on: {error}", one.path.display()),
        _ => through(),
    })?;
    // Such as a file that was made so that something could be mounted on it.
    if now.is_some() != real.is_some() {
        return Err(format!(
            "{} is not the same without what is mounted",
            one.path.display()
        ));
    }
    // What is kept is what was read, not what lies there by now.
    let same = match (&one.found, &now) {
        (Some(then), Some(now)) if view.covered && mount.is_none() => {
            then.identity.is_still_below(now, one.used)
        }
        (Some(then), Some(now)) => then.identity.is_still(now, one.used),
        _ => true,
    };
    if !(one.steady && same) {
        return Err(format!(
            "{} changed while the analysis looked at it",
            one.path.display()
        ));
    }
    Ok(Some(Dependency {
        mount,
        path,
        used: one.used,
        found: now,
    }))
}

fn source(request: &Request, mount: Option<usize>) -> Option<&PathBuf> {
    request.mounts.get(mount?)?.source.as_ref()
}

/// Where a path lies that is seen from outside.
fn find<'a>(path: &'a Path, request: &Request, view: &View) -> Place<'a> {
    let Some((at, below)) = view.mount_of(path) else {
        return Place::Root;
    };
    match source(request, Some(at)) {
        Some(_) => Place::Behind(at, below),
        None => Place::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_analysis::{Found, Touched};
    use cofferdam_profiles::generated::{Identity, Mount, Process, Use, VERSION};
    use std::fs;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    /// What an analysis notes of a path that it reads.
    fn read(path: &Path, inside: &str) -> Touched {
        let real = path.canonicalize().unwrap();
        Touched {
            path: inside.into(),
            used: Use::Read,
            found: Some(Found {
                identity: Identity::of(&fs::metadata(&real).unwrap()),
                path: real,
            }),
            steady: true,
        }
    }

    fn request(root: &Path, destination: &str, source: &Path) -> Request {
        Request {
            version: VERSION,
            root: root.to_owned(),
            mounts: vec![Mount {
                destination: destination.into(),
                source: Some(source.to_owned()),
                recursive: false,
            }],
            process: Process {
                args: Vec::new(),
                path: None,
                cwd: "/".into(),
            },
            recordings: Vec::new(),
            summaries: root.to_owned(),
        }
    }

    /// In a root and behind a bind mount: a link that led to one file when it was read leads to another
    /// when the profile is kept.
    #[test]
    fn what_is_at_a_path_by_now_is_not_taken_for_what_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let (root, volume) = (base.join("root"), base.join("root/volume"));
        for place in [&root, &volume] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("one"), "1").unwrap();
            fs::write(place.join("two"), "2").unwrap();
        }
        let turn = |place: &Path, to: &str| {
            symlink(to, place.join("new")).unwrap();
            fs::rename(place.join("new"), place.join("link")).unwrap();
        };
        let request = request(&root, "/volume", &volume);
        let view = View {
            bare: fs::File::open(&root).unwrap().into(),
            // The source itself stands for what is mounted there.
            places: vec![Some(volume.clone())],
            covered: false,
        };
        for (place, inside) in [(&root, "/link"), (&volume, "/volume/link")] {
            turn(place, "one");
            let noted = read(&place.join("link"), inside);
            let kept = of(std::slice::from_ref(&noted), &request, &view).unwrap();
            let one = Identity::of(&fs::metadata(place.join("one")).unwrap());
            assert_eq!(kept[0].found, Some(one));
            turn(place, "two");
            // Looking again alone would have kept it for this one.
            let now = match kept[0].mount {
                None => Dependency::inside(&view.bare, &kept[0].path, &Media::default()),
                Some(_) => Dependency::behind(place, &kept[0].path, &Media::default()),
            };
            let two = Identity::of(&fs::metadata(place.join("two")).unwrap());
            assert_eq!(now.unwrap(), Some(two));
            let refused = of(&[noted], &request, &view).unwrap_err();
            assert!(refused.contains("link changed"), "{refused}");
        }
    }

    /// Where a mount point is missing the root is seen through an overlay, which has other devices and
    /// directories: what is kept is what lies below it.
    #[test]
    fn what_was_read_through_an_overlay_is_found_again_below_it() {
        // Only root mounts in a namespace that is not a user's own.
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
                "COFFERDAM_REQUIRE_ROOT is set, but this test needs root"
            );
            println!("SKIPPED: needs root to mount an overlay");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::write(root.join("one"), "1").unwrap();
        fs::write(root.join("two"), "2").unwrap();
        symlink("one", root.join("link")).unwrap();
        let [top, one, two] =
            [".", "one", "two"].map(|name| Identity::of(&fs::metadata(root.join(name)).unwrap()));
        let request = request(&root, "/not/there", &root);
        // A mount namespace is a thread's own.
        let tried = std::thread::spawn(move || {
            let view = crate::cli::at_start::view::make(&request).unwrap();
            assert!(view.covered);
            let seen = Identity::of(&fs::metadata(root.join("one")).unwrap());
            assert_ne!((seen.device, seen.inode), (one.device, one.inode));
            let noted = |path: &Path, inside, used| Touched {
                used,
                ..read(path, inside)
            };
            let all = [
                noted(&root, "/", Use::Looked),
                // The kernel would lead this one back to the overlay.
                noted(&root, "/../..", Use::Looked),
                noted(&root.join("one"), "/../one", Use::Read),
                noted(&root.join("link"), "/link", Use::Read),
            ];
            let kept = of(&all, &request, &view).unwrap();
            let found: Vec<_> = kept.iter().map(|kept| kept.found.unwrap()).collect();
            assert_eq!(found, [top, top, one, one]);

            let below = format!("/proc/self/fd/{}", view.bare.as_raw_fd());
            let below = Path::new(&below);
            symlink("two", below.join("new")).unwrap();
            fs::rename(below.join("new"), below.join("link")).unwrap();
            let now = Dependency::inside(&view.bare, Path::new("/link"), &Media::default());
            assert_eq!(now.unwrap(), Some(two));
            assert!(of(&all[..3], &request, &view).is_ok());
            let refused = of(&all[3..], &request, &view).unwrap_err();
            assert!(refused.contains("/link changed"), "{refused}");
        });
        tried.join().unwrap();
    }
}
