//! Which calls take paths, and what they do with them, by x86-64's numbers.

/// Where a path stands among the arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    /// The descriptor it starts at; none for the working directory.
    pub(super) directory: Option<usize>,
    pub(super) path: usize,
}

/// What a call does with its path; numbers are those of arguments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// With these flags.
    Open(usize),
    /// With a `struct open_how`.
    OpenHow(usize),
    /// creat(2).
    Create,
    Execute,
    Truncate,
    /// A directory, a link, or what the mode says.
    Make(Option<usize>),
    Remove,
    Move(At),
    Link(At),
    MapCode,
    /// ioctl(2).
    Command,
    Lock,
    /// fcntl(2).
    Control,
    Bind,
    Connect,
    /// Not followed.
    Unseen(&'static str),
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    number: u32,
    pub(super) at: At,
    pub(super) action: Action,
}

const fn at(directory: usize, path: usize) -> At {
    At {
        directory: Some(directory),
        path,
    }
}

const fn plain(path: usize) -> At {
    At {
        directory: None,
        path,
    }
}

const fn call(number: u32, at: At, action: Action) -> Call {
    Call { number, at, action }
}

const CALLS: [Call; 35] = [
    call(2, plain(0), Action::Open(1)),
    call(257, at(0, 1), Action::Open(2)),
    call(437, at(0, 1), Action::OpenHow(2)),
    call(85, plain(0), Action::Create),
    call(59, plain(0), Action::Execute),
    call(322, at(0, 1), Action::Execute),
    call(76, plain(0), Action::Truncate),
    // mkdir, mkdirat, mknod, mknodat, symlink, symlinkat
    call(83, plain(0), Action::Make(None)),
    call(258, at(0, 1), Action::Make(None)),
    call(133, plain(0), Action::Make(Some(1))),
    call(259, at(0, 1), Action::Make(Some(2))),
    call(88, plain(1), Action::Make(None)),
    call(266, at(1, 2), Action::Make(None)),
    // unlink, unlinkat, rmdir
    call(87, plain(0), Action::Remove),
    call(263, at(0, 1), Action::Remove),
    call(84, plain(0), Action::Remove),
    // rename, renameat, renameat2
    call(82, plain(0), Action::Move(plain(1))),
    call(264, at(0, 1), Action::Move(at(2, 3))),
    call(316, at(0, 1), Action::Move(at(2, 3))),
    // link, linkat
    call(86, plain(0), Action::Link(plain(1))),
    call(265, at(0, 1), Action::Link(at(2, 3))),
    // mmap, and mprotect does not tell of which file
    call(9, plain(0), Action::MapCode),
    call(16, plain(0), Action::Command),
    call(73, plain(0), Action::Lock),
    call(72, plain(0), Action::Control),
    call(49, plain(0), Action::Bind),
    call(42, plain(0), Action::Connect),
    call(304, plain(0), Action::Unseen("open_by_handle_at")),
    call(425, plain(0), Action::Unseen("io_uring")),
    // mount, umount2, open_tree, move_mount, fsopen, pivot_root
    call(165, plain(0), Action::Unseen("mounts")),
    call(166, plain(0), Action::Unseen("mounts")),
    call(428, plain(0), Action::Unseen("mounts")),
    call(429, plain(0), Action::Unseen("mounts")),
    call(430, plain(0), Action::Unseen("mounts")),
    call(155, plain(0), Action::Unseen("mounts")),
];

pub(super) fn find(number: u32) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == number)
}

pub(super) fn numbers() -> impl Iterator<Item = u32> {
    CALLS.iter().map(|call| call.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_twice() {
        let mut all: Vec<u32> = numbers().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), CALLS.len());
    }
}
