//! What one node is told: `pygmy serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pygmy_raft::types::Role;

use super::document::{Document, Entry, Origin, Value};
use super::reader::{Reader, Setting};
use super::secret::SECRET_BYTES_MIN;
use super::{ConfigError, LogSection, Secret, Sources};
use crate::api::{BATCH_ORDERS_MAX, policy_range as range};
use crate::http::rate_limit;

/// The most members a cluster may be bootstrapped with. More voters make every write slower and
/// survive no more than anybody needs.
pub const MEMBERS_MAX: usize = 9;

/// More than any machine has processors for one node.
const THREADS_MAX: u64 = 1024;

const SECTIONS: [&str; 8] = ["node", "api", "peer", "cluster", "raft", "storage", "policy", "log"];

/// A node's whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Who this node is and where its data lives.
    pub node: NodeSection,
    /// The REST interface.
    pub api: ApiSection,
    /// The listener for the other members.
    pub peer: PeerSection,
    /// The cluster it belongs to.
    pub cluster: ClusterSection,
    /// Raft's timing.
    pub raft: RaftSection,
    /// Checkpoints, snapshots, the log's length.
    pub storage: StorageSection,
    /// What the replicated policy is at bootstrap.
    pub policy: PolicySection,
    /// Logging.
    pub log: LogSection,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSection {
    /// This node's name, one of the members'.
    pub name: String,
    /// Directory of its databases.
    pub data_dir: PathBuf,
    /// Threads that serve; 0 for this node's share of the processors.
    pub threads: usize,
    /// Whether these threads may wait for their turns on a processor.
    pub batch_scheduling: bool,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSection {
    /// Where the REST interface listens.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable from other machines.
    pub insecure: bool,
    /// Open connections; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a client may take to send a request's headers.
    pub header_timeout_ms: u64,
    /// How long a request may take before it is answered with 504.
    pub request_timeout_ms: u64,
    /// The largest request body.
    pub body_limit_bytes: usize,
    /// Requests in work at the same time; more are answered with 503 `overloaded`.
    pub max_in_flight: usize,
    /// Orders in one batch.
    pub max_batch_orders: usize,
    /// Whether the original's `GET /buy/{n}/` is served.
    pub legacy_get_buy: bool,
    /// How many requests each client may send; none where it is switched off.
    pub rate_limit: Option<rate_limit::Settings>,
    /// Live feeds of changes at the same time; more are answered with 503 `overloaded`.
    pub max_feeds: usize,
    /// How long a live feed may be silent before a comment goes out.
    pub feed_comment_s: u64,
    /// The largest body of an import.
    pub import_limit_bytes: u64,
    /// Imports at the same time; more are answered with 503 `overloaded`.
    pub max_imports: usize,
}

/// `[peer]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSection {
    /// Where the other members reach this one. Port 0 on a node that is alone.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable from other machines.
    pub insecure: bool,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSection {
    /// The cluster's name, part of what peers check.
    pub name: String,
    /// What members show each other.
    pub secret: Secret,
    /// A member that the leader has not heard from for this long counts as down.
    pub failure_window_ms: u64,
    /// Take part in a cluster that exists, as a new member in the place of the one of this name.
    pub join: bool,
    /// The members at bootstrap, by id; ignored once the node has joined.
    pub members: Vec<MemberConfig>,
}

/// A row of `[[cluster.members]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// The member's name.
    pub name: String,
    /// Its Raft node id, at least 1.
    pub id: u64,
    /// Address of its REST interface, `host:port`.
    pub api: String,
    /// Address of its peer listener, `host:port`.
    pub peer: String,
    /// What the facade asks it for, at least one.
    pub roles: Vec<Role>,
}

/// `[raft]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftSection {
    /// How often a leader without work shows that it lives.
    pub heartbeat_ms: u64,
    /// A follower waits at least this long without a heartbeat before it stands for election.
    pub election_min_ms: u64,
    /// And at most this long.
    pub election_max_ms: u64,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSection {
    /// Time between checkpoints of the state.
    pub checkpoint_interval_ms: u64,
    /// A checkpoint is taken earlier after this many applied entries.
    pub checkpoint_entries: u64,
    /// A snapshot is taken after this many applied entries.
    pub snapshot_entries: u64,
    /// Log entries kept behind the newest snapshot, so that a short absence needs no snapshot.
    pub keep_log_entries: u64,
    /// Memory for the database's page cache.
    pub cache_mb: u64,
}

/// `[policy]`: seeds the replicated policy at bootstrap and is ignored afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySection {
    /// How long an idempotency key is remembered, in log time.
    pub key_retention_hours: u64,
    /// How many idempotency keys are remembered at most.
    pub key_limit: u64,
    /// Whether sold-out items are restocked by themselves.
    pub restock: bool,
    /// The stock that a sold-out item is set to.
    pub restock_quantity: u64,
    /// Time between restocks.
    pub restock_interval_s: u64,
    /// How many changes are kept for those who follow them.
    pub change_history: u64,
    /// How many prices are kept of an item.
    pub price_history: u64,
    /// How many reservations may hold at a time.
    pub reservation_limit: u64,
    /// How many ended reservations are kept.
    pub reservation_history: u64,
    /// How long a reservation may hold, in log time.
    pub reservation_ttl_max_s: u64,
}

impl NodeConfig {
    /// Reads and checks a node's configuration.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::read(Document::load(sources, &SECTIONS)?)
    }

    /// A node that is alone and needs no file: one member with id 1, a secret of its own that is
    /// never written down. The environment and the flags of `sources` still count.
    pub fn load_single(sources: &Sources) -> Result<Self, ConfigError> {
        let mut document = Document::load(sources, &SECTIONS)?;
        let text = |text: &str| Value::Text(text.into());
        document.set_default("node", "name", text("single"));
        document.set_default("node", "data_dir", text("pygmy-data"));
        document.set_default("api", "listen", text("127.0.0.1:8080"));
        document.set_default("peer", "listen", text("127.0.0.1:0"));
        document.set_default("cluster", "name", text("single"));
        if !document.sections["cluster"].contains_key("secret_file") {
            document.set_default("cluster", "secret", text(Secret::random().expose()));
        }
        let of = |section: &str, key: &str| document.sections[section][key].value.clone();
        // The addresses are replaced below: a port 0 is fine for somebody who is alone.
        let member = [
            ("name", of("node", "name")),
            ("id", Value::Integer(1)),
            ("api", text("localhost:1")),
            ("peer", text("localhost:2")),
            ("roles", Value::List(["catalog", "order"].map(|role| built_in(text(role))).into())),
        ];
        let member = member.map(|(key, value)| (key.to_owned(), built_in(value)));
        let members = vec![built_in(Value::Table(BTreeMap::from(member)))];
        document.set_default("cluster", "members", Value::List(members));

        let mut config = Self::read(document)?;
        if let [member] = config.cluster.members.as_mut_slice() {
            member.api = config.api.listen.to_string();
            member.peer = config.peer.listen.to_string();
        }
        Ok(config)
    }

    /// [`NodeConfig::load_single`] with nothing but a place and an address.
    pub fn single(data_dir: &Path, listen: SocketAddr) -> Result<Self, ConfigError> {
        let sources = Sources::default().with_flag("--listen", "api.listen", listen.to_string());
        let mut config = Self::load_single(&sources)?;
        config.node.data_dir = data_dir.into();
        Ok(config)
    }

    /// This node's own row among the members.
    pub fn member(&self) -> &MemberConfig {
        self.cluster
            .members
            .iter()
            .find(|member| member.name == self.node.name)
            .expect("a configuration whose name is not among its members is refused on loading")
    }

    /// The threads that serve, of a machine with so many processors. Members at the same host share them:
    /// threads that take turns on a processor only cost switches between them.
    pub fn threads(&self, processors: usize) -> usize {
        if self.node.threads > 0 {
            return self.node.threads;
        }
        let host = |member: &MemberConfig| {
            member.peer.rsplit_once(':').map(|(host, _)| host.to_ascii_lowercase())
        };
        let own = host(self.member());
        let sharing = self.cluster.members.iter().filter(|member| host(member) == own).count();
        (processors / sharing.max(1)).max(1)
    }

    fn read(mut document: Document) -> Result<Self, ConfigError> {
        let (node, name) = NodeSection::read(document.section("node"));
        let api = ApiSection::read(document.section("api"));
        let peer = PeerSection::read(document.section("peer"));
        let (raft, heartbeat) = RaftSection::read(document.section("raft"));
        let cluster = ClusterSection::read(document.section("cluster"), &name, &heartbeat);
        let storage = StorageSection::read(document.section("storage"));
        let policy = PolicySection::read(document.section("policy"));
        let log = LogSection::read(document.section("log"));
        document.finish()?;
        Ok(Self { node, api, peer, cluster, raft, storage, policy, log })
    }
}

fn built_in(value: Value) -> Entry {
    Entry { value, origin: Origin::BuiltIn }
}

fn size(number: Setting<u64>) -> usize {
    usize::try_from(number.value).expect("the ranges of sizes end far below 32 bits")
}

impl NodeSection {
    fn read(mut reader: Reader<'_>) -> (Self, Setting<String>) {
        let name = reader.name("name", None);
        let data_dir = reader.text("data_dir", None).value.into();
        let threads = size(reader.number("threads", 0, 0..=THREADS_MAX));
        let batch_scheduling = reader.switch("batch_scheduling", true).value;
        reader.finish();
        (Self { name: name.value.clone(), data_dir, threads, batch_scheduling }, name)
    }
}

impl ApiSection {
    fn read(mut reader: Reader<'_>) -> Self {
        let insecure = reader.switch("insecure", false).value;
        let section = Self {
            listen: reader.listen("listen", None, insecure).value,
            insecure,
            max_connections: size(reader.number("max_connections", 4096, 1..=1_000_000)),
            header_timeout_ms: reader.number("header_timeout_ms", 5000, 1..=600_000).value,
            request_timeout_ms: reader.number("request_timeout_ms", 5000, 1..=600_000).value,
            body_limit_bytes: size(reader.number("body_limit_bytes", 262_144, 1..=67_108_864)),
            max_in_flight: size(reader.number("max_in_flight", 2048, 1..=1_000_000)),
            max_batch_orders: size(reader.number(
                "max_batch_orders",
                BATCH_ORDERS_MAX as u64,
                1..=BATCH_ORDERS_MAX as u64,
            )),
            legacy_get_buy: reader.switch("legacy_get_buy", true).value,
            rate_limit: reader.rate_limit(),
            max_feeds: size(reader.number("max_feeds", 2000, 0..=1_000_000)),
            // Clients and facades take a feed that is silent for more than twice 15 s for dead.
            feed_comment_s: reader.number("feed_comment_s", 15, 1..=15).value,
            import_limit_bytes: reader.number("import_limit_bytes", 1 << 30, 1..=1 << 40).value,
            max_imports: size(reader.number("max_imports", 2, 0..=64)),
        };
        reader.finish();
        section
    }
}

impl PeerSection {
    fn read(mut reader: Reader<'_>) -> Self {
        let insecure = reader.switch("insecure", false).value;
        let listen = reader.listen("listen", None, insecure).value;
        reader.finish();
        Self { listen, insecure }
    }
}

impl RaftSection {
    fn read(mut reader: Reader<'_>) -> (Self, Setting<u64>) {
        let heartbeat = reader.number("heartbeat_ms", 50, 1..=60_000);
        let min = reader.number("election_min_ms", 150, 1..=600_000);
        let max = reader.number("election_max_ms", 300, 1..=600_000);
        if min.value <= 2 * heartbeat.value {
            let what = format!(
                "{} must be more than twice raft.heartbeat_ms ({}), or one late heartbeat makes \
                an election",
                min.value, heartbeat.value
            );
            reader.refuse(min.blame(&heartbeat), "election_min_ms", what);
        }
        if max.value <= min.value {
            let what = format!(
                "{} must be more than raft.election_min_ms ({}), or two nodes stand for election \
                at the same moment",
                max.value, min.value
            );
            reader.refuse(max.blame(&min), "election_max_ms", what);
        }
        reader.finish();
        let section = Self {
            heartbeat_ms: heartbeat.value,
            election_min_ms: min.value,
            election_max_ms: max.value,
        };
        (section, heartbeat)
    }
}

impl StorageSection {
    fn read(mut reader: Reader<'_>) -> Self {
        let section = Self {
            checkpoint_interval_ms: reader
                .number("checkpoint_interval_ms", 5000, 1..=3_600_000)
                .value,
            checkpoint_entries: reader
                .number("checkpoint_entries", 50_000, 1..=1_000_000_000)
                .value,
            snapshot_entries: reader.number("snapshot_entries", 1_000_000, 1..=1_000_000_000).value,
            keep_log_entries: reader.number("keep_log_entries", 50_000, 1..=1_000_000_000).value,
            cache_mb: reader.number("cache_mb", 64, 1..=1_048_576).value,
        };
        reader.finish();
        section
    }
}

impl PolicySection {
    fn read(mut reader: Reader<'_>) -> Self {
        let section = Self {
            key_retention_hours: reader
                .number("key_retention_hours", 24, range::KEY_RETENTION_HOURS)
                .value,
            key_limit: reader.number("key_limit", 1_000_000, range::KEY_LIMIT).value,
            restock: reader.switch("restock", false).value,
            restock_quantity: reader.number("restock_quantity", 50, range::RESTOCK_QUANTITY).value,
            restock_interval_s: reader
                .number("restock_interval_s", 30, range::RESTOCK_INTERVAL_S)
                .value,
            change_history: reader.number("change_history", 1_000_000, range::CHANGE_HISTORY).value,
            price_history: reader.number("price_history", 100, range::PRICE_HISTORY).value,
            reservation_limit: reader
                .number("reservation_limit", 100_000, range::RESERVATION_LIMIT)
                .value,
            reservation_history: reader
                .number("reservation_history", 100_000, range::RESERVATION_HISTORY)
                .value,
            reservation_ttl_max_s: reader
                .number("reservation_ttl_max_s", 86_400, range::RESERVATION_TTL_MAX_S)
                .value,
        };
        reader.finish();
        section
    }
}

impl ClusterSection {
    fn read(mut reader: Reader<'_>, own: &Setting<String>, heartbeat: &Setting<u64>) -> Self {
        let name = reader.name("name", None).value;
        let secret = read_secret(&mut reader);
        let window = reader.number("failure_window_ms", 1500, 1..=600_000);
        if window.value <= 2 * heartbeat.value {
            let what = format!(
                "{} must be more than twice raft.heartbeat_ms ({}), or members that are well \
                count as down",
                window.value, heartbeat.value
            );
            reader.refuse(window.blame(heartbeat), "failure_window_ms", what);
        }
        let join = reader.switch("join", false).value;
        let problems_before = reader.problem_count();
        let rows = reader.tables("members", MemberRow::read);
        // A list that could not be read has been refused already.
        if !rows.value.is_empty() || reader.problem_count() == problems_before {
            check_members(&mut reader, &rows, own);
        }
        reader.finish();
        let mut members: Vec<_> = rows.value.into_iter().map(MemberRow::into_config).collect();
        members.sort_by_key(|member| member.id);
        Self { name, secret, failure_window_ms: window.value, join, members }
    }
}

/// The secret, given directly or as a file; the higher layer wins, and one layer must not give
/// both.
fn read_secret(reader: &mut Reader<'_>) -> Secret {
    let header = reader.header();
    let mut direct = reader.take("secret");
    let mut file = reader.take("secret_file");
    if let (Some(a), Some(b)) = (&direct, &file) {
        match a.origin.layer().cmp(&b.origin.layer()) {
            std::cmp::Ordering::Greater => file = None,
            std::cmp::Ordering::Less => direct = None,
            std::cmp::Ordering::Equal => {
                let origin = b.origin.clone();
                reader.refuse(
                    &origin,
                    "secret_file",
                    "is given together with cluster.secret; keep one of them",
                );
                file = None;
            }
        }
    }
    let Some(entry) = direct.or_else(|| file.clone()) else {
        reader.refuse(&header, "secret", "is missing; give cluster.secret or cluster.secret_file");
        return Secret::new("");
    };
    let key = if file.is_some() { "secret_file" } else { "secret" };
    let (Value::Text(mut text) | Value::Raw(mut text)) = entry.value else {
        reader.refuse(
            &entry.origin,
            key,
            format!("must be a text in quotes, not {}", entry.value.type_name()),
        );
        return Secret::new("");
    };
    if file.is_some() {
        match std::fs::read_to_string(&text) {
            Ok(content) => text = content.trim_end_matches(['\r', '\n']).to_owned(),
            Err(error) => {
                reader.refuse(&entry.origin, key, format!("{text:?} cannot be read: {error}"));
                return Secret::new("");
            }
        }
    }
    if text.len() < SECRET_BYTES_MIN {
        let what = format!("has {} bytes; a secret needs at least {SECRET_BYTES_MIN}", text.len());
        reader.refuse(&entry.origin, key, what);
    }
    Secret::new(text)
}

/// A member as it was read, with origins for the checks across rows.
struct MemberRow {
    name: Setting<String>,
    id: Setting<u64>,
    api: Setting<String>,
    peer: Setting<String>,
    roles: Vec<Role>,
}

impl MemberRow {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            name: reader.name("name", None),
            id: reader.number_required("id", 1..=u64::from(u32::MAX)),
            api: reader.address("api"),
            peer: reader.address("peer"),
            roles: read_roles(reader),
        }
    }

    fn into_config(self) -> MemberConfig {
        MemberConfig {
            name: self.name.value,
            id: self.id.value,
            api: self.api.value,
            peer: self.peer.value,
            roles: self.roles,
        }
    }
}

fn read_roles(reader: &mut Reader<'_>) -> Vec<Role> {
    let problems_before = reader.problem_count();
    let texts = reader.texts("roles");
    if texts.value.is_empty() && reader.problem_count() == problems_before {
        let what = "must name at least one role: \"catalog\", \"order\" or both";
        reader.refuse(&texts.origin, "roles", what);
    }
    let mut roles = Vec::new();
    for text in &texts.value {
        match Role::parse(&text.value) {
            Some(role) if roles.contains(&role) => {
                reader.refuse(&text.origin, "roles", format!("{:?} is there twice", text.value));
            }
            Some(role) => roles.push(role),
            None => {
                let what =
                    format!("{:?} is no role; the roles are \"catalog\" and \"order\"", text.value);
                reader.refuse(&text.origin, "roles", what);
            }
        }
    }
    roles.sort_unstable();
    roles
}

/// The checks that need all rows at once.
fn check_members(reader: &mut Reader<'_>, rows: &Setting<Vec<MemberRow>>, own: &Setting<String>) {
    let count = rows.value.len();
    if count == 0 || count > MEMBERS_MAX {
        let what = format!("must be 1 to {MEMBERS_MAX} members, not {count}");
        reader.refuse(&rows.origin, "members", what);
        return;
    }
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (place, row) in rows.value.iter().enumerate() {
        let key = |field: &str| format!("members[{place}].{field}");
        if !row.name.value.is_empty()
            && let Some(first) = names.insert(row.name.value.clone(), place)
        {
            let what = format!("{:?} is the name of cluster.members[{first}] too", row.name.value);
            reader.refuse(&row.name.origin, &key("name"), what);
        }
        if row.id.value != 0
            && let Some(first) = ids.insert(row.id.value, place)
        {
            let what = format!("{} is the id of cluster.members[{first}] too", row.id.value);
            reader.refuse(&row.id.origin, &key("id"), what);
        }
        for (field, address) in [("api", &row.api), ("peer", &row.peer)] {
            if address.value.is_empty() {
                continue;
            }
            if let Some(first) = addresses.insert(address.value.clone(), key(field)) {
                let what = format!("{:?} is cluster.{first} too", address.value);
                reader.refuse(&address.origin, &key(field), what);
            }
        }
    }
    if !own.value.is_empty() && !names.contains_key(&own.value) {
        let known: Vec<_> = names.keys().map(String::as_str).collect();
        reader.refuse_elsewhere(
            &own.origin,
            "node.name",
            format!("{:?} is not among the cluster.members ({})", own.value, known.join(", ")),
        );
    }
    for role in [Role::Catalog, Role::Order] {
        if !rows.value.iter().any(|row| row.roles.contains(&role)) {
            let what = format!(
                "none of them has the role {:?}, so nobody would answer for it",
                role.as_str()
            );
            reader.refuse(&rows.origin, "members", what);
        }
    }
}
