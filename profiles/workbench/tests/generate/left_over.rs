//! Signals, and what programs leave behind.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::archive::{Tar, image_of, program};
use crate::command::Place;

/// One that waits for the rest of an image, having made its directory.
fn waiting(place: &Place) -> Child {
    let mut child = place
        .command(&[&"generate", &"--image", &"-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let image = image_of(Tar::new().file("server", &program(95)));
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&image[..1024])
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while left(place) == 0 {
        assert!(Instant::now() < deadline, "no directory was made");
        thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn its_memory_is_bounded_before_it_reads_an_image() {
    let place = Place::new();
    let mut child = waiting(&place);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let most = limits
        .lines()
        .find(|line| line.starts_with("Max address space"));
    let most: Vec<&str> = most.unwrap().split_whitespace().skip(3).collect();
    let bounded = |text: &str| text.parse::<u64>().is_ok_and(|bytes| bytes <= 2 << 30);
    // Neither can it raise the bound.
    assert!(bounded(most[0]) && bounded(most[1]), "{limits}");
}

fn left(place: &Place) -> usize {
    fs::read_dir(place.path("tmp")).unwrap().count()
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new();
        let mut child = waiting(&place);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.code(),
            Some(128 + signal as i32),
            "{signal}: {status:?}"
        );
        assert_eq!(left(&place), 0, "{signal}");
    }
}

#[test]
fn what_a_killed_one_left_goes_with_the_next() {
    let place = Place::new();
    let mut child = waiting(&place);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(left(&place), 1);
    // Others' directories, and those in use, stay: of one that still runs, and of a file of this name.
    let mut other = waiting(&place);
    place.write("tmp/cofferdam-image-file", "");
    fs::create_dir(place.path("tmp/somebody-else")).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    for entry in fs::read_dir(place.path("tmp")).unwrap() {
        File::open(entry.unwrap().path())
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    let image = place.write(
        "image.tar",
        image_of(Tar::new().file("server", &program(95))),
    );
    let output = place
        .command(&[&"generate", &"--image", &image])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        left(&place),
        3,
        "of the running one, and two that are not ours"
    );
    drop(other.stdin.take());
    assert_eq!(
        other.wait().unwrap().code(),
        Some(2),
        "the image was not whole"
    );
    assert_eq!(left(&place), 2);
}
