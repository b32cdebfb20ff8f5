//! What an overlay is made of, by the kernel's list of mounts (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::mountinfo::unescape;

/// The list is not read further, in bytes.
pub(super) const MAX_LIST: u64 = 16 << 20;

/// A mount of an overlay.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overlay {
    /// Where it is mounted.
    pub(super) place: PathBuf,
    /// Which of its directories is mounted there.
    pub(super) root: PathBuf,
    /// Words that hold for the mount: `ro`, `nosuid`, ...
    pub(super) flags: Vec<String>,
    /// The lower directories, the top one first.
    pub(super) lower: Vec<PathBuf>,
    /// The lowest ones that only hold data of files that appear elsewhere.
    pub(super) data_only: usize,
    /// The directory that takes changes, and the one beside it.
    pub(super) upper: Option<(PathBuf, PathBuf)>,
    /// Every other option that says how it behaves.
    pub(super) options: Vec<(String, Option<String>)>,
}

/// Why a mount's directories cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclear {
    /// The mount is not listed.
    Unlisted,
    /// An option is not what the kernel writes.
    Option(String),
    /// A directory is named from a place that is not known.
    Relative(PathBuf),
}

impl Overlay {
    /// The overlay whose mount has this number.
    pub(super) fn of(list: &[u8], number: u64) -> Result<Self, Unclear> {
        let number = number.to_string();
        let fields = list
            .split(|byte| *byte == b'\n')
            .map(|line| line.split(|byte| *byte == b' ').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&number.as_bytes()))
            .ok_or(Unclear::Unlisted)?;
        let separator = fields.iter().position(|field| *field == b"-");
        let at = |index: usize| fields.get(index).copied().ok_or(Unclear::Unlisted);
        let options = at(separator.ok_or(Unclear::Unlisted)? + 3)?;
        let mut overlay = Self {
            root: path(&unescape(at(3)?)),
            place: path(&unescape(at(4)?)),
            flags: words(at(5)?),
            ..Self::default()
        };
        let (mut upper, mut work) = (None, None);
        for option in split(options, b',') {
            let mut halves = option.splitn(2, |byte| *byte == b'=');
            let name = halves.next().unwrap_or_default();
            let value = halves.next().map(unescape);
            let named = || path(value.as_deref().unwrap_or_default());
            match name {
                b"lowerdir" => overlay.lower(value.as_deref().unwrap_or_default()),
                b"lowerdir+" => overlay.lower.push(named()),
                b"datadir+" => {
                    overlay.lower.push(named());
                    overlay.data_only += 1;
                }
                b"upperdir" => upper = Some(named()),
                b"workdir" => work = Some(named()),
                // What holds for any file system is among the mount's words, or ours to say.
                b"rw" | b"ro" => {}
                _ => {
                    let text = |bytes: &[u8]| {
                        String::from_utf8(bytes.to_owned()).map_err(|_| {
                            Unclear::Option(String::from_utf8_lossy(option).into_owned())
                        })
                    };
                    let value = value.as_deref().map(text).transpose()?;
                    overlay.options.push((text(name)?, value));
                }
            }
        }
        overlay.upper = match (upper, work) {
            (Some(upper), Some(work)) => Some((upper, work)),
            (None, _) => None,
            (Some(_), None) => return Err(Unclear::Option("upperdir without workdir".to_owned())),
        };
        if overlay.lower.is_empty() {
            return Err(Unclear::Option("no lowerdir".to_owned()));
        }
        Ok(overlay)
    }

    /// `/2:/1::/data`; a colon or backslash of a name has a backslash before it.
    fn lower(&mut self, list: &[u8]) {
        let mut only_data = false;
        for name in split(list, b':') {
            if name.is_empty() {
                only_data = true;
                continue;
            }
            self.lower.push(path(&without_backslashes(name)));
            self.data_only += usize::from(only_data);
        }
    }

    /// Makes every directory's path absolute. Engines name them relative to the directory that they
    /// were in when the list was too long for the kernel; that is above the place of the mount or
    /// above one of the directories. `exists` tells whether a path is there.
    pub(super) fn make_absolute(&mut self, exists: impl Fn(&Path) -> bool) -> Result<(), Unclear> {
        let all = || {
            let upper = self.upper.iter().flat_map(|(upper, work)| [upper, work]);
            self.lower.iter().chain(upper)
        };
        let Some(first) = all().find(|path| path.is_relative()) else {
            return Ok(());
        };
        let known = all().filter(|path| path.is_absolute());
        let above = known
            .chain([&self.place])
            .flat_map(|p| p.ancestors().skip(1));
        let mut bases: Vec<&Path> = above.collect();
        bases.sort_unstable();
        bases.dedup();
        bases.retain(|base| all().all(|path| exists(&base.join(path))));
        let [base] = bases[..] else {
            return Err(Unclear::Relative(first.clone()));
        };
        let base = base.to_owned();
        let upper = self.upper.iter_mut().flat_map(|(u, w)| [u, w]);
        for path in self.lower.iter_mut().chain(upper) {
            *path = base.join(&*path);
        }
        Ok(())
    }
}

/// What is mounted below a directory, other than at it.
pub(super) fn below(list: &[u8], directory: &Path) -> Option<PathBuf> {
    let lines = list.split(|byte| *byte == b'\n');
    let mut places = lines.filter_map(|line| {
        let place = line.split(|byte| *byte == b' ').nth(4)?;
        Some(path(&unescape(place)))
    });
    places.find(|place| place != directory && place.starts_with(directory))
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_owned()))
}

fn words(field: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(field);
    text.split(',').map(str::to_owned).collect()
}

/// Parts between separators that neither follow a backslash nor stand in double quotes.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in text.iter().enumerate() {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn without_backslashes(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        match (byte, rest.clone().next()) {
            (b'\\', Some(next)) => {
                bytes.push(*next);
                rest.next();
            }
            _ => bytes.push(*byte),
        }
    }
    bytes
}

/// The number of the mount that `/proc/self/fdinfo/FD` tells of.
pub(super) fn mount_number(fdinfo: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|l| l.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// The deepest directory that holds both.
pub(super) fn common<'a>(one: &'a Path, other: &Path) -> Option<&'a Path> {
    one.ancestors()
        .skip(1)
        .find(|a| other.starts_with(a) && *a != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &str) -> Result<Overlay, Unclear> {
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             22 1 0:31 /part /b/root\\040fs rw,nosuid shared:3 - overlay overlay {options}\n"
        );
        Overlay::of(text.as_bytes(), 22)
    }

    #[test]
    fn an_overlay_is_read_with_all_its_options() {
        let found = of(
            "rw,context=\"a:b:c1,c2\",lowerdir=/l/2:/l/1,upperdir=/u/fs,workdir=/u/work,\
                        index=off,userxattr",
        )
        .unwrap();
        assert_eq!(found.place, Path::new("/b/root fs"));
        assert_eq!(found.root, Path::new("/part"));
        assert_eq!(found.flags, ["rw", "nosuid"]);
        assert_eq!(found.lower, [Path::new("/l/2"), Path::new("/l/1")]);
        assert_eq!(found.upper, Some(("/u/fs".into(), "/u/work".into())));
        let options: Vec<_> = found
            .options
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let label = ("context", Some("\"a:b:c1,c2\""));
        assert_eq!(
            options,
            [label, ("index", Some("off")), ("userxattr", None)]
        );
    }

    #[test]
    fn names_keep_their_colons_commas_and_spaces() {
        let found = of("ro,lowerdir=/a\\134:b:/c\\054d\\040e").unwrap();
        assert_eq!(found.lower.len(), 2, "{found:?}");
        assert_eq!(found.lower[1], Path::new("/c,d e"));
        let found = of("ro,lowerdir+=/a:b,lowerdir+=/c,datadir+=/d").unwrap();
        assert_eq!(found.lower, ["/a:b", "/c", "/d"].map(PathBuf::from));
        assert_eq!(found.data_only, 1);
        assert_eq!(of("ro,lowerdir=/a:/b::/d").unwrap().data_only, 1);
    }

    #[test]
    fn what_is_unclear_is_said() {
        assert_eq!(Overlay::of(b"", 22), Err(Unclear::Unlisted));
        assert!(matches!(of("rw"), Err(Unclear::Option(_))));
        assert!(matches!(
            of("rw,lowerdir=/l,upperdir=/u"),
            Err(Unclear::Option(_))
        ));
    }

    #[test]
    fn relative_names_are_found_only_where_there_is_one_place() {
        let options =
            "rw,lowerdir=1/fs:2/fs,upperdir=/s/snapshots/3/fs,workdir=/s/snapshots/3/work";
        let exists =
            |known: &'static [&str]| move |path: &Path| known.iter().any(|k| path == Path::new(k));
        let upper: &[&str] = &["/s/snapshots/3/fs", "/s/snapshots/3/work"];
        assert!(!upper.is_empty());
        let mut found = of(options).unwrap();
        found
            .make_absolute(exists(&[
                "/s/snapshots/1/fs",
                "/s/snapshots/2/fs",
                "/s/snapshots/3/fs",
                "/s/snapshots/3/work",
            ]))
            .unwrap();
        assert_eq!(found.lower[0], Path::new("/s/snapshots/1/fs"));
        assert_eq!(
            found.upper.as_ref().unwrap().0,
            Path::new("/s/snapshots/3/fs")
        );
        let mut found = of(options).unwrap();
        let error = found.make_absolute(|_| true).unwrap_err();
        assert_eq!(error, Unclear::Relative("1/fs".into()));
        assert!(of(options).unwrap().make_absolute(|_| false).is_err());
    }

    #[test]
    fn the_directory_that_holds_both() {
        let of = |a, b| common(Path::new(a), Path::new(b)).map(Path::to_owned);
        assert_eq!(of("/s/3/fs", "/s/3/work"), Some("/s/3".into()));
        assert_eq!(of("/s/3/fs", "/t/work"), Some("/".into()));
        assert_eq!(mount_number("pos:\t0\nflags:\t0\nmnt_id:\t29\n"), Some(29));
        let list = b"1 0 8:1 / / rw - ext4 d rw\n2 1 0:3 / /b rw - overlay o rw\n3 2 0:4 / /b/x rw - proc p rw\n";
        assert_eq!(below(list, Path::new("/b")), Some("/b/x".into()));
        assert_eq!(below(list, Path::new("/b/x")), None);
    }
}
