//! What `packaging/install.sh` puts where, and that units name programs where it puts them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Installs stand-ins for the binaries into a folder.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let binaries = folder.path().join("binaries");
    std::fs::create_dir(&binaries).expect("folder");
    for name in ["slotd", "slotctl", "slotd-gate"] {
        std::fs::write(binaries.join(name), name).expect("write");
        std::fs::set_permissions(binaries.join(name), PermissionsExt::from_mode(0o755)).expect("mode");
    }
    let install = Command::new(checkout().join("packaging/install.sh"))
        .arg(folder.path().join("root"))
        .env("BINARIES", &binaries)
        .output()
        .expect("runs");
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    folder
}

#[test]
fn the_layout() {
    let folder = installed();
    let root = folder.path().join("root");
    for (path, mode) in [
        ("usr/bin/slotd", 0o755),
        ("usr/bin/slotctl", 0o755),
        ("usr/lib/slotd/slotd-gate", 0o755),
        ("usr/lib/systemd/system/slotd.service", 0o644),
        ("usr/lib/systemd/system/slotd.socket", 0o644),
        ("usr/lib/systemd/system/slotd-settle@.service", 0o644),
        ("usr/lib/sysusers.d/slotd.conf", 0o644),
        ("usr/lib/tmpfiles.d/slotd.conf", 0o644),
        ("usr/share/slotd/profile-root.conf", 0o644),
        ("usr/share/man/man1/slotctl.1", 0o644),
        ("usr/share/man/man5/slotd-app.5", 0o644),
        ("usr/share/man/man8/slotd.8", 0o644),
        ("usr/share/man/man8/slotd-gate.8", 0o644),
        ("etc/slotd/slotd.toml", 0o644),
        ("etc/slotd/apps", 0o755),
        ("etc/slotd/keys", 0o755),
    ] {
        let metadata = std::fs::metadata(root.join(path)).expect(path);
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
    }
}

#[test]
fn a_second_install_keeps_the_administrators_settings() {
    let folder = installed();
    let settings = folder.path().join("root/etc/slotd/slotd.toml");
    std::fs::write(&settings, "mine").expect("write");
    let again = Command::new(checkout().join("packaging/install.sh"))
        .arg(folder.path().join("root"))
        .env("BINARIES", folder.path().join("binaries"))
        .status();
    assert!(again.expect("runs").success());
    assert_eq!(std::fs::read_to_string(&settings).expect("readable"), "mine");
}

#[test]
fn units_name_programs_where_they_are() {
    let folder = installed();
    let root = folder.path().join("root");
    let units = root.join("usr/lib/systemd/system");
    for entry in std::fs::read_dir(&units).expect("units") {
        let path: PathBuf = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        for program in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")?.split(' ').next()) {
            let program = program.trim_start_matches('/');
            assert!(root.join(program).exists(), "{} runs /{program}, which isn't installed", path.display());
        }
    }
}

#[test]
fn binaries_that_are_not_built_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let install = Command::new(checkout().join("packaging/install.sh"))
        .arg(folder.path().join("root"))
        .env("BINARIES", folder.path())
        .output()
        .expect("runs");
    assert_eq!(install.status.code(), Some(1));
    let text = String::from_utf8_lossy(&install.stderr);
    assert!(text.contains("slotd is not there; build it first"), "{text}");
    assert!(!folder.path().join("root").exists(), "nothing was begun");
}
