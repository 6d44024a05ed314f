//! Clusters in this process: each node on a runtime of its own with a real HTTP peer listener, links
//! that can be cut, disks in memory or in a directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use pygmy_raft::{
    network::{
        CallError, CallHeader, Transport,
        http::{HttpTransport, router},
    },
    node::{Freshness, Node, ReadError, Settings, StartError, Timing, WriteError},
    state_machine::CheckpointPolicy,
    types::{Member, NodeId, Reply, Role, Tokio},
};
use pygmy_storage::{
    catalog::ItemId,
    command::{
        Applied, Command, KeyClaim, Outcome, PlaceOrder, PlaceOrderLine, Policy, Precondition,
        PutItem,
    },
    query::{OrderFilter, View},
    verify,
    volume::{DirVolume, MemoryVolume, Volume},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

/// A node of ours as these tests run it.
pub(crate) type TestNode = Node<Tokio, Cuttable>;

/// How long anything may take that must happen at all. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How long a client waits where it is meant to be refused.
pub(crate) const SHORT: Duration = Duration::from_millis(1500);
/// When a connection on which nothing is acknowledged is given up.
const GIVEN_UP: Duration = Duration::from_secs(4);
/// The item that everybody buys.
pub(crate) const ITEM: ItemId = 7;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a condition holds; panics with the message when it does not in time.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let until = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which links are cut, from one peer address to another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Links {
    fn is_cut(&self, from: &str, to: &str) -> bool {
        lock(&self.0).contains(&(from.to_owned(), to.to_owned()))
    }
}

/// HTTP, with links that can be cut.
#[derive(Debug, Clone)]
pub(crate) struct Cuttable {
    http: HttpTransport,
    own: String,
    links: Links,
}

impl Transport for Cuttable {
    async fn reach(
        &self,
        address: &str,
        header: &CallHeader,
        timeout: Duration,
    ) -> Result<(), CallError> {
        // A connection is not noticed to be cut before something is sent on it.
        match self.links.is_cut(&self.own, address) {
            true => Ok(()),
            false => self.http.reach(address, header, timeout).await,
        }
    }

    async fn call(
        &self,
        address: &str,
        header: CallHeader,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        // A cut link looks like silence, as it does where packets are dropped, until the connection
        // is given up.
        let silence = || async {
            let address = address.to_owned();
            tokio::time::sleep(timeout.min(GIVEN_UP)).await;
            Err(match timeout <= GIVEN_UP {
                true => CallError::Timeout { address, waited: timeout },
                false => CallError::Broken { address, detail: "no word any more".to_owned() },
            })
        };
        if self.links.is_cut(&self.own, address) {
            return silence().await;
        }
        let reply = self.http.call(address, header, body, timeout).await;
        match self.links.is_cut(address, &self.own) {
            true => silence().await,
            false => reply,
        }
    }
}

/// Where a node keeps its data.
#[derive(Debug, Clone)]
pub(crate) enum Disk {
    Memory(MemoryVolume),
    Dir(PathBuf),
}

impl Disk {
    fn open(&self) -> Arc<dyn Volume> {
        match self {
            Self::Memory(volume) => Arc::new(volume.clone()),
            Self::Dir(path) => Arc::new(DirVolume::open(path, 8 << 20).unwrap()),
        }
    }
}

struct Running {
    runtime: Runtime,
    node: Arc<TestNode>,
}

/// A change to the settings of a node.
type Adjustment = Box<dyn Fn(&mut Settings) + Send>;

/// A place for a node: who it is, its disk, and the node while it runs.
pub(crate) struct Seat {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
    disk: Mutex<Disk>,
    running: Mutex<Option<Running>>,
    adjust: Mutex<Adjustment>,
}

/// A cluster, and what stands between its nodes.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) seats: Vec<Seat>,
    links: Links,
}

/// An address of the loopback network that nobody else uses, so that a port on it stays free while
/// its node is down.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let byte = |number: u32| u8::try_from(number % 254 + 1).unwrap();
    SocketAddr::from(([127, byte(process / 254), byte(process), byte(number)], 0))
}

impl Cluster {
    /// Seats for so many nodes with disks in memory; none runs yet.
    pub(crate) async fn seats(count: u64) -> Self {
        let mut seats = Vec::new();
        for id in 1..=count {
            // Bound once to learn a port; the nodes bind it again, each time they start.
            let peer = TcpListener::bind(own_address()).await.unwrap().local_addr().unwrap();
            let member = Member {
                name: format!("node{id}"),
                api: format!("api{id}:80"),
                peer: peer.to_string(),
                roles: [Role::Catalog, Role::Order].into(),
            };
            let disk = Mutex::new(Disk::Memory(MemoryVolume::new()));
            let adjust: Adjustment = Box::new(|_| {});
            let (running, adjust) = (Mutex::new(None), Mutex::new(adjust));
            seats.push(Seat { id, member, disk, running, adjust });
        }
        Self { name: "tested".to_owned(), seats, links: Links::default() }
    }

    /// A cluster that is formed, has a leader, and has the item with so many pieces of it.
    pub(crate) async fn started(count: u64, stock: u64) -> Self {
        let cluster = Self::seats(count).await;
        cluster.start_all().await;
        cluster.put_item(stock).await;
        cluster
    }

    fn seat(&self, id: NodeId) -> &Seat {
        self.seats.iter().find(|seat| seat.id == id).unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.seats.iter().map(|seat| seat.id).collect()
    }

    pub(crate) fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.ids().into_iter().filter(|other| *other != id).collect()
    }

    pub(crate) fn adjust(&self, id: NodeId, adjust: impl Fn(&mut Settings) + Send + 'static) {
        *lock(&self.seat(id).adjust) = Box::new(adjust);
    }

    pub(crate) fn set_disk(&self, id: NodeId, disk: Disk) {
        *lock(&self.seat(id).disk) = disk;
    }

    pub(crate) fn memory(&self, id: NodeId) -> MemoryVolume {
        match &*lock(&self.seat(id).disk) {
            Disk::Memory(volume) => volume.clone(),
            Disk::Dir(path) => panic!("the disk is in {}", path.display()),
        }
    }

    fn settings(&self, id: NodeId) -> Settings {
        let seat = self.seat(id);
        let mut settings = Settings {
            member: seat.member.clone(),
            bootstrap: self.seats.iter().map(|seat| (seat.id, seat.member.clone())).collect(),
            join: false,
            cluster_name: self.name.clone(),
            secret: "a secret of these tests".to_owned(),
            timing: Timing {
                heartbeat: Duration::from_millis(75),
                election_min: Duration::from_millis(400),
                election_max: Duration::from_millis(800),
            },
            checkpoint: CheckpointPolicy { entries: 20, interval: Duration::from_millis(200) },
            snapshot_entries: 50,
            keep_log_entries: 5,
            log_cache_bytes: 1 << 20,
            policy: Policy::default(),
            failure_window: Duration::from_millis(1500),
            waiting_max: 1024,
            version: "tested".to_owned(),
        };
        lock(&seat.adjust)(&mut settings);
        settings
    }

    /// Starts a node and its listener. The node forms or finds its cluster in the background.
    ///
    /// Errors: it does not start; or it must not take part, as far as that shows before it is part
    /// of a cluster.
    pub(crate) async fn try_start(&self, id: NodeId) -> Result<(), StartError> {
        let seat = self.seat(id);
        assert!(lock(&seat.running).is_none(), "node {id} runs");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("node{id}"))
            .enable_all()
            .build()
            .unwrap();
        let settings = self.settings(id);
        let transport = Cuttable {
            http: HttpTransport::new().unwrap(),
            own: seat.member.peer.clone(),
            links: self.links.clone(),
        };
        let (disk, peer) = (lock(&seat.disk).clone(), seat.member.peer.clone());
        let starting = runtime.spawn(async move {
            let listener = TcpListener::bind(&peer).await.unwrap();
            let node = TestNode::start(disk.open(), settings, transport).await?;
            let serving = router(node.clone());
            tokio::spawn(async move { axum::serve(listener, serving).await });
            Ok(node)
        });
        let node: Result<Arc<TestNode>, StartError> = starting.await.unwrap();
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                end(runtime).await;
                return Err(error);
            }
        };
        let (told, mut refused) = oneshot::channel();
        let establishing = node.clone();
        runtime.spawn(async move {
            if let Err(error) = establishing.establish().await {
                let _ = told.send(error);
            }
        });
        *lock(&seat.running) = Some(Running { runtime, node: node.clone() });
        loop {
            match refused.try_recv() {
                Ok(error) => {
                    self.crash(id).await;
                    return Err(error);
                }
                // Established: nothing is told any more.
                Err(oneshot::error::TryRecvError::Closed) => return Ok(()),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            if self.seats.iter().any(|seat| lock(&seat.running).is_none()) {
                // Not everybody is there, so it may have to wait; unless others know better.
                let wait = tokio::time::timeout(Duration::from_millis(1500), &mut refused).await;
                if let Ok(Ok(error)) = wait {
                    self.crash(id).await;
                    return Err(error);
                }
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn start(&self, id: NodeId) {
        if let Err(error) = self.try_start(id).await {
            panic!("node {id} does not start: {error}");
        }
    }

    /// Starts all nodes at once, and waits until each answers a linearizable read.
    pub(crate) async fn start_all(&self) {
        let starts = self.ids().into_iter().map(|id| self.start(id));
        futures_util::future::join_all(starts).await;
        self.all_serve().await;
    }

    /// Waits until every node that runs answers a linearizable read.
    pub(crate) async fn all_serve(&self) {
        for id in self.running() {
            eventually(&format!("node {id} answers a linearizable read"), || async {
                self.read(id, Freshness::Linearizable, SHORT).await.is_ok()
            })
            .await;
        }
    }

    /// Ends a node at once: nothing of it runs any more when this returns.
    pub(crate) async fn crash(&self, id: NodeId) {
        let running = lock(&self.seat(id).running).take();
        if let Some(Running { runtime, node }) = running {
            drop(node);
            end(runtime).await;
        }
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&self, id: NodeId) {
        self.ask(id, |node| async move { node.stop().await }).await;
        self.crash(id).await;
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        let runs = |seat: &&Seat| lock(&seat.running).is_some();
        self.seats.iter().filter(runs).map(|seat| seat.id).collect()
    }

    pub(crate) fn node(&self, id: NodeId) -> Arc<TestNode> {
        let running = lock(&self.seat(id).running);
        running.as_ref().unwrap_or_else(|| panic!("node {id} does not run")).node.clone()
    }

    /// Has a node do something on its own runtime. `None` when it does not run, or died meanwhile.
    pub(crate) async fn try_ask<T, F>(
        &self,
        id: NodeId,
        request: impl FnOnce(Arc<TestNode>) -> F,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let task = {
            let running = lock(&self.seat(id).running);
            let Running { runtime, node } = running.as_ref()?;
            runtime.spawn(request(node.clone()))
        };
        task.await.ok()
    }

    pub(crate) async fn ask<T, F>(&self, id: NodeId, request: impl FnOnce(Arc<TestNode>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let answer = self.try_ask(id, request).await;
        answer.unwrap_or_else(|| panic!("node {id} died under a request"))
    }

    /// Cuts the link between two nodes, both ways.
    pub(crate) fn cut(&self, one: NodeId, other: NodeId) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// What one node says does not reach the other any more.
    pub(crate) fn cut_one_way(&self, from: NodeId, to: NodeId) {
        lock(&self.links.0).insert((self.peer(from).to_owned(), self.peer(to).to_owned()));
    }

    /// Where a node listens for its peers.
    pub(crate) fn peer(&self, id: NodeId) -> &str {
        &self.seat(id).member.peer
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&self, id: NodeId) {
        self.others(id).into_iter().for_each(|other| self.cut(id, other));
    }

    pub(crate) fn heal(&self) {
        lock(&self.links.0).clear();
    }

    /// Waits until all of some nodes agree on a leader among them, and gives it.
    pub(crate) async fn leader_among(&self, ids: &[NodeId]) -> NodeId {
        eventually(&format!("nodes {ids:?} agree on a leader"), || async {
            self.agreed_leader(ids).is_some()
        })
        .await;
        match self.agreed_leader(ids) {
            Some(leader) => leader,
            None => Box::pin(self.leader_among(ids)).await,
        }
    }

    fn agreed_leader(&self, ids: &[NodeId]) -> Option<NodeId> {
        let mut leaders = ids.iter().map(|id| self.node(*id).leader().map(|(id, _)| id));
        let first = leaders.next()??;
        (ids.contains(&first) && leaders.all(|leader| leader == Some(first))).then_some(first)
    }

    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_among(&self.running()).await
    }

    pub(crate) async fn write(
        &self,
        id: NodeId,
        key: Option<KeyClaim>,
        command: Command,
        deadline: Duration,
    ) -> Result<Reply, WriteError> {
        self.ask(id, move |node| async move { node.write(key, command, deadline).await }).await
    }

    pub(crate) async fn read(
        &self,
        id: NodeId,
        freshness: Freshness,
        deadline: Duration,
    ) -> Result<Arc<View>, ReadError> {
        self.ask(id, move |node| async move { node.read(freshness, deadline).await }).await
    }

    pub(crate) async fn put_item(&self, stock: u64) {
        let command = Command::PutItem(PutItem {
            id: ITEM,
            title: "The tested item".to_owned(),
            topic: "tests".to_owned(),
            price_cents: 100,
            stock: Some(stock),
            precondition: Precondition::None,
        });
        let id = self.running()[0];
        self.write(id, None, command, DEADLINE).await.expect("the item can be put there");
    }

    /// Buys a piece through a node, under a key and with a reference of that name.
    pub(crate) async fn buy(
        &self,
        id: NodeId,
        name: &str,
        deadline: Duration,
    ) -> Result<Applied, WriteError> {
        let command = purchase(name);
        let key = KeyClaim::new(name, &command);
        Ok(self.write(id, Some(key), command, deadline).await?.applied)
    }

    /// Buys until it is confirmed, through whatever node runs, and gives the order's number.
    pub(crate) async fn buy_surely(&self, name: &str) -> u64 {
        let until = Instant::now() + DEADLINE;
        loop {
            for id in self.running() {
                match self.buy(id, name, SHORT).await {
                    Ok(Applied { outcome: Outcome::Ordered(order), .. }) => return order,
                    Ok(other) => panic!("{name}: {other:?}"),
                    Err(_) => {}
                }
            }
            assert!(Instant::now() < until, "{name} is not confirmed");
        }
    }

    pub(crate) async fn buy_many(&self, prefix: &str, count: u64) -> BTreeMap<String, u64> {
        let mut bought = BTreeMap::new();
        for number in 1..=count {
            let name = format!("{prefix}-{number}");
            let order = self.buy_surely(&name).await;
            bought.insert(name, order);
        }
        bought
    }

    /// Waits until all nodes that run have the same state, and checks that it adds up.
    pub(crate) async fn assert_equal(&self) -> Arc<View> {
        let ids = self.running();
        let views = || ids.iter().map(|id| self.node(*id).view()).collect::<Vec<_>>();
        let same = |views: &[Arc<View>]| {
            let told = |view: &View| (view.state.applied(), view.state.state_hash());
            views.iter().all(|view| told(view) == told(&views[0]))
        };
        eventually("all nodes have the same state", || async { same(&views()) }).await;
        let views = views();
        for view in &views {
            for check in verify::verify(view).unwrap() {
                assert!(check.wrong.is_empty(), "{}: {:?}", check.name, check.wrong);
            }
        }
        views.into_iter().next().unwrap()
    }

    /// Checks that each purchase is there once, under its number.
    pub(crate) async fn assert_bought(&self, bought: &BTreeMap<String, u64>) {
        let view = self.assert_equal().await;
        let found = orders_by_reference(&view);
        for (name, order) in bought {
            assert_eq!(found.get(name), Some(&vec![*order]), "{name}");
        }
        for (name, orders) in found {
            assert_eq!(orders.len(), 1, "{name}: {orders:?}");
        }
    }
}

/// Ends a runtime with all that runs on it, and waits for that.
async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE)).await;
    ended.unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for seat in &self.seats {
            if let Some(running) = lock(&seat.running).take() {
                drop(running.node);
                running.runtime.shutdown_background();
            }
        }
    }
}

pub(crate) fn purchase(name: &str) -> Command {
    Command::PlaceOrder(PlaceOrder {
        lines: vec![PlaceOrderLine { item: ITEM, quantity: 1, expected_price_cents: None }],
        customer: None,
        reference: Some(name.to_owned()),
    })
}

/// The orders there are, by reference.
pub(crate) fn orders_by_reference(view: &View) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for order in view.orders(&OrderFilter::default(), None, 1 << 20).unwrap().rows {
        let reference = order.reference.as_deref().unwrap_or_default().to_owned();
        found.entry(reference).or_default().push(order.id);
    }
    found
}

/// Unwraps an error, for tests of refusals.
pub(crate) fn refused<T: Debug, E>(result: Result<T, E>) -> E {
    match result {
        Ok(value) => panic!("this must be refused, and was not: {value:?}"),
        Err(error) => error,
    }
}

/// Buyers in the background, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<std::sync::atomic::AtomicBool>,
    buyers: Vec<tokio::task::JoinHandle<BTreeMap<String, u64>>>,
    confirmed: Arc<AtomicU32>,
}

impl Load {
    pub(crate) fn start(cluster: &Arc<Cluster>, buyers: usize) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let confirmed = Arc::new(AtomicU32::new(0));
        let tasks = (0..buyers).map(|buyer| {
            let (cluster, stop, confirmed) = (cluster.clone(), stop.clone(), confirmed.clone());
            tokio::spawn(async move { buy_on(&cluster, buyer, &stop, &confirmed).await })
        });
        let buyers = tasks.collect();
        Self { stop, buyers, confirmed }
    }

    /// Waits until so many more purchases are confirmed.
    pub(crate) async fn goes_on(&self, more: u32) {
        let target = self.confirmed.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more purchases are confirmed"), || async {
            self.confirmed.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// Stops the buyers and gives what was confirmed to them.
    pub(crate) async fn finish(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut bought = BTreeMap::new();
        for buyer in self.buyers {
            bought.extend(buyer.await.unwrap());
        }
        bought
    }
}

/// Buys through the nodes in turn. What is not confirmed is asked for again, with the same key, by
/// the same buyer: at the end nothing of his is in doubt but the last.
async fn buy_on(
    cluster: &Cluster,
    buyer: usize,
    stop: &std::sync::atomic::AtomicBool,
    confirmed: &AtomicU32,
) -> BTreeMap<String, u64> {
    let ids = cluster.ids();
    let mut bought = BTreeMap::new();
    let mut turn = buyer;
    for number in 1.. {
        let name = format!("buyer{buyer}-{number}");
        let command = purchase(&name);
        let key = KeyClaim::new(&name, &command);
        loop {
            if stop.load(Ordering::Relaxed) {
                return bought;
            }
            turn += 1;
            let command = command.clone();
            let write = cluster.try_ask(ids[turn % ids.len()], move |node| async move {
                node.write(Some(key), command, SHORT).await
            });
            match write.await {
                Some(Ok(Reply { applied: Applied { outcome, .. }, .. })) => {
                    let Outcome::Ordered(order) = outcome else { panic!("{name}: {outcome:?}") };
                    bought.insert(name, order);
                    confirmed.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Some(Err(_)) | None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
    bought
}
