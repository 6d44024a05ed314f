//! The command line: what each subcommand does, prints and exits with.
//!
//! A subcommand returns what it has to say and its exit code; only [`run`] writes to the standard
//! streams (the progress of `bench`, `load`, `import`, `backup`, `restore`, `wait`, `shop`, `changes --follow` and what `export` gives aside). Nothing here exits the process, and
//! no error ends in [`Exit::Ok`].

mod args;
mod backup;
mod batch;
mod bench;
mod changes;
mod files;
mod load;
mod policy;
mod read;
mod restore;
mod serve;
mod show;
mod verify;
mod wait;
mod write;

use std::io::{self, BufReader, IsTerminal, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use tokio::runtime::Handle;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::shop::{Pipe, Shop, Terminal};

pub use args::Cli;
use args::{ClusterCommand, Command, MaintenanceCommand, PolicyCommand};
pub(crate) use show::cents;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It worked, and the answer is yes.
    Ok = 0,
    /// It worked, and the answer is no: out of stock, not found, the verification failed. Also a
    /// server that ended with an error.
    No = 1,
    /// The command or the configuration is wrong.
    Usage = 2,
    /// The store cannot be reached or cannot answer now. Nothing was changed.
    Unavailable = 3,
    /// Whether the change was made is not known.
    Unknown = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a subcommand has to say.
#[derive(Debug)]
struct Answer {
    /// For standard output, without the last newline. Nothing when empty.
    text: String,
    /// For standard error: what is not part of the answer.
    note: Option<String>,
    exit: Exit,
}

impl Answer {
    fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), note: None, exit: Exit::Ok }
    }

    /// A document for programs, on one line.
    fn json(value: &impl serde::Serialize, exit: Exit) -> Self {
        let text = serde_json::to_string(value).expect("the interface's types are JSON");
        Self { text, note: None, exit }
    }
}

/// Why a subcommand has nothing to say.
#[derive(Debug)]
struct Stop {
    message: String,
    exit: Exit,
}

impl Stop {
    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Address { .. } | ClientError::Key => Exit::Usage,
            ClientError::Refused(problem) => match problem.status {
                404 | 409 | 410 | 412 => Exit::No,
                400..=499 => Exit::Usage,
                _ => Exit::Unavailable,
            },
            ClientError::Unavailable { .. } | ClientError::Unexpected { .. } => Exit::Unavailable,
            ClientError::OutcomeUnknown { .. } => Exit::Unknown,
        };
        let mut message = error.to_string();
        match &error {
            ClientError::Unavailable { .. } => {
                message += "; nothing was changed. Try again, see `pygmy cluster status`, or name \
                another store with --url";
            }
            ClientError::OutcomeUnknown { key, .. } => {
                message += &format!(". Run the same command again with --key {key}");
            }
            ClientError::Refused(problem) => {
                for field in &problem.errors {
                    message += &format!("\n  {}: {}", field.pointer, field.detail);
                }
            }
            ClientError::Address { .. } | ClientError::Key | ClientError::Unexpected { .. } => {}
        }
        Self { message, exit }
    }
}

/// Does what the command line says and tells how the process is to end.
pub async fn run(cli: Cli) -> Exit {
    match act(cli.command).await {
        Ok(answer) => {
            if let Some(note) = &answer.note {
                say_aside(note);
            }
            match say(&answer.text) {
                Ok(()) => answer.exit,
                // Whoever reads has enough, as in `pygmy items | head`.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => answer.exit,
                Err(error) => {
                    say_aside(&format!("pygmy: standard output cannot be written: {error}"));
                    Exit::No
                }
            }
        }
        Err(stop) => {
            say_aside(&format!("pygmy: {}", stop.message));
            stop.exit
        }
    }
}

async fn act(command: Command) -> Result<Answer, Stop> {
    match command {
        Command::Serve(args) => serve::node(args).await,
        Command::Facade(args) => serve::facade(args).await,
        Command::Shop(args) => shop(args.client()?).await,
        Command::Search(args) => read::search(args).await,
        Command::Lookup(args) => read::lookup(args).await,
        Command::Buy(args) => write::buy(args).await,
        Command::OrderBatch(args) => batch::order_batch(args).await,
        Command::Items(args) => read::items(args).await,
        Command::Item(args) => read::item(args).await,
        Command::Topics(args) => read::topics(args).await,
        Command::Orders(args) => read::orders(args).await,
        Command::Order(args) => read::order(args).await,
        Command::Cancel(args) => write::cancel(args).await,
        Command::Reserve(args) => write::reserve(args).await,
        Command::Confirm(args) => write::confirm(args).await,
        Command::Release(args) => write::release(args).await,
        Command::Reservation(args) => read::reservation(args).await,
        Command::Reservations(args) => read::reservations(args).await,
        Command::Ledger(args) => read::ledger(args).await,
        Command::Changes(args) => changes::changes(args).await,
        Command::PutItem(args) => write::put_item(args).await,
        Command::Stock(args) => write::stock(args).await,
        Command::CreateItem(args) => write::create_item(args).await,
        Command::PatchItem(args) => write::patch_item(args).await,
        Command::DeleteItem(args) => write::delete_item(args).await,
        Command::Prices(args) => read::prices(args).await,
        Command::Policy(args) => match args.command {
            PolicyCommand::Show(args) => policy::show(args).await,
            PolicyCommand::Set(args) => policy::set(args).await,
        },
        Command::Maintenance(args) => match args.command {
            MaintenanceCommand::On(args) => policy::maintenance(args, true).await,
            MaintenanceCommand::Off(args) => policy::maintenance(args, false).await,
        },
        Command::Cluster(args) => match args.command {
            ClusterCommand::Status(args) => read::cluster_status(args).await,
        },
        Command::Verify(args) => verify::verify(args).await,
        Command::Load(args) => load::load(args).await,
        Command::Import(args) => files::import(args).await,
        Command::Export(args) => files::export(args).await,
        Command::Backup(args) => backup::backup(args).await,
        Command::Restore(args) => restore::restore(args).await,
        Command::Wait(args) => wait::wait(args).await,
        Command::Bench(args) => bench::bench(args).await,
        Command::Completions(args) => Ok(completions(args.shell)),
    }
}

/// The script is made from the commands themselves, so that it knows all of them.
fn completions(shell: Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pygmy", &mut script);
    Answer::ok(String::from_utf8_lossy(&script).trim_end())
}

async fn shop(client: crate::client::Client) -> Result<Answer, Stop> {
    let runtime = Handle::current();
    let visit = move || {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            Shop::new(client, runtime, Terminal::new()?, io::stdout()).visit()
        } else {
            let input = Pipe::new(BufReader::new(io::stdin()), io::stdout());
            Shop::new(client, runtime, input, io::stdout()).visit()
        }
    };
    let ended =
        tokio::task::spawn_blocking(visit).await.map_err(io::Error::other).and_then(|ended| ended);
    match ended {
        Ok(()) => Ok(Answer::ok("")),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Answer::ok("")),
        Err(error) => Err(Stop { message: format!("the shop closed: {error}"), exit: Exit::No }),
    }
}

fn say(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes to standard error. When even that is gone there is nobody to tell.
fn say_aside(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests;
