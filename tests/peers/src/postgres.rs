//! PostgreSQL: a primary and two streaming standbys, any one of which must have a commit on its disk
//! before it is confirmed.
//!
//! A purchase is one statement in one round trip: it takes a piece where there is one and inserts the
//! order, whose idempotency key is unique. Statements are prepared once for each connection.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use pygmy::bench::{Fault, Kind, Operation, STOCK, Session, Target};
use pygmy_chaos::cluster::free_ports;
use rustix::process::Signal;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::process::{self, Process, User, is_root};

const STANDBYS: usize = 2;
/// The account that it runs as where this runs as root, which PostgreSQL refuses.
const USER: &str = "postgres";
/// The role and database within it.
const ROLE: &str = "postgres";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

const SCHEMA: &str = "
    CREATE TABLE item (
        id bigint PRIMARY KEY, title text NOT NULL, topic text NOT NULL,
        price_cents bigint NOT NULL, stock bigint NOT NULL CHECK (stock >= 0));
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, idempotency_key text NOT NULL UNIQUE,
        item bigint NOT NULL, title text NOT NULL, quantity bigint NOT NULL,
        unit_price_cents bigint NOT NULL, placed_at timestamptz NOT NULL DEFAULT now());";
const GET: &str = "SELECT title, topic, price_cents, stock FROM item WHERE id = $1";
const PUT: &str = "
    INSERT INTO item (id, title, topic, price_cents, stock) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, topic = excluded.topic,
        price_cents = excluded.price_cents, stock = excluded.stock";
const BUY: &str = "
    WITH sold AS (
        UPDATE item SET stock = stock - 1 WHERE id = $1 AND stock > 0
        RETURNING id, title, price_cents)
    INSERT INTO orders (idempotency_key, item, title, quantity, unit_price_cents)
    SELECT $2, id, title, 1, price_cents FROM sold
    RETURNING id";

/// What differs from the defaults: addresses, room for the clients, and that commits are replicated.
/// fsync and synchronous_commit are on by default and named here because everything rests on them.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 400
fsync = on
full_page_writes = on
synchronous_commit = on
";

/// A running primary with its standbys.
pub(crate) struct Postgres {
    primary: Process,
    standbys: Vec<Process>,
    pub(crate) version: String,
    pub(crate) target: PostgresTarget,
}

impl Postgres {
    pub(crate) async fn start(directory: &Path, timeout: Duration) -> Result<Self> {
        let programs = programs().context(
            "PostgreSQL is not installed; on Debian: apt-get install --no-install-recommends \
             postgresql",
        )?;
        let user = account(directory)?;
        let user = user.as_ref();
        let ports = free_ports(1 + STANDBYS)?;
        let run = async |program: &str, args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            process::run(&programs.join(program), &args, user).await
        };
        let said = run("postgres", &["--version"]).await?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.trim().trim_start_matches("postgres (PostgreSQL) ").to_owned();

        let home = directory.join("primary");
        let path = home.display().to_string();
        // Trust is for loopback and as long as this runs. C: no language's sorting in the way.
        let init = ["-D", &path, "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"];
        run("initdb", &init).await?;
        append(&home.join("postgresql.conf"), SETTINGS)?;
        let start = |name: &str, home: &Path, port: u16| {
            let args = ["-D".into(), home.display().to_string(), "-p".into(), port.to_string()];
            let log = directory.join(format!("{name}.log"));
            Process::start(
                &format!("PostgreSQL's {name}"),
                &programs.join("postgres"),
                &args,
                user,
                &log,
            )
        };
        let mut primary = start("primary", &home, ports[0])?;
        let admin = await_connection(ports[0], &mut primary).await?;
        admin.client.batch_execute(SCHEMA).await?;

        let mut standbys = Vec::new();
        for (number, port) in (1..).zip(&ports[1..]) {
            let name = format!("standby{number}");
            let home = directory.join(&name);
            let path = home.display().to_string();
            let source =
                format!("host=127.0.0.1 port={} user={ROLE} application_name={name}", ports[0]);
            let copy = ["-d", &source, "-D", &path, "-R", "-X", "stream", "-c", "fast", "-N"];
            run("pg_basebackup", &copy).await?;
            // Last wins: the name by which the primary knows it.
            let info = format!("primary_conninfo = '{source}'\n");
            append(&home.join("postgresql.auto.conf"), &info)?;
            standbys.push(start(&name, &home, *port)?);
        }
        for (standby, port) in standbys.iter_mut().zip(&ports[1..]) {
            await_connection(*port, standby).await?;
        }
        let names: Vec<_> = (1..=STANDBYS).map(|number| format!("standby{number}")).collect();
        let any = format!("ANY 1 ({})", names.join(", "));
        admin
            .client
            .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{any}'"))
            .await?;
        admin.client.batch_execute("SELECT pg_reload_conf()").await?;
        await_quorum(&admin.client).await?;
        let (run, sessions) = (rand::random(), Cell::new(0));
        let target = PostgresTarget { ports, timeout, run, sessions };
        Ok(Self { primary, standbys, version, target })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        // The primary first: no commit may wait for a standby that has gone. SIGINT ends sessions.
        self.primary.stop(Signal::INT).await?;
        for standby in self.standbys {
            standby.stop(Signal::INT).await?;
        }
        Ok(())
    }
}

/// Where the newest version's programs are.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs.join("initdb").is_file().then_some((version, programs))
        })
        .max()
        .map(|(_, programs)| programs);
    newest.or_else(|| Some(process::find("initdb")?.parent()?.to_owned()))
}

/// The account to run as, to which the directory then belongs.
fn account(directory: &Path) -> Result<Option<User>> {
    if !is_root() {
        return Ok(None);
    }
    let user = User::named(USER).with_context(|| {
        format!("PostgreSQL does not run as root, and there is no account named {USER}")
    })?;
    chown(directory, Some(user.id), Some(user.group)).context("cannot give its directory away")?;
    // It must be able to get there.
    for parent in directory.ancestors().skip(1).filter(|path| path.parent().is_some()) {
        let mode = fs::metadata(parent)?.permissions().mode();
        if mode & 0o001 == 0 {
            bail!(
                "the account {USER} may not enter {}; choose another place with --dir, or run this as a \
                 user that is not root",
                parent.display()
            );
        }
    }
    Ok(Some(user))
}

fn append(file: &Path, text: &str) -> Result<()> {
    let old =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, old + text).with_context(|| format!("cannot write {}", file.display()))
}

async fn await_connection(port: u16, process: &mut Process) -> Result<Connection> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        process.check()?;
        match Connection::open(port).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => {
                bail!("PostgreSQL does not answer at port {port}: {error}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Waits until commits wait for a standby.
async fn await_quorum(admin: &Client) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    let question = "SELECT count(*) FROM pg_stat_replication
        WHERE state = 'streaming' AND sync_state = 'quorum'";
    let all = i64::try_from(STANDBYS)?;
    while admin.query_one(question, &[]).await?.get::<_, i64>(0) < all {
        if Instant::now() > deadline {
            bail!("PostgreSQL's standbys do not follow; their logs are beside their data");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A connection, and what drives it.
struct Connection {
    client: Client,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(port: u16) -> Result<Self, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(ROLE).dbname(ROLE);
        let (client, driver) = config.connect(NoTls).await?;
        let driver = tokio::task::spawn_local(async move {
            // Its error is the statement's error, which the client reports.
            let _ = driver.await;
        });
        Ok(Self { client, driver: driver.abort_handle() })
    }
}

pub(crate) struct PostgresTarget {
    /// The primary's and then the standbys'.
    ports: Vec<u16>,
    timeout: Duration,
    run: u64,
    sessions: Cell<u64>,
}

impl Target for PostgresTarget {
    type Session = PostgresSession;

    fn session(&self, client: u32) -> PostgresSession {
        self.sessions.set(self.sessions.get() + 1);
        PostgresSession {
            primary: self.ports[0],
            standby: self.ports[1 + client as usize % STANDBYS],
            open: None,
            timeout: self.timeout,
            keys: format!("bench-{:016x}-{}", self.run, self.sessions.get()),
        }
    }
}

/// A client with one connection, made for the one statement that it repeats.
pub(crate) struct PostgresSession {
    primary: u16,
    standby: u16,
    open: Option<(Kind, Connection, Statement)>,
    timeout: Duration,
    /// What its idempotency keys begin with.
    keys: String,
}

impl Session for PostgresSession {
    async fn perform(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let timeout = self.timeout;
        let done = tokio::time::timeout(timeout, self.execute(operation)).await;
        let result = done.unwrap_or_else(|_| Err(Fault::outage("timeout", "no reply in time")));
        if result.as_ref().is_err_and(|fault| fault.is_outage) {
            self.open = None;
        }
        result
    }
}

impl PostgresSession {
    async fn execute(&mut self, operation: &Operation<'_>) -> Result<(), Fault> {
        let kind = operation.kind;
        if self.open.as_ref().is_none_or(|(of, ..)| *of != kind) {
            let (port, text) = match kind {
                Kind::Get => (self.primary, GET),
                Kind::GetStale | Kind::GetSession => (self.standby, GET),
                Kind::Put => (self.primary, PUT),
                Kind::Buy => (self.primary, BUY),
                Kind::Batch => {
                    return Err(Fault::refusal("unsupported", "batches are not measured here"));
                }
            };
            let connection = Connection::open(port).await.map_err(|error| fault(&error))?;
            let statement = connection.client.prepare(text).await.map_err(|error| fault(&error))?;
            self.open = Some((kind, connection, statement));
        }
        let Some((_, Connection { client, .. }, statement)) = &self.open else {
            return Err(Fault::outage("no connection", "it was closed at once"));
        };
        let item = signed(operation.item());
        let changed = match kind {
            Kind::Put => {
                let title = format!("Benchmark item {item}");
                let cents = signed(operation.number % 10_000);
                let stock = signed(STOCK);
                client.execute(statement, &[&item, &title, &"Benchmark", &cents, &stock]).await
            }
            Kind::Buy => {
                let key = format!("{}-{}", self.keys, operation.number);
                client.query(statement, &[&item, &key]).await.map(|rows| rows.len() as u64)
            }
            Kind::Get | Kind::GetStale | Kind::GetSession | Kind::Batch => {
                client.query(statement, &[&item]).await.map(|rows| rows.len() as u64)
            }
        };
        match changed {
            Ok(1..) => Ok(()),
            Ok(0) => Err(Fault::refusal("no row", "there is no such item, or none of it is left")),
            Err(error) => Err(fault(&error)),
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn fault(error: &tokio_postgres::Error) -> Fault {
    match error.as_db_error() {
        Some(said) => Fault::refusal(format!("sql {}", said.code().code()), said.message()),
        None => Fault::outage("connection lost", error.to_string()),
    }
}
