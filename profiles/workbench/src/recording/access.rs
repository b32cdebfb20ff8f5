//! What was done with files and ports, as an access document.

use std::collections::BTreeMap;

use cofferdam_profiles::access::{
    Access, AccessError, AccessPath, Confidence, Network, Place, Ports, Right, Rights, Source,
};
use cofferdam_recorder::{Touched, TouchedPlace, touch};

/// Names with so many digits on end are taken for numbers that differ from run to run.
const DIGITS: usize = 3;

const RIGHTS: [(u16, Right); 10] = [
    (touch::READ, Right::Read),
    (touch::WRITE, Right::Write),
    (touch::EXECUTE, Right::Execute),
    (touch::MAP_EXECUTE, Right::MapExecute),
    (touch::CREATE, Right::Create),
    (touch::REMOVE, Right::Remove),
    (touch::LIST, Right::List),
    (touch::IOCTL, Right::Ioctl),
    (touch::LOCK, Right::Lock),
    (touch::MAKE_DEVICE, Right::MakeDevice),
];

/// A document of what was done.
pub(super) fn document(touched: &Touched) -> Result<Access, AccessError> {
    let mut files = BTreeMap::<Place, Rights>::new();
    for (place, bits) in &touched.files {
        if let Some(place) = general(place, *bits) {
            *files.entry(place).or_default() |= rights(*bits);
        }
    }
    moved(touched, &mut files);
    let mut access = Access::new();
    for (place, rights) in files {
        access.allow(place, rights, Source::Recording)?;
    }
    access.network = Some(Network {
        tcp_bind: Ports::Only(touched.bound.clone()),
        tcp_connect: Ports::Only(touched.connected.clone()),
        ..Network::default()
    });
    access.confidence = Some(Confidence::Medium);
    access.note("holds what was done while it was recorded, and nothing else".to_owned());
    access.note("ports are those of internet sockets of any protocol".to_owned());
    if !touched.unseen.is_empty() {
        let ways: Vec<&str> = touched.unseen.iter().copied().collect();
        access.confidence = Some(Confidence::Low);
        access.note(format!(
            "not followed, and used: {}; what was done so is not here",
            ways.join(", ")
        ));
    }
    Ok(access)
}

fn rights(bits: u16) -> Rights {
    let held = RIGHTS.iter().filter(|(bit, _)| bits & bit != 0);
    held.fold(Rights::NONE, |all, (_, right)| all | (*right).into())
}

/// What comes and goes, or has a number in its name, will have another name next time: its directory
/// stands for it, unless that is the root.
fn general(place: &TouchedPlace, bits: u16) -> Option<Place> {
    let path = AccessPath::new(&place.path).ok()?;
    if place.subtree {
        return Some(Place::subtree(path));
    }
    let passing = touch::CREATE | touch::REMOVE;
    let made = bits & touch::CREATE != 0;
    let name = path.components().last().unwrap_or_default();
    let parent = path.parent().filter(|parent| !parent.is_root());
    match parent {
        Some(parent) if made && (bits & passing == passing || numbered(name)) => {
            Some(Place::subtree(parent))
        }
        _ => Some(Place::exact(path)),
    }
}

fn numbered(name: &[u8]) -> bool {
    name.windows(DIGITS)
        .any(|part| part.iter().all(u8::is_ascii_digit))
}

/// Landlock lets a file be moved between directories only if it gains no rights by that: both names get
/// what either has.
fn moved(touched: &Touched, files: &mut BTreeMap<Place, Rights>) {
    for (from, to) in &touched.moved {
        let places = [from, to].map(|path| {
            let place = TouchedPlace {
                path: path.clone(),
                subtree: false,
            };
            let bits = touched.files.get(&place).copied().unwrap_or(0);
            general(&place, bits)
        });
        let [Some(from), Some(to)] = places else {
            continue;
        };
        let of = |place: &Place| files.get(place).copied().unwrap_or_default();
        let both = of(&from) | of(&to) | Right::Create.into();
        files.insert(from, both);
        files.insert(to, both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, subtree: bool) -> TouchedPlace {
        TouchedPlace {
            path: path.as_bytes().to_vec(),
            subtree,
        }
    }

    #[test]
    fn passing_names_become_their_directory() {
        let touched = Touched {
            files: BTreeMap::from([
                (place("/etc/passwd", false), touch::READ),
                (place("/proc", true), touch::READ),
                (
                    place("/tmp/x", false),
                    touch::CREATE | touch::REMOVE | touch::WRITE,
                ),
                (place("/var/log/a.2024", false), touch::CREATE),
                (place("/run/a.pid", false), touch::CREATE | touch::WRITE),
                (place("/core.1234", false), touch::CREATE),
            ]),
            bound: [80].into(),
            unseen: ["io_uring"].into(),
            ..Touched::default()
        };
        let access = document(&touched).expect("room");
        let rules: Vec<String> = access
            .files()
            .map(|(place, grant)| format!("{} {} {}", place.path, place.subtree, grant.rights))
            .collect();
        assert_eq!(
            rules,
            [
                "/core.1234 false create",
                "/etc/passwd false read",
                "/proc true read",
                "/run/a.pid false write, create",
                "/tmp true write, create, remove",
                "/var/log true create",
            ]
        );
        assert_eq!(access.confidence, Some(Confidence::Low));
        let network = access.network.expect("ports");
        assert!(network.tcp_bind.allows(80) && !network.tcp_connect.allows(80));
    }

    #[test]
    fn what_moves_has_the_same_rights_at_both_names() {
        let (from, to) = (b"/a/x".to_vec(), b"/b/x".to_vec());
        let touched = Touched {
            files: BTreeMap::from([
                (place("/a/x", false), touch::REMOVE),
                (place("/b/x", false), touch::CREATE | touch::READ),
            ]),
            moved: [(from, to)].into(),
            ..Touched::default()
        };
        let access = document(&touched).expect("room");
        let rights: Vec<Rights> = access.files().map(|(_, grant)| grant.rights).collect();
        let both = Rights::of(&[Right::Remove, Right::Create, Right::Read]);
        assert_eq!(rights, [both, both]);
    }
}
