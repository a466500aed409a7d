//! Rules of the house that no lint keeps.

use std::path::{Path, PathBuf};

/// The longest that a file may be without saying why.
const MAX_LINES: usize = 400;

/// How the reason of a longer one begins, in the comment at its head.
const REASON: &str = "Longer than";

/// What no file may hold: what isn't done yet is not there, and stands in ARCHITECTURE.md.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", concat!("TO", "DO"), concat!("FIX", "ME")];

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_file_is_short_or_says_why_not() {
    let mut wrong = Vec::new();
    for (name, text) in code() {
        let lines = text.lines().count();
        let head = text.lines().take_while(|line| line.starts_with("//!") || line.starts_with('#') || line.is_empty());
        let reasoned = head.into_iter().any(|line| line.contains(REASON));
        if lines > MAX_LINES && !reasoned {
            wrong.push(format!("{name} has {lines} lines; split it, or say at its head why it is \"{REASON} …\""));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_says_what_it_is_for() {
    for (name, text) in code() {
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        assert!(
            first.starts_with("//!")
                || first.starts_with('#')
                || first.starts_with("--")
                || first.starts_with("\"\"\""),
            "{name} begins with {first:?}"
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for (name, text) in code() {
        for (number, line) in text.lines().enumerate() {
            let found = UNFINISHED.iter().find(|word| line.contains(**word) && !line.contains("concat!"));
            assert_eq!(found, None, "{name}:{}", number + 1);
        }
    }
}

#[test]
fn exceptions_from_lints_have_a_reason() {
    for (name, text) in code().into_iter().filter(|(name, _)| name.ends_with(".rs")) {
        for opening in ["#[expect(", "#![expect(", "#[allow(", "#![allow("] {
            for (at, _) in text.match_indices(opening).filter(|(at, _)| !text[..*at].ends_with('"')) {
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                let line = text[..at].lines().count();
                assert!(attribute.contains("reason ="), "{name}:{line}: {attribute} has no reason");
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_and_warnings_are_on() {
    let manifest = read("Cargo.toml");
    let lints = section(&manifest, "[lints.rust]");
    assert!(lints.contains("unsafe_code = \"forbid\"") && lints.contains("missing_docs = \"warn\""), "{lints}");
    let clippy = section(&manifest, "[lints.clippy]");
    assert!(clippy.contains("unwrap_used") && clippy.contains("disallowed_methods"), "{clippy}");
    assert!(read("tests/run").contains("-D warnings"));
}

#[test]
fn each_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    for heading in ["[dependencies]", "[dev-dependencies]"] {
        let lines: Vec<&str> = section(&manifest, heading).lines().filter(|line| !line.is_empty()).collect();
        assert!(!lines.is_empty(), "{heading}");
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let reasoned = index.checked_sub(1).is_some_and(|before| lines[before].starts_with('#'));
            assert!(reasoned, "Cargo.toml: no comment above {line}");
        }
    }
}

#[test]
fn tests_that_boot_hosts_ask_for_their_feature() {
    let manifest = read("Cargo.toml");
    for (name, _) in code() {
        let Some(stem) = name.strip_prefix("tests/host_").and_then(|rest| rest.strip_suffix(".rs")) else { continue };
        let entry = format!("name = \"host_{stem}\"");
        let declared = manifest.split("[[test]]").find(|entry_text| entry_text.contains(&entry));
        let declared = declared.unwrap_or_else(|| panic!("{name} has no [[test]] in Cargo.toml"));
        assert!(declared.contains("required-features"), "{name}: without its feature it would boot a host");
    }
}

/// What stands below a heading, up to the next.
fn section<'a>(manifest: &'a str, heading: &str) -> &'a str {
    let after = manifest.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("{heading} is missing"));
    after.split("\n[").next().unwrap_or_default()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(checkout().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every file of code: Rust, shell, Python, Lua, by its name below the checkout.
fn code() -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "examples", "packaging"].iter().map(|folder| checkout().join(folder)).collect();
    let mut code = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if matches!(ending.as_str(), "rs" | "sh" | "py" | "lua") || text.starts_with("#!") {
                let name = path.strip_prefix(checkout()).expect("below").to_string_lossy().into_owned();
                code.push((name, text));
            }
        }
    }
    assert!(code.len() > 100, "the code wasn't found");
    code.sort();
    code
}
