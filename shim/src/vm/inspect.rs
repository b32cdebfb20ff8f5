//! What a container in a machine is made of, and what it costs: the machine, what the guest's kernel says, what the
//! host's says of what stands in.

use std::fmt::Write as _;
use std::fs;

use cofferdam_agent::client::{Client, ClientError, harmless};
use cofferdam_agent::protocol::{Answer, Call, Inspected, Name, Nothing, Status};
use cofferdam_container::inspect::Inspection;
use serde::Serialize;

use super::machine::Machine;
use super::{Guest, MachineError};

/// The most lines of a guest's that are shown.
const MOST_LINES: usize = 500;

/// A container in a machine.
#[derive(Debug, Serialize)]
pub(crate) struct InMachine {
    machine: Costs,
    /// As the guest's agent tells it: whoever has taken the guest over can tell anything.
    guest: serde_json::Value,
    stand_in: Inspection,
    #[serde(skip)]
    guest_text: String,
    #[serde(skip)]
    guest_is_weaker: bool,
}

/// A machine and what it costs now.
#[derive(Debug, Serialize)]
struct Costs {
    pod: String,
    directory: std::path::PathBuf,
    processors: u8,
    /// MiB.
    memory: u32,
    /// The monitor's process in its jail.
    monitor: Option<i32>,
    /// The monitor's first id on the host.
    first_id: Option<u32>,
    /// What the monitor's process has of the host's memory, shared pages by their share (PSS), KiB: the guest's memory
    /// that was touched, and its own.
    resident: Option<u64>,
    /// Of that the guest's memory, KiB.
    guest_memory: Option<u64>,
    kernel: String,
    /// Since the guest's boot, milliseconds.
    uptime: u64,
    containers: usize,
    /// Seccomp mode and no-new-privileges of the monitor's threads, as the host's kernel says.
    confined: bool,
}

/// Asks the guest, and looks at the machine.
pub(crate) fn look(guest: &Guest, stand_in: Inspection) -> Result<InMachine, MachineError> {
    let mut client = Client::connect(&guest.machine.join("door/vsock"))?;
    let status = match client.call(&Call::Status(Nothing {}))? {
        Answer::Status(status) => status,
        _ => return Err(ClientError::Answer { method: "Status" }.into()),
    };
    let name = Name {
        id: guest.name.clone(),
    };
    let inspected = match client.call(&Call::Inspect(name))? {
        Answer::Inspected(inspected) => *inspected,
        _ => return Err(ClientError::Answer { method: "Inspect" }.into()),
    };
    let machine = Machine::at(&guest.machine)?.ok_or_else(|| MachineError::Gone {
        pod: guest.name.clone(),
    })?;
    let Inspected {
        value,
        text,
        weaker,
    } = inspected;
    Ok(InMachine {
        machine: costs(&machine, status),
        guest: harmless_value(value),
        stand_in,
        // Each line is marked: it could look like one of the host's.
        guest_text: text
            .lines()
            .take(MOST_LINES)
            .map(|line| format!("  | {}\n", harmless(line)))
            .collect(),
        guest_is_weaker: weaker,
    })
}

fn costs(machine: &Machine, status: Status) -> Costs {
    let monitor = machine.monitor();
    let memory = monitor.map(memory_of).unwrap_or_default();
    Costs {
        pod: machine.record.pod.clone(),
        directory: machine.dir.clone(),
        processors: machine.record.cpus,
        memory: machine.record.memory,
        monitor,
        first_id: machine.record.lease.as_ref().map(|lease| lease.first),
        resident: memory.0,
        guest_memory: memory.1,
        kernel: harmless(&status.kernel),
        uptime: status.uptime,
        containers: status.containers,
        confined: monitor.is_some_and(is_confined),
    }
}

/// PSS of a process, and of its largest mapping without a file, which is the guest's memory. KiB.
fn memory_of(pid: i32) -> (Option<u64>, Option<u64>) {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/smaps")) else {
        return (None, None);
    };
    let (mut all, mut largest, mut size) = (0, (0, 0), 0);
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        match words.next() {
            Some("Size:") => size = number(words.next()).unwrap_or(0),
            Some("Pss:") => {
                let pss = number(words.next()).unwrap_or(0);
                all += pss;
                if size > largest.0 {
                    largest = (size, pss);
                }
            }
            _ => {}
        }
    }
    (Some(all), Some(largest.1))
}

fn is_confined(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut some = false;
    let all = threads.flatten().all(|thread| {
        some = true;
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let has = |field: &str, value: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.is_some_and(|found| found.trim() == value)
        };
        has("Seccomp:", "2") && has("NoNewPrivs:", "1")
    });
    some && all
}

/// A guest's value with texts that a terminal does not obey.
fn harmless_value(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(harmless(&text)),
        Value::Array(items) => items.into_iter().map(harmless_value).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (harmless(&key), harmless_value(value)))
            .collect(),
        other => other,
    }
}

impl InMachine {
    /// Whether something is enforced less than the record says, in either place.
    pub(crate) fn weaker_than_recorded(&self) -> bool {
        self.guest_is_weaker || self.stand_in.weaker_than_recorded() || !self.machine.confined
    }

    /// In plain words.
    pub(crate) fn render(&self) -> String {
        let machine = &self.machine;
        let kib = |size: Option<u64>| {
            size.map_or("?".to_owned(), |size| {
                format!("{}.{} MiB", size >> 10, ((size & 1023) * 10) >> 10)
            })
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "in a virtual machine of pod {}", machine.pod);
        let _ = writeln!(
            text,
            "  machine     {} processor{}, {} MiB; Linux {}, up {} s, {} container{}",
            machine.processors,
            if machine.processors == 1 { "" } else { "s" },
            machine.memory,
            machine.kernel,
            machine.uptime / 1000,
            machine.containers,
            if machine.containers == 1 { "" } else { "s" },
        );
        let _ = writeln!(
            text,
            "  costs now   {} of the host's memory (PSS), {} of it the guest's",
            kib(machine.resident),
            kib(machine.guest_memory)
        );
        let monitor = machine
            .monitor
            .map_or("?".to_owned(), |pid| pid.to_string());
        let first = machine.first_id.map_or("?".to_owned(), |id| id.to_string());
        let _ = writeln!(
            text,
            "  monitor     process {monitor}, root of ids {first} and up; {}",
            if machine.confined {
                "every thread has a seccomp filter and no new privileges"
            } else {
                "NOT every thread is confined"
            }
        );
        let stand_in = self.stand_in.render();
        let _ = writeln!(text, "\nwhat stands in for it on the host:\n{stand_in}");
        let guest = &self.guest_text;
        let _ = write!(
            text,
            "as the guest's kernel has it, by its agent's word:\n{guest}"
        );
        text
    }
}
