//! The commands of README's chapter on the life of a release, as they stand there, on a real systemd.

mod support;

use support::host::Root;
use support::world::World;

/// The blocks of commands in the chapter.
fn blocks() -> Vec<String> {
    let readme = include_str!("../README.md");
    let (_, chapter) = readme.split_once("\n## The life of a release\n").expect("the chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("its end");
    let fenced = chapter.split("\n```sh\n").skip(1);
    fenced.map(|block| block.split_once("\n```").expect("the end of a block").0.to_owned()).collect()
}

#[test]
fn the_commands_of_the_chapter_do_what_it_says() {
    let world = World::boot("readme", Root::Own);
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        world.live("web", 8080, version);
    }
    let blocks = blocks();
    assert!(blocks.len() > 3, "{blocks:?}");
    for block in blocks {
        eprintln!("{block}\n{}\n", world.host.ok(&format!("cd /root; set -e\n{block}")));
        world.expect_idle_but_staged("web");
    }
    world.expect_answering(8080);
}
