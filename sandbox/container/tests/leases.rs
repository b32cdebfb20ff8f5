//! Ranges of user ids, taken by many processes at once: none overlap, and those of the dead come back.
//!
//! This program executes itself for each of them. Needs no root: the holders are in a temporary directory.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test program that reports its own results"
)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use cofferdam_container::ids::{self, IdsError, Lease};
use cofferdam_profiles::userns::{Ranges, SIZE};

/// How many processes there are, and how many containers each of them makes.
const PROCESSES: usize = 200;
const EACH: usize = 5;

/// As many ranges as are wanted: the last ones are hard to find.
const ALL: usize = PROCESSES * EACH;

/// The first id of all ranges, far from what any host gives its users: one that a process has does not come back.
const FIRST: u32 = 3_700_000_000;

type Case = (&'static str, fn());

const CASES: [Case; 2] = [
    (
        "a_thousand_by_two_hundred_processes_do_not_overlap",
        a_thousand_by_two_hundred_processes_do_not_overlap,
    ),
    (
        "half_of_them_killed_while_they_take",
        half_of_them_killed_while_they_take,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [verb, place, number] = &arguments[..]
        && verb == "--take"
    {
        take_and_wait(Path::new(place), number);
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    for (name, case) in CASES {
        if wanted.is_empty() || wanted.iter().any(|text| name.contains(text.as_str())) {
            // A panic ends the program with a status that says so.
            case();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// What a creator does, as far as ids go, for each of its containers: a line on standard input lets it begin,
/// one says what it got, another lets it give all back.
fn take_and_wait(place: &Path, number: &str) {
    let mut orders = std::io::stdin().lines();
    orders.next().unwrap().unwrap();
    let taken: Vec<(PathBuf, Lease)> = (0..EACH)
        .map(|index| {
            let container = container(place, &format!("{number}-{index}"));
            let token = format!("{}-{index}", std::process::id());
            let lease = ids::take(&place.join("ids"), &ranges(), &container, &token).unwrap();
            (container, lease)
        })
        .collect();
    for (_, lease) in &taken {
        println!("{}", lease.first);
    }
    orders.next().unwrap().unwrap();
    for (container, lease) in taken {
        lease.release(&container).unwrap();
    }
}

fn ranges() -> Ranges {
    let text = format!("cofferdam:{FIRST}:{}\n", ALL as u64 * u64::from(SIZE));
    Ranges::of(&text, &text).unwrap()
}

/// The state directory of a container that this process is making.
fn container(place: &Path, name: &str) -> PathBuf {
    let directory = place.join(name);
    fs::create_dir(&directory).unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let start: u64 = fields.split_whitespace().nth(19).unwrap().parse().unwrap();
    let state = serde_json::json!({
        "oci_version": "1.0.2", "id": name, "pid": null, "pid_start_time": 0,
        "creator": [std::process::id(), start], "bundle": "/b", "rootfs": "/r", "created": "",
        "owner": "root", "cgroup": null, "seccomp": [], "annotations": {}, "late_hooks": false,
    });
    fs::write(directory.join("intent.json"), state.to_string()).unwrap();
    directory
}

/// A creator that waits for its orders.
struct Creator {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Creator {
    fn new(place: &Path, number: usize) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .arg("--take")
            .arg(place)
            .arg(number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    fn order(&mut self) {
        let orders = self.process.stdin.as_mut().unwrap();
        orders.write_all(b"go on\n").unwrap();
    }

    /// The first ids of what it got.
    fn taken(&mut self) -> Vec<u32> {
        let lines = self.said.by_ref().lines().take(EACH);
        lines.map(|line| line.unwrap().parse().unwrap()).collect()
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn give_back(mut self) {
        self.order();
        assert!(self.process.wait().unwrap().success());
    }
}

fn creators(place: &Path) -> Vec<Creator> {
    // All are there before the first begins.
    let mut all: Vec<_> = (0..PROCESSES).map(|n| Creator::new(place, n)).collect();
    all.iter_mut().for_each(Creator::order);
    all
}

/// Counts ranges, of which no two may have an id in common.
fn disjoint(firsts: impl IntoIterator<Item = u32>) -> usize {
    let mut firsts: Vec<u32> = firsts.into_iter().collect();
    firsts.sort_unstable();
    for pair in firsts.windows(2) {
        assert!(pair[1] - pair[0] >= SIZE, "{pair:?} overlap");
    }
    firsts.len()
}

/// Takes ranges until none is left, for containers of this process.
fn take_the_rest(place: &Path, name: &str) -> Vec<(PathBuf, Lease)> {
    let mut taken = Vec::new();
    loop {
        let container = container(place, &format!("{name}-{}", taken.len()));
        let token = format!("{name}-{}", taken.len());
        match ids::take(&place.join("ids"), &ranges(), &container, &token) {
            Ok(lease) => taken.push((container, lease)),
            Err(IdsError::Exhausted { count }) => {
                assert_eq!(count as usize, ALL);
                return taken;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn firsts(taken: &[(PathBuf, Lease)]) -> impl Iterator<Item = u32> {
    taken.iter().map(|(_, lease)| lease.first)
}

fn a_thousand_by_two_hundred_processes_do_not_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let mut all = creators(place);
    let mut held: Vec<Vec<u32>> = all.iter_mut().map(Creator::taken).collect();
    assert_eq!(disjoint(held.iter().flatten().copied()), ALL);
    // While they live nothing is left.
    assert!(take_the_rest(place, "early").is_empty());
    let living = all.split_off(PROCESSES / 2);
    let theirs = held.split_off(PROCESSES / 2);
    all.into_iter().for_each(Creator::kill);
    let mine = take_the_rest(place, "late");
    // What came back is what the dead had, and nothing of the living.
    let dead: BTreeSet<u32> = held.into_iter().flatten().collect();
    assert_eq!(firsts(&mine).collect::<BTreeSet<_>>(), dead);
    assert_eq!(
        disjoint(firsts(&mine).chain(theirs.into_iter().flatten())),
        ALL
    );
    living.into_iter().for_each(Creator::give_back);
    assert_eq!(take_the_rest(place, "last").len(), ALL / 2);
}

/// A range whose taker was killed between two steps belongs to nobody.
fn half_of_them_killed_while_they_take() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let mut all = creators(place);
    let mut living = all.split_off(PROCESSES / 2);
    all.into_iter().for_each(Creator::kill);
    let theirs: Vec<u32> = living.iter_mut().flat_map(Creator::taken).collect();
    assert_eq!(theirs.len(), ALL / 2);
    let mine = take_the_rest(place, "rest");
    assert_eq!(mine.len(), ALL / 2);
    assert_eq!(disjoint(firsts(&mine).chain(theirs)), ALL);
    living.into_iter().for_each(Creator::give_back);
    for (container, lease) in mine {
        lease.release(&container).unwrap();
    }
    let left = fs::read_dir(place.join("ids")).unwrap().count();
    assert_eq!(left, 0, "ranges are left that nobody has");
}
