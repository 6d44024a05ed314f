//! Each subcommand against a store that says what the test wants: its words and its exit code.

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

fn members(up: bool, leader: Option<&str>, apis: &[&str]) -> Value {
    let rows: Vec<_> = apis
        .iter()
        .enumerate()
        .map(|(place, api)| {
            json!({
                "name": format!("node{}", place + 1), "id": place + 1, "roles": ["catalog", "order"],
                "kind": "voter", "api": api, "peer": "127.0.0.1:9", "up": up || place == 0,
                "last_heard_ms": 12, "applied_index": 99, "lag": null, "version": null,
            })
        })
        .collect();
    json!({"cluster_id": "c-1", "leader": leader, "term": 3, "members": rows})
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
        &["wait", "--timeout", "0"],
        &["nonsense"],
    ] {
        let words = ["pygmy"].iter().chain(line);
        let error = Cli::try_parse_from(words).expect_err(&format!("{line:?} is refused"));
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}

#[tokio::test]
async fn reading_commands_print_tables_or_one_line_of_json() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "GET /search/Misc/" => Say::json(200, json!({"items": {"Spring": "10", "Theory": "6"}})),
        "GET /lookup/5/" => Say::json(
            200,
            json!({"ItemNumber": "5", "Title": "T", "Topic": "Misc", "Cost": "9.99", "Stock": "4", "Time": "now"}),
        ),
        "GET /v1/items?topic=Misc&limit=1" => Say::json(200, json!({"items": [item(6, "Theory", 9)], "next_cursor": "abc"})),
        "GET /v1/items?q=the+ory&in_stock=true&sort=-price&limit=100" => Say::json(200, json!({"items": [item(6, "Theory", 9)], "next_cursor": null})),
        "GET /v1/orders?limit=100" => Say::json(200, json!({"orders": [order(1, 2)], "next_cursor": null})),
        "GET /v1/orders/1" => Say::json(200, order(1, 2)),
        "GET /v1/orders?item=2&customer=ada&status=placed&from=2025-01-31T09%3A30%3A00Z&to=2025-02-01T00%3A00%3A00Z&limit=100" => {
            Say::json(200, json!({"orders": [order(1, 2)], "next_cursor": "o1"}))
        }
        "GET /v1/items/2/ledger?limit=2&cursor=l1-2" => Say::json(200, json!({"rows": [
            {"delta": -3, "reason": "sold", "order": 71, "index": 9, "at": "2025-01-31T09:30:00Z"},
            {"delta": 5, "reason": "received", "reference": "d-1", "index": 8, "at": "2025-01-31T09:29:00Z"},
        ], "next_cursor": "l0-1"})),
        "GET /v1/items/6" => Say::json(200, item(6, "Theory", 9)),
        "GET /v1/topics" => Say::json(200, json!({"topics": [{"topic": "Misc", "items": 12}]})),
        other => panic!("{other}"),
    })
    .await;
    let url = &mock.url;

    let filtered = [
        "orders",
        "--item",
        "2",
        "--customer",
        "ada",
        "--status",
        "placed",
        "--from",
        "2025-01-31T10:30:00+01:00",
        "--to",
        "2025-02-01T00:00:00Z",
    ];
    let ran = pygmy(url, &filtered).await;
    assert!(ran.out.contains("RPCs for Dummies"), "{}", ran.out);
    assert_eq!(ran.error, "There are more: go on with --cursor o1");

    let line = ["ledger", "2", "--limit", "2", "--cursor", "l1-2"];
    let ran = pygmy(url, &line).await;
    assert_eq!(ran.exit, Exit::Ok);
    for told in ["-3", "sold", "71", "+5", "received", "d-1", "2025-01-31T09:30:00Z"] {
        assert!(ran.out.contains(told), "{told} in {}", ran.out);
    }
    assert_eq!(ran.error, "There are more: go on with --cursor l0-1");
    let ran = pygmy(url, &[&line[..], &["--json"]].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["rows"][1]["delta"], 5);

    let ran = pygmy(url, &["search", "Misc"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.find("Theory") < ran.out.find("Spring"), "by number: {}", ran.out);
    let ran = pygmy(url, &["search", "Misc", "--json"]).await;
    assert_eq!(ran.out, r#"{"items":{"Spring":"10","Theory":"6"}}"#);

    let ran = pygmy(url, &["lookup", "5"]).await;
    assert!(ran.out.contains("9.99"), "{}", ran.out);
    let ran = pygmy(url, &["lookup", "5", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["Stock"], "4");

    let ran = pygmy(url, &["items", "--topic", "Misc", "--limit", "1"]).await;
    assert!(ran.out.contains("Theory") && ran.out.contains("19.99"), "{}", ran.out);
    assert_eq!(ran.error, "There are more: go on with --cursor abc");
    let ran = pygmy(url, &["items", "--topic", "Misc", "--limit", "1", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["next_cursor"], "abc");

    let ran = pygmy(url, &["item", "6"]).await;
    for word in ["Theory", "19.99", "46", "2025-01-02T03:04:05Z"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    let ran = pygmy(url, &["item", "6", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON"), item(6, "Theory", 9));
    let ran = pygmy(url, &["topics"]).await;
    assert!(ran.out.contains("Misc") && ran.out.contains("12"), "{}", ran.out);
    let ran = pygmy(url, &["topics", "--json"]).await;
    assert_eq!(ran.out, r#"{"topics":[{"topic":"Misc","items":12}]}"#);
    let search = ["items", "--q", "the ory", "--in-stock", "--sort", "-price"];
    let ran = pygmy(url, &search).await;
    assert!(ran.out.contains("Theory") && ran.error.is_empty(), "{} {}", ran.out, ran.error);

    for line in [&["orders"][..], &["order", "1"]] {
        let ran = pygmy(url, line).await;
        assert!(ran.out.contains("RPCs for Dummies") && ran.out.contains("placed"), "{}", ran.out);
        assert_eq!((ran.exit, ran.out.contains('\u{1b}')), (Exit::Ok, false));
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

#[tokio::test]
async fn writing_commands_send_what_was_typed() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/orders" => Say::json(201, order(12, 5)),
        _ => Say::json(200, item(8, "T", 40)),
    })
    .await;
    let url = &mock.url;
    let buy =
        ["buy", "5", "--quantity", "2", "--customer", "ada", "--reference", "r", "--key", "k-1"];
    assert_eq!(pygmy(url, &buy).await.exit, Exit::Ok);
    let ran = pygmy(url, &["buy", "5", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["id"], 12);
    let put = [
        "put-item",
        "8",
        "--title",
        "T",
        "--topic",
        "Misc",
        "--price",
        "12.5",
        "--if-version",
        "97",
    ];
    assert_eq!(pygmy(url, &put).await.exit, Exit::Ok);
    assert_eq!(
        pygmy(url, &["stock", "8", "--delta", "-3", "--reason", "damaged"]).await.exit,
        Exit::Ok
    );
    let seen = mock.seen();
    assert_eq!(seen[0].headers["idempotency-key"], "k-1");
    assert_eq!(
        seen[0].body,
        json!({"lines": [{"item": 5, "quantity": 2}], "customer": "ada", "reference": "r"})
    );
    assert_eq!(seen[2].headers["if-match"], "\"97\"");
    assert_eq!(seen[2].body, json!({"title": "T", "topic": "Misc", "price_cents": 1250}));
    assert_eq!(seen[3].body, json!({"delta": -3, "reason": "damaged"}));
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_no_success() {
    let mock = Mock::start(|_| Say::json(200, members(true, Some("node2"), &["h:1", "h:2"]))).await;
    let ran = pygmy(&mock.url, &["cluster", "status"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.contains("leader") && ran.out.ends_with("cluster c-1, term 3"), "{}", ran.out);

    let mock = Mock::start(|_| Say::json(200, members(false, None, &["h:1", "h:2", "h:3"]))).await;
    let ran = pygmy(&mock.url, &["cluster", "status"]).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(ran.out.contains("DOWN"), "{}", ran.out);
    assert!(ran.error.contains("2 of 3 members are down"), "{}", ran.error);
    let ran = pygmy(&mock.url, &["cluster", "status", "--json"]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::Unavailable, ""));
}

#[tokio::test]
async fn verify_asks_every_member_at_its_own_address() {
    let replica = |name: &'static str, hash: &'static str| {
        Mock::start(move |seen| {
            assert_eq!(seen.line, "GET /v1/verify");
            Say::json(
                200,
                json!({"node": name, "index": 9, "ok": true, "state_hash": hash, "hash_ring": [],
                       "checks": [{"name": "ledger", "ok": true, "detail": "7 items"}]}),
            )
        })
    };
    let address = |mock: &Mock| mock.url.trim_start_matches("http://").to_owned();
    let (a, b, c) =
        (replica("node1", "aa").await, replica("node2", "aa").await, replica("node2", "bb").await);
    let status = |apis: Vec<String>| {
        let body =
            members(true, Some("node1"), &apis.iter().map(String::as_str).collect::<Vec<_>>());
        Mock::start(move |_| Say::json(200, body.clone()))
    };

    let front = status(vec![address(&a), address(&b)]).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.out);
    assert!(ran.out.ends_with("All 2 replicas are sound and equal at index 9."), "{}", ran.out);

    // Who has joined anew stands there twice for a while, and is one replica all the same.
    let mut twice = members(true, Some("node1"), &[&address(&a), &address(&b)]);
    let mut learner = twice["members"][1].clone();
    learner["id"] = json!(4);
    twice["members"].as_array_mut().expect("a list").push(learner);
    let front = Mock::start(move |_| Say::json(200, twice.clone())).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.out);

    let front = status(vec![address(&a), address(&c)]).await;
    let ran = pygmy(&front.url, &["verify"]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(
        ran.out.contains("the replicas differ at index 9: aa on node1; bb on node2"),
        "{}",
        ran.out
    );

    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("binds")
        .local_addr()
        .expect("an address");
    let front = status(vec![address(&a), nobody.to_string()]).await;
    let ran = pygmy(&front.url, &["verify", "--json", "--member-timeout", "1"]).await;
    assert_eq!(ran.exit, Exit::No);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["ok"], false);
    assert!(
        report["members"][1]["error"].as_str().expect("an error").contains("refused"),
        "{report}"
    );
}

fn catalog(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("writes");
    file
}

async fn load(url: &str, text: &str) -> Ran {
    let file = catalog(text);
    let path = file.path().to_str().expect("text").to_owned();
    let mut ran = pygmy(url, &["load", &path]).await;
    ran.error = ran.error.replace(&path, "FILE");
    ran
}

#[tokio::test]
async fn a_catalog_is_loaded_once_and_what_exists_is_left_alone() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "PUT /v1/items/2" => Say::problem(412, "version_mismatch", Some("not_applied"), false),
        _ => Say::json(201, item(1, "T", 40)),
    })
    .await;
    let ran = load(
        &mock.url,
        "ItemNumber,Title,Topic,Cost,Stock\n1,\"A, and B\",Misc,9.99,4\n2,C,Misc,20,0\n3, D \
        ,Misc,0.5,1\n",
    )
    .await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (Exit::Ok, "2 items created, 1 already there"),
        "{}",
        ran.error
    );
    let mut seen = mock.seen();
    seen.sort_by(|a, b| a.line.cmp(&b.line));
    assert!(seen.iter().all(|request| request.headers["if-none-match"] == "*"));
    assert_eq!(
        seen[0].body,
        json!({"title": "A, and B", "topic": "Misc", "price_cents": 999, "stock": 4})
    );
    assert_eq!(seen[2].body, json!({"title": "D", "topic": "Misc", "price_cents": 50, "stock": 1}));
}

#[tokio::test]
async fn a_wrong_catalog_is_refused_before_anything_is_sent() {
    let mock = Mock::start(|_| Say::json(201, item(1, "T", 40))).await;
    let head = "ItemNumber,Title,Topic,Cost,Stock";
    for (text, words) in [
        (
            format!(
                "{head}\n1,A,Misc,9.999,4\n1,B,Misc,1,1\n2,C,Misc,1,1\n2,D,Misc,1,1\n3,,Misc,1,1\n"
            ),
            "nothing was loaded:\n\
             FILE: row 1: Cost \"9.999\": an amount is written like 19.99\n\
             FILE: row 4: ItemNumber 2 is there twice\n\
             FILE: row 5: Title and Topic must not be empty",
        ),
        (
            format!("{head}\n1,A,Misc,9.99\n"),
            "nothing was loaded:\nFILE: row 1: has 4 fields instead of 5",
        ),
        (
            format!("{head}\n1,A,Misc,9.99,-4\n"),
            "nothing was loaded:\nFILE: row 1: field 4: invalid digit found in string; the \
            columns are \
             ItemNumber,Title,Topic,Cost,Stock",
        ),
        (
            "Number,Title,Topic,Cost,Stock\n1,A,Misc,9.99,4\n".to_owned(),
            "nothing was loaded:\nFILE: row 1: unknown field `Number`, expected one of \
            `ItemNumber`, `Title`, \
             `Topic`, `Cost`, `Stock`; the columns are ItemNumber,Title,Topic,Cost,Stock",
        ),
        (
            format!("{head}\n"),
            "FILE: has no rows; the first line is ItemNumber,Title,Topic,Cost,Stock and an item \
            follows on each",
        ),
    ] {
        let ran = load(&mock.url, &text).await;
        assert_eq!((ran.exit, ran.error.as_str()), (Exit::Usage, words), "{text}");
    }
    assert!(mock.seen().is_empty());
    let ran = pygmy(&mock.url, &["load", "/nowhere.csv"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.starts_with("/nowhere.csv: cannot be read: No such file"), "{}", ran.error);
}

#[tokio::test]
async fn a_load_that_is_cut_short_says_how_far_it_came() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "PUT /v1/items/2" => Say::problem(507, "disk_full", Some("not_applied"), false),
        _ => Say::json(201, item(1, "T", 40)),
    })
    .await;
    let rows: String = (1..=3).map(|id| format!("{id},A,Misc,1,1\n")).collect();
    let ran = load(&mock.url, &format!("ItemNumber,Title,Topic,Cost,Stock\n{rows}")).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(
        ran.error.contains("of 3 items done") && ran.error.contains("Load the file again"),
        "{}",
        ran.error
    );
}

#[tokio::test]
async fn wait_ends_with_the_first_linearizable_read_or_with_the_reason() {
    let mock = Mock::script(vec![
        Say::problem(503, "no_leader", None, true),
        Say::json(200, json!({"items": [], "next_cursor": null})),
    ])
    .await;
    let ran = pygmy(&mock.url, &["wait", "--quiet"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, ""), "{}", ran.error);
    assert_eq!(mock.seen()[0].headers["pygmy-consistency"], "linearizable");

    let mock = Mock::start(|_| Say::problem(503, "recovering", None, true)).await;
    for line in [
        &["wait", "--timeout", "1", "--quiet"][..],
        &["wait", "--ready", "--timeout", "1", "--quiet"],
    ] {
        let ran = pygmy(&mock.url, line).await;
        assert_eq!(ran.exit, Exit::Unavailable);
        assert!(
            ran.error.contains("did not answer within 1 s: this is recovering"),
            "{}",
            ran.error
        );
    }
}

#[tokio::test]
async fn a_configuration_is_checked_without_starting_anything() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cluster");
    let run = async |line: Vec<String>| {
        let words = ["pygmy".to_owned()].into_iter().chain(line);
        act(Cli::try_parse_from(words).expect("parses").command).await
    };
    let file = |name: &str| root.join(name).to_str().expect("text").to_owned();
    let flags = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = |start: &str, path: String, end: &str| {
        let mut line = flags(start);
        line.push(path);
        line.extend(flags(end));
        line
    };
    let answer = run(line("serve --config", file("node1.toml"), "--check --data /tmp/x"))
        .await
        .expect("fine");
    assert_eq!(answer.text, "the configuration of node node1 is fine");
    let answer = run(line("facade --config", file("facade.toml"), "--check")).await.expect("fine");
    assert_eq!(answer.text, "the configuration of facade facade is fine");
    assert!(run(flags("serve --single --check")).await.is_ok());
    let stop = run(line("serve --config", file("node1.toml"), "--check --set raft.heartbeat_ms=0"))
        .await
        .expect_err("refused");
    assert_eq!(stop.exit, Exit::Usage);
    assert_eq!(
        stop.message,
        "flag --set raft.heartbeat_ms: raft.heartbeat_ms: 0 must be a whole number from 1 to \
        60000 (default 50)"
    );
}

#[tokio::test]
async fn a_batch_is_read_from_a_file_and_every_order_is_told() {
    let mock = Mock::start(|seen| {
        assert_eq!(seen.line, "POST /v1/orders/batch");
        let placed = json!({"status": "placed", "replayed": false, "order": order(1, 2)});
        let problem = json!({
            "type": "about:blank#out_of_stock", "title": "Out of stock", "status": 409,
            "detail": "item 2: 1 wanted, 0 there.", "code": "out_of_stock", "retryable": false,
        });
        let refused = json!({"status": "refused", "replayed": false, "problem": problem});
        let other = json!({"status": "not_applied", "replayed": false});
        match seen.body["atomic"].as_bool() {
            Some(true) => Say::json(200, json!({"results": [other, refused]})),
            _ if seen.body["orders"].as_array().map(Vec::len) == Some(1) => {
                Say::json(200, json!({"results": [placed]}))
            }
            _ => Say::json(200, json!({"results": [placed, refused]})),
        }
    })
    .await;
    let line = r#"{"lines":[{"item":2,"quantity":1}]}"#;
    let mut two = tempfile::NamedTempFile::new().expect("a file");
    writeln!(two, "{line}\n{line}").expect("is written");
    let mut one = tempfile::NamedTempFile::new().expect("a file");
    writeln!(one, "[{line}]").expect("is written");
    let (two, one) = (two.path().to_str().expect("text"), one.path().to_str().expect("text"));

    let ran = pygmy(&mock.url, &["order-batch", one]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::Ok, ""));
    assert!(ran.out.contains("placed") && ran.out.contains("19.99"), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two]).await;
    assert_eq!((ran.exit, ran.error.as_str()), (Exit::No, "1 of 2 orders were placed."));
    assert!(ran.out.contains("item 2: 1 wanted, 0 there."), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two, "--atomic"]).await;
    assert!(ran.error.starts_with("Nothing new was placed"), "{}", ran.error);
    assert!(ran.out.contains("not applied"), "{}", ran.out);
    let ran = pygmy(&mock.url, &["order-batch", two, "--json"]).await;
    assert_eq!(ran.exit, Exit::No);
    let told: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(told["results"][1]["problem"]["code"], "out_of_stock");
    let ran = pygmy(&mock.url, &["order-batch", "no such file"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.contains("no such file: cannot be read"), "{}", ran.error);
}

#[tokio::test]
async fn items_are_created_patched_and_deleted() {
    let mock = Mock::start(|seen| match seen.line.as_str() {
        "POST /v1/items" => Say::json(201, item(7, "Rhymes", 4)),
        "PATCH /v1/items/7" => Say::json(200, item(7, "Rhyme", 4)),
        "DELETE /v1/items/7" => Say::text(204, ""),
        "DELETE /v1/items/8" => Say::problem(409, "wrong_state", Some("not_applied"), false),
        "GET /v1/items/7/prices" => Say::json(
            200,
            json!({"prices": [{"price_cents": 999, "from": "then", "to": null}], "lowest_30_days_cents": 999}),
        ),
        other => panic!("{other}"),
    })
    .await;
    let create = ["create-item", "--title", "Rhymes", "--topic", "Misc", "--price", "9.99"];
    let ran = pygmy(&mock.url, &create).await;
    assert!(ran.exit == Exit::Ok && ran.out.contains("Rhymes"), "{}", ran.out);
    let body = json!({"title": "Rhymes", "topic": "Misc", "price_cents": 999, "stock": 0});
    assert_eq!(mock.seen()[0].body, body);
    let patch = ["patch-item", "7", "--title", "Rhyme", "--if-version", "9"];
    assert_eq!(pygmy(&mock.url, &patch).await.exit, Exit::Ok);
    assert_eq!(mock.seen()[1].body, json!({"title": "Rhyme"}));
    assert_eq!(mock.seen()[1].headers["if-match"], "\"9\"");
    let ran = pygmy(&mock.url, &["delete-item", "7"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "Item 7 is deleted."));
    assert_eq!(pygmy(&mock.url, &["delete-item", "8"]).await.exit, Exit::No);
    let ran = pygmy(&mock.url, &["prices", "7"]).await;
    assert!(ran.out.ends_with("lowest price of the last 30 days: 9.99"), "{}", ran.out);
}

#[tokio::test]
async fn the_policy_is_changed_by_name_and_only_the_one_that_was_seen() {
    let policy = json!({
        "key_retention_hours": 24, "key_limit": 1000, "restock_quantity": 50,
        "restock_interval_s": 30, "change_history": 1000, "price_history": 100,
        "reservation_limit": 100, "reservation_history": 100, "reservation_ttl_max_s": 60,
    });
    let shown = policy.clone();
    let mock = Mock::start(move |seen| match seen.line.as_str() {
        "GET /v1/policy" => Say::json(200, shown.clone()).with("etag", "\"41\""),
        "PUT /v1/policy" => Say::json(200, seen.body.clone()).with("etag", "\"42\""),
        "POST /v1/cluster/maintenance" => Say::json(200, seen.body.clone()),
        other => panic!("{other}"),
    })
    .await;
    let ran = pygmy(&mock.url, &["policy", "show"]).await;
    assert!(ran.out.contains("price_history") && ran.out.ends_with("version 41"), "{}", ran.out);
    let line = ["policy", "set", "price_history=7", "restock_interval_s=never", "--json"];
    let ran = pygmy(&mock.url, &line).await;
    let mut expected = policy;
    expected["price_history"] = json!(7);
    expected["restock_interval_s"] = json!(null);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), expected);
    let sent = &mock.seen()[2];
    assert_eq!((&sent.body, sent.headers["if-match"].as_str()), (&expected, "\"41\""));
    for wrong in ["colour=1", "key_limit=never"] {
        assert_eq!(pygmy(&mock.url, &["policy", "set", wrong]).await.exit, Exit::Usage, "{wrong}");
    }
    for (word, on) in [("on", true), ("off", false)] {
        let ran = pygmy(&mock.url, &["maintenance", word, "--json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), json!({"on": on}));
    }
}
