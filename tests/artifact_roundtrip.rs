//! What is packed comes out the same, whatever it is; what is mutated never gets out of its folder.

#![cfg(feature = "daemon")]

mod artifact_support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use artifact_support::{Tar, World, compress};
use proptest::prelude::*;
use slotd::artifact::lint::lint;
use slotd::artifact::manifest::Kind;
use slotd::artifact::pack::{DEFAULT_MTIME, LeaveOut, Mtime, Options, Packed, pack, source_date_epoch};
use slotd::artifact::{ArtifactError, Format, Limits, spool};
use slotd::model::Code;

/// What stands at a path of a generated tree.
#[derive(Debug, Clone)]
enum Node {
    File {
        content: Vec<u8>,
        executable: bool,
    },
    Folder,
    /// A link to another path of the tree, by its number.
    Link(usize),
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..2000), any::<bool>())
            .prop_map(|(content, executable)| Node::File { content, executable }),
        1 => Just(Node::Folder),
        1 => any::<usize>().prop_map(Node::Link),
    ]
}

/// Paths that don't lie below one another: no name is the beginning of a folder's.
fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let folder = prop::sample::select(vec![
        "",
        "bin/",
        "lib/deep/er/",
        "schöne grüße/",
        "a-very-long-name-of-a-folder/0123456789-0123456789-0123456789-0123456789-0123456789-0123456789/",
    ]);
    let name = "[a-z0-9 äß_.-]{1,40}".prop_map(|name| format!("x{name}"));
    prop::collection::btree_map((folder, name).prop_map(|(folder, name)| format!("{folder}{name}")), node(), 1..12)
        .prop_filter("one spelling a name", |tree| {
            let folded: std::collections::HashSet<_> = tree.keys().map(|path| path.to_uppercase()).collect();
            folded.len() == tree.len()
        })
}

fn build(dir: &Path, tree: &BTreeMap<String, Node>) {
    let paths: Vec<&String> =
        tree.iter().filter(|(_, node)| !matches!(node, Node::Link(_))).map(|(path, _)| path).collect();
    for (path, node) in tree {
        let full = dir.join(path);
        fs::create_dir_all(full.parent().expect("parent")).expect("folders");
        match node {
            Node::Folder => fs::create_dir(&full).expect("folder"),
            Node::File { content, executable } => {
                fs::write(&full, content).expect("write");
                let mode = if *executable { 0o750 } else { 0o640 };
                fs::set_permissions(&full, PermissionsExt::from_mode(mode)).expect("chmod");
            }
            Node::Link(number) => {
                let target = paths.get(number % paths.len().max(1)).map_or("nowhere", |path| path);
                symlink(format!("{}{target}", "../".repeat(path.matches('/').count())), &full).expect("link");
            }
        }
    }
}

fn options(format: Format) -> Options {
    Options { format, leave_out: LeaveOut::Ignored, mtime: Mtime::All(DEFAULT_MTIME) }
}

fn packed(dir: &Path, format: Format) -> Result<(Vec<u8>, Packed), ArtifactError> {
    let mut bytes = Vec::new();
    pack(dir, &mut bytes, options(format)).map(|packed| (bytes, packed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_out(tree in tree(), format in prop::sample::select(Format::ALL.to_vec())) {
        let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        build(one.path(), &tree);
        build(two.path(), &tree);
        let (bytes, report) = packed(one.path(), format).expect("packed");
        prop_assert_eq!(&bytes, &packed(two.path(), format).expect("packed").0, "same tree, same bytes");
        prop_assert_eq!(report.bytes, bytes.len() as u64);
        let world = World::new(format, &bytes);
        prop_assert_eq!(spool::digest_of(&world.job.packed).expect("digest").0, report.digest);
        let manifest = world.unpack().expect("unpacked");
        manifest.verify(world.dest()).expect("verifies");
        prop_assert_eq!(manifest.files, report.files);
        for (path, node) in &tree {
            match (node, manifest.get(path)) {
                (Node::File { content, executable }, Some(Kind::File { size, executable: is, mtime, .. })) => {
                    prop_assert_eq!((content.len() as u64, *executable, DEFAULT_MTIME), (*size, *is, *mtime));
                    prop_assert_eq!(&fs::read(world.dest().join(path)).expect("read"), content);
                }
                (Node::Folder, Some(Kind::Dir)) | (Node::Link(_), Some(Kind::Symlink { .. })) => {}
                (node, kind) => prop_assert!(false, "{path}: {node:?} became {kind:?}"),
            }
        }
    }
}

/// A valid archive with something of everything.
fn valid() -> Vec<u8> {
    Tar::new()
        .pax(b'g', &[("comment", "c")])
        .folder("d")
        .file("d/f", "some content")
        .pax(b'x', &[("path", "d/pax"), ("mtime", "1.5")])
        .file("p", "x")
        .long(b'L', "d/long")
        .file("l", "y")
        .symlink("s", "d/f")
        .hard_link("h", "d/f")
        .end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the bytes: no panic, nothing outside of the folder, and nothing in it after a refusal (the world
    /// looks at both). What passes verifies.
    #[test]
    fn mutated_archives_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        seal in any::<bool>(),
        format in prop::sample::select(vec![Format::Tar, Format::TarZst]),
    ) {
        let mut tar = valid();
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if seal {
            tar = resealed(tar);
        }
        let world = World::new(format, &compress(format, &tar));
        if let Ok(manifest) = world.unpack() {
            manifest.verify(world.dest()).expect("verifies");
        }
    }

    /// The same for the compressed bytes.
    #[test]
    fn mutated_streams_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        format in prop::sample::select(vec![Format::TarGz, Format::TarZst, Format::TarXz]),
    ) {
        let mut packed = compress(format, &valid());
        for (at, byte) in changes {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        packed.truncate(1 + cut.index(packed.len()));
        if let Ok(manifest) = World::new(format, &packed).unpack() {
            prop_assert!(manifest.files > 0);
        }
    }
}

/// Gives every block that looks like a header its right checksum, so that mutations reach what lies behind it.
fn resealed(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

fn folder(build: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    build(dir.path());
    dir
}

#[test]
fn times_owners_and_umask_make_no_difference() {
    let make = |mode, mtime| {
        folder(|dir| {
            fs::create_dir(dir.join("d")).expect("folder");
            fs::set_permissions(dir.join("d"), PermissionsExt::from_mode(mode)).expect("chmod");
            let file = fs::File::create(dir.join("d/f")).expect("file");
            file.set_permissions(PermissionsExt::from_mode(mode & 0o666)).expect("chmod");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime)).expect("time");
        })
    };
    let (one, two) = (make(0o700, 1), make(0o2755, 2));
    for format in Format::ALL {
        assert_eq!(packed(one.path(), format).expect("one"), packed(two.path(), format).expect("two"));
    }
    assert_eq!(source_date_epoch("1700000000"), Some(1_700_000_000));
    assert_eq!(source_date_epoch("yesterday").or(source_date_epoch("")), None);
}

#[test]
fn what_is_ignored_stays_out_unless_nothing_is_left_out() {
    let dir = folder(|dir| {
        for path in
            [".git/config", "target/x", "keep/target.txt", "a.log", "keep/b.log", "keep/important.log", "bin/web"]
        {
            fs::create_dir_all(dir.join(path).parent().expect("parent")).expect("folders");
            fs::write(dir.join(path), "x").expect("write");
        }
        fs::write(dir.join(".slotdignore"), "# built\n/target/\n*.log\n!important.log\n").expect("write");
    });
    let names = |leave_out| {
        let mut bytes = Vec::new();
        pack(dir.path(), &mut bytes, Options { leave_out, ..options(Format::Tar) }).expect("packed");
        let manifest = World::new(Format::Tar, &bytes).unpack().expect("unpacked");
        manifest.entries.into_iter().filter(|e| e.kind != Kind::Dir).map(|e| e.path).collect::<Vec<_>>()
    };
    assert_eq!(names(LeaveOut::Ignored), ["bin/web", "keep/important.log", "keep/target.txt"]);
    assert_eq!(names(LeaveOut::Nothing).len(), 8);
}

#[test]
fn what_would_be_refused_is_not_packed() {
    let refused = |code, entry: &str, build: &dyn Fn(&Path)| {
        let dir = folder(build);
        let fault = packed(dir.path(), Format::TarZst).expect_err(entry).fault();
        assert_eq!((fault.code, fault.evidence.entry.unwrap_or_default()), (code, entry.to_owned()));
    };
    let write = |path: &Path| fs::write(path, "x").expect("write");
    refused(Code::ArchiveSpecialFile, "d/fifo", &|dir| {
        fs::create_dir(dir.join("d")).expect("folder");
        nix::unistd::mkfifo(&dir.join("d/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
    });
    refused(Code::ArchiveLinkEscape, "l", &|dir| symlink("/etc/passwd", dir.join("l")).expect("link"));
    refused(Code::ArchiveLinkEscape, "l", &|dir| symlink("../x", dir.join("l")).expect("link"));
    refused(Code::ArchivePathEscape, "a\\b", &|dir| write(&dir.join("a\\b")));
    refused(Code::ArchiveMode, "f", &|dir| {
        write(&dir.join("f"));
        fs::set_permissions(dir.join("f"), PermissionsExt::from_mode(0o4755)).expect("chmod");
    });
    refused(Code::ArchiveDamaged, "", &|_| {});
    let twins = folder(|dir| ["A", "a"].iter().for_each(|name| write(&dir.join(name))));
    assert_eq!(packed(twins.path(), Format::Tar).expect_err("twins").code(), Code::ArchiveDuplicate);
}

#[test]
fn long_paths_and_targets_come_through() {
    let long = ["n".repeat(120), "m".repeat(120)].join("/");
    let dir = folder(|dir| {
        fs::create_dir_all(dir.join(&long)).expect("folders");
        fs::write(dir.join(&long).join("f"), "x").expect("write");
        symlink(format!("./{long}//f"), dir.join("far")).expect("link");
        symlink("./far/", dir.join("near")).expect("link");
        symlink("x".repeat(100), dir.join("edge")).expect("link");
    });
    let world = World::new(Format::TarZst, &packed(dir.path(), Format::TarZst).expect("packed").0);
    let manifest = world.unpack().expect("unpacked");
    assert_eq!(manifest.get("far"), Some(&Kind::Symlink { target: format!("./{long}//f") }));
    assert_eq!(manifest.get("near"), Some(&Kind::Symlink { target: "./far/".into() }));
    assert_eq!(manifest.get("edge"), Some(&Kind::Symlink { target: "x".repeat(100) }));
}

/// What GNU tar writes, in its three formats and with its padding, is taken as it is.
#[test]
fn what_tar_writes_is_taken() {
    let long = "n".repeat(90);
    let dir = folder(|dir| {
        fs::create_dir_all(dir.join(&long).join(&long)).expect("folders");
        fs::write(dir.join(&long).join("f"), "x").expect("write");
        fs::write(dir.join(&long).join(&long).join("fä"), "y").expect("write");
        fs::hard_link(dir.join(&long).join("f"), dir.join("hard")).expect("link");
        symlink(format!("{long}/f"), dir.join("l")).expect("link");
    });
    for format in ["gnu", "posix", "ustar"] {
        let tar = std::process::Command::new("tar")
            .args(["--create", "--file=-", "--format", format, "--directory"])
            .arg(dir.path())
            .arg(".")
            .output()
            .expect("tar runs");
        assert!(tar.status.success(), "{tar:?}");
        let world = World::new(Format::Tar, &tar.stdout);
        let manifest = world.unpack().unwrap_or_else(|error| panic!("{format}: {}", error.fault()));
        manifest.verify(world.dest()).expect("verifies");
        assert_eq!((manifest.files, manifest.entries.len()), (3, 6), "{format}");
    }
}

#[test]
fn lint_tells_all_that_it_sees() {
    let dir = folder(|dir| {
        fs::create_dir_all(dir.join("web/.slotd")).expect("folders");
        fs::write(dir.join("web/index.html"), "x").expect("write");
        symlink("gone", dir.join("web/l")).expect("link");
    });
    let (out, scratch) = (tempfile::tempdir().expect("out"), tempfile::tempdir().expect("scratch"));
    fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).expect("chmod");
    let (bytes, report) = packed(dir.path(), Format::TarZst).expect("packed");
    let file = out.path().join("web-1.2.tar.zst");
    fs::write(&file, &bytes).expect("write");
    fs::write(out.path().join("web-1.2.tar.zst.sha256"), report.digest.to_string()).expect("write");
    let found = lint(&file, scratch.path(), &Limits::default()).expect("linted");
    assert_eq!((found.digest, found.files, found.bytes, found.checksum), (report.digest, 1, 1, true));
    assert_eq!(found.version.map(|version| version.to_string()).as_deref(), Some("1.2"));
    assert_eq!(found.refused, None);
    let words = ["no file is executable", "all lies in the folder web", "the link web/l leads to gone"];
    assert!(
        words.iter().zip(&found.warnings).all(|(words, warning)| warning.starts_with(words)),
        "{:?}",
        found.warnings
    );
    assert_eq!(fs::read_dir(scratch.path()).expect("scratch").count(), 0);

    let hostile = out.path().join("web-2.tar");
    fs::write(&hostile, Tar::new().file("../x", "").end()).expect("write");
    let refused = lint(&hostile, scratch.path(), &Limits::default()).expect("linted").refused.expect("refused");
    assert_eq!((refused.code, refused.evidence.entry.as_deref()), (Code::ArchivePathEscape, Some("../x")));

    let other = out.path().join("web-3.tar");
    fs::write(&other, Tar::new().file(".slotd/release.toml", "version = \"4\"").end()).expect("write");
    let refused = lint(&other, scratch.path(), &Limits::default()).expect("linted").refused.expect("refused");
    assert_eq!(refused.code, Code::ReleaseInvalid);
}
