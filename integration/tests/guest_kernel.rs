//! The kernel that microVMs boot has what was asked of it, and not what must not be in it.

use std::{collections::BTreeSet, fs, path::Path};

use cofferdam_integration::{
    command::{Cmd, Done},
    error::{At, Result},
    gate,
    guest::{fragment, kernel, script},
};

fn check(fragment: &Path, config: &Path) -> Result<Done> {
    Cmd::new(script("check-kernel-config"))
        .args([fragment, config])
        .run()
}

/// What Kconfig does to an option that it does not know, or that lacks something, is to leave it out.
#[test]
fn a_lost_option_is_refused() -> Result<()> {
    let config =
        "CONFIG_A=y\nCONFIG_SIZE=64\n# CONFIG_B is not set\nCONFIG_NAME=\"a b\"\nCONFIG_AB=y\n";
    // The fragment, the status, what is complained about.
    let cases = [
        ("# Why.\n\nCONFIG_A=y\nCONFIG_SIZE=64\n", 0, ""),
        ("CONFIG_NAME=\"a b\"\n# CONFIG_B is not set\n", 0, ""),
        ("# CONFIG_UNKNOWN is not set\n", 0, ""),
        ("CONFIG_A=y\nCONFIG_B=y\n", 1, "lost: CONFIG_B=y"),
        ("CONFIG_UNKNOWN=y\n", 1, "lost: CONFIG_UNKNOWN=y"),
        ("CONFIG_SIZE=6\n", 1, "lost: CONFIG_SIZE=6"),
        ("CONFIG_SIZE=.*\n", 1, "lost: CONFIG_SIZE=.*"),
        ("CONFIG_A=m\n", 1, "lost: CONFIG_A=m"),
        ("# CONFIG_A is not set\n", 1, "lost: # CONFIG_A is not set"),
        ("CONFIG_A=y\nCONFIG_B\n", 2, "neither an option"),
        ("# Nothing.\n", 2, "has no option"),
    ];
    let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
    let (asked, built) = (dir.path().join("fragment"), dir.path().join("config"));
    fs::write(&built, config).at("write", &built)?;
    for (text, status, complaint) in cases {
        fs::write(&asked, text).at("write", &asked)?;
        let done = check(&asked, &built)?;
        assert_eq!(done.code(), status, "{text:?}: {done:?}");
        assert!(done.stderr.contains(complaint), "{text:?}: {done:?}");
    }
    let absent = check(&asked, &dir.path().join("absent"))?;
    assert_eq!(absent.code(), 2, "{absent:?}");
    Ok(())
}

#[test]
fn the_built_kernel_has_what_confines_and_no_more() -> Result<()> {
    let Some(place) = gate::present(kernel())? else {
        return Ok(());
    };
    let config = place.join("config");
    check(&fragment(), &config)?.ok()?;
    Cmd::new("sh")
        .args(["-c", r#"cd "$1" && sha256sum --check --status sha256"#])
        .arg("sh")
        .arg(&place)
        .ok()?;

    let text = fs::read_to_string(&config).at("read", &config)?;
    let lines: BTreeSet<_> = text.lines().collect();
    for line in [
        "CONFIG_SECURITY_LANDLOCK=y",
        "CONFIG_LSM=\"landlock\"",
        "CONFIG_SECCOMP_FILTER=y",
        "CONFIG_CGROUP_BPF=y",
        "CONFIG_BPF_UNPRIV_DEFAULT_OFF=y",
        "CONFIG_USER_NS=y",
        "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y",
        "CONFIG_VIRTIO_VSOCKETS=y",
        "CONFIG_VIRTIO_FS=y",
    ] {
        assert!(lines.contains(line), "{}: no {line}", config.display());
    }
    for absent in ["PCI", "ACPI", "MODULES", "DEVMEM", "KEXEC", "IO_URING"] {
        let option = format!("CONFIG_{absent}=");
        let found = lines.iter().find(|line| line.starts_with(&option));
        assert_eq!(found, None, "{}", config.display());
    }
    Ok(())
}
