//! The program as a process: exit codes, streams, pipes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    format!("http://{}", listener.local_addr().expect("has an address"))
}

fn pygmy(line: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pygmy"))
        .args(line)
        .env("PYGMY_URL", nobody())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(input.as_bytes()).expect("the program reads");
    drop(stdin);
    child.wait_with_output().expect("ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn errors_go_to_standard_error_and_never_exit_with_0() {
    let missing = "/nowhere/node.toml: cannot be read: No such file or directory (os error 2)";
    for (line, code, words) in [
        (&["nonsense"][..], 2, "unrecognized subcommand"),
        (&["serve", "--config", "/nowhere/node.toml"], 2, missing),
        (&["facade", "--config", "/nowhere/node.toml"], 2, missing),
        (
            &["serve", "--single", "--listen", "0.0.0.0:80"],
            2,
            "flag --listen: api.listen: 0.0.0.0:80",
        ),
        (&["items", "--timeout", "1"], 3, "Connection refused"),
        (&["buy", "5", "--timeout", "1"], 3, "nothing was changed"),
        (&["verify", "--timeout", "1"], 3, "Connection refused"),
        (&["cluster", "status", "--timeout", "1"], 3, "Connection refused"),
        (&["wait", "--timeout", "1"], 3, "did not answer within 1 s"),
        (&["load", "/nowhere.csv"], 2, "/nowhere.csv: cannot be read"),
    ] {
        let output = pygmy(line, "");
        assert_eq!(output.status.code(), Some(code), "{line:?}: {output:?}");
        assert!(text(&output.stderr).contains(words), "{line:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{line:?}: {}", text(&output.stdout));
    }
}

#[test]
fn help_and_version_are_answers() {
    for line in
        [&["--help"][..], &["--version"], &["buy", "--help"], &["help", "cluster", "status"]]
    {
        let output = pygmy(line, "");
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{line:?}");
    }
}

#[test]
fn the_shop_works_through_a_pipe_and_ends_with_it() {
    let output = pygmy(&["shop", "--timeout", "1"], "2\n5\nb\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let seen = text(&output.stdout);
    assert!(seen.starts_with("Welcome to Pygmy.com, the world's smallest book store!\n"), "{seen}");
    assert!(seen.contains("The store cannot be reached right now. Please try again"), "{seen}");
    assert!(seen.ends_with("Goodbye!\n"), "{seen}");
}

#[test]
fn settings_come_from_the_environment_of_the_process() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/cluster/node1.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_pygmy"))
        .args(["serve", "--check", "--config", config])
        .env("PYGMY_RAFT_HEARTBEAT_MS", "soon")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "pygmy: environment variable PYGMY_RAFT_HEARTBEAT_MS: raft.heartbeat_ms: must be a whole \
         number from 1 to 60000 (default 50), not \"soon\"\n"
    );
}
