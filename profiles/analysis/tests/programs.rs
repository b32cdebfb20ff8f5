//! Programs with a known answer.
#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::path::Path;
use std::sync::LazyLock;

use cofferdam_analysis::{Analysis, Kind, Options, RootFs, analyse, to_profile};
use cofferdam_profiles::seccomp::{Action, Arch, Call, Evaluator, resolve};

/// This test's own program, out of a root made of nothing but it.
static OWN: LazyLock<Analysis> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    std::fs::copy(own, directory.path().join("own")).unwrap();
    let root = RootFs::open(directory.path()).unwrap();
    analyse(&root, Path::new("/own"), &Options::default()).unwrap()
});

fn own_program() -> Analysis {
    OWN.clone()
}

#[test]
fn a_static_program_has_what_its_code_calls() {
    let analysis = own_program();
    assert_eq!(analysis.kind, Kind::Static);
    // The test harness prints, makes threads, reads the time and opens files.
    let used = [
        "write",
        "mmap",
        "munmap",
        "clone",
        "openat",
        "close",
        "sigaltstack",
        "exit_group",
    ];
    for name in used {
        assert!(analysis.syscalls.contains_key(name), "{name} is missing");
    }
    // Nothing in it loads a kernel module or reboots.
    for name in ["init_module", "reboot", "kexec_load", "swapon", "bpf"] {
        assert!(
            !analysis.syscalls.contains_key(name),
            "{name} is not called"
        );
    }
    let write = &analysis.syscalls["write"];
    assert!(write.path.len() > 1, "{:?}", write.path);
}

/// libisc's constructor is exported, so its entry in `.init_array` is relocated by symbol.
#[test]
fn an_exported_constructor_runs() {
    let mut object = support::small_object();
    // No entry point; the function calls umask (95); R_X86_64_64 of symbol 1 in the array.
    object[24..32].fill(0);
    object[0x201] = 95;
    object[0x2c8..0x2d0].copy_from_slice(&(1_u64 << 32 | 1).to_le_bytes());
    object[0x2d0..0x2d8].fill(0);
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("small"), object).unwrap();
    let root = RootFs::open(root.path()).unwrap();
    let analysis = analyse(&root, Path::new("/small"), &Options::default()).unwrap();
    assert!(analysis.syscalls.contains_key("umask"));
}

#[test]
fn a_summary_from_the_cache_says_the_same() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("small"), support::small_object()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let options = Options {
        cache: Some(cache.path().to_owned()),
    };
    let analyse = |options: &Options| {
        let root = RootFs::open(root.path()).unwrap();
        analyse(&root, Path::new("/small"), options).unwrap()
    };
    let plain = analyse(&Options::default());
    assert!(plain.syscalls.contains_key("exit_group"));
    // Once without an entry, once by it, and once with every entry damaged.
    for _ in 0..2 {
        let other = analyse(&options);
        assert!(plain.syscalls.keys().eq(other.syscalls.keys()));
    }
    let entries: Vec<_> = std::fs::read_dir(cache.path()).unwrap().collect();
    assert!(!entries.is_empty());
    for entry in entries {
        let path = entry.unwrap().path();
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(path, content).unwrap();
    }
    let again = analyse(&options);
    assert!(plain.syscalls.keys().eq(again.syscalls.keys()));
}

#[test]
fn the_profile_allows_what_was_found_and_falls_back_for_the_rest() {
    let mut analysis = own_program();
    analysis.unresolved.clear();
    analysis.syscalls.remove("statx");
    let answer = |name: &str| {
        let evaluator = Evaluator::new(&to_profile(&analysis)).unwrap();
        evaluator.answer(&Call {
            audit: Arch::X86_64.audit(),
            number: resolve(Arch::X86_64, name).unwrap(),
            args: [0; 6],
        })
    };
    assert!(answer("write").allows());
    assert!(answer("clone").allows());
    assert_eq!(answer("clone3"), Action::Errno(38));
    assert_eq!(answer("statx"), Action::Errno(38));
    assert_eq!(answer("reboot"), Action::Errno(1));
}

#[test]
fn an_unknown_number_widens_the_profile() {
    let mut narrow = own_program();
    narrow.unresolved.clear();
    narrow.syscalls.remove("mkdir");
    let mut wide = narrow.clone();
    wide.unresolved.push(cofferdam_analysis::Unresolved {
        object: "/own".into(),
        address: 0,
        function: "f".to_owned(),
        why: cofferdam_analysis::Why::Computed,
        path: Vec::new(),
    });
    let allows = |analysis: &Analysis, name: &str| {
        let evaluator = Evaluator::new(&to_profile(analysis)).unwrap();
        let call = Call {
            audit: Arch::X86_64.audit(),
            number: resolve(Arch::X86_64, name).unwrap(),
            args: [0; 6],
        };
        evaluator.answer(&call).allows()
    };
    assert!(!allows(&narrow, "mkdir"));
    assert!(allows(&wide, "mkdir"));
    assert!(!allows(&wide, "reboot"));
}

#[test]
fn merging_allows_what_either_needs() {
    let one = own_program();
    let mut other = one.clone();
    let evidence = other.syscalls.remove("write").unwrap();
    other.syscalls.insert("reboot".to_owned(), evidence);
    let merged = one.clone().merge(other);
    assert_eq!(merged.syscalls.len(), one.syscalls.len() + 1);
    assert_eq!(merged.objects.len(), one.objects.len());
    assert_eq!(merged.unresolved.len(), one.unresolved.len());
}
