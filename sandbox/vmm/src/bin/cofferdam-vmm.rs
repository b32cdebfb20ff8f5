//! `cofferdam-vmm`: runs one machine until it ends.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use cofferdam_vmm::error::chain;
use cofferdam_vmm::{End, Vm, VmConfig};

const HELP: &str = "\
cofferdam-vmm: runs one virtual machine until it ends

Usage: cofferdam-vmm DESCRIPTION [CONSOLE]

DESCRIPTION is a JSON file:
  kernel, initramfs    files: an ELF x86-64 vmlinux, and a cpio archive
  memory               MiB, 32 to 1048576
  vcpus                1 to 32; 1 if not given
  command_line         added to the kernel's
  vsock                {\"cid\": 3 or more, \"socket\": PATH}: connect there and say CONNECT PORT
  disks                [{\"path\": FILE, \"writable\": false}, ...]
  shares               [{\"tag\": NAME, \"path\": DIRECTORY, \"read_only\": false,
                       \"validity\": 1000}, ...]: the guest mounts them by tag, as virtiofs, and sees after so many
                       milliseconds what the host changes
CONSOLE is where the first MiB of what the guest writes to its serial port goes. Needs /dev/kvm.
Exit status: 0 the guest ended the machine, 1 it could not be made or go on, 2 wrong arguments.

Example:
  echo '{\"kernel\": \"vmlinux\", \"initramfs\": \"initramfs.cpio\", \"memory\": 128}' > vm.json
  cofferdam-vmm vm.json console.log
";

/// How much of the console is shown when a machine does not go on.
const LINES: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (description, console) = match arguments.as_slice() {
        [word] if word == "--help" || word == "-h" => {
            #[expect(clippy::print_stdout, reason = "help was asked for")]
            {
                print!("{HELP}");
            }
            return ExitCode::SUCCESS;
        }
        [description] => (description, None),
        [description, console] => (description, Some(console)),
        _ => {
            say("takes a description and perhaps a file for the console; see --help");
            return ExitCode::from(2);
        }
    };
    match run(description, console.map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            say(&line);
            ExitCode::FAILURE
        }
    }
}

fn run(description: &str, console: Option<&str>) -> Result<(), String> {
    let text = std::fs::read(description)
        .map_err(|error| format!("cannot read {description}: {error}"))?;
    let config: VmConfig = serde_json::from_slice(&text)
        .map_err(|error| format!("cannot use {description}: {error}"))?;
    let console = console.map(|path| {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| format!("cannot make {path}: {error}"))
    });
    let vm = Vm::boot(&config, console.transpose()?).map_err(|error| chain(&error))?;
    let end = vm.wait(None);
    if let Some(time) = vm.boot_time() {
        say(&format!(
            "the guest's first process ran after {} us",
            time.as_micros()
        ));
    }
    match end {
        Some(End::Reset) => Ok(()),
        Some(End::Wrong(error)) => {
            for line in vm.last_lines(LINES) {
                say(&format!("console: {line}"));
            }
            Err(chain(&error))
        }
        None => Err("the machine's processors are gone".to_owned()),
    }
}

fn say(line: &str) {
    #[expect(clippy::print_stderr, reason = "the process's report")]
    {
        eprintln!("cofferdam-vmm: {line}");
    }
}
