//! Streams between host and guest.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use cofferdam_integration::error::Result;

use crate::machine::{LIMIT, Machine};

/// Bytes that repeat late and differ by seed.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    let byte = |index: usize| {
        (index
            .wrapping_mul(31)
            .wrapping_add(index >> 8)
            .wrapping_add(seed))
            % 251
    };
    (0..length)
        .filter_map(|index| u8::try_from(byte(index)).ok())
        .collect()
}

#[test]
fn streams_carry_all_in_order_beside_each_other() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let talk = |seed: usize| {
        let mut stream = machine.request("echo").expect("the probe listens");
        let sent = pattern(seed, 300_000 + seed);
        let mut writer = stream.try_clone().expect("clone");
        let bytes = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).expect("write");
            writer.shutdown(Shutdown::Write).expect("shut down");
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("read");
        writing.join().expect("the writer");
        assert!(
            got == sent,
            "{} of {} bytes came back",
            got.len(),
            sent.len()
        );
    };
    let talk = &talk;
    thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || talk(seed));
        }
    });
    Ok(())
}

#[test]
fn ports_that_nobody_listens_at_are_refused() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    assert!(machine.connect(999).is_none());
    for words in [
        "",
        "CONNECT",
        "CONNECT -1",
        "CONNECT 4294967296",
        "HELLO 1024",
        &"x".repeat(100),
    ] {
        let mut stream = UnixStream::connect(machine.dir.path().join("vsock")).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
        writeln!(stream, "{words}").expect("write");
        let mut answer = Vec::new();
        // What was not read when it was closed makes this a reset.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{words}"),
        }
        assert!(answer.is_empty(), "{words}: {answer:?}");
    }
    assert!(machine.connect(1024).is_some());
    Ok(())
}

/// The host offers nothing: whatever a guest connects to is refused.
#[test]
fn a_guest_reaches_no_port_of_the_host() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    for port in [0, 1, 1024, 1 << 30, u32::MAX - 1] {
        let answer = machine.ask_text(&format!("call-host {port}"));
        assert!(
            answer.contains("Connection reset by peer"),
            "{port}: {answer}"
        );
    }
    Ok(())
}

/// A guest that takes nothing in holds back its own stream only, and no more is kept than it said it takes.
#[test]
fn a_deaf_stream_holds_back_no_other() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let mut deaf = machine.request("deaf").expect("the probe listens");
    deaf.set_write_timeout(Some(Duration::from_secs(5)))
        .expect("set a limit");
    let mut sent = 0;
    let chunk = [0; 64 << 10];
    while let Ok(count) = deaf.write(&chunk) {
        sent += count;
        assert!(sent < 64 << 20, "it takes without end");
    }
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0\n"
    );
    Ok(())
}

/// More streams than there may be at once are turned away, and make room again.
#[test]
fn too_many_streams_are_turned_away() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let path = machine.dir.path().join("vsock");
    let silent: Vec<UnixStream> = (0..400)
        .map(|_| UnixStream::connect(&path).expect("connect"))
        .collect();
    thread::sleep(Duration::from_millis(500));
    let mut late = UnixStream::connect(&path).expect("connect");
    late.set_read_timeout(Some(LIMIT)).expect("set a limit");
    match late.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it was taken in"),
    }
    drop(silent);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0\n"
    );
    Ok(())
}

/// Linux sends a long piece in buffers of a page each.
#[test]
fn a_long_piece_of_the_guests_arrives_whole() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    for length in [4096, 40_000, 65_536, 1_000_000] {
        let burst = machine.ask(&format!("burst {length}"));
        assert_eq!(burst.len(), length);
        assert!(burst.iter().all(|&byte| byte == b'x'));
    }
    assert!(!machine.ask("file /proc/uptime").is_empty());
    Ok(())
}
