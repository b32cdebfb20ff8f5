//! Boot, end, pause.

use std::fs;
use std::time::Duration;

use cofferdam_integration::error::{At, Result};
use cofferdam_vmm::End;

use crate::machine::{LIMIT, Machine, threads};

#[test]
fn it_boots_and_ends_when_the_guest_resets_it() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let time = machine.vm.boot_time().expect("the first process has run");
    assert!(time < LIMIT, "{time:?}");
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0\n"
    );
    assert!(machine.vm.wait(Some(Duration::ZERO)).is_none());
    assert_eq!(machine.ask_text("reset"), "");
    let end = machine.vm.wait(Some(LIMIT));
    assert!(matches!(end, Some(End::Reset)), "{end:?}");
    let dir = machine.dir.path().to_owned();
    drop(machine);
    let left = threads()?;
    assert!(
        !left
            .iter()
            .any(|name| name.starts_with("vcpu") || name == "devices"),
        "{left:?}"
    );
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn it_has_the_processors_and_the_memory_it_was_given() -> Result<()> {
    let Some(machine) = Machine::boot(|config, _| (config.vcpus, config.memory) = (3, 300))? else {
        return Ok(());
    };
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0-2\n"
    );
    let memory = machine.ask_text("file /proc/meminfo");
    let total: u32 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("MemTotal");
    // KiB, less what the kernel keeps for itself.
    assert!((250 << 10..300 << 10).contains(&total), "{memory}");
    Ok(())
}

#[test]
fn a_panic_leaves_its_last_lines() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    let _stream = machine.request("panic").expect("the probe listens");
    let end = machine.vm.wait(Some(LIMIT));
    let lines = machine.vm.last_lines(30);
    assert!(matches!(end, Some(End::Panicked)), "{end:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("Kernel panic - not syncing")),
        "{lines:#?}"
    );
    Ok(())
}

/// The unit tests write more: a byte takes half a millisecond in the lab.
#[test]
fn of_a_flood_on_the_console_the_end_is_kept() -> Result<()> {
    let Some(machine) = Machine::boot(|_, _| {})? else {
        return Ok(());
    };
    assert_eq!(machine.ask_text("flood 300"), "done\n");
    let console = machine.dir.path().join("console");
    assert!(fs::metadata(&console).at("look at", &console)?.len() >= 300 * 64);
    let lines = machine.vm.last_lines(usize::MAX);
    // 16 KiB of lines of 63 letters and their ends, the first of them cut.
    assert!((240..=256).contains(&lines.len()), "{}", lines.len());
    assert_eq!(lines.last(), Some(&"x".repeat(63)));
    Ok(())
}

#[test]
fn a_pause_stops_it_and_its_state_is_plain_data() -> Result<()> {
    let Some(machine) = Machine::boot(|config, _| config.vcpus = 2)? else {
        return Ok(());
    };
    let mut stream = machine.request("echo").expect("the probe listens");
    for round in 0..20 {
        let state = machine.vm.pause().expect("pause");
        assert_eq!((state.vcpus.len(), state.devices.len()), (2, 3));
        let text = serde_json::to_string(&state).expect("serialise");
        let again: cofferdam_vmm::vm::VmState = serde_json::from_str(&text).expect("read back");
        assert_eq!(again.devices, state.devices);
        // Linux runs in the upper half.
        let upper = |vcpu: &cofferdam_vmm::arch::VcpuState| vcpu.regs.rip >> 63 == 1;
        assert!(state.vcpus.iter().any(upper) || round > 0, "{state:?}");
        let sent = format!("round {round}\n");
        std::io::Write::write_all(&mut stream, sent.as_bytes()).expect("write");
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("set a limit");
        let mut answer = vec![0; sent.len()];
        let early = std::io::Read::read(&mut stream, &mut answer);
        assert!(early.is_err(), "a paused guest answered: {early:?}");
        assert!(state.vcpus.iter().all(|vcpu| vcpu.xsave.len() == 1024));
        machine.vm.resume();
        stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
        std::io::Read::read_exact(&mut stream, &mut answer).expect("read");
        assert_eq!(answer, sent.as_bytes());
    }
    Ok(())
}

/// vCPUs write to the console themselves: with one at work it grows.
#[test]
fn a_pause_stops_processors_and_a_short_run_between_two_is_one() -> Result<()> {
    let Some(machine) = Machine::boot(|config, _| config.vcpus = 2)? else {
        return Ok(());
    };
    let _flood = machine.request("flood 1000000").expect("the probe listens");
    let console = machine.dir.path().join("console");
    let written = || fs::metadata(&console).map_or(0, |file| file.len());
    let grows = |before: u64| {
        let started = std::time::Instant::now();
        while written() <= before {
            assert!(started.elapsed() < LIMIT, "nothing is written");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    grows(written());
    for _ in 0..5 {
        machine.vm.pause().expect("pause");
        let before = written();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(written(), before);
        machine.vm.resume();
        grows(before);
    }
    for _ in 0..200 {
        assert_eq!(machine.vm.pause().expect("pause").vcpus.len(), 2);
        machine.vm.resume();
    }
    // One after another, too.
    machine.vm.pause().expect("pause");
    assert_eq!(machine.vm.pause().expect("pause again").vcpus.len(), 2);
    machine.vm.resume();
    grows(written());
    Ok(())
}

/// What the state says, and memory, are all that a machine is: another one goes on with them.
#[test]
fn another_machine_goes_on_with_the_state_and_the_memory_of_one() -> Result<()> {
    let Some(machine) = Machine::boot(|config, _| config.vcpus = 2)? else {
        return Ok(());
    };
    let uptime = |machine: &Machine| -> f64 {
        let text = machine.ask_text("file /proc/uptime");
        let word = text.split_whitespace().next();
        word.and_then(|word| word.parse().ok()).expect("a time")
    };
    let boot_id = machine.ask_text("file /proc/sys/kernel/random/boot_id");
    let before = uptime(&machine);
    let mut machine = machine;
    for round in 0..3 {
        let state = machine.vm.pause().expect("pause");
        let text = serde_json::to_string(&state).expect("serialise");
        let state = serde_json::from_str(&text).expect("read back");
        machine = machine.replace(&state);
        assert_eq!(
            machine.ask_text("file /proc/sys/kernel/random/boot_id"),
            boot_id,
            "round {round}"
        );
        assert_eq!(
            machine.ask_text("file /sys/devices/system/cpu/online"),
            "0-1\n"
        );
        assert_eq!(machine.ask("random 1000").len(), 1000);
    }
    assert!(uptime(&machine) > before);
    assert_eq!(machine.ask_text("flood 20"), "done\n");
    // The port's interrupts bring the last of it.
    let started = std::time::Instant::now();
    while machine.vm.last_lines(20).len() < 20 || machine.vm.last_lines(1) != ["x".repeat(63)] {
        assert!(started.elapsed() < LIMIT, "{:?}", machine.vm.last_lines(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(machine.ask_text("reset"), "");
    let end = machine.vm.wait(Some(LIMIT));
    assert!(matches!(end, Some(End::Reset)), "{end:?}");
    Ok(())
}
