//! What can be typed.

mod catalog;
mod operate;
mod orders;

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, value_parser};

use super::Stop;
use crate::client::{Client, Timeouts, is_key};

pub(super) use catalog::{
    CreateItem, DeleteItem, Export, Import, Items, Ledger, Load, PatchItem, PutItem, Search, Stock,
};
pub(super) use operate::{
    Backup, Bench, Cluster, ClusterCommand, Completions, Facade, Maintenance, MaintenanceCommand,
    Own, Policy, PolicyCommand, Restore, Serve, SetPolicy, Verify, Wait,
};
pub(super) use orders::{Buy, Cancel, OrderBatch, Orders, Reservations, Reserve};

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  the answer is no: out of stock, not found, verification failed; or a server ended with an error
  2  the command or the configuration is wrong
  3  the store cannot be reached or cannot answer now; nothing was changed
  4  whether the change was made is not known; the message says how to find out

Start: pygmy serve --single        Then: pygmy load config/catalog.csv && pygmy shop";

/// Up to a day: longer is a slip of the hand.
fn seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(1..=86_400)
}

/// Pygmy, the world's smallest book store: a replicated catalog and order store.
#[derive(Debug, Parser)]
#[command(name = "pygmy", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a node
    #[command(after_help = "Examples:
  pygmy serve --single --data /tmp/pygmy
  pygmy serve --config config/cluster/node1.toml
  pygmy serve --config config/cluster/node2.toml --join
  pygmy serve --config config/cluster/node1.toml --set raft.heartbeat_ms=50")]
    Serve(Serve),
    /// Run a facade in front of a cluster
    #[command(after_help = "Example:
  pygmy facade --config config/cluster/facade.toml")]
    Facade(Facade),
    /// Visit the shop: search, look up and buy in a menu
    #[command(after_help = "Examples:
  pygmy shop
  printf '2\\n5\\n' | pygmy shop --url http://127.0.0.1:8101")]
    Shop(Remote),
    /// Titles under a topic
    #[command(after_help = "Example:
  pygmy search DistributedSystems")]
    Search(Search),
    /// One item as the original shows it
    #[command(after_help = "Example:
  pygmy lookup 5 --json")]
    Lookup(ReadNumber),
    /// Buy an item
    #[command(after_help = "Examples:
  pygmy buy 5
  pygmy buy 5 --quantity 2 --customer ada --key order-4711
With the same key the same order is never booked twice.")]
    Buy(Buy),
    /// Place many orders at once
    #[command(after_help = "Examples:
  pygmy order-batch orders.jsonl
  pygmy order-batch orders.json --atomic --key batch-4711
  echo '{\"lines\":[{\"item\":5,\"quantity\":1}]}' | pygmy order-batch -
The file has an order on each line or is an array of orders, as POST /v1/orders/batch takes them.
Exits with 1 when an order was not placed.")]
    OrderBatch(OrderBatch),
    /// List or search items
    #[command(after_help = "Examples:
  pygmy items --topic GraduateSchool --limit 20
  pygmy items --q 'distr sys' --in-stock --sort -price")]
    Items(Items),
    /// One item, with all that the store knows of it
    #[command(after_help = "Example:
  pygmy item 5 --json")]
    Item(ReadNumber),
    /// List topics
    #[command(after_help = "Example:
  pygmy topics")]
    Topics(Reading),
    /// List orders
    #[command(after_help = "Examples:
  pygmy orders --limit 20 --json
  pygmy orders --customer ada --item 5
  pygmy orders --from 2025-01-01T00:00:00Z --to 2025-02-01T00:00:00Z")]
    Orders(Orders),
    /// What changed an item's stock, sales among it, newest first
    #[command(after_help = "Example:
  pygmy ledger 5 --limit 20")]
    Ledger(Ledger),
    /// One order
    #[command(after_help = "Example:
  pygmy order 1")]
    Order(ReadNumber),
    /// Take an order back: its pieces return
    #[command(after_help = "Examples:
  pygmy cancel 1
  pygmy cancel 1 --reason 'sent back' --key cancel-4711
Exits with 1 when the order is cancelled already.")]
    Cancel(Cancel),
    /// Hold pieces for a time, until they are confirmed or released
    #[command(after_help = "Examples:
  pygmy reserve 5
  pygmy reserve 5:2 7 --ttl 600 --customer ada
All pieces or none; they are nobody else's until the time is up.")]
    Reserve(Reserve),
    /// Sell what a reservation holds
    #[command(after_help = "Example:
  pygmy confirm 1 --key confirm-4711
Exits with 1 when it holds nothing any more.")]
    Confirm(WriteNumber),
    /// Give back what a reservation holds
    #[command(after_help = "Example:
  pygmy release 1")]
    Release(WriteNumber),
    /// One reservation
    #[command(after_help = "Example:
  pygmy reservation 1 --json")]
    Reservation(ReadNumber),
    /// List reservations
    #[command(after_help = "Example:
  pygmy reservations --status held")]
    Reservations(Reservations),
    /// What happened to items and orders, in the order of the log
    #[command(after_help = "Examples:
  pygmy changes --after 0
  pygmy changes --after 1200 --kinds order --json
  pygmy changes --follow
  pygmy changes --follow --after 1200 --json
With --follow it prints a line for each change as it happens, through restarts of the store, until it
is interrupted; exits with 3 when the store is away for longer than --timeout.")]
    Changes(Changes),
    /// Create or replace an item
    #[command(after_help = "Examples:
  pygmy put-item 8 --title 'Raft in Rhymes' --topic Misc --price 12.50 --stock 40
  pygmy put-item 8 --title 'Raft in Rhyme' --topic Misc --price 12.50 --if-version 97")]
    PutItem(PutItem),
    /// Change an item's stock
    #[command(after_help = "Examples:
  pygmy stock 5 --delta 20
  pygmy stock 5 --set 50 --reason count --reference inventory-7")]
    Stock(Stock),
    /// Create an item under a number that the store gives
    #[command(after_help = "Example:
  pygmy create-item --title 'Raft in Rhymes' --topic Misc --price 12.50 --stock 40")]
    CreateItem(CreateItem),
    /// Change some of what an item says of itself
    #[command(after_help = "Examples:
  pygmy patch-item 8 --price 9.99
  pygmy patch-item 8 --title 'Raft in Rhyme' --if-version 97")]
    PatchItem(PatchItem),
    /// Take an item out of the catalog; orders keep their copy
    #[command(after_help = "Examples:
  pygmy delete-item 8
  pygmy delete-item 8 --if-version 97
Exits with 1 when there is no such item, or when reservations hold pieces of it.")]
    DeleteItem(DeleteItem),
    /// What an item cost when, and its lowest price of the last 30 days
    #[command(after_help = "Example:
  pygmy prices 5")]
    Prices(ReadNumber),
    /// The replicated settings
    Policy(Policy),
    /// Refuse writes of clients for a while, on the whole cluster; reads go on
    Maintenance(Maintenance),
    /// About the cluster
    Cluster(Cluster),
    /// Let every member check itself, and compare what they found
    #[command(after_help = "Example:
  pygmy verify && echo all replicas agree
A member that does not answer is not a pass.")]
    Verify(Verify),
    /// Load a catalog: creates items that do not exist, leaves the others alone
    #[command(after_help = "Example:
  pygmy load config/catalog.csv
The columns are ItemNumber,Title,Topic,Cost,Stock; a cost is written 19.99.")]
    Load(Load),
    /// Create or replace items from a file of any length
    #[command(after_help = "Examples:
  pygmy import items.csv --dry-run
  pygmy import items.csv --stock set
  zcat items.ndjson.gz | pygmy import - --format ndjson
CSV has a header line with id,title,topic,price_cents,stock in any order; stock may be left out. NDJSON has
an object with these fields on each line. Rows that are wrong are shown and left out. The same file again
changes nothing: an import that was interrupted goes on when it is started again.
Exits with 1 when rows were refused.")]
    Import(Import),
    /// Write all items or all orders into a file
    #[command(after_help = "Examples:
  pygmy export -o items.csv
  pygmy export --what orders --format ndjson | head
All of it is as of one moment. Items can be imported again. A file that is there is replaced.")]
    Export(Export),
    /// Write the whole store into a file, from which it can be restored
    #[command(after_help = "Examples:
  pygmy backup store.backup
  pygmy backup store.backup --force --url http://127.0.0.1:8101
  pygmy backup --check store.backup
All of it is as of one moment; orders go on meanwhile. The file is there when it is whole and checked, not
before. One that is there is replaced only with --force. Exits with 1 when it is there, or is damaged.")]
    Backup(Backup),
    /// Make the empty data directory of one node from a backup
    #[command(
        after_help = "Example, for a cluster whose three nodes are stopped and whose directories were moved away:
  pygmy restore --config config/cluster/node1.toml store.backup
  pygmy serve --config config/cluster/node1.toml
  pygmy serve --config config/cluster/node2.toml --join
  pygmy serve --config config/cluster/node3.toml --join
The node is the only member of a new cluster, and serves by itself what is in the backup; the others, with
empty directories, get everything from it. What was confirmed after the backup is not there any more. Run it
on one node only. One that was interrupted is run again.
Exits with 1 when the directory is not empty or the backup is damaged: nothing was changed then."
    )]
    Restore(Restore),
    /// Wait until the store answers linearizable reads
    #[command(after_help = "Examples:
  pygmy wait --timeout 60
  pygmy wait --ready --url http://127.0.0.1:8101")]
    Wait(Wait),
    /// Measure how fast the store is
    #[command(after_help = "Examples:
  pygmy bench --mix buy --clients 64 --seconds 10
  pygmy bench --mix shop --rate 2000 --seconds 30
  pygmy bench --direct --url http://127.0.0.1:8101 --mix get-stale --json
The first sends as fast as replies come (closed loop). With --rate operations are due at fixed times,
and a latency counts from the time at which its operation was due (open loop).
It puts items of its own, numbered from 1000000001, and the orders it places stay: measure a store
that is there to be measured. Other items are left alone.
Exits with 1 when operations failed or the rate was not kept, with 3 when the store went away; the
figures until then are shown.")]
    Bench(Bench),
    /// Print what a shell needs to complete commands and options
    #[command(after_help = "Examples:
  pygmy completions bash > ~/.local/share/bash-completion/completions/pygmy
  pygmy completions zsh > ~/.zfunc/_pygmy
  pygmy completions fish > ~/.config/fish/completions/pygmy.fish
zsh looks into ~/.zfunc if .zshrc has fpath+=~/.zfunc before compinit.")]
    Completions(Completions),
}

/// Which store, and how long to try.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The store: a facade, a node, or several of its nodes with commas between them
    #[arg(long, env = "PYGMY_URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,
    /// How long to try before giving up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = seconds())]
    pub(super) timeout: u64,
}

impl Remote {
    pub(super) fn client(&self) -> Result<Client, Stop> {
        let timeouts = Timeouts::within(Duration::from_secs(self.timeout));
        Ok(Client::with_timeouts(&self.url, timeouts)?)
    }
}

/// [`Remote`] for commands that answer.
#[derive(Debug, Args)]
pub(super) struct Reading {
    #[command(flatten)]
    pub(super) remote: Remote,
    /// Print one JSON document on one line
    #[arg(long)]
    pub(super) json: bool,
}

/// [`Reading`] for commands that change something.
#[derive(Debug, Args)]
pub(super) struct Writing {
    #[command(flatten)]
    pub(super) reading: Reading,
    /// Idempotency key: repeating a command with its key never does it twice
    #[arg(long, value_parser = parse_key)]
    pub(super) key: Option<String>,
}

impl Writing {
    pub(super) fn key(&self) -> String {
        self.key.clone().unwrap_or_else(Client::new_key)
    }
}

fn parse_key(text: &str) -> Result<String, String> {
    if is_key(text) {
        Ok(text.into())
    } else {
        Err("a key is 1 to 255 visible ASCII characters".into())
    }
}

#[derive(Debug, Args)]
pub(super) struct ReadNumber {
    /// The number
    pub(super) number: u64,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct WriteNumber {
    /// The number
    pub(super) number: u64,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Changes {
    /// Only what happened after this log index [default: from now on]
    #[arg(long, value_name = "INDEX")]
    pub(super) after: Option<u64>,
    /// Only these kinds, as in item,order [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(super) kinds: Vec<String>,
    /// Go on with what happens
    #[arg(long)]
    pub(super) follow: bool,
    /// Rows, at most; all rows of a log index come together
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u16).range(1..=1000))]
    #[arg(conflicts_with = "follow")]
    pub(super) limit: u16,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct Page {
    /// Rows, at most
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Where the page before ended
    #[arg(long)]
    pub(super) cursor: Option<String>,
}
