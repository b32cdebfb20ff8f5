//! Mount options as the OCI spec writes them -> what the kernel is asked for.

use super::error::MountProblem;
use super::sys::{MountAttr, attr};

/// How a mount and its neighbours in other namespaces follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    /// The `MS_*` value that `mount_setattr` takes.
    pub(super) const fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }

    /// `rslave` -> (Slave, recursive).
    pub(super) fn parse(text: &str) -> Option<(Self, bool)> {
        let (name, recursive) = match text.strip_prefix('r') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let kind = match name {
            "private" => Self::Private,
            "slave" => Self::Slave,
            "shared" => Self::Shared,
            "unbindable" => Self::Unbindable,
            _ => return None,
        };
        Some((kind, recursive))
    }
}

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Attributes {
    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    /// Chooses one of the access-time modes, which share three bits.
    fn atime(&mut self, mode: u64) {
        self.set = (self.set & !attr::ATIME) | mode;
        self.clear |= attr::ATIME;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0
    }

    pub(super) fn to_mount_attr(self) -> MountAttr {
        MountAttr {
            set: self.set,
            clear: self.clear,
            ..MountAttr::default()
        }
    }
}

/// One parsed list of options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MountOptions {
    /// `Some(recursive)` for `bind` and `rbind`.
    pub(super) bind: Option<bool>,
    /// Change the mount that is already there.
    pub(super) remount: bool,
    /// For the mount itself.
    pub(super) attributes: Attributes,
    /// For the mount and everything below it (`rro`, `rnosuid`, ...).
    pub(super) recursive: Attributes,
    /// In the order given: `["unbindable", "private"]` ends private.
    pub(super) propagation: Option<(Propagation, bool)>,
    /// `Some(recursive)` for `idmap` and `ridmap`.
    pub(super) idmap: Option<bool>,
    /// Fill the new tmpfs with what the image has at the destination.
    pub(super) copy_up: bool,
    /// Superblock options without a value, besides `data`.
    pub(super) superblock: Vec<&'static str>,
    /// What only the file system knows: `size=64k`, `newinstance`.
    pub(super) data: Vec<(String, Option<String>)>,
}

/// `ro` -> set, `rw` -> clear; the recursive forms have an `r` before them.
fn attribute(name: &str, into: &mut Attributes) -> bool {
    match name {
        "ro" => into.set(attr::RDONLY),
        "rw" => into.clear(attr::RDONLY),
        "nosuid" => into.set(attr::NOSUID),
        "suid" => into.clear(attr::NOSUID),
        "nodev" => into.set(attr::NODEV),
        "dev" => into.clear(attr::NODEV),
        "noexec" => into.set(attr::NOEXEC),
        "exec" => into.clear(attr::NOEXEC),
        "nodiratime" => into.set(attr::NODIRATIME),
        "diratime" => into.clear(attr::NODIRATIME),
        "nosymfollow" => into.set(attr::NOSYMFOLLOW),
        "symfollow" => into.clear(attr::NOSYMFOLLOW),
        "noatime" => into.atime(attr::NOATIME),
        "strictatime" => into.atime(attr::STRICTATIME),
        // The kernel's default since 2.6.30, so also what "not the other one" means.
        "relatime" | "atime" | "nostrictatime" => into.atime(0),
        "norelatime" => into.atime(attr::STRICTATIME),
        _ => return false,
    }
    true
}

/// Options of the superblock that mount(2) takes as flags. `None`: the opposite, the default.
fn superblock(name: &str) -> Option<Option<&'static str>> {
    Some(match name {
        "sync" => Some("sync"),
        "dirsync" => Some("dirsync"),
        "lazytime" => Some("lazytime"),
        "mand" => Some("mand"),
        "iversion" => Some("iversion"),
        "acl" => Some("acl"),
        "noacl" => Some("noacl"),
        "async" | "nolazytime" | "nomand" | "noiversion" | "loud" | "silent" | "defaults" => None,
        _ => return None,
    })
}

impl MountOptions {
    /// Reads the options of a mount of this type in order; the later of two opposites holds.
    pub(super) fn parse(fstype: &str, options: &[String]) -> Result<Self, MountProblem> {
        let mut parsed = Self {
            bind: (fstype == "bind").then_some(false),
            ..Self::default()
        };
        for option in options {
            parsed.one(option);
        }
        // A bind takes the source's file system as it is. Saying so beats ignoring `size=` there.
        if parsed.bind.is_some() || parsed.remount {
            if let Some((key, value)) = parsed.data.first() {
                return Err(MountProblem::Option {
                    option: match value {
                        Some(value) => format!("{key}={value}"),
                        None => key.clone(),
                    },
                    problem: "unknown for a bind or a remount",
                });
            }
        } else if parsed.idmap.is_some() {
            return Err(MountProblem::Option {
                option: "idmap".to_owned(),
                problem: "only binds can be id-mapped here",
            });
        }
        Ok(parsed)
    }

    fn one(&mut self, option: &str) {
        if attribute(option, &mut self.attributes) {
            return;
        }
        if let Some(rest) = option.strip_prefix('r')
            && attribute(rest, &mut self.recursive)
        {
            return;
        }
        if let Some(propagation) = Propagation::parse(option) {
            self.propagation = Some(propagation);
            return;
        }
        if let Some(flag) = superblock(option) {
            self.superblock.extend(flag);
            return;
        }
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "" => {}
            _ => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }

    /// The attributes of a mount that has none below it: `rro` means `ro` there.
    pub(super) fn alone(&self) -> Attributes {
        let set = self.attributes.set | self.recursive.set;
        Attributes {
            set,
            clear: (self.attributes.clear | self.recursive.clear) & !set,
        }
    }

    /// Whether the file system is told `key`.
    pub(super) fn has_data(&self, key: &str) -> bool {
        self.data.iter().any(|(name, _)| name == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        MountOptions::parse("none", &options).unwrap()
    }

    #[test]
    fn attributes_and_their_opposites() {
        let cases: &[(&[&str], u64, u64)] = &[
            (&[], 0, 0),
            (&["defaults"], 0, 0),
            (&["ro"], attr::RDONLY, 0),
            (&["ro", "rw"], 0, attr::RDONLY),
            (&["rw", "ro"], attr::RDONLY, 0),
            (
                &["nosuid", "noexec", "nodev"],
                attr::NOSUID | attr::NOEXEC | attr::NODEV,
                0,
            ),
            (&["nosuid", "suid"], 0, attr::NOSUID),
            (&["strictatime"], attr::STRICTATIME, attr::ATIME),
            (&["strictatime", "noatime"], attr::NOATIME, attr::ATIME),
            (&["noatime", "relatime"], 0, attr::ATIME),
            (&["nodiratime"], attr::NODIRATIME, 0),
            (&["nosymfollow"], attr::NOSYMFOLLOW, 0),
        ];
        for (options, set, clear) in cases {
            let parsed = parse(options);
            assert_eq!(
                (parsed.attributes.set, parsed.attributes.clear),
                (*set, *clear),
                "{options:?}"
            );
            assert!(parsed.recursive.is_empty(), "{options:?}");
            assert!(parsed.data.is_empty(), "{options:?}");
        }
    }

    #[test]
    fn recursive_attributes() {
        let cases: &[(&str, u64, u64)] = &[
            ("rro", attr::RDONLY, 0),
            ("rrw", 0, attr::RDONLY),
            ("rnosuid", attr::NOSUID, 0),
            ("rsuid", 0, attr::NOSUID),
            ("rnodev", attr::NODEV, 0),
            ("rdev", 0, attr::NODEV),
            ("rnoexec", attr::NOEXEC, 0),
            ("rexec", 0, attr::NOEXEC),
            ("rnodiratime", attr::NODIRATIME, 0),
            ("rdiratime", 0, attr::NODIRATIME),
            ("rnoatime", attr::NOATIME, attr::ATIME),
            ("rrelatime", 0, attr::ATIME),
            ("rnorelatime", attr::STRICTATIME, attr::ATIME),
            ("rstrictatime", attr::STRICTATIME, attr::ATIME),
            ("rnosymfollow", attr::NOSYMFOLLOW, 0),
            ("rsymfollow", 0, attr::NOSYMFOLLOW),
        ];
        for (option, set, clear) in cases {
            let parsed = parse(&[option]);
            assert_eq!(
                (parsed.recursive.set, parsed.recursive.clear),
                (*set, *clear),
                "{option}"
            );
            assert!(parsed.attributes.is_empty(), "{option}");
        }
    }

    #[test]
    fn binds_and_propagation() {
        type Expected = (Option<bool>, Option<(Propagation, bool)>);
        let cases: &[(&[&str], Expected)] = &[
            (&["bind"], (Some(false), None)),
            (&["rbind"], (Some(true), None)),
            (&["rbind", "bind"], (Some(true), None)),
            (
                &["rbind", "rprivate"],
                (Some(true), Some((Propagation::Private, true))),
            ),
            (
                &["bind", "slave"],
                (Some(false), Some((Propagation::Slave, false))),
            ),
            (
                &["rbind", "rshared", "rslave"],
                (Some(true), Some((Propagation::Slave, true))),
            ),
            (
                &["bind", "runbindable"],
                (Some(false), Some((Propagation::Unbindable, true))),
            ),
        ];
        for (options, (bind, propagation)) in cases {
            let parsed = parse(options);
            assert_eq!(parsed.bind, *bind, "{options:?}");
            assert_eq!(parsed.propagation, *propagation, "{options:?}");
        }
    }

    #[test]
    fn what_the_file_system_is_told() {
        let parsed = parse(&[
            "nosuid",
            "newinstance",
            "mode=0620",
            "context=\"a=b\"",
            "sync",
        ]);
        assert_eq!(
            parsed.data,
            [
                ("newinstance".to_owned(), None),
                ("mode".to_owned(), Some("0620".to_owned())),
                ("context".to_owned(), Some("\"a=b\"".to_owned())),
            ]
        );
        assert_eq!(parsed.superblock, ["sync"]);
        assert!(parsed.has_data("mode"));
        assert!(!parsed.has_data("size"));
    }

    #[test]
    fn a_bind_refuses_what_it_would_ignore() {
        for options in [
            &["bind", "size=64k"][..],
            &["rbind", "rorw"],
            &["remount", "mode=755"],
            &["idmap"],
        ] {
            let owned: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
            assert!(MountOptions::parse("none", &owned).is_err(), "{options:?}");
        }
    }
}
