//! `cofferdam-vmm`: runs one machine until it ends.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use cofferdam_vmm::error::{VmResult, chain};
use cofferdam_vmm::filter::{self, Thread};
use cofferdam_vmm::jail::{self, Needs};
use cofferdam_vmm::vm::Parts;
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
  balloon              whether free memory of the guest's goes back to the host; true if not given
  disks                [{\"path\": FILE, \"writable\": false}, ...]
  network              [{\"tap\": NAME, \"mac\": \"02:00:00:00:00:01\", \"mtu\": 1500}, ...]: a tap that is
                       there, or \"fd\": N, a descriptor of one (with IFF_VNET_HDR); mtu may be left out
  shares               [{\"tag\": NAME, \"path\": DIRECTORY, \"read_only\": false}, ...]: the guest mounts
                       them by tag, as virtiofs
  jail                 {\"uid\": ID, \"gid\": ID, \"count\": 65536, \"root\": DIRECTORY}: the process gets these ids of
                       the host, sees no file outside of the directory, and has namespaces and limits; takes root
CONSOLE is where the first MiB of what the guest writes to its serial port goes. Needs /dev/kvm.
Exit status: 0 the guest ended the machine, 1 it could not be made or go on, 2 wrong arguments, 3 the guest's kernel
panicked, 4 the filter of a thread refused a system call, 128 + N the process in the jail was killed by signal N.

Example:
  echo '{\"kernel\": \"vmlinux\", \"initramfs\": \"initramfs.cpio\", \"memory\": 128}' > vm.json
  cofferdam-vmm vm.json console.log
";

/// How much of the console is shown when a machine does not go on.
const LINES: usize = 20;
/// The exit status where the guest's kernel panicked.
const PANICKED: u8 = 3;

fn main() -> ExitCode {
    cofferdam_vmm::heap::share();
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
        Ok(code) => code,
        Err(line) => {
            say(&line);
            ExitCode::FAILURE
        }
    }
}

fn run(description: &str, console: Option<&str>) -> Result<ExitCode, String> {
    let text = std::fs::read(description)
        .map_err(|error| format!("cannot read {description}: {error}"))?;
    let config: VmConfig = serde_json::from_slice(&text)
        .map_err(|error| format!("cannot use {description}: {error}"))?;
    let taps: Vec<_> = config.network.iter().filter_map(|card| card.fd).collect();
    jail::close_inherited(&taps);
    let console = console.map(|path| {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            // A pipe that nobody reads is an error, not something to wait for.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| format!("cannot make {path}: {error}"))
    });
    let vm = boot(&config, console.transpose()?).map_err(|error| chain(&error))?;
    let end = vm.wait(None);
    if let Some(time) = vm.boot_time() {
        say(&format!(
            "the guest's first process ran after {} us",
            time.as_micros()
        ));
    }
    match end {
        Some(End::Reset) => Ok(ExitCode::SUCCESS),
        Some(End::Panicked) => {
            show_console(&vm);
            say("the guest's kernel panicked");
            Ok(ExitCode::from(PANICKED))
        }
        Some(End::Wrong(error)) => {
            show_console(&vm);
            Err(chain(&error))
        }
        None => Err("the machine's processors are gone".to_owned()),
    }
}

fn show_console(vm: &Vm) {
    for line in vm.last_lines(LINES) {
        say(&format!("console: {line}"));
    }
}

/// Everything of the host's is opened before the jail is entered, and every thread is confined before the guest's first
/// instruction.
fn boot(config: &VmConfig, console: Option<File>) -> VmResult<Vm> {
    let mut parts = Parts::open(config, console)?;
    let inside = match &config.jail {
        Some(jail) => Some(jail::enter(jail, Needs::of(config), &parts.take_files())?),
        None => None,
    };
    let vm = parts.assemble(inside)?;
    filter::confine(Thread::Main)?;
    vm.resume();
    Ok(vm)
}

fn say(line: &str) {
    #[expect(clippy::print_stderr, reason = "the process's report")]
    {
        eprintln!("cofferdam-vmm: {line}");
    }
}
