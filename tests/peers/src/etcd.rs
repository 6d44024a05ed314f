//! etcd: three members on loopback with default settings, spoken to by gRPC.
//!
//! A purchase is the idiomatic optimistic transaction: read the item, then, if neither it has changed
//! since nor an order with this key exists, put both; else try again with what the transaction read
//! instead. Clients know nothing of each other, as the servers of a shop do not.

use std::{
    cell::Cell,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::uri::PathAndQuery;
use pygmy::bench::{Fault, Kind, Operation, STOCK, Session, Target};
use pygmy_chaos::cluster::free_ports;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tonic::{Code, Request, Status, client::Grpc, transport::Channel, transport::Endpoint};
use tonic_prost::ProstCodec;

use self::wire::{
    Compare, CompareResult, CompareTarget, KeyValue, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, StatusRequest, StatusResponse, TxnRequest, TxnResponse, compare,
    request_op, response_op,
};
use crate::process::{self, Process};

mod wire;

const MEMBERS: usize = 3;
/// Connections to each member; each carries many calls at a time.
const CHANNELS: usize = 4;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// A running cluster.
pub(crate) struct Etcd {
    members: Vec<Process>,
    pub(crate) version: String,
    pub(crate) target: EtcdTarget,
}

impl Etcd {
    pub(crate) async fn start(directory: &Path, timeout: Duration) -> Result<Self> {
        let program = process::find("etcd").context(
            "etcd is not installed; on Debian: apt-get install --no-install-recommends etcd-server",
        )?;
        let said = process::run(&program, &["--version".into()], None).await?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version =
            said.lines().next().unwrap_or_default().trim_start_matches("etcd Version: ").to_owned();
        let ports = free_ports(2 * MEMBERS)?;
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let peers: Vec<_> = (1..)
            .zip(ports.chunks_exact(2))
            .map(|(number, ports)| format!("member{number}={}", at(ports[1])))
            .collect();
        let mut members = Vec::new();
        let mut channels = Vec::new();
        for (number, ports) in (1..).zip(ports.chunks_exact(2)) {
            let name = format!("member{number}");
            let (client, peer) = (at(ports[0]), at(ports[1]));
            let data = directory.join(&name).display().to_string();
            let args = [
                ("--name", &name),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &peers.join(",")),
                ("--initial-cluster-token", &"bench".to_owned()),
            ];
            let args: Vec<String> = args
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value.clone()])
                .collect();
            let log = directory.join(format!("{name}.log"));
            members.push(Process::start(&format!("etcd {name}"), &program, &args, None, &log)?);
            let endpoint = Endpoint::from_shared(client)?.tcp_nodelay(true);
            let of_member: Vec<_> = (0..CHANNELS).map(|_| endpoint.connect_lazy()).collect();
            channels.push(of_member);
        }
        let leader = await_leader(&channels, &mut members).await?;
        let sessions = Cell::new(0);
        let run = rand::random();
        let target = EtcdTarget { channels: channels.into(), leader, timeout, run, sessions };
        Ok(Self { members, version, target })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        for member in self.members {
            member.stop(Signal::TERM).await?;
        }
        Ok(())
    }
}

/// Waits until all members know the same leader, and gives its place.
async fn await_leader(channels: &[Vec<Channel>], members: &mut [Process]) -> Result<usize> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let mut told = Vec::new();
        for of_member in channels {
            let mut client = Grpc::new(of_member[0].clone());
            let status = async {
                client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
                let codec = ProstCodec::<StatusRequest, StatusResponse>::default();
                client.unary(Request::new(StatusRequest {}), path, codec).await
            };
            if let Ok(Ok(status)) = tokio::time::timeout(POLL * 5, status).await {
                let status = status.into_inner();
                told.push((status.leader, status.header.unwrap_or_default().member_id));
            }
        }
        let leader = told.first().map_or(0, |(leader, _)| *leader);
        let agreed = leader != 0 && told.iter().all(|(known, _)| *known == leader);
        if let (true, true, Some(place)) =
            (told.len() == MEMBERS, agreed, told.iter().position(|(_, id)| *id == leader))
        {
            return Ok(place);
        }
        for member in &mut *members {
            member.check()?;
        }
        if Instant::now() > deadline {
            bail!("its members found no leader within {} s", START_TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// An item as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    title: String,
    topic: String,
    price_cents: u64,
    stock: u64,
}

/// An order as it is kept.
#[derive(Debug, Serialize)]
struct Order<'a> {
    item: u64,
    title: &'a str,
    quantity: u64,
    unit_price_cents: u64,
}

/// An item as it was last seen.
struct Seen {
    revision: i64,
    item: Item,
}

pub(crate) struct EtcdTarget {
    channels: Rc<[Vec<Channel>]>,
    leader: usize,
    timeout: Duration,
    run: u64,
    sessions: Cell<u64>,
}

impl Target for EtcdTarget {
    type Session = EtcdSession;

    fn session(&self, client: u32) -> EtcdSession {
        self.sessions.set(self.sessions.get() + 1);
        let client = client as usize;
        let of = |member: usize| {
            let channels = &self.channels[member];
            Grpc::new(channels[client / MEMBERS % channels.len()].clone())
        };
        EtcdSession {
            reader: of(client % MEMBERS),
            writer: of(self.leader),
            timeout: self.timeout,
            keys: format!("order/{:016x}-{}", self.run, self.sessions.get()),
        }
    }
}

pub(crate) struct EtcdSession {
    reader: Grpc<Channel>,
    writer: Grpc<Channel>,
    timeout: Duration,
    /// What the keys of its orders begin with.
    keys: String,
}

impl Session for EtcdSession {
    async fn perform(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let timeout = self.timeout;
        let work = async {
            match operation.kind {
                Kind::Get => self.get(operation.item(), false).await,
                Kind::GetStale | Kind::GetSession => self.get(operation.item(), true).await,
                Kind::Put => self.put(operation).await,
                Kind::Buy => self.buy(operation).await,
                Kind::Batch => Err(Fault::refusal("unsupported", "there is no batch of etcd's")),
            }
        };
        tokio::time::timeout(timeout, work)
            .await
            .unwrap_or_else(|_| Err(Fault::outage("timeout", "no reply in time")))
    }
}

impl EtcdSession {
    async fn get(&mut self, item: u64, serializable: bool) -> Result<(), Fault> {
        let request = RangeRequest { key: item_key(item), serializable };
        let found: RangeResponse =
            call(&mut self.reader, "/etcdserverpb.KV/Range", request).await?;
        if found.kvs.is_empty() {
            return Err(Fault::refusal("not found", "there is no such item"));
        }
        Ok(())
    }

    async fn put(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let id = operation.item();
        let item = Item {
            title: format!("Benchmark item {id}"),
            topic: "Benchmark".into(),
            price_cents: operation.number % 10_000,
            stock: STOCK,
        };
        let request = PutRequest { key: item_key(id), value: encode(&item), lease: 0 };
        let _: PutResponse = call(&mut self.writer, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    async fn buy(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let id = operation.item();
        let order_key = format!("{}-{}", self.keys, operation.number).into_bytes();
        let mut seen = None;
        loop {
            let (compare, success) = match &seen {
                Some(Seen { item, .. }) if item.stock == 0 => {
                    return Err(Fault::refusal("out of stock", "none is left"));
                }
                Some(Seen { revision, item }) => {
                    let changed = Item { stock: item.stock - 1, ..item.clone() };
                    let order = Order {
                        item: id,
                        title: &item.title,
                        quantity: 1,
                        unit_price_cents: item.price_cents,
                    };
                    let puts = vec![
                        put(item_key(id), encode(&changed)),
                        put(order_key.clone(), encode(&order)),
                    ];
                    (unchanged(id, *revision, &order_key), puts)
                }
                // No revision is -1: it compares badly, and so reads.
                None => (unchanged(id, -1, &order_key), Vec::new()),
            };
            let failure = vec![range(item_key(id)), range(order_key.clone())];
            let request = TxnRequest { compare, success, failure };
            let reply: TxnResponse =
                call(&mut self.writer, "/etcdserverpb.KV/Txn", request).await?;
            if reply.succeeded {
                return Ok(());
            }
            let mut found = reply.responses.into_iter().map(|response| match response.response {
                Some(response_op::Response::Range(range)) => range.kvs.into_iter().next(),
                None => None,
            });
            let (item, order) = (found.next().flatten(), found.next().flatten());
            if order.is_some() {
                // An earlier try has placed it.
                return Ok(());
            }
            let Some(KeyValue { mod_revision: revision, value, .. }) = item else {
                return Err(Fault::refusal("not found", "there is no such item"));
            };
            let item = serde_json::from_slice(&value)
                .map_err(|error| Fault::refusal("bad item", error.to_string()))?;
            seen = Some(Seen { revision, item });
        }
    }
}

/// What must hold for a purchase.
fn unchanged(item: u64, revision: i64, order_key: &[u8]) -> Vec<Compare> {
    let equal = |key, target: CompareTarget, union| Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key,
        target_union: Some(union),
    };
    vec![
        equal(item_key(item), CompareTarget::Mod, compare::Union::ModRevision(revision)),
        equal(order_key.to_vec(), CompareTarget::Create, compare::Union::CreateRevision(0)),
    ]
}

fn item_key(item: u64) -> Vec<u8> {
    format!("item/{item}").into_bytes()
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it is a JSON object")
}

fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    RequestOp { request: Some(request_op::Request::Put(PutRequest { key, value, lease: 0 })) }
}

fn range(key: Vec<u8>) -> RequestOp {
    let request = RangeRequest { key, serializable: false };
    RequestOp { request: Some(request_op::Request::Range(request)) }
}

async fn call<Q, A>(client: &mut Grpc<Channel>, path: &'static str, request: Q) -> Result<A, Fault>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    client.ready().await.map_err(|error| Fault::outage("no connection", error.to_string()))?;
    let codec = ProstCodec::<Q, A>::default();
    let reply = client.unary(Request::new(request), PathAndQuery::from_static(path), codec).await;
    reply.map(tonic::Response::into_inner).map_err(|status| {
        let code = format!("grpc {:?}", status.code());
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown => {
                Fault::outage(code, status.message())
            }
            _ => Fault::refusal(code, status.message()),
        }
    })
}
