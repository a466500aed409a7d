//! Every rule on what comes in, shown by the code of its refusal. The tests are named after the codes.
//!
//! Longer than other files, since it is read beside the table of refusals, row by row.

#![cfg(feature = "daemon")]

mod artifact_support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use artifact_support::{BLOCK, Header, Tar, World, accepted, compress, refused, refused_as};
use slotd::artifact::manifest::Kind;
use slotd::artifact::{Format, Limits, Reserve, checksum, spool};
use slotd::model::{Code, Digest};

#[test]
fn plain_archives_are_accepted() {
    let tar = Tar::new()
        .pax(b'g', &[("comment", "0123456789abcdef")])
        .folder("./")
        .folder("./bin/")
        .with(Header::new(b'0', "./bin/web").mode(0o100_755), b"#!/bin/sh\n")
        .symlink("./web", "bin/web")
        .hard_link("./bin/copy", "./bin/web")
        .pax(b'x', &[("path", "näh/lang"), ("size", "3"), ("mtime", "12.5"), ("uid", "12")])
        .file("short", "abc")
        .long(b'L', &"d/".repeat(60).replace("d/", "ordner/")[..400])
        .header(Header::new(b'5', "cut").gnu().mode(0o700))
        .end();
    // The long path above is cut inside a component; what matters is that all of it arrives.
    let (world, manifest) = accepted(&tar);
    assert!(matches!(manifest.get("bin/web"), Some(Kind::File { executable: true, size: 10, mtime: 100, .. })));
    assert_eq!(manifest.get("bin/web"), manifest.get("bin/copy"));
    assert_eq!(manifest.get("web"), Some(&Kind::Symlink { target: "bin/web".into() }));
    assert!(matches!(manifest.get("näh/lang"), Some(Kind::File { executable: false, mtime: 12, .. })));
    assert_eq!(fs::read(world.dest().join("näh/lang")).expect("read"), b"abc");
    let mode = |path: &str| fs::metadata(world.dest().join(path)).expect("stat").permissions().mode() & 0o7777;
    assert_eq!((mode("bin/web"), mode("näh/lang"), mode("bin"), mode("")), (0o555, 0o444, 0o555, 0o700));
}

#[test]
fn archive_ambiguous_extended_headers() {
    let code = Code::ArchiveAmbiguous;
    let file = |tar: Tar| tar.file("a", "x").end();
    let x = |records: &[(&str, &str)]| file(Tar::new().pax(b'x', records));
    refused(&x(&[("path", "b"), ("path", "c")]), code, Some("PaxHeaders/x"), "twice");
    refused(&x(&[("colour", "b")]), code, Some("PaxHeaders/x"), "unknown key");
    refused(&x(&[("path", "")]), code, Some("PaxHeaders/x"), "empty value");
    refused(&x(&[("hdrcharset", "BINARY")]), code, Some("PaxHeaders/x"), "hdrcharset");
    refused(&x(&[("linkpath", "b")]), code, Some("a"), "no link");
    refused(&x(&[("size", "2")]), code, Some("a"), "2 bytes and the header 1");
    refused(&x(&[("size", "0")]), code, Some("a"), "0 bytes and the header 1");
    refused(
        &file(Tar::new().pax(b'x', &[("mtime", "1")]).pax(b'x', &[("mtime", "1")])),
        code,
        Some("PaxHeaders/x"),
        "twice",
    );
    refused(&file(Tar::new().with(Header::new(b'x', "x"), b"9 path=b")), code, Some("x"), "doesn't fit");
    refused(&file(Tar::new().pax(b'x', &[("path", "b")]).long(b'L', "c")), code, Some("a"), "a long path twice");
    refused(&file(Tar::new().long(b'L', "b").long(b'L', "c")), code, Some("././@LongLink"), "twice");
    refused(&Tar::new().file("a", "x").pax(b'x', &[("path", "b")]).end(), code, None, "no entry");
    for key in ["path", "linkpath", "size", "mtime"] {
        refused(&file(Tar::new().pax(b'g', &[(key, "1")])), code, None, "global");
    }
    refused(&file(Tar::new().pax(b'x', &[("path", "b")]).pax(b'g', &[("comment", "c")])), code, None, "global");
}

/// CVE-2025-62518: the header says 0 bytes, PAX says more, and what lies there looks like headers.
#[test]
fn archive_ambiguous_hidden_archive() {
    let inner = Tar::new().file("hidden", "x").end();
    let size = inner.len().to_string();
    let tar = Tar::new().pax(b'x', &[("size", &size)]).header(Header::new(b'0', "a")).content(&inner).end();
    refused(&tar, Code::ArchiveAmbiguous, Some("a"), "and the header 0");
}

#[test]
fn archive_ambiguous_entries() {
    let code = Code::ArchiveAmbiguous;
    let one = |header: Header| Tar::new().header(header).end();
    for flag in [b'7', b'D', b'M', b'N', b'V', b'X', b'A', b'z', 0xff] {
        refused(&one(Header::new(flag, "a")), code, Some("a"), "unknown type");
    }
    refused(&one(Header::new(b'0', "a/")), code, Some("a/"), "slash");
    refused(&one(Header::new(0, "a/")), code, Some("a/"), "slash");
    refused(&one(Header::new(b'0', "a").target("b")), code, Some("a"), "no link");
    refused(&one(Header::new(b'0', "a").bytes(124, b"-0000000001\0")), code, Some("a"), "size isn't a number");
    refused(&one(Header::new(b'0', "a").bytes(100, &[0; 8])), code, Some("a"), "mode isn't a number");
    refused(&one(Header::new(b'0', "a\0b")), code, Some("a"), "follow the end");
    refused(&one(Header::new(b'0', "a").bytes(257, &[0; 8])), Code::ArchiveFormat, None, "a tar archive");
    let second = Tar::new().file("b", "x").header(Header::new(b'0', "a").bytes(257, &[0; 8])).end();
    refused(&second, code, None, "neither of the POSIX nor of the GNU kind");
    for flag in [b'1', b'2', b'5'] {
        let tar = Tar::new().file("f", "x").header(Header::new(flag, "a").size(512).target(if flag == b'5' {
            ""
        } else {
            "f"
        }));
        refused(&tar.content(b"content").end(), code, Some("a"), "512 bytes of content");
    }
}

#[test]
fn archive_ambiguous_end() {
    let code = Code::ArchiveAmbiguous;
    let entries = Tar::new().file("a", "x");
    let zeros = |count: usize| [entries.0.clone(), vec![0; count]].concat();
    refused(&entries.0, code, None, "two blocks of zeros");
    refused(&zeros(BLOCK), code, None, "two blocks of zeros");
    refused(&[zeros(BLOCK), Tar::new().file("b", "x").end()].concat(), code, None, "follow the end");
    refused(&[zeros(2 * BLOCK), Tar::new().file("b", "x").end()].concat(), code, None, "follow the end");
    refused(&[zeros(2 * BLOCK), b"x".to_vec()].concat(), code, None, "follow the end");
    accepted(&zeros(20 * BLOCK));
    refused(&zeros(2 * BLOCK + (1 << 20) + 1), Code::ArchiveLimit, None, "padding");
}

#[test]
fn archive_ambiguous_after_the_stream() {
    let tar = Tar::new().file("a", "x").end();
    for format in [Format::TarGz, Format::TarZst, Format::TarXz] {
        let packed = compress(format, &tar);
        for rest in [&b"x"[..], &[0; 512], &[0x1f, 0x8b][..1], b"PK\x03\x04 and more"] {
            let packed = [&packed[..], rest].concat();
            refused_as(format, &packed, Code::ArchiveAmbiguous, None, "follow the end of the compressed stream");
        }
        // A second member whose content follows the end of the archive.
        let packed = [&packed[..], &compress(format, &tar)].concat();
        refused_as(format, &packed, Code::ArchiveAmbiguous, None, "follow the end of the archive");
    }
}

#[test]
fn archive_path_escape() {
    let code = Code::ArchivePathEscape;
    let long = vec!["a".repeat(200); 20].join("/");
    let deep = vec!["a"; 65].join("/");
    for (path, words) in [
        ("../secret", "`..`"),
        ("a/../../secret", "`..`"),
        ("..", "`..`"),
        ("/etc/passwd", "absolute"),
        ("//x", "absolute"),
        ("a//b", "empty component"),
        ("./", "slash"),
        ("a/./b", "`.`"),
        ("a\\..\\b", "backslash"),
        (".", "top folder"),
        ("", "empty"),
    ] {
        let tar = Tar::new().file(path, "x").end();
        if path == "./" {
            refused(&tar, Code::ArchiveAmbiguous, Some(path), words);
        } else {
            refused(&tar, code, Some(path), words);
        }
        if !path.is_empty() {
            refused(
                &Tar::new().long(b'L', path).file("x", "x").end(),
                if path == "./" { Code::ArchiveAmbiguous } else { code },
                Some(path),
                words,
            );
        }
    }
    for (path, words) in [("a\0b", "NUL"), (&*long, ""), (&*deep, "deep"), (&*"a".repeat(256), "255")] {
        let tar = Tar::new().pax(b'x', &[("path", path)]).file("x", "x").end();
        match path == long {
            true => drop(accepted(&tar)),
            false => refused(&tar, code, Some(&path.replace('\0', "\\u{0}")), words),
        }
    }
    let too_long = format!("{long}/{}", "a".repeat(77));
    assert_eq!(too_long.len(), 4097);
    refused(&Tar::new().long(b'L', &too_long).file("x", "x").end(), code, Some(&too_long), "4096");
    let tar = Tar::new().header(Header::new(b'0', "x").bytes(0, b"a\xff\xfe")).end();
    refused(&tar, code, Some("a\u{fffd}\u{fffd}"), "UTF-8");
    for flag in [b'1', b'2', b'5'] {
        let tar =
            Tar::new().file("f", "x").header(Header::new(flag, "../x").target(if flag == b'5' { "" } else { "f" }));
        refused(&tar.end(), code, Some("../x"), "`..`");
    }
    // A prefix of the POSIX header counts as part of the path.
    refused(&Tar::new().header(Header::new(b'0', "x").bytes(345, b"..")).end(), code, Some("../x"), "`..`");
}

#[test]
fn archive_link_escape() {
    let code = Code::ArchiveLinkEscape;
    for target in ["/etc/passwd", "..", "../secret", "b/../../secret", "a\\b"] {
        refused(&Tar::new().file("f", "x").symlink("link", target).end(), code, Some("link"), "");
    }
    refused(&Tar::new().header(Header::new(b'2', "link")).end(), code, Some("link"), "empty");
    refused(&Tar::new().symlink("loop", "loop").end(), code, Some("loop"), "circle");
    // The second link is fine as text, and leads out only through the first.
    refused(
        &Tar::new().symlink("d/up", "..").symlink("out", "d/up/../secret").end(),
        code,
        Some("out"),
        "out of the tree",
    );
    // Entries through a link, whichever comes first.
    refused(&Tar::new().folder("d").symlink("l", "d").file("l/x", "x").end(), code, Some("l/x"), "below it");
    refused(&Tar::new().file("l/x", "x").symlink("l", "..").end(), code, Some("l"), "below it");
    let (world, _) =
        accepted(&Tar::new().symlink("b/l", "../a/f").file("a/f", "x").symlink("dangling", "a/gone").end());
    assert_eq!(fs::read(world.dest().join("b/l")).expect("through the link"), b"x");
}

#[test]
fn archive_hardlink() {
    let code = Code::ArchiveHardlink;
    for target in ["gone", "/etc/passwd", "../secret", "later", "d", "l", "F", ""] {
        let tar = Tar::new().file("f", "x").folder("d").symlink("l", "f").hard_link("hard", target).file("later", "x");
        refused(&tar.end(), code, Some("hard"), "no file");
    }
    let (world, manifest) = accepted(&Tar::new().file("f", "x").hard_link("d/g", "f").hard_link("h", "./d/g").end());
    assert_eq!((manifest.files, manifest.bytes), (3, 3));
    assert_eq!(fs::read(world.dest().join("h")).expect("read"), b"x");
}

#[test]
fn archive_duplicate() {
    let code = Code::ArchiveDuplicate;
    refused(&Tar::new().file("a", "x").file("a", "y").end(), code, Some("a"), "twice");
    refused(&Tar::new().file("a", "x").file("./a", "y").end(), code, Some("./a"), "twice");
    refused(&Tar::new().file("Makefile", "x").file("makefile", "y").end(), code, Some("makefile"), "Makefile");
    refused(&Tar::new().file("é", "x").file("e\u{301}", "y").end(), code, Some("e\u{301}"), "composition");
    refused(&Tar::new().file("Lib/a", "x").file("lib/b", "y").end(), code, Some("lib/b"), "Lib");
    refused(&Tar::new().folder("a").folder("a/").end(), code, Some("a/"), "twice");
    refused(&Tar::new().folder(".").folder("./").end(), code, Some("./"), "twice");
    refused(&Tar::new().file("a", "x").file("a/b", "y").end(), code, Some("a/b"), "a file and a folder");
    refused(&Tar::new().file("a/b", "x").file("a", "y").end(), code, Some("a"), "a file and a folder");
    // CVE-2026-33056: a link first, then a file or folder in its place.
    refused(&Tar::new().symlink("a", "b").file("a", "y").end(), code, Some("a"), "twice");
    refused(&Tar::new().symlink("a", "b").folder("a").end(), code, Some("a"), "twice");
    refused(&Tar::new().file("f", "x").hard_link("a", "f").symlink("a", "f").end(), code, Some("a"), "twice");
}

#[test]
fn archive_special_file() {
    for (flag, word) in [(b'3', "character device"), (b'4', "block device"), (b'6', "FIFO")] {
        refused(&Tar::new().header(Header::new(flag, "a")).end(), Code::ArchiveSpecialFile, Some("a"), word);
    }
}

#[test]
fn archive_mode() {
    for mode in [0o4755, 0o2755, 0o1755, 0o104_755] {
        refused(&Tar::new().header(Header::new(b'0', "a").mode(mode)).end(), Code::ArchiveMode, Some("a"), "mode");
        refused(&Tar::new().header(Header::new(b'5', "d").mode(mode)).end(), Code::ArchiveMode, Some("d"), "mode");
    }
    let tar = Tar::new().file("f", "x").header(Header::new(b'1', "h").target("f").mode(0o4755)).end();
    refused(&tar, Code::ArchiveMode, Some("h"), "4755");
}

#[test]
fn archive_xattr() {
    for key in [
        "SCHILY.xattr.security.capability",
        "SCHILY.xattr.user.x",
        "SCHILY.acl.access",
        "LIBARCHIVE.xattr.trusted.x",
        "RHT.security.selinux",
    ] {
        let tar = Tar::new().pax(b'x', &[(key, "v")]).file("a", "x").end();
        refused(&tar, Code::ArchiveXattr, Some("PaxHeaders/x"), key);
        refused(&Tar::new().pax(b'g', &[(key, "v")]).file("a", "x").end(), Code::ArchiveXattr, None, key);
    }
}

#[test]
fn archive_sparse() {
    refused(&Tar::new().header(Header::new(b'S', "a").gnu()).end(), Code::ArchiveSparse, Some("a"), "sparse");
    for key in ["GNU.sparse.major", "GNU.sparse.map", "SCHILY.realsize"] {
        let tar = Tar::new().pax(b'x', &[(key, "1")]).file("a", "x").end();
        refused(&tar, Code::ArchiveSparse, Some("PaxHeaders/x"), "sparse");
    }
}

fn limited(tar: &[u8], change: impl FnOnce(&mut Limits), words: &str) {
    let mut world = World::new(Format::TarZst, &compress(Format::TarZst, tar));
    change(&mut world.job.limits);
    let fault = world.unpack().expect_err("over the limit").fault();
    assert_eq!(fault.code, Code::ArchiveLimit, "{fault}");
    assert!(fault.message.contains(words), "{fault}");
}

#[test]
fn archive_limit() {
    let tar = Tar::new().file("a", "12345").file("d/b", "67890").end();
    limited(&tar, |limits| limits.packed_bytes = 10, "at most 10");
    limited(&tar, |limits| limits.unpacked_bytes = 9, "9 bytes together");
    limited(&tar, |limits| limits.file_bytes = 4, "5 bytes, and at most 4");
    limited(&tar, |limits| limits.entries = 2, "2 entries");
    limited(&tar, |limits| limits.time = Duration::ZERO, "longer than");
    limited(&Tar::new().pax(b'x', &[("comment", &"x".repeat(70_000))]).file("a", "").end(), |_| {}, "extended header");
    // Hard links to one file, which cost the archive a block each.
    let links = (0..10).fold(Tar::new().file("f", "12345"), |tar, n| tar.hard_link(&format!("h{n}"), "f"));
    limited(&links.end(), |limits| limits.unpacked_bytes = 50, "50 bytes together");
    // Headers without end, none of which is an entry.
    let globals = (0..200).fold(Tar::new(), |tar, _| tar.pax(b'g', &[("comment", "x")]));
    limited(&globals.end(), |limits| (limits.unpacked_bytes, limits.entries) = (0, 1), "headers and padding");
}

#[test]
fn archive_limit_bombs() {
    let bytes = 11 << 20;
    let bomb = Tar::new().with(Header::new(b'0', "zeros"), &vec![0; bytes]).end();
    for format in [Format::TarGz, Format::TarZst, Format::TarXz] {
        refused_as(format, &compress(format, &bomb), Code::ArchiveLimit, Some("zeros"), "200 times its packed size");
    }
    // zstd with a window of 2^28, xz with a dictionary of 128 MiB: what they unpack to doesn't matter.
    let tar = Tar::new().file("a", "x").end();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd");
    encoder.window_log(28).expect("window");
    std::io::Write::write_all(&mut encoder, &tar).expect("zstd");
    refused_as(Format::TarZst, &encoder.finish().expect("zstd"), Code::ArchiveLimit, None, "window");
    for (dictionary, is_taken) in [(64 << 20, true), (128 << 20, false)] {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).expect("preset");
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(options.dict_size(dictionary));
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).expect("xz");
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        std::io::Write::write_all(&mut encoder, &tar).expect("xz");
        let packed = encoder.finish().expect("xz");
        match is_taken {
            true => drop(World::new(Format::TarXz, &packed).unpack().expect("the dictionary of xz -9")),
            false => refused_as(Format::TarXz, &packed, Code::ArchiveLimit, None, "memory"),
        }
    }
}

#[test]
fn disk_full() {
    let tar = Tar::new().file("a", "12345").end();
    let mut world = World::new(Format::Tar, &tar);
    world.job.reserve = Reserve { bytes: u64::MAX, inodes: 0 };
    let fault = world.unpack().expect_err("no disk has that").fault();
    assert_eq!(fault.code, Code::DiskFull, "{fault}");
    assert!(fault.message.contains("bytes free"), "{fault}");
}

#[test]
fn fs_race() {
    // After the first entry, somebody swaps the folder that it made for a link out of the tree.
    let world = World::new(Format::Tar, &Tar::new().folder("a").file("a/one", "x").end());
    let (folder, outside) = (world.dest().join("a"), tempfile::tempdir().expect("outside"));
    let mut swap = Some(|| {
        fs::remove_dir(&folder).expect("remove");
        symlink(outside.path(), &folder).expect("link");
    });
    let error = world.unpack_watched(&mut |_| swap.take().into_iter().for_each(|swap| swap())).expect_err("a race");
    assert_eq!(error.code(), Code::FsRace);
    assert_eq!(fs::read_dir(outside.path()).expect("outside").count(), 0, "nothing was written through the link");

    // A file, or a link to one, lies where the next entry goes.
    for is_link in [false, true] {
        let world = World::new(Format::Tar, &Tar::new().folder("a").file("b", "x").end());
        let (place, secret) = (world.dest().join("b"), world.dir.path().join("secret"));
        let mut put = Some(|| if is_link { symlink(&secret, &place) } else { fs::write(&place, "theirs") });
        let error = world
            .unpack_watched(&mut |_| put.take().into_iter().for_each(|put| put().expect("put")))
            .expect_err("a race");
        assert_eq!(error.code(), Code::FsRace);
        assert!(error.fault().message.contains("came up by itself"));
    }

    let world = World::new(Format::Tar, &Tar::new().file("a", "x").end());
    fs::set_permissions(world.dest(), PermissionsExt::from_mode(0o777)).expect("chmod");
    assert_eq!(world.unpack().expect_err("open to all").code(), Code::FsRace);
}

#[test]
fn archive_format() {
    let tar = Tar::new().file("a", "x").end();
    for (format, other) in [
        (Format::Tar, Format::TarGz),
        (Format::TarGz, Format::TarZst),
        (Format::TarZst, Format::TarXz),
        (Format::TarXz, Format::Tar),
    ] {
        refused_as(format, &compress(other, &tar), Code::ArchiveFormat, None, "which the name says");
    }
    refused(b"PK\x03\x04", Code::ArchiveFormat, None, "a tar archive");
    assert_eq!(Format::of_name("web-1.zip").expect_err("unknown").code(), Code::ArchiveFormat);
}

#[test]
fn archive_damaged() {
    let content: String =
        (0..20_000).map(|n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let tar = Tar::new().file("first", "1").file("a", &content).end();
    for format in Format::ALL {
        let packed = compress(format, &tar);
        for cut in [0, 1, packed.len() / 2, packed.len() - 1] {
            let error = World::new(format, &packed[..cut]).unpack().expect_err("cut short");
            // One byte is not enough to tell what it is.
            let code = if cut == 1 { Code::ArchiveFormat } else { Code::ArchiveDamaged };
            assert_eq!(error.code(), code, "{format} cut at {cut}: {}", error.fault());
        }
        if format != Format::Tar {
            let mut packed = packed.clone();
            let middle = packed.len() / 2;
            packed[middle] ^= 0x55;
            assert_eq!(
                World::new(format, &packed).unpack().expect_err("damaged").code(),
                Code::ArchiveDamaged,
                "{format}"
            );
        }
    }
    let mut header = tar.clone();
    header[0] ^= 1;
    refused(&header, Code::ArchiveDamaged, None, "checksum");
    // An archive of nothing is what is left of one that was cut before it began.
    refused_as(Format::TarZst, &compress(Format::TarZst, &[0; 1024]), Code::ArchiveDamaged, None, "holds nothing");
}

#[test]
fn several_members_are_one_stream() {
    let tar = Tar::new().file("a", "x").file("b", &"y".repeat(3000)).end();
    let (first, second) = tar.split_at(700);
    for format in [Format::TarGz, Format::TarZst, Format::TarXz] {
        let mut packed = [compress(format, first), compress(format, second)].concat();
        if format == Format::TarZst {
            // pzstd begins with a skippable frame.
            packed = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &packed].concat();
        }
        assert_eq!(World::new(format, &packed).unpack().expect("one stream").files, 2);
    }
}

fn spooled(prepare: impl FnOnce(&std::path::Path), limit: u64) -> Result<Digest, Code> {
    let dir = tempfile::tempdir().expect("folder");
    let (drop, spool) = (dir.path().join("web-1.tar"), dir.path().join("spool"));
    fs::create_dir(&spool).expect("spool");
    prepare(&drop);
    let done = spool::copy_in(&drop, &spool, limit);
    let left = fs::read_dir(&spool).expect("spool").count();
    assert_eq!(left, usize::from(done.is_ok()), "a refusal leaves nothing in the spool");
    if let Err(error) = &done {
        assert_eq!(error.fault().evidence.entry.as_deref(), Some("web-1.tar"));
    }
    done.map(|spooled| spooled.digest).map_err(|error| error.code())
}

#[test]
fn ingest_not_regular() {
    let code = Err(Code::IngestNotRegular);
    assert_eq!(spooled(|drop| fs::create_dir(drop).expect("folder"), 100), code);
    assert_eq!(spooled(|drop| symlink("/etc/passwd", drop).expect("link"), 100_000), code);
    let fifo = |drop: &std::path::Path| {
        nix::unistd::mkfifo(drop, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
    };
    assert_eq!(spooled(fifo, 100), code);
    let socket = |drop: &std::path::Path| {
        std::os::unix::net::UnixListener::bind(drop).expect("socket");
    };
    assert_eq!(spooled(socket, 100), code);
}

#[test]
fn ingest_changed() {
    // What changes under the copy is tried where the copy is made; here the file that is gone already.
    assert_eq!(spooled(|_| {}, 100), Err(Code::IngestChanged));
}

#[test]
fn ingest_unreadable() {
    // Root may read everything, so this thread (and no other) looks at the file system as nobody.
    let is_root = nix::unistd::geteuid().is_root();
    let look_as = |uid: u32| is_root.then(|| nix::unistd::setfsuid(nix::unistd::Uid::from_raw(uid)));
    let dir = tempfile::tempdir().expect("folder");
    let drop = dir.path().join("web-1.tar");
    fs::write(&drop, "x").expect("write");
    fs::set_permissions(&drop, PermissionsExt::from_mode(0o000)).expect("chmod");
    look_as(65_534);
    let done = spool::copy_in(&drop, dir.path(), 100);
    look_as(0);
    let fault = done.expect_err("unreadable").fault();
    assert_eq!((fault.code, fault.evidence.entry.as_deref()), (Code::IngestUnreadable, Some("web-1.tar")));
}

#[test]
fn ingest_limit() {
    assert!(spooled(|drop| fs::write(drop, "12345").expect("write"), 5).is_ok());
    assert_eq!(spooled(|drop| fs::write(drop, "123456").expect("write"), 5), Err(Code::ArchiveLimit));
}

#[test]
fn trust_digest_mismatch() {
    let dir = tempfile::tempdir().expect("folder");
    let digest = Digest::from_bytes([7; 32]);
    assert!(checksum::verify(dir.path(), "a.tar", &digest).expect("none").is_none());
    fs::write(dir.path().join("a.tar.sha256"), format!("{}  a.tar\n", Digest::from_bytes([8; 32]))).expect("write");
    let fault = checksum::verify(dir.path(), "a.tar", &digest).expect_err("another").fault();
    assert_eq!((fault.code, fault.evidence.entry.as_deref()), (Code::TrustDigestMismatch, Some("a.tar")));
}

#[test]
fn slot_tampered() {
    type Change = fn(&std::path::Path);
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    let changes: [(&str, &str, Change); 8] = [
        ("d/f", "gone", |tree| fs::remove_file(tree.join("d/f")).expect("remove")),
        ("d/new", "wasn't there", |tree| fs::write(tree.join("d/new"), "").expect("write")),
        ("d/f", "bytes", |tree| fs::write(tree.join("d/f"), "longer than before").expect("write")),
        ("d/f", "time", |tree| fs::write(tree.join("d/f"), "X").expect("write")),
        ("d/f", "content", |tree| {
            let time = fs::metadata(tree.join("d/f")).and_then(|stat| stat.modified()).expect("stat");
            fs::write(tree.join("d/f"), "X").expect("write");
            fs::File::open(tree.join("d/f")).and_then(|file| file.set_modified(time)).expect("time");
        }),
        ("l", "elsewhere", |tree| {
            fs::remove_file(tree.join("l")).expect("remove");
            symlink("/etc/passwd", tree.join("l")).expect("link");
        }),
        ("d/f", "no file", |tree| {
            fs::remove_file(tree.join("d/f")).expect("remove");
            symlink("/etc/passwd", tree.join("d/f")).expect("link");
        }),
        ("e", "no folder", |tree| {
            fs::remove_dir(tree.join("e")).expect("remove");
            symlink("/etc", tree.join("e")).expect("link");
        }),
    ];
    for (entry, words, change) in changes {
        let (world, manifest) = accepted(&Tar::new().file("d/f", "x").folder("e").symlink("l", "d/f").end());
        mode(&world.dest().join("d"), 0o755);
        mode(&world.dest().join("d/f"), 0o644);
        change(world.dest());
        if fs::symlink_metadata(world.dest().join("d/f")).is_ok_and(|stat| stat.is_file()) {
            mode(&world.dest().join("d/f"), 0o444);
        }
        mode(&world.dest().join("d"), 0o555);
        let fault = manifest.verify(world.dest()).expect_err(words).fault();
        assert_eq!((fault.code, fault.evidence.entry.as_deref()), (Code::SlotTampered, Some(entry)), "{fault}");
        assert!(fault.message.contains(words), "{fault} has no {words:?}");
    }
    let (world, manifest) = accepted(&Tar::new().file("f", "x").folder("d").end());
    mode(&world.dest().join("f"), 0o755);
    assert!(manifest.verify(world.dest()).expect_err("mode").to_string().contains("0755, it was 0444"));
    mode(&world.dest().join("f"), 0o444);
    mode(&world.dest().join("d"), 0o755);
    assert!(manifest.verify(world.dest()).expect_err("mode").to_string().contains("0755, it was 0555"));
}
