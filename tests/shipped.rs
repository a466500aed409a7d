//! What the shipped binaries lack: the crash points, which are for tests.

use std::path::Path;

/// In the environment a crash point is asked for by names that begin so; a binary with points has them among its
/// strings.
const NAMES: &[u8] = b"SLOTD_CRASH";

/// Built with the features that `make build` has, or with `crash-points`: the same look tells them apart.
#[test]
fn crash_points_are_compiled_in_only_under_their_feature() {
    let has = |binary: &str| {
        let bytes = std::fs::read(Path::new(binary)).expect(binary);
        bytes.windows(NAMES.len()).any(|window| window == NAMES)
    };
    let built = cfg!(feature = "crash-points");
    assert_eq!(has(env!("CARGO_BIN_EXE_slotd")), built);
    // The command line shares the daemon's library, and needs none of them.
    assert!(built || !has(env!("CARGO_BIN_EXE_slotctl")));
    assert!(!has(env!("CARGO_BIN_EXE_slotd-gate")));
}

/// What `make build` turns on doesn't lead to them.
#[test]
fn no_default_leads_to_the_crash_points() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("TOML");
    let features = manifest["features"].as_table().expect("features");
    let mut on = vec!["default".to_owned()];
    while let Some(feature) = on.pop() {
        assert_ne!(feature, "crash-points");
        let leads_to = features.get(&feature).and_then(toml::Value::as_array).into_iter().flatten();
        on.extend(leads_to.filter_map(toml::Value::as_str).map(str::to_owned));
    }
    let makefile = include_str!("../Makefile");
    assert!(!makefile.contains("--features") && !makefile.contains("--all-features"), "{makefile}");
}
