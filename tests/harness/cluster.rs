//! A cluster and its facade.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use pygmy::api::Cluster as ClusterDocument;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    http::{Http, Reply},
    ports::free_port,
    process::{Process, pygmy_ok},
    until,
};

/// The catalog of the repository, which every profile loads.
pub(crate) const CATALOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/catalog.csv");

/// Storage so small that snapshots and purges come within a few hundred writes.
pub(crate) const SMALL_STORAGE: &str = "[storage]\ncheckpoint_interval_ms = 100\n\
    checkpoint_entries = 50\nsnapshot_entries = 200\nkeep_log_entries = 20\n";

/// Who takes part, as the configuration names them.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) api: String,
    pub(crate) peer: String,
    pub(crate) roles: &'static [&'static str],
}

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Names and roles.
    pub(crate) members: Vec<(&'static str, &'static [&'static str])>,
    /// More of each node's configuration: whole sections.
    pub(crate) node_sections: String,
    /// More of the facade's only section.
    pub(crate) facade_settings: String,
    /// Where each node's data is, instead of in the cluster's directory.
    pub(crate) data_dirs: BTreeMap<&'static str, PathBuf>,
}

impl Spec {
    /// Three members that serve both roles.
    pub(crate) fn three() -> Self {
        let both: &[&str] = &["catalog", "order"];
        Self::of(vec![("node1", both), ("node2", both), ("node3", both)])
    }

    /// The original's five.
    pub(crate) fn seed() -> Self {
        let (catalog, order): (&[&str], &[&str]) = (&["catalog"], &["order"]);
        Self::of(vec![
            ("catalog1", catalog),
            ("catalog2", catalog),
            ("catalog3", catalog),
            ("order1", order),
            ("order2", order),
        ])
    }

    fn of(members: Vec<(&'static str, &'static [&'static str])>) -> Self {
        let (node_sections, facade_settings) = (String::new(), String::new());
        Self { members, node_sections, facade_settings, data_dirs: BTreeMap::new() }
    }

    pub(crate) fn with_node_sections(mut self, sections: &str) -> Self {
        self.node_sections = sections.to_owned();
        self
    }

    pub(crate) fn with_facade_settings(mut self, settings: &str) -> Self {
        self.facade_settings = settings.to_owned();
        self
    }
}

/// A cluster on free ports. Dropping it kills its processes and deletes its directory.
pub(crate) struct Cluster {
    pub(crate) seats: Vec<Seat>,
    pub(crate) http: Http,
    facade_address: String,
    /// Before the directory, so that the processes are gone when it goes.
    running: BTreeMap<String, Process>,
    spec: Spec,
    directory: TempDir,
}

const FACADE: &str = "facade";

impl Cluster {
    /// Writes the configurations, and starts nothing.
    pub(crate) fn prepare(spec: Spec) -> Self {
        let seats: Vec<Seat> = (1..)
            .zip(&spec.members)
            .map(|(id, (name, roles))| Seat {
                name: (*name).to_owned(),
                id,
                api: format!("127.0.0.1:{}", free_port()),
                peer: format!("127.0.0.1:{}", free_port()),
                roles,
            })
            .collect();
        let facade_address = format!("127.0.0.1:{}", free_port());
        let directory = tempfile::Builder::new().prefix("pygmy-e2e-").tempdir().unwrap();
        let (http, running) = (Http::new(), BTreeMap::new());
        let cluster = Self { seats, http, facade_address, running, spec, directory };
        for seat in &cluster.seats {
            fs::write(cluster.config(&seat.name), cluster.node_config(seat)).unwrap();
        }
        let seeds: Vec<_> = cluster.seats.iter().map(|seat| &seat.api).collect();
        let facade = format!(
            "[facade]\nlisten = \"{}\"\nseeds = {seeds:?}\n{}\n",
            cluster.facade_address, cluster.spec.facade_settings
        );
        fs::write(cluster.config(FACADE), facade).unwrap();
        cluster
    }

    /// A cluster that serves, with its facade and the catalog.
    pub(crate) async fn start(spec: Spec) -> Self {
        let mut cluster = Self::prepare(spec);
        cluster.start_all();
        cluster.await_serving().await;
        pygmy_ok(&["load", CATALOG, "--url", &cluster.facade("")]).await;
        cluster
    }

    fn node_config(&self, seat: &Seat) -> String {
        let mut text = format!(
            "[node]\nname = \"{}\"\ndata_dir = {:?}\n\n[api]\nlisten = \"{}\"\n\n\
             [peer]\nlisten = \"{}\"\n\n[cluster]\nname = \"e2e\"\n\
             secret = \"only for tests on loopback\"\n",
            seat.name,
            self.data(&seat.name),
            seat.api,
            seat.peer
        );
        for Seat { name, id, api, peer, roles } in &self.seats {
            write!(
                text,
                "\n[[cluster.members]]\nname = \"{name}\"\nid = {id}\napi = \"{api}\"\n\
                 peer = \"{peer}\"\nroles = {roles:?}\n"
            )
            .unwrap();
        }
        text + "\n" + &self.spec.node_sections
    }

    /// A process's configuration.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.toml"))
    }

    /// A node's data directory.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        let given = self.spec.data_dirs.get(name).cloned();
        given.unwrap_or_else(|| self.directory.path().join(name).join("data"))
    }

    /// Where tests may put what they need.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What a process has logged in all its lives.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Waits until a process's log, from a place in it on, holds a text.
    pub(crate) async fn await_log(&self, name: &str, from: usize, text: &str) {
        let what = format!("the log of {name} says {text:?}");
        until(&what, async || self.log(name)[from..].contains(text).then_some(())).await;
    }

    pub(crate) fn seat(&self, name: &str) -> &Seat {
        self.seats.iter().find(|seat| seat.name == name).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.name.clone()).collect()
    }

    /// The address of a path at a node.
    pub(crate) fn node(&self, name: &str, path: &str) -> String {
        format!("http://{}{path}", self.seat(name).api)
    }

    /// The address of a path at the facade.
    pub(crate) fn facade(&self, path: &str) -> String {
        format!("http://{}{path}", self.facade_address)
    }

    // Processes.

    /// Starts what does not run.
    pub(crate) fn start_all(&mut self) {
        for name in self.names() {
            self.start_node(&name);
        }
        self.start_facade();
    }

    pub(crate) fn start_node(&mut self, name: &str) {
        self.start_node_with(name, &[]);
    }

    /// Starts a node with more on its command line.
    pub(crate) fn start_node_with(&mut self, name: &str, more: &[&str]) {
        let config = self.config(name);
        let mut args = vec!["serve", "--config", config.to_str().unwrap()];
        args.extend(more);
        self.start_process(name, &args);
    }

    pub(crate) fn start_facade(&mut self) {
        let config = self.config(FACADE);
        self.start_process(FACADE, &["facade", "--config", config.to_str().unwrap()]);
    }

    fn start_process(&mut self, name: &str, args: &[&str]) {
        if !self.running.contains_key(name) {
            let process = Process::start(args, &self.log_path(name));
            self.running.insert(name.to_owned(), process);
        }
    }

    /// A running process.
    pub(crate) fn process(&mut self, name: &str) -> &mut Process {
        self.running.get_mut(name).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) {
        self.running.remove(name).unwrap().kill();
    }

    /// SIGKILL to everybody, as near to at once as can be.
    pub(crate) fn kill_all(&mut self) {
        let running = std::mem::take(&mut self.running);
        drop(running);
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(&mut self, name: &str) -> ExitStatus {
        self.running.remove(name).unwrap().stop().await
    }

    /// SIGTERM to everybody at once; all must end well.
    pub(crate) async fn stop_all(&mut self) {
        let mut running = std::mem::take(&mut self.running);
        for process in running.values() {
            process.terminate();
        }
        for (name, process) in &mut running {
            let status = process.ended().await;
            assert!(status.success(), "{name}: {status}\n{}", self.log(name));
        }
    }

    /// Waits until a node that must not run has ended by itself.
    pub(crate) async fn await_end(&mut self, name: &str) -> ExitStatus {
        let mut process = self.running.remove(name).unwrap();
        process.ended().await
    }

    // How it is.

    /// Waits until every process that runs serves, the facade included.
    pub(crate) async fn await_serving(&mut self) {
        for name in self.names() {
            if self.running.contains_key(&name) {
                self.await_node(&name).await;
            }
        }
        if self.running.contains_key(FACADE) {
            self.await_ok(FACADE, &self.facade("/clusterz")).await;
        }
    }

    /// Waits until a node is ready and answers linearizable reads.
    pub(crate) async fn await_node(&mut self, name: &str) {
        for path in ["/readyz", "/clusterz"] {
            let url = self.node(name, path);
            self.await_ok(name, &url).await;
        }
    }

    async fn await_ok(&mut self, name: &str, url: &str) {
        let http = self.http.clone();
        let process = self.running.get_mut(name).unwrap();
        let what = format!("{name} answers {url} with 200");
        until(&what, async || {
            if let Some(status) = process.has_ended() {
                panic!("{name} ended by itself: {status}");
            }
            http.try_get(url).await.filter(|reply| reply.status == 200)
        })
        .await;
    }

    /// What the facade, or failing it a node, says of the members.
    pub(crate) async fn members(&self) -> ClusterDocument {
        let reply = self.http.get(&self.facade("/v1/cluster")).await;
        serde_json::from_str(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"))
    }

    /// Waits for a leader that runs, and names it.
    pub(crate) async fn leader(&self) -> String {
        until("somebody leads", async || {
            for name in self.names().iter().filter(|name| self.running.contains_key(*name)) {
                let reply = self.http.try_get(&self.node(name, "/v1/cluster")).await;
                let leader = reply.and_then(|r| r.json()["leader"].as_str().map(str::to_owned));
                if let Some(leader) = leader.filter(|leader| self.running.contains_key(leader)) {
                    return Some(leader);
                }
            }
            None
        })
        .await
    }

    /// `/readyz?verbose` of a node.
    pub(crate) async fn verbose(&self, name: &str) -> Value {
        self.http.get(&self.node(name, "/readyz?verbose")).await.json()
    }

    /// Waits until the flags at an address are these.
    pub(crate) async fn await_flags(&self, url: &str, expected: &BTreeMap<String, u8>) {
        let what = format!("the flags of {url} are {expected:?}");
        until(&what, async || {
            let reply = self.http.try_get(url).await.filter(|reply| reply.status == 200)?;
            let flags: BTreeMap<String, u8> = serde_json::from_str(&reply.body).ok()?;
            (flags == *expected).then_some(())
        })
        .await;
    }

    /// Waits until a node has applied an index.
    pub(crate) async fn await_applied(&self, name: &str, index: u64) {
        let path = format!("/v1/items?limit=1&consistency=session&min_index={index}");
        let url = self.node(name, &path);
        let what = format!("{name} has applied {index}");
        until(&what, async || {
            self.http.try_get(&url).await.filter(|reply: &Reply| reply.status == 200)
        })
        .await;
    }

    /// Every replica checks itself, and all agree; every member must be there.
    pub(crate) async fn verify(&self) {
        let said = pygmy_ok(&["verify", "--json", "--url", &self.facade("")]).await;
        let report: Value = serde_json::from_str(&said).unwrap();
        let members = report["members"].as_array().unwrap();
        assert!(members.len() >= self.seats.len(), "{said}");
        assert!(report["compared_at"].is_u64(), "{said}");
    }
}
