//! What the documents promise is there: links, `make` targets, `pygmy` subcommands, files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Read where they are there; the first must be.
const DOCUMENTS: [&str; 4] =
    ["README.md", "ARCHITECTURE.md", "docs/EXAMPLES.md", "docs/PERFORMANCE.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents: name and text.
fn documents() -> Vec<(&'static str, String)> {
    let found: Vec<_> = DOCUMENTS
        .into_iter()
        .filter_map(|name| Some((name, fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(found.iter().any(|(name, _)| *name == "README.md"), "there is no README.md");
    found
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target))
        .collect()
}

/// The text that is code: fenced blocks line by line, and what stands between backticks.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            found.push(line);
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The word after each `command` that stands at a command's place, with whatever follows it.
fn calls<'a>(code: &[&'a str], command: &str) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    for line in code {
        for part in line.split('#').next().unwrap_or_default().split([';', '|', '&']) {
            let mut words = part.split_whitespace();
            let first = words.next().unwrap_or_default();
            if first == command || first.ends_with(&format!("/{command}")) {
                found.push(words.collect());
            }
        }
    }
    found
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (name, text) in documents() {
        for target in links(&text) {
            let path = target.split('#').next().unwrap_or_default();
            if target.contains("://") || path.is_empty() {
                continue;
            }
            seen += 1;
            // From where the document is.
            let from = root().join(name);
            if !from.with_file_name(path).exists() {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(seen > 0, "found no link: the reading is broken");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What the documents name in backticks and looks like a path of the repository.
#[test]
fn every_file_that_is_named_is_there() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (name, text) in documents() {
        for path in code(&text) {
            let rooted = ["src/", "raft/", "storage/", "tests/", "config/", "scripts/"];
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if !plain || !rooted.iter().any(|dir| path.starts_with(dir)) {
                continue;
            }
            seen += 1;
            // A module may be named without its `.rs`.
            let is_there = |path: PathBuf| path.exists() || path.with_extension("rs").exists();
            if !is_there(root().join(path)) {
                broken.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(seen > 0, "found no path: the reading is broken");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_make_target_is_in_the_makefile() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '.', '#', ' ']))
        .filter_map(|line| line.split_once(':').filter(|(_, rest)| !rest.starts_with('=')))
        .map(|(target, _)| target)
        .collect();
    let mut seen = 0;
    for (name, text) in documents() {
        for words in calls(&code(&text), "make") {
            for target in words.iter().filter(|word| !word.contains('=')) {
                assert!(targets.contains(target), "{name}: make {target}; there are {targets:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "found no target: the reading is broken");
}

/// `make` alone lists them, so that list must be whole.
#[test]
fn every_make_target_is_in_its_help() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    let (_, phony) = makefile.split_once(".PHONY:").expect("targets are listed as phony");
    let phony = phony.split("\n\n").next().expect("a list ends with an empty line");
    for target in phony.split_whitespace().filter(|word| !["\\", "help"].contains(word)) {
        assert!(makefile.contains(&format!("@echo \"make {target}")), "help is silent on {target}");
    }
}

#[test]
fn every_subcommand_and_flag_is_there() {
    let mut seen = 0;
    for (name, text) in documents() {
        for words in calls(&code(&text), "pygmy") {
            let Some(subcommand) = words.first() else { continue };
            if *subcommand == "help" || subcommand.starts_with('-') {
                continue;
            }
            let mut line = vec![*subcommand];
            if *subcommand == "cluster" {
                line.extend(words.get(1));
            }
            let output = Command::new(env!("CARGO_BIN_EXE_pygmy"))
                .args(&line)
                .arg("--help")
                .output()
                .expect("the program runs");
            assert!(output.status.success(), "{name}: there is no `pygmy {}`", line.join(" "));
            let help = String::from_utf8_lossy(&output.stdout);
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or_default();
                assert!(help.contains(flag), "{name}: `pygmy {}` has no {flag}", line.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen > 0, "found no subcommand: the reading is broken");
}

#[test]
fn the_reading_finds_what_it_looks_for() {
    let text =
        "see [a](b/c.md) and `make x`\n```sh\nmake y; target/release/pygmy buy 5 # no\n```\n";
    assert_eq!(links(text), ["b/c.md"]);
    let code = code(text);
    assert_eq!(calls(&code, "make"), [["x"], ["y"]]);
    assert_eq!(calls(&code, "pygmy"), [["buy", "5"]]);
}
