//! The device list in v1's `devices.allow` and `devices.deny`.

use std::path::Path;

use super::rules::{Access, Key, Kind, Rules};
use crate::cgroup::{Error, file};

pub(super) fn apply(dir: &Path, rules: &Rules) -> Result<(), Error> {
    // "a" resets the list: first nothing (or all) is allowed, then come the exceptions. The
    // kernel refuses (EINVAL) where there are nested cgroups, so this is for fresh ones.
    let (reset, except) = if rules.allow_by_default {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    file::write(&dir.join(reset), "a")?;
    for (key, access) in &rules.exceptions {
        file::write(&dir.join(except), &line(key, *access))?;
    }
    Ok(())
}

fn line(key: &Key, access: Access) -> String {
    let kind = match key.kind {
        Kind::Block => 'b',
        Kind::Char => 'c',
    };
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    format!(
        "{kind} {}:{} {}",
        number(key.major),
        number(key.minor),
        access.letters()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_kernel_reads_them() {
        let key = |kind, major, minor| Key { kind, major, minor };
        for (key, access, expected) in [
            (key(Kind::Char, Some(1), Some(3)), Access::ALL, "c 1:3 rwm"),
            (key(Kind::Block, Some(8), None), Access::READ, "b 8:* r"),
            (key(Kind::Char, None, None), Access(5), "c *:* wm"),
        ] {
            assert_eq!(line(&key, access), expected);
        }
    }
}
