//! The walls between the rooms, and what no source file may contain.
//!
//! It guards what the compiler does not: which file may name which library, and which way
//! dependencies point. Taste is left to readers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates of the workspace, by directory.
const ROOMS: [&str; 5] = ["", "raft", "storage", "tests/chaos", "tests/peers"];
/// Where Rust is; whatever lies below is read.
const SOURCES: [&str; 8] = [
    "src",
    "raft/benches",
    "raft/src",
    "raft/tests",
    "storage/benches",
    "storage/src",
    "storage/tests",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file: its path below the root, and its text.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<PathBuf> = SOURCES.iter().map(|dir| root().join(dir)).collect();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a directory's entry can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("is below the root");
                let text = fs::read_to_string(&path).expect("a source file is text");
                found.insert(name.display().to_string(), text);
            }
        }
    }
    assert!(found.len() > 100, "found only {} source files: the walk is broken", found.len());
    found
}

/// The code of a file: without comments and doc comments, line by line, numbered from 1. The walls
/// are about names, so a `//` within a string, which cuts a line short, does no harm.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    (1..).zip(lines)
}

/// Whether `word` stands in `line` as a whole name.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let end = word.ends_with(':') || !line[at + word.len()..].starts_with(is_part);
        // A module of ours may have a library's name.
        let ours = ["self::", "super::"].iter().any(|path| line[..at].ends_with(path));
        end && !ours && !line[..at].ends_with(is_part)
    })
}

/// Every place where one of `words` is named in a file that may not.
fn trespasses(words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources() {
        if may(&file) || file == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in code(&text) {
            for word in words.iter().filter(|word| names(line, word)) {
                found.push(format!("{file}:{number}: {word}"));
            }
        }
    }
    found
}

fn expect_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}

#[test]
fn sled_is_named_in_one_file() {
    // In the second, `sled` is the first: the module of that name.
    let may = ["storage/src/engine/sled.rs", "storage/src/engine/mod.rs"];
    let found = trespasses(&["sled::"], |file| may.contains(&file));
    expect_none(&found, "only storage/src/engine/sled.rs may name sled");
}

#[test]
fn bincode_is_named_in_one_file() {
    let found = trespasses(&["bincode::"], |file| file == "storage/src/codec.rs");
    expect_none(&found, "only storage/src/codec.rs may name bincode");
}

#[test]
fn openraft_is_named_in_one_room() {
    let words = ["openraft::", "openraft_rt::", "openraft_rt_tokio::", "openraft_rt_sim::"];
    let found = trespasses(&words, |file| file.starts_with("raft/"));
    expect_none(&found, "only raft/ may name openraft");
}

#[test]
fn storage_knows_neither_clock_nor_network_nor_environment() {
    let words = ["tokio", "async", "axum", "hyper", "reqwest", "SystemTime", "Instant", "env"];
    let found = trespasses(&words, |file| !file.starts_with("storage/src/"));
    expect_none(&found, "storage/ is pure and synchronous");
}

/// The libraries a crate of the workspace depends on, by the kind of dependency.
fn dependencies(room: &str) -> BTreeMap<String, BTreeSet<String>> {
    let path = root().join(room).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let of = |kind| {
        let table = manifest.get(kind).and_then(toml::Value::as_table);
        table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    };
    kinds.into_iter().map(|kind| (kind.to_owned(), of(kind))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let ours = |room: &str| -> BTreeSet<String> {
        let all = dependencies(room).into_values().flatten();
        all.filter(|name| name.starts_with("pygmy")).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(ours("storage"), set(&[]));
    assert_eq!(ours("raft"), set(&["pygmy-storage"]));
    assert_eq!(ours(""), set(&["pygmy-raft", "pygmy-storage"]));
    assert_eq!(ours("tests/chaos"), set(&["pygmy"]));
    assert_eq!(ours("tests/peers"), set(&["pygmy", "pygmy-chaos"]));
    assert_eq!(members(), ROOMS[1..].iter().map(|room| (*room).to_owned()).collect());
}

/// The workspace's members, so that a new one cannot escape these rules.
fn members() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members is a list");
    members.iter().map(|member| member.as_str().expect("a path").to_owned()).collect()
}

#[test]
fn each_library_stays_in_its_room() {
    let of = |room: &str| dependencies(room).into_values().flatten().collect::<BTreeSet<_>>();
    let expect_without = |room: &str, unwanted: &[&str]| {
        let found: Vec<_> = of(room)
            .into_iter()
            .filter(|name| unwanted.iter().any(|word| name == word || name.starts_with("openraft")))
            .collect();
        expect_none(&found, &format!("{room}/Cargo.toml may not depend on these"));
    };
    let network = ["tokio", "axum", "hyper", "hyper-util", "reqwest", "tower", "http", "futures"];
    expect_without("storage", &network);
    expect_without("", &["sled", "bincode"]);
    expect_without("tests/chaos", &["sled", "bincode"]);
    expect_without("tests/peers", &["sled", "bincode"]);
    let raft = of("raft");
    assert!(!raft.contains("sled") && !raft.contains("bincode"), "{raft:?}");
    assert!(of("storage").contains("sled") && raft.contains("openraft"), "the reading is broken");
}

#[test]
fn every_file_says_what_it_is() {
    let mute: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| file)
        .collect();
    expect_none(&mute, "every Rust file begins with `//!`");
}

#[test]
fn nothing_unfinished_is_left() {
    let mut found = Vec::new();
    let marks = ["dbg!", "todo!", "unimplemented!"];
    for (file, text) in sources().into_iter().filter(|(file, _)| file != "tests/tidy.rs") {
        for (number, line) in code(&text) {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                found.push(format!("{file}:{number}: {mark}"));
            }
        }
        for (number, line) in (1..).zip(text.lines()) {
            // A task in a comment needs somewhere where it is kept.
            if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
                found.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    expect_none(&found, "what is unfinished is written down elsewhere");
}

#[test]
fn no_test_is_switched_off() {
    let mut found = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| file != "tests/tidy.rs") {
        for (number, line) in code(&text).filter(|(_, line)| line.contains("#[ignore")) {
            found.push(format!("{file}:{number}: {}", line.trim()));
        }
    }
    expect_none(&found, "a test that cannot run says so itself and why");
}

#[test]
fn the_rules_find_what_they_look_for() {
    assert!(names("tokio::spawn", "tokio") && names("tokio", "tokio"));
    assert!(names("use sled::Db;", "sled::") && !names("super::sled::sync_dir", "sled::"));
    assert!(!names("fn untrammelled_sledge()", "sled") && !names("handsled", "sled"));
    let lines: Vec<_> = code("//! sled\nlet a = 1; // sled\nsled::open()").collect();
    assert_eq!(lines, [(1, ""), (2, "let a = 1; "), (3, "sled::open()")]);
}
