//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;

use super::Stop;
use crate::api::{NewOrderLine, QUANTITY_MAX, RESERVATION_TTL_SECONDS_DEFAULT};
use crate::bench::Mix;
use crate::client::{Client, Timeouts, is_key};

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  the answer is no: out of stock, not found, verification failed; or a server ended with an error
  2  the command or the configuration is wrong
  3  the store cannot be reached or cannot answer now; nothing was changed
  4  whether the change was made is not known; the message says how to find out

Start: pygmy serve --single        Then: pygmy load config/catalog.csv && pygmy shop";

/// Why stock may change.
const REASONS: [&str; 5] = ["received", "count", "damaged", "returned", "correction"];

/// How an order may stand.
const STATUSES: [&str; 2] = ["placed", "cancelled"];
/// What items are listed by.
const SORTS: [&str; 8] = ["id", "-id", "title", "-title", "price", "-price", "updated", "-updated"];

/// How files are written.
const FORMATS: [&str; 2] = ["csv", "ndjson"];

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
    /// The store: a facade or a node
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
pub(super) struct Serve {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "single")]
    pub(super) config: Option<PathBuf>,
    /// One node on its own, without a file
    #[arg(long, conflicts_with = "config")]
    pub(super) single: bool,
    /// Directory of the databases [default with --single: pygmy-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// With an empty directory: join the cluster that exists, in the place of the member of this name
    #[arg(long, conflicts_with = "single")]
    pub(super) join: bool,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(super) struct Facade {
    /// The facade's configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(super) struct Overrides {
    /// Where the REST interface listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<String>,
    /// Override a setting, as in --set log.format=json; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
    /// Check the configuration and end
    #[arg(long)]
    pub(super) check: bool,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().into(), value.into())),
        _ => Err("write it like section.key=value".into()),
    }
}

#[derive(Debug, Args)]
pub(super) struct Search {
    /// The topic
    pub(super) topic: String,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct ReadNumber {
    /// The number
    pub(super) number: u64,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct Buy {
    /// The item number
    pub(super) number: u64,
    /// Pieces
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=QUANTITY_MAX))]
    pub(super) quantity: u64,
    /// Who orders
    #[arg(long)]
    pub(super) customer: Option<String>,
    /// A reference of your own
    #[arg(long)]
    pub(super) reference: Option<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct OrderBatch {
    /// The orders as JSON; - for standard input
    #[arg(value_name = "ORDERS.json")]
    pub(super) orders: PathBuf,
    /// All orders or none
    #[arg(long)]
    pub(super) atomic: bool,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct WriteNumber {
    /// The number
    pub(super) number: u64,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The order number
    pub(super) number: u64,
    /// Why; kept with the order
    #[arg(long)]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Reserve {
    /// Items, each with its pieces if more than one: 5:2
    #[arg(value_name = "ITEM[:QUANTITY]", required = true, value_parser = parse_line)]
    pub(super) lines: Vec<NewOrderLine>,
    /// For how long, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = RESERVATION_TTL_SECONDS_DEFAULT,
        value_parser = value_parser!(u64).range(1..)
    )]
    pub(super) ttl: u64,
    /// For whom
    #[arg(long)]
    pub(super) customer: Option<String>,
    /// A reference of your own
    #[arg(long)]
    pub(super) reference: Option<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

/// A line as it is typed: `5` or `5:2`.
fn parse_line(text: &str) -> Result<NewOrderLine, String> {
    let (item, quantity) = text.split_once(':').unwrap_or((text, "1"));
    match (item.parse(), quantity.parse()) {
        (Ok(item), Ok(quantity)) if (1..=QUANTITY_MAX).contains(&quantity) => {
            Ok(NewOrderLine { item, quantity, expected_price_cents: None })
        }
        _ => Err(format!("write it like 5 or 5:2, with 1 to {QUANTITY_MAX} pieces")),
    }
}

#[derive(Debug, Args)]
pub(super) struct Items {
    /// Only this topic
    #[arg(long)]
    pub(super) topic: Option<String>,
    /// Only titles and topics with words that begin with these; case and accents do not matter
    #[arg(long, value_name = "WORDS")]
    pub(super) q: Option<String>,
    /// Only what can be bought now
    #[arg(long)]
    pub(super) in_stock: bool,
    /// The order: id, title, price or updated; with a - before it the reverse
    #[arg(long, default_value = "id", hide_possible_values = true, allow_hyphen_values = true)]
    #[arg(value_parser = SORTS)]
    pub(super) sort: String,
    #[command(flatten)]
    pub(super) page: Page,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct Orders {
    /// Only orders with a line of this item
    #[arg(long, value_name = "NUMBER")]
    pub(super) item: Option<u64>,
    /// Only this customer's
    #[arg(long)]
    pub(super) customer: Option<String>,
    /// Only those that stand so
    #[arg(long, value_parser = STATUSES)]
    pub(super) status: Option<String>,
    /// Only those placed at this time or after
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) from: Option<String>,
    /// Only those placed before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) to: Option<String>,
    #[command(flatten)]
    pub(super) page: Page,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// A time as the interface takes it.
fn parse_time(text: &str) -> Result<String, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.to_string()),
        Err(_) => Err("write it like 2025-01-31T09:30:00Z".into()),
    }
}

#[derive(Debug, Args)]
pub(super) struct Ledger {
    /// The item number
    pub(super) number: u64,
    #[command(flatten)]
    pub(super) page: Page,
    #[command(flatten)]
    pub(super) reading: Reading,
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

#[derive(Debug, Args)]
pub(super) struct PutItem {
    /// The item number
    pub(super) number: u64,
    /// The title
    #[arg(long)]
    pub(super) title: String,
    /// The topic
    #[arg(long)]
    pub(super) topic: String,
    /// The price, as in 19.99
    #[arg(long, value_parser = super::show::parse_cents)]
    pub(super) price: u64,
    /// Pieces; left as it is on replace, 0 on create
    #[arg(long)]
    pub(super) stock: Option<u64>,
    /// Only create: an item that exists is left alone
    #[arg(long, conflicts_with = "if_version")]
    pub(super) create: bool,
    /// Only replace this version
    #[arg(long, value_name = "VERSION")]
    pub(super) if_version: Option<u64>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Stock {
    /// The item number
    pub(super) number: u64,
    /// Pieces to add, or to take away when negative
    #[arg(
        long,
        allow_negative_numbers = true,
        required_unless_present = "set",
        conflicts_with = "set"
    )]
    pub(super) delta: Option<i64>,
    /// Pieces that there are
    #[arg(long)]
    pub(super) set: Option<u64>,
    /// Why
    #[arg(long, default_value = "received", value_parser = REASONS)]
    pub(super) reason: String,
    /// A reference of your own, kept in the ledger
    #[arg(long)]
    pub(super) reference: Option<String>,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(super) if_version: Option<u64>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct CreateItem {
    /// The title
    #[arg(long)]
    pub(super) title: String,
    /// The topic
    #[arg(long)]
    pub(super) topic: String,
    /// The price, as in 19.99
    #[arg(long, value_parser = super::show::parse_cents)]
    pub(super) price: u64,
    /// Pieces
    #[arg(long, default_value_t = 0)]
    pub(super) stock: u64,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
#[group(id = "new", multiple = true, required = true, args = ["title", "topic", "price"])]
pub(super) struct PatchItem {
    /// The item number
    pub(super) number: u64,
    /// The new title
    #[arg(long)]
    pub(super) title: Option<String>,
    /// The new topic
    #[arg(long)]
    pub(super) topic: Option<String>,
    /// The new price, as in 19.99
    #[arg(long, value_parser = super::show::parse_cents)]
    pub(super) price: Option<u64>,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(super) if_version: Option<u64>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct DeleteItem {
    /// The item number
    pub(super) number: u64,
    /// Only when the item has this version
    #[arg(long, value_name = "VERSION")]
    pub(super) if_version: Option<u64>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    pub(super) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// What they are
    #[command(after_help = "Example:
  pygmy policy show --json")]
    Show(Reading),
    /// Change some of them, and leave the others
    #[command(after_help = "Examples:
  pygmy policy set price_history=50
  pygmy policy set restock_interval_s=30 restock_quantity=20
  pygmy policy set restock_interval_s=never
Exits with 1 when somebody else changes them at the same moment: nothing is changed then.")]
    Set(SetPolicy),
}

#[derive(Debug, Args)]
pub(super) struct SetPolicy {
    /// Settings, with names as policy show has them
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = parse_policy)]
    pub(super) settings: Vec<(String, Option<u64>)>,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// A setting of the policy: a number, or `never`.
fn parse_policy(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("write it like price_history=50")?;
    let value = match value {
        "never" => None,
        number => Some(number.parse().map_err(|_| format!("{number:?} is no number"))?),
    };
    Ok((name.into(), value))
}

#[derive(Debug, Args)]
pub(super) struct Maintenance {
    #[command(subcommand)]
    pub(super) command: MaintenanceCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum MaintenanceCommand {
    /// From now on refuse writes
    #[command(after_help = "Example:
  pygmy maintenance on")]
    On(Writing),
    /// Take writes again
    #[command(after_help = "Example:
  pygmy maintenance off")]
    Off(Writing),
}

#[derive(Debug, Args)]
pub(super) struct Cluster {
    #[command(subcommand)]
    pub(super) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// The members: who leads, who is up, who lags
    #[command(after_help = "Example:
  pygmy cluster status
Exits with 3 when the cluster has no leader.")]
    Status(Reading),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) reading: Reading,
    /// How long one member may take to check itself, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = seconds())]
    pub(super) member_timeout: u64,
}

#[derive(Debug, Args)]
pub(super) struct Load {
    /// The catalog
    #[arg(value_name = "CATALOG.csv")]
    pub(super) catalog: PathBuf,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The items; - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Check everything and say what would happen; change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Whose stock the file says: that of items that are new, or set for all
    #[arg(long, default_value = "new", value_parser = ["new", "set"])]
    pub(super) stock: String,
    /// How the file is written [default: by its name, or csv]
    #[arg(long, value_parser = FORMATS)]
    pub(super) format: Option<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// What is exported
    #[arg(long, default_value = "items", value_parser = ["items", "orders"])]
    pub(super) what: String,
    /// How it is written [default: by the file's name, or csv]
    #[arg(long, value_parser = FORMATS)]
    pub(super) format: Option<String>,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The store: a facade or a node
    #[arg(long, env = "PYGMY_URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub(super) timeout: u64,
    /// Wait for this process alone, whether or not the cluster has a leader
    #[arg(long)]
    pub(super) ready: bool,
    /// Say nothing while waiting
    #[arg(long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The store: a facade or a node; with --direct any node
    #[arg(long, env = "PYGMY_URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,
    /// Straight to the nodes that the store names, the clients spread over all of them
    #[arg(long)]
    pub(super) direct: bool,
    /// What is done
    #[arg(long, value_enum, default_value = "buy")]
    pub(super) mix: Mix,
    /// Clients, each with one operation at a time and connections of its own
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) clients: u32,
    /// Operations a second of an open loop; as fast as replies come if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: Option<u32>,
    /// How long it is measured
    #[arg(long, default_value_t = 10, value_parser = seconds())]
    pub(super) seconds: u64,
    /// How long it runs before it is measured, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = value_parser!(u64).range(0..=3600)
    )]
    pub(super) warmup: u64,
    /// Items that operations are spread over
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) items: u32,
    /// Orders in a batch
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u16).range(1..=1000))]
    pub(super) batch: u16,
    /// The items are there from an earlier run: do not put them again
    #[arg(long)]
    pub(super) no_prepare: bool,
    /// How long one operation may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(super) timeout: u64,
    /// The same seed chooses the same items
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Print JSON lines: one for each second, and the result
    #[arg(long)]
    pub(super) json: bool,
}
