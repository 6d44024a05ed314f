//! Each subcommand against a store that says what the test wants: its words and its exit code.

mod backup;
mod load;
mod operate;
mod shop;

use std::io::Write as _;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use super::*;
use crate::client::mock::{Mock, Say, item, order};

/// What a command line printed and how it ended.
struct Ran {
    out: String,
    error: String,
    exit: Exit,
}

async fn pygmy(url: &str, line: &[&str]) -> Ran {
    let mut words = vec!["pygmy"];
    words.extend(line);
    words.extend(["--url", url]);
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    match act(cli.command).await {
        Ok(Answer { text, note, exit }) => Ran { out: text, error: note.unwrap_or_default(), exit },
        Err(Stop { message, exit }) => Ran { out: String::new(), error: message, exit },
    }
}

#[test]
fn every_command_is_well_formed_and_shows_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                check(sub, &path);
            }
        } else {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
        }
    }
    Cli::command().debug_assert();
    check(&Cli::command(), "");
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:"), "{help}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    for line in [
        &["serve"][..],
        &["serve", "--single", "--config", "x"],
        &["serve", "--single", "--set", "heartbeat"],
        &["facade"],
        &["buy"],
        &["buy", "five"],
        &["buy", "5", "--quantity", "0"],
        &["buy", "5", "--key", "with space"],
        &["order-batch"],
        &["items", "--limit", "0"],
        &["items", "--limit", "1001"],
        &["orders", "--item", "five"],
        &["orders", "--status", "lost"],
        &["orders", "--from", "yesterday"],
        &["orders", "--to", "2025-01-31"],
        &["ledger"],
        &["items", "--sort", "stock"],
        &["stock", "5"],
        &["stock", "5", "--delta", "1", "--set", "2"],
        &["stock", "5", "--set", "2", "--reason", "theft"],
        &["put-item", "8", "--title", "T", "--topic", "T", "--price", "1,50"],
        &[
            "put-item",
            "8",
            "--title",
            "T",
            "--topic",
            "T",
            "--price",
            "1",
            "--create",
            "--if-version",
            "2",
        ],
        &["create-item", "--title", "T", "--topic", "T"],
        &["patch-item", "8"],
        &["patch-item", "8", "--price", "x"],
        &["delete-item"],
        &["policy"],
        &["policy", "set"],
        &["policy", "set", "price_history"],
        &["policy", "set", "price_history=many"],
        &["maintenance", "maybe"],
        &["backup"],
        &["backup", "--check", "--force", "x"],
        &["restore", "--single"],
        &["restore", "x"],
        &["restore", "--single", "--config", "y", "x"],
        &["wait", "--timeout", "0"],
        &["nonsense"],
    ] {
        let words = ["pygmy"].iter().chain(line);
        let error = Cli::try_parse_from(words).expect_err(&format!("{line:?} is refused"));
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}

/// Whoever reads commands for programs finds `--json` on each that answers.
#[test]
fn every_command_that_asks_the_store_has_json() {
    fn check(command: &clap::Command) {
        for sub in command.get_subcommands() {
            check(sub);
        }
        let has = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
        // The shop is a menu, `wait` answers with its exit code alone, and `export` in the format asked for.
        if has("url") && !["shop", "wait", "export"].contains(&command.get_name()) {
            assert!(has("json"), "{} has no --json", command.get_name());
        }
    }
    check(&Cli::command());
}

#[test]
fn every_shell_gets_a_script_that_knows_every_command() {
    let command = Cli::command();
    for shell in Shell::value_variants() {
        let script = completions(*shell).text;
        for sub in command.get_subcommands() {
            assert!(script.contains(sub.get_name()), "{shell}: {}", sub.get_name());
        }
        assert!(script.contains("quantity") && script.contains("member-timeout"), "{shell}");
    }
    assert_eq!(Shell::value_variants().len(), 5);
}

#[tokio::test]
async fn every_refusal_has_the_exit_code_of_the_help() {
    let not_applied = Some("not_applied");
    for (status, code, outcome, retryable, expected) in [
        (400, "malformed", not_applied, false, Exit::Usage),
        (401, "unauthenticated", not_applied, false, Exit::Usage),
        (403, "forbidden", not_applied, false, Exit::Usage),
        (404, "not_found", not_applied, false, Exit::No),
        (409, "out_of_stock", not_applied, false, Exit::No),
        (409, "wrong_state", not_applied, false, Exit::No),
        (412, "version_mismatch", not_applied, false, Exit::No),
        (413, "too_large", not_applied, false, Exit::Usage),
        (422, "idempotency_key_reused", not_applied, false, Exit::Usage),
        (422, "invalid", not_applied, false, Exit::Usage),
        (429, "rate_limited", not_applied, true, Exit::Unavailable),
        (503, "no_leader", not_applied, true, Exit::Unavailable),
        (503, "maintenance", not_applied, true, Exit::Unavailable),
        (503, "leadership_lost", Some("unknown"), true, Exit::Unknown),
        (504, "timeout", Some("unknown"), true, Exit::Unknown),
        (507, "disk_full", not_applied, true, Exit::Unavailable),
        // What says nothing about the outcome leaves it open.
        (500, "internal", None, true, Exit::Unknown),
    ] {
        let mock = Mock::start(move |_| Say::problem(status, code, outcome, retryable)).await;
        let ran = pygmy(&mock.url, &["buy", "5", "--timeout", "1"]).await;
        assert_eq!(ran.exit, expected, "{code}: {}", ran.error);
        assert!(ran.error.contains(&format!("this is {code}")), "{}", ran.error);
    }
}

#[tokio::test]
async fn the_answer_no_is_exit_code_1() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "GET /search/Nothing/" => Say::json(200, json!({"items": {}})),
        "GET /lookup/99/" => Say::json(200, json!({})),
        "POST /v1/orders" => Say::problem_with(
            409,
            "out_of_stock",
            Some("not_applied"),
            false,
            json!({"item": 5, "line": 0, "requested": 2, "available": 1}),
        ),
        "PUT /v1/items/8" => Say::problem(412, "version_mismatch", Some("not_applied"), false),
        _ => Say::problem(404, "not_found", None, false),
    })
    .await;
    let put = ["put-item", "8", "--title", "T", "--topic", "T", "--price", "1", "--create"];
    for (line, words) in [
        (
            &["search", "Nothing"][..],
            "There are no titles under \"Nothing\"; `pygmy items` lists all topics.",
        ),
        (&["lookup", "99"], "There is no item 99; `pygmy items` lists all."),
        (&["order", "99"], "this is not_found"),
        (&["buy", "5", "--quantity", "2"], "item 5 is out of stock: 2 wanted, 1 there"),
        (&put, "this is version_mismatch"),
    ] {
        let ran = pygmy(&mock.url, line).await;
        assert_eq!(
            (ran.exit, ran.out.as_str(), ran.error.as_str()),
            (Exit::No, "", words),
            "{line:?}"
        );
    }
    let ran = pygmy(&mock.url, &["search", "Nothing", "--json"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::No, r#"{"items":{}}"#));
    let ran = pygmy(&mock.url, &["lookup", "99", "--json"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::No, "{}"));
}

#[tokio::test]
async fn trouble_has_its_own_exit_codes_and_says_what_to_do_next() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/orders" => Say::problem(504, "timeout", Some("unknown"), true),
        "POST /v1/items/5/stock" => Say::problem_with(
            400,
            "malformed",
            Some("not_applied"),
            false,
            json!({"errors": [{"pointer": "/delta", "detail": "must not be 0"}]}),
        ),
        _ => Say::problem(503, "no_leader", Some("not_applied"), true),
    })
    .await;
    let ran = pygmy(&mock.url, &["buy", "5", "--key", "k-1", "--timeout", "1"]).await;
    assert_eq!(ran.exit, Exit::Unknown);
    assert!(ran.error.contains("may or may not"), "{}", ran.error);
    assert!(ran.error.ends_with("Run the same command again with --key k-1"), "{}", ran.error);

    let ran = pygmy(&mock.url, &["items", "--timeout", "1"]).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(
        ran.error.contains("nothing was changed") && ran.error.contains("pygmy cluster status"),
        "{}",
        ran.error
    );

    let ran = pygmy(&mock.url, &["stock", "5", "--delta", "0"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert_eq!(ran.error, "this is malformed\n  /delta: must not be 0");

    let ran = pygmy("https://elsewhere", &["items"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.contains("write it like http://127.0.0.1:8080"), "{}", ran.error);
}
