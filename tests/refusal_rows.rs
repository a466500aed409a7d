//! Which test shows which refusal: the rows of what an artifact, a folder, a caller or a request is refused for.
//!
//! Read from the sources, so that a test which is renamed, loses its code or stops being a test takes its row along.
//! Each row stands for a class of attack or accident, and a code that is the same for ever (`slotctl codes`).

use std::fs;
use std::path::Path;

use slotd::model::Code;

/// A class, its code, and the tests that show it: file and function.
type Row = (&'static str, Code, &'static [(&'static str, &'static str)]);

const ARTIFACT: &str = "tests/artifact_refusals.rs";
const SERVER: &str = "tests/control_server.rs";

const ROWS: &[Row] = &[
    (
        "ambiguous headers",
        Code::ArchiveAmbiguous,
        &[
            (ARTIFACT, "archive_ambiguous_extended_headers"),
            (ARTIFACT, "archive_ambiguous_hidden_archive"),
            (ARTIFACT, "archive_ambiguous_entries"),
            (ARTIFACT, "archive_ambiguous_end"),
            (ARTIFACT, "archive_ambiguous_after_the_stream"),
        ],
    ),
    ("path escape", Code::ArchivePathEscape, &[(ARTIFACT, "archive_path_escape")]),
    ("symbolic links", Code::ArchiveLinkEscape, &[(ARTIFACT, "archive_link_escape")]),
    ("hard links", Code::ArchiveHardlink, &[(ARTIFACT, "archive_hardlink")]),
    ("duplicates", Code::ArchiveDuplicate, &[(ARTIFACT, "archive_duplicate")]),
    ("devices, FIFOs, sockets", Code::ArchiveSpecialFile, &[(ARTIFACT, "archive_special_file")]),
    ("setuid, setgid, sticky", Code::ArchiveMode, &[(ARTIFACT, "archive_mode")]),
    ("extended attributes", Code::ArchiveXattr, &[(ARTIFACT, "archive_xattr")]),
    ("sparse files", Code::ArchiveSparse, &[(ARTIFACT, "archive_sparse")]),
    (
        "bombs",
        Code::ArchiveLimit,
        // `limited` is what `archive_limit` asks each bound by; the like for a full disk below.
        &[(ARTIFACT, "limited"), (ARTIFACT, "archive_limit_bombs"), (ARTIFACT, "ingest_limit")],
    ),
    (
        "no room",
        Code::DiskFull,
        &[
            (ARTIFACT, "disk_full"),
            ("tests/durable_full_disk.rs", "life_goes_on"),
            ("tests/host_full_disk.rs", "expect_waiting"),
            ("tests/host_full_disk.rs", "expect_full"),
        ],
    ),
    ("another process at work in the tree", Code::FsRace, &[(ARTIFACT, "fs_race")]),
    (
        "the dropped file changed",
        Code::IngestChanged,
        &[(ARTIFACT, "ingest_changed"), ("src/artifact/spool.rs", "a_file_that_changes_under_the_copy_is_refused")],
    ),
    (
        "the dropped thing is no plain file",
        Code::IngestNotRegular,
        &[(ARTIFACT, "ingest_not_regular"), ("src/inbox/tests.rs", "what_can_be_refused_by_its_looks_is")],
    ),
    (
        "insecure folders",
        Code::ConfigInsecureDir,
        &[
            ("src/durable/secure.rs", "the_systems_own_folders_are_safe_and_tmp_is_not"),
            ("src/slots/tests/publish.rs", "state_below_a_shared_folder_is_refused"),
            ("tests/config_broken.rs", "a_file_that_anybody_can_write_is_not_believed"),
        ],
    ),
    ("caller's identity", Code::AuthDenied, &[("tests/control_cli.rs", "another_user_reads_and_does_not_operate")]),
    (
        "requests that can't be read",
        Code::RequestInvalid,
        &[
            (SERVER, "an_unknown_query_key_is_refused_everywhere"),
            (SERVER, "names_are_checked_before_anything_is_asked"),
            (SERVER, "a_body_is_exactly_what_was_asked_for"),
            (SERVER, "bodies_and_heads_have_a_size"),
            (SERVER, "a_slow_head_or_body_is_given_up"),
        ],
    ),
    (
        "too many requests",
        Code::RequestBusy,
        &[
            (SERVER, "connections_are_capped_in_all"),
            (SERVER, "one_user_has_so_many_connections_and_gets_them_back"),
            ("tests/host_input.rs", "one_deployment_at_a_time_and_who_is_in_the_way_is_named"),
        ],
    ),
    ("altered slot", Code::SlotTampered, &[(ARTIFACT, "slot_tampered")]),
];

/// `archive.path_escape` as the sources write it: `ArchivePathEscape`.
fn variant(code: Code) -> String {
    let words = code.as_str().split(['.', '_']);
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The function's text, from its attributes to its closing brace; `None` if there is none of this name.
fn function<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let at = source.find(&format!("fn {name}("))?;
    let line = source[..at].rfind('\n')? + 1;
    let indent = source[line..].len() - source[line..].trim_start_matches(' ').len();
    let end = source[at..].find(&format!("\n{}}}\n", " ".repeat(indent)))?;
    let begin = source[..line].rfind("\n\n").unwrap_or(0);
    Some(&source[begin..at + end])
}

fn is_shown(code: Code, file: &str, name: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
    let text = function(&source, name).ok_or_else(|| format!("{file} has no function {name}"))?;
    let is_test = text.contains("#[test]") || text.contains("#[tokio::test");
    // A helper shows it where a test calls it.
    let is_called = source.matches(&format!("{name}(")).count() > 1;
    if !(is_test || is_called) {
        return Err(format!("{file}: {name} is no test, and no test calls it"));
    }
    match text.contains(&format!("Code::{}", variant(code))) || text.contains(code.as_str()) {
        true => Ok(()),
        false => Err(format!("{file}: {name} doesn't speak of {code}")),
    }
}

#[test]
fn each_refusal_is_shown_by_a_test() {
    let wrong: Vec<String> = ROWS
        .iter()
        .flat_map(|(class, code, tests)| {
            tests
                .iter()
                .filter_map(move |(file, name)| Some(format!("{class}: {}", is_shown(*code, file, name).err()?)))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_code_of_an_archive_has_a_row() {
    // What is damaged, or no archive, is no attack; both have tests of their own.
    let other = [Code::ArchiveDamaged, Code::ArchiveFormat];
    let archive = Code::ALL.iter().filter(|code| code.as_str().starts_with("archive.") && !other.contains(code));
    let lost: Vec<&Code> = archive.filter(|code| !ROWS.iter().any(|(_, known, _)| known == *code)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
