//! Every refusal with its exact words, and the layers over each other.

use std::path::Path;

use super::*;

const NODE: &str = r#"[node]
name = "node1"
data_dir = "run/node1/data"
[api]
listen = "127.0.0.1:8101"
[peer]
listen = "127.0.0.1:9101"
[cluster]
name = "pygmy"
secret = "0123456789abcdef"
[[cluster.members]]
name = "node1"
id = 1
api = "127.0.0.1:8101"
peer = "127.0.0.1:9101"
roles = ["catalog", "order"]
[[cluster.members]]
name = "node2"
id = 2
api = "127.0.0.1:8102"
peer = "127.0.0.1:9102"
roles = ["catalog"]
"#;

const FACADE: &str = r#"[facade]
listen = "127.0.0.1:8080"
seeds = ["127.0.0.1:8101"]
"#;

/// Writes `text` to a file and loads it; the path in messages becomes `FILE`.
fn load<T>(
    text: &str,
    sources: Sources,
    load: fn(&Sources) -> Result<T, ConfigError>,
) -> Result<T, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).expect("writes the file");
    let sources = Sources { file: Some(path.clone()), ..sources };
    load(&sources).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

fn node(text: &str) -> Result<NodeConfig, String> {
    load(text, Sources::default(), NodeConfig::load)
}

#[track_caller]
fn refused_node(change: (&str, &str), expected: &str) {
    assert!(NODE.contains(change.0), "{:?} is not in the base file", change.0);
    let text = NODE.replacen(change.0, change.1, 1);
    assert_eq!(node(&text).expect_err("refused"), expected, "with {:?}", change.1);
}

#[track_caller]
fn refused_facade(change: (&str, &str), expected: &str) {
    assert!(FACADE.contains(change.0), "{:?} is not in the base file", change.0);
    let text = FACADE.replacen(change.0, change.1, 1);
    let error = load(&text, Sources::default(), FacadeConfig::load).expect_err("refused");
    assert_eq!(error, expected, "with {:?}", change.1);
}

#[test]
fn a_file_with_the_required_keys_gives_the_documented_defaults() {
    let config = node(NODE).expect("loads");
    assert_eq!(config.node.name, "node1");
    assert_eq!(config.node.data_dir, Path::new("run/node1/data"));
    assert_eq!(config.member().id, 1);
    assert_eq!(config.api.max_connections, 4096);
    assert_eq!(config.api.header_timeout_ms, 5000);
    assert_eq!(config.api.request_timeout_ms, 5000);
    assert_eq!(config.api.body_limit_bytes, 262_144);
    assert_eq!(config.api.max_in_flight, 2048);
    assert_eq!(config.api.max_batch_orders, 1000);
    assert!(config.api.legacy_get_buy);
    assert_eq!(config.api.rate_limit, None);
    assert_eq!((config.api.max_feeds, config.api.feed_comment_s), (2000, 15));
    assert_eq!((config.api.import_limit_bytes, config.api.max_imports), (1 << 30, 2));
    assert_eq!(config.cluster.failure_window_ms, 1500);
    assert_eq!(
        config.raft,
        RaftSection { heartbeat_ms: 50, election_min_ms: 150, election_max_ms: 300 }
    );
    assert_eq!(config.storage.checkpoint_interval_ms, 5000);
    assert_eq!(config.storage.checkpoint_entries, 50_000);
    assert_eq!(config.storage.snapshot_entries, 1_000_000);
    assert_eq!(config.storage.keep_log_entries, 50_000);
    assert_eq!(config.storage.cache_mb, 64);
    assert_eq!(config.policy.key_retention_hours, 24);
    assert_eq!(config.policy.key_limit, 1_000_000);
    assert!(!config.policy.restock);
    assert_eq!((config.policy.restock_quantity, config.policy.restock_interval_s), (50, 30));
    assert_eq!(config.log, LogSection::default());
}

#[test]
fn what_is_wrong_in_a_node_file_is_refused_with_key_file_and_line() {
    let api = "listen = \"127.0.0.1:8101\"\n";
    let with_api = |line: &str| format!("{api}{line}\n");
    for (line, expected) in [
        (
            "lsten = \"x\"",
            "FILE:6: api.lsten: unknown key; the keys of api are insecure, listen, \
            max_connections, \
             header_timeout_ms, request_timeout_ms, body_limit_bytes, max_in_flight, \
             max_batch_orders, legacy_get_buy, rate_limit_per_second, rate_limit_burst, \
             trusted_proxies, max_feeds, feed_comment_s, import_limit_bytes, max_imports",
        ),
        (
            "max_connections = 0",
            "FILE:6: api.max_connections: 0 must be a whole number from 1 to 1000000 (default \
            4096)",
        ),
        (
            "max_in_flight = -1",
            "FILE:6: api.max_in_flight: -1 must be a whole number from 1 to 1000000 (default 2048)",
        ),
        (
            "request_timeout_ms = \"5s\"",
            "FILE:6: api.request_timeout_ms: must be a whole number from 1 to 600000 (default \
            5000), not a text",
        ),
        (
            "header_timeout_ms = 1.5",
            "FILE:6: api.header_timeout_ms: must be a whole number from 1 to 600000 (default \
            5000), \
             not a number with a fraction",
        ),
        (
            "body_limit_bytes = 0",
            "FILE:6: api.body_limit_bytes: 0 must be a whole number from 1 to 67108864 (default \
            262144)",
        ),
        (
            "legacy_get_buy = 1",
            "FILE:6: api.legacy_get_buy: must be true or false (default true), not a whole number",
        ),
        (
            "[raft]\nheartbeat_ms = 100\nelection_min_ms = 200",
            "FILE:8: raft.election_min_ms: 200 must be more than twice raft.heartbeat_ms (100), \
             or one late heartbeat makes an election",
        ),
        (
            "[raft]\nheartbeat_ms = 200",
            "FILE:7: raft.election_min_ms: 150 must be more than twice raft.heartbeat_ms (200), \
             or one late heartbeat makes an election",
        ),
        (
            "[raft]\nelection_max_ms = 150",
            "FILE:7: raft.election_max_ms: 150 must be more than raft.election_min_ms (150), \
             or two nodes stand for election at the same moment",
        ),
        (
            "[storage]\ncheckpoint_entries = 0",
            "FILE:7: storage.checkpoint_entries: 0 must be a whole number from 1 to 1000000000 \
            (default 50000)",
        ),
        (
            "[policy]\nkey_limit = 0",
            "FILE:7: policy.key_limit: 0 must be a whole number from 1 to 100000000 (default \
            1000000)",
        ),
        ("[log]\nformat = \"xml\"", "FILE:7: log.format: \"xml\" is neither \"text\" nor \"json\""),
        (
            "[storrage]\ncache_mb = 1",
            "FILE:6: storrage: unknown section; the sections are node, api, peer, cluster, raft, \
            storage, policy, log",
        ),
    ] {
        refused_node((api, &with_api(line)), expected);
    }
    for (change, expected) in [
        (("name = \"node1\"", "name = \"\""), "FILE:2: node.name: must not be empty"),
        (
            ("name = \"node1\"", "name = \"node 1\""),
            "FILE:2: node.name: \"node 1\" must be 1 to 64 of the characters a-z, A-Z, 0-9, '-', \
            '_' and '.'\n\
             FILE:2: node.name: \"node 1\" is not among the cluster.members (node1, node2)",
        ),
        (
            ("name = \"node1\"", "name = \"node3\""),
            "FILE:2: node.name: \"node3\" is not among the cluster.members (node1, node2)",
        ),
        (("data_dir = \"run/node1/data\"\n", ""), "FILE:1: node.data_dir: is missing"),
        (
            ("listen = \"127.0.0.1:8101\"", "listen = \"8101\""),
            "FILE:5: api.listen: \"8101\" is not an address and port such as \"127.0.0.1:8080\"",
        ),
        (
            ("listen = \"127.0.0.1:8101\"", "listen = \"0.0.0.0:8101\""),
            "FILE:5: api.listen: 0.0.0.0:8101 can be reached from other machines, and this \
            listener has neither \
             TLS nor tokens; listen on 127.0.0.1 or set api.insecure = true",
        ),
        (
            ("listen = \"127.0.0.1:9101\"", "listen = \"[::]:9101\""),
            "FILE:7: peer.listen: [::]:9101 can be reached from other machines, and this listener \
            has neither \
             TLS nor tokens; listen on 127.0.0.1 or set peer.insecure = true",
        ),
        (
            ("0123456789abcdef", "0123456789abcde"),
            "FILE:10: cluster.secret: has 15 bytes; a secret needs at least 16",
        ),
        (
            ("secret = \"0123456789abcdef\"", "secret = 42"),
            "FILE:10: cluster.secret: must be a text in quotes, not a whole number",
        ),
        (
            ("secret = \"0123456789abcdef\"\n", ""),
            "FILE:8: cluster.secret: is missing; give cluster.secret or cluster.secret_file",
        ),
        (
            ("secret =", "secret_file = \"x\"\nsecret ="),
            "FILE:10: cluster.secret_file: is given together with cluster.secret; keep one of them",
        ),
        (
            ("secret = \"0123456789abcdef\"", "secret_file = \"/nowhere/secret\""),
            "FILE:10: cluster.secret_file: \"/nowhere/secret\" cannot be read: No such file or \
            directory (os error 2)",
        ),
        (
            ("secret =", "failure_window_ms = 100\nsecret ="),
            "FILE:10: cluster.failure_window_ms: 100 must be more than twice raft.heartbeat_ms \
            (50), \
             or members that are well count as down",
        ),
        (
            ("name = \"node2\"", "name = \"node1\""),
            "FILE:18: cluster.members[1].name: \"node1\" is the name of cluster.members[0] too",
        ),
        (
            ("id = 2", "id = 1"),
            "FILE:19: cluster.members[1].id: 1 is the id of cluster.members[0] too",
        ),
        (
            ("id = 2", "id = 0"),
            "FILE:19: cluster.members[1].id: 0 must be a whole number from 1 to 4294967295",
        ),
        (("id = 2\n", ""), "FILE:17: cluster.members[1].id: is missing"),
        (
            ("api = \"127.0.0.1:8102\"", "api = \"127.0.0.1:9101\""),
            "FILE:20: cluster.members[1].api: \"127.0.0.1:9101\" is cluster.members[0].peer too",
        ),
        (
            ("peer = \"127.0.0.1:9102\"", "peer = \"127.0.0.1\""),
            "FILE:21: cluster.members[1].peer: \"127.0.0.1\" is not a host and port such as \
            \"127.0.0.1:8101\"",
        ),
        (
            ("peer = \"127.0.0.1:9102\"", "peer = \"127.0.0.1:0\""),
            "FILE:21: cluster.members[1].peer: \"127.0.0.1:0\" is not a host and port such as \
            \"127.0.0.1:8101\"",
        ),
        (
            ("roles = [\"catalog\"]", "roles = [\"catalogue\"]"),
            "FILE:22: cluster.members[1].roles: \"catalogue\" is no role; the roles are \
            \"catalog\" and \"order\"",
        ),
        (
            ("roles = [\"catalog\"]", "roles = [\"catalog\", \"catalog\"]"),
            "FILE:22: cluster.members[1].roles: \"catalog\" is there twice",
        ),
        (
            ("roles = [\"catalog\"]", "roles = []"),
            "FILE:22: cluster.members[1].roles: must name at least one role: \"catalog\", \
            \"order\" or both",
        ),
        (
            ("roles = [\"catalog\"]", "roles = \"catalog\""),
            "FILE:22: cluster.members[1].roles: must be a list of texts, not a text",
        ),
        (
            ("roles = [\"catalog\", \"order\"]", "roles = [\"catalog\"]"),
            "FILE:11: cluster.members: none of them has the role \"order\", so nobody would \
            answer for it",
        ),
        (
            ("id = 2", "id = 2\nweight = 3"),
            "FILE:20: cluster.members[1].weight: unknown key; the keys of \
             cluster.members[1] are name, id, api, peer, roles",
        ),
        (("[node]\n", "[node\n"), "FILE:1: not TOML: unclosed table, expected `]`"),
    ] {
        refused_node(change, expected);
    }
}

#[test]
fn the_number_of_members_is_bounded() {
    let (head, _) = NODE.split_once("[[cluster.members]]").expect("has members");
    let members = |count: usize| {
        (1..=count)
            .map(|id| {
                format!(
                    "[[cluster.members]]\nname = \"node{id}\"\nid = {id}\napi = \"h:{id}\"\npeer \
                    = \"p:{id}\"\n\
                     roles = [\"catalog\", \"order\"]\n"
                )
            })
            .collect::<String>()
    };
    assert_eq!(
        node(&format!("{head}{}", members(9))).expect("nine are fine").cluster.members.len(),
        9
    );
    assert_eq!(
        node(&format!("{head}{}", members(10))).expect_err("ten are not"),
        "FILE:11: cluster.members: must be 1 to 9 members, not 10"
    );
    assert_eq!(
        node(&format!("{head}members = []\n")).expect_err("none is too few"),
        "FILE:11: cluster.members: must be 1 to 9 members, not 0"
    );
    assert_eq!(node(head).expect_err("missing"), "FILE:8: cluster.members: is missing");
}

#[test]
fn a_rate_limit_is_read_whole_or_refused_with_key_file_and_line() {
    let at_node = |lines: &str| node(&NODE.replacen("[peer]", &format!("{lines}\n[peer]"), 1));
    let at_facade =
        |lines: &str| load(&format!("{FACADE}{lines}\n"), Sources::default(), FacadeConfig::load);
    for (lines, expected) in [
        ("rate_limit_per_second = 0\nrate_limit_burst = 0", None),
        ("trusted_proxies = [\"10.0.0.1\"]", None),
        ("rate_limit_per_second = 1", Some((1, 1, &[][..]))),
        (
            "rate_limit_per_second = 1000000\nrate_limit_burst = 1000000",
            Some((1_000_000, 1_000_000, &[])),
        ),
        ("rate_limit_per_second = 10\nrate_limit_burst = 3", Some((10, 3, &[]))),
        (
            "rate_limit_per_second = 10\ntrusted_proxies = [\"10.0.0.1\", \"10.1.0.0/16\", \"::1\"]",
            Some((10, 10, &["10.0.0.1/32", "10.1.0.0/16", "::1/128"])),
        ),
    ] {
        let told = at_node(lines).expect("loads").api.rate_limit;
        assert_eq!(at_facade(lines).expect("loads").facade.rate_limit, told, "{lines}");
        let told = told.as_ref().map(|limit| (limit.per_second.get(), limit.burst.get(), limit));
        let told = told.map(|(per_second, burst, limit)| {
            let networks = limit.trusted_proxies.iter().map(ToString::to_string);
            (per_second, burst, networks.collect::<Vec<_>>())
        });
        let expected = expected.map(|(per_second, burst, networks): (u32, u32, &[&str])| {
            (per_second, burst, networks.iter().map(|text| (*text).to_owned()).collect())
        });
        assert_eq!(told, expected, "{lines}");
    }
    let many = (0..65).map(|n| format!("\"10.0.0.{n}\"")).collect::<Vec<_>>().join(", ");
    let many = format!("trusted_proxies = [{many}]");
    for (lines, what) in [
        (
            "rate_limit_burst = 5",
            "rate_limit_burst: 5 does nothing while SECTION.rate_limit_per_second is 0",
        ),
        (
            "rate_limit_per_second = 1000001",
            "rate_limit_per_second: 1000001 must be a whole number from 0 to 1000000 (default 0)",
        ),
        (
            "rate_limit_per_second = -1",
            "rate_limit_per_second: -1 must be a whole number from 0 to 1000000 (default 0)",
        ),
        (
            "trusted_proxies = [\"proxy\"]",
            "trusted_proxies: \"proxy\" is not an address or a network such as \"10.0.0.7\" or \
             \"10.0.0.0/24\"",
        ),
        (
            "trusted_proxies = [\"10.0.0.7/24\"]",
            "trusted_proxies: 10.0.0.7/24 is not a network; write 10.0.0.0/24",
        ),
        ("trusted_proxies = 5", "trusted_proxies: must be a list of texts, not a whole number"),
        (&many, "trusted_proxies: must be at most 64, not 65"),
    ] {
        let of = |place: &str, section: &str| {
            format!("FILE:{place}: {section}.{}", what.replace("SECTION", section))
        };
        assert_eq!(at_node(lines).expect_err("refused"), of("6", "api"));
        assert_eq!(at_facade(lines).expect_err("refused"), of("4", "facade"));
    }
    let env = vec![
        ("PYGMY_API_RATE_LIMIT_PER_SECOND".into(), "5".into()),
        ("PYGMY_API_TRUSTED_PROXIES".into(), "10.0.0.1, 10.1.0.0/16".into()),
    ];
    let config = load(NODE, Sources { env, ..Sources::default() }, NodeConfig::load);
    let limit = config.expect("loads").api.rate_limit.expect("is on");
    assert_eq!((limit.per_second.get(), limit.trusted_proxies.len()), (5, 2));
}

#[test]
fn what_is_wrong_in_a_facade_file_is_refused_with_key_file_and_line() {
    for (change, expected) in [
        (
            ("seeds = [\"127.0.0.1:8101\"]", "seeds = []"),
            "FILE:3: facade.seeds: must name 1 to 64 addresses, not 0",
        ),
        (("seeds = [\"127.0.0.1:8101\"]\n", ""), "FILE:1: facade.seeds: is missing"),
        (
            ("\"127.0.0.1:8101\"", "\"http://127.0.0.1:8101\""),
            "FILE:3: facade.seeds: \"http://127.0.0.1:8101\" is not a host and port such as \
            \"127.0.0.1:8101\"",
        ),
        (
            ("seeds", "deadline_ms = 0\nseeds"),
            "FILE:3: facade.deadline_ms: 0 must be a whole number from 1 to 600000 (default 10000)",
        ),
        (
            ("seeds", "deadline_ms = 500\nattempt_timeout_ms = 501\nseeds"),
            "FILE:4: facade.attempt_timeout_ms: 501 must not be more than facade.deadline_ms \
            (500), \
             which bounds all attempts together",
        ),
        (
            ("seeds", "cache_ttl_s = 0\nseeds"),
            "FILE:3: facade.cache_ttl_s: 0 must be a whole number from 1 to 86400 (default 100)",
        ),
        (
            ("127.0.0.1:8080", "192.0.2.1:8080"),
            "FILE:2: facade.listen: 192.0.2.1:8080 can be reached from other machines, and this \
            listener has \
             neither TLS nor tokens; listen on 127.0.0.1 or set facade.insecure = true",
        ),
        (
            ("[facade]", "[node]\n[facade]"),
            "FILE:1: node: unknown section; the sections are facade, log",
        ),
        (
            ("seeds", "seed = 1\nseeds"),
            "FILE:3: facade.seed: unknown key; the keys of facade are insecure, name, \
             listen, seeds, deadline_ms, attempt_timeout_ms, cache_ttl_s, cache_entries, \
             max_in_flight, \
             max_connections, body_limit_bytes, header_timeout_ms, legacy_get_buy, \
             rate_limit_per_second, rate_limit_burst, trusted_proxies, max_feeds, \
             batch_scheduling",
        ),
    ] {
        refused_facade(change, expected);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = NodeConfig::load(&Sources::file("/nowhere/node.toml")).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "/nowhere/node.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text =
        NODE.replace("id = 2", "id = 0").replace("name = \"node1\"\ndata", "name = \"\"\ndata");
    let sources =
        Sources { env: vec![("PYGMY_RAFT_HEARTBEAT_MS".into(), "x".into())], ..Sources::default() };
    assert_eq!(
        load(&text, sources, NodeConfig::load).expect_err("refused"),
        "FILE:2: node.name: must not be empty\n\
         FILE:19: cluster.members[1].id: 0 must be a whole number from 1 to 4294967295\n\
         environment variable PYGMY_RAFT_HEARTBEAT_MS: raft.heartbeat_ms: must be a whole number \
         from 1 to 60000 \
         (default 50), not \"x\""
    );
}

#[test]
fn members_of_one_host_share_its_processors_and_a_number_is_taken_as_it_is() {
    let threads = |text: &str, processors| node(text).expect("loads").threads(processors);
    assert_eq!([1, 2, 3, 8].map(|processors| threads(NODE, processors)), [1, 1, 1, 4]);
    let apart = NODE.replace("peer = \"127.0.0.1:9102\"", "peer = \"far.example:9102\"");
    assert_eq!([1, 2, 8].map(|processors| threads(&apart, processors)), [1, 2, 8]);
    let told = NODE.replacen("[api]", "threads = 3\n[api]", 1);
    assert_eq!(threads(&told, 1), 3);
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let env = |pairs: &[(&str, &str)]| Sources {
        env: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Sources::default()
    };
    let text = format!("{NODE}[raft]\nheartbeat_ms = 50\nelection_min_ms = 150\n");
    let sources = env(&[
        ("PYGMY_RAFT_HEARTBEAT_MS", "60"),
        ("PYGMY_API_LISTEN", "127.0.0.1:1234"),
        ("PYGMY_POLICY_RESTOCK", "true"),
        ("PYGMY_STORAGE_CACHE_MB", ""),
        ("PYGMY_URL", "http://elsewhere"),
        ("HOME", "/"),
    ])
    .with_flag("--set raft.heartbeat_ms", "raft.heartbeat_ms", "70")
    .with_flag("--data", "node.data_dir", "elsewhere");
    let config = load(&text, sources, NodeConfig::load).expect("loads");
    assert_eq!(config.raft.heartbeat_ms, 70, "the flag wins");
    assert_eq!(config.raft.election_min_ms, 150, "the file wins over the default");
    assert_eq!(config.api.listen.port(), 1234, "the environment wins over the file");
    assert_eq!(config.node.data_dir, Path::new("elsewhere"));
    assert!(config.policy.restock);
    assert_eq!(config.storage.cache_mb, 64, "an empty variable is not set");

    let facade = env(&[("PYGMY_FACADE_SEEDS", "a:1, b:2"), ("PYGMY_RAFT_HEARTBEAT_MS", "60")]);
    let config =
        load(FACADE, facade, FacadeConfig::load).expect("a node's variables are not the facade's");
    assert_eq!(config.facade.seeds, ["a:1", "b:2"]);
}

#[test]
fn a_wrong_override_is_refused_naming_the_variable_or_the_flag() {
    let env = |name: &str, value: &str| Sources {
        env: vec![(name.into(), value.into())],
        ..Sources::default()
    };
    let flag =
        |key: &str, value: &str| Sources::default().with_flag(&format!("--set {key}"), key, value);
    for (sources, expected) in [
        (
            env("PYGMY_RAFT_HARTBEAT_MS", "60"),
            "environment variable PYGMY_RAFT_HARTBEAT_MS: raft.hartbeat_ms: unknown key; the keys \
            of raft are \
             heartbeat_ms, election_min_ms, election_max_ms",
        ),
        (
            env("PYGMY_RAFT_HEARTBEAT_MS", "150"),
            "environment variable PYGMY_RAFT_HEARTBEAT_MS: raft.election_min_ms: 150 must be more \
            than twice \
             raft.heartbeat_ms (150), or one late heartbeat makes an election",
        ),
        (
            env("PYGMY_POLICY_RESTOCK", "yes"),
            "environment variable PYGMY_POLICY_RESTOCK: policy.restock: must be true or false \
            (default false), \
             not \"yes\"",
        ),
        (
            env("PYGMY_API_LISTEN", "0.0.0.0:80"),
            "environment variable PYGMY_API_LISTEN: api.listen: 0.0.0.0:80 can be reached from \
            other machines, and \
             this listener has neither TLS nor tokens; listen on 127.0.0.1 or set api.insecure = \
             true",
        ),
        (
            env("PYGMY_CLUSTER_MEMBERS", "node1"),
            "environment variable PYGMY_CLUSTER_MEMBERS: cluster.members: must be a list of \
            tables, each written \
             [[cluster.members]]",
        ),
        (
            env("PYGMY_CLUSTER_SECRET", "hunter2"),
            "environment variable PYGMY_CLUSTER_SECRET: cluster.secret: has 7 bytes; a secret \
            needs at least 16",
        ),
        (
            flag("raft.heartbeat_ms", "soon"),
            "flag --set raft.heartbeat_ms: raft.heartbeat_ms: must be a whole number from 1 to \
            60000 (default 50), \
             not \"soon\"",
        ),
        (
            flag("heartbeat", "1"),
            "flag --set heartbeat: heartbeat: names no setting; write section.key with a section \
            of node, api, peer, \
             cluster, raft, storage, policy, log",
        ),
    ] {
        assert_eq!(load(NODE, sources, NodeConfig::load).expect_err("refused"), expected);
    }
}

#[test]
fn a_secret_is_read_from_a_file_without_its_newline_and_never_shown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("secret");
    std::fs::write(&path, "a secret of the shop\r\n").expect("writes");
    let text = NODE.replace("secret = \"0123456789abcdef\"", &format!("secret_file = {path:?}"));
    let config = node(&text).expect("loads");
    assert_eq!(config.cluster.secret.expose(), "a secret of the shop");
    let shown = format!("{config:?}");
    assert!(shown.contains("Secret(not shown)") && !shown.contains("of the shop"), "{shown}");

    // A higher layer that gives the other form replaces the lower one.
    let env = vec![("PYGMY_CLUSTER_SECRET".into(), "fedcba9876543210".into())];
    let config =
        load(&text, Sources { env, ..Sources::default() }, NodeConfig::load).expect("loads");
    assert_eq!(config.cluster.secret.expose(), "fedcba9876543210");

    // Nor does a file that cannot be parsed give its secret away.
    let broken = NODE.replace("\"0123456789abcdef\"", "\"0123456789abcdef");
    let error = node(&broken).expect_err("refused");
    assert!(error.starts_with("FILE:10: not TOML: "), "{error}");
    assert!(!error.contains("0123456789"), "{error}");
}

#[test]
fn a_single_node_needs_no_file() {
    let config =
        NodeConfig::single(Path::new("some where"), "127.0.0.1:0".parse().expect("an address"))
            .expect("a single node is valid");
    assert_eq!((config.node.name.as_str(), config.member().id), ("single", 1));
    assert_eq!(config.node.data_dir, Path::new("some where"));
    assert_eq!(config.member().roles, [Role::Catalog, Role::Order]);
    assert_eq!(config.peer.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.cluster.secret.expose().len(), 64);
    let other = NodeConfig::load_single(&Sources::default()).expect("valid");
    assert_ne!(config.cluster.secret, other.cluster.secret, "every start has its own");
    assert_eq!(other.api.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(other.member().api, "127.0.0.1:8080");

    let renamed = Sources::default().with_flag("--set node.name", "node.name", "alone");
    assert_eq!(NodeConfig::load_single(&renamed).expect("valid").member().name, "alone");

    let error = NodeConfig::single(Path::new("d"), "0.0.0.0:80".parse().expect("an address"))
        .expect_err("refused");
    assert!(
        error.to_string().starts_with("flag --listen: api.listen: 0.0.0.0:80 can be reached"),
        "{error}"
    );
}

/// All files under `config/`, from this package's root.
fn shipped(directory: &str) -> Vec<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn the_shipped_files_load_and_agree_with_each_other() {
    for (profile, names) in [
        ("cluster", vec!["node1", "node2", "node3"]),
        ("seed", vec!["catalog1", "catalog2", "catalog3", "order1", "order2"]),
    ] {
        let mut nodes = Vec::new();
        let mut facades = Vec::new();
        for path in shipped(profile) {
            let sources = Sources::file(&path);
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            if name == "facade" {
                facades
                    .push(FacadeConfig::load(&sources).unwrap_or_else(|error| panic!("{error}")));
                continue;
            }
            let config = NodeConfig::load(&sources).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.node.name, name);
            assert_eq!(config.node.data_dir, Path::new("run").join(&name).join("data"));
            assert_eq!(config.member().api, config.api.listen.to_string(), "{name}");
            assert_eq!(config.member().peer, config.peer.listen.to_string(), "{name}");
            assert_eq!(config.policy.restock, profile == "seed", "{name}");
            nodes.push(config);
        }
        let found: Vec<_> = nodes.iter().map(|node| node.node.name.as_str()).collect();
        assert_eq!(found, names);
        for node in &nodes {
            assert_eq!(node.cluster, nodes[0].cluster, "{} of {profile}", node.node.name);
            assert_eq!(node.policy, nodes[0].policy, "{} of {profile}", node.node.name);
        }
        let [facade] = facades.as_slice() else { panic!("{profile} has one facade") };
        assert_eq!(facade.facade.listen.to_string(), "127.0.0.1:8080");
        let apis: Vec<_> =
            nodes[0].cluster.members.iter().map(|member| member.api.clone()).collect();
        assert_eq!(facade.facade.seeds, apis);
    }
    for path in shipped("") {
        NodeConfig::load(&Sources::file(&path)).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The file that documents every key must name every key with its default, so it is loaded once
/// more with the comment marks before keys taken away: nothing may change.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cluster");
    let uncomment = |name: &str| {
        let text = std::fs::read_to_string(root.join(name)).expect("reads");
        let is_key = |line: &str| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        text.lines()
            .map(|line| match line.strip_prefix("# ").filter(|rest| is_key(rest)) {
                Some(rest) if !rest.starts_with("secret_file") => rest.to_owned(),
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    let text = uncomment("node1.toml");
    for key in [
        "header_timeout_ms",
        "election_max_ms",
        "cache_mb",
        "restock_interval_s",
        "rate_limit_per_second",
        "rate_limit_burst",
        "trusted_proxies",
        "change_history",
        "price_history",
        "reservation_limit",
        "reservation_history",
        "reservation_ttl_max_s",
        "filter",
        "insecure",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is not documented"
        );
    }
    assert_eq!(
        node(&text).expect("loads"),
        NodeConfig::load(&Sources::file(root.join("node1.toml"))).expect("loads")
    );
    let facade =
        load(&uncomment("facade.toml"), Sources::default(), FacadeConfig::load).expect("loads");
    assert_eq!(
        facade,
        FacadeConfig::load(&Sources::file(root.join("facade.toml"))).expect("loads")
    );
}
