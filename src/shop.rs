//! `pygmy shop`: the original's menu.
//!
//! Reads lines, from a terminal with editing or from a pipe, and says in plain words what happened.
//! A purchase keeps its idempotency key until its outcome is known or the customer gives up on it:
//! asking again never buys twice.

use std::io::{self, BufRead, Read, Write};

use tokio::runtime::Handle;

use crate::api::{NewOrder, NewOrderLine};
use crate::client::{Client, ClientError};

/// The longest line that is read, in bytes; the rest of a longer one is dropped.
const LINE_BYTES_MAX: u64 = 4096;

const WELCOME: &str = "Welcome to Pygmy.com, the world's smallest book store!";
const MENU: &str = "
Please select one of the following indices:
 1. Search for a topic
 2. Lookup a title with its item number
 3. Buy a title
If you wish to leave press q";
const BACK: &str = "If you wish to go to the main menu press b";
const AWAY: &str = "The store cannot be reached right now";

/// Where the customer's lines come from.
pub trait Input {
    /// The next line without its end, after `prompt`; `None` when there are no more.
    fn line(&mut self, prompt: &str) -> io::Result<Option<String>>;
}

/// A terminal with line editing and a history for this visit.
pub struct Terminal(rustyline::DefaultEditor);

impl Terminal {
    /// Takes the terminal that the process runs in.
    pub fn new() -> io::Result<Self> {
        rustyline::DefaultEditor::new().map(Self).map_err(io::Error::other)
    }
}

impl Input for Terminal {
    fn line(&mut self, prompt: &str) -> io::Result<Option<String>> {
        use rustyline::error::ReadlineError;
        match self.0.readline(prompt) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    self.0.add_history_entry(&line).map_err(io::Error::other)?;
                }
                Ok(Some(line))
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// A pipe or a file. Prompts are printed all the same, followed by the line that answers them, so
/// that what comes out reads like a visit.
pub struct Pipe<R, W> {
    reader: R,
    writer: W,
}

impl<R: BufRead, W: Write> Pipe<R, W> {
    /// Reads from `reader` and shows prompts on `writer`.
    pub fn new(reader: R, writer: W) -> Self {
        Self { reader, writer }
    }
}

impl<R: BufRead, W: Write> Input for Pipe<R, W> {
    fn line(&mut self, prompt: &str) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if !bytes.ends_with(b"\n") && bytes.len() as u64 == LINE_BYTES_MAX {
            self.reader.skip_until(b'\n')?;
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        writeln!(self.writer, "{prompt}{line}")?;
        Ok((!bytes.is_empty()).then_some(line))
    }
}

/// A visit to the shop.
pub struct Shop<I, W> {
    client: Client,
    runtime: Handle,
    input: I,
    output: W,
}

/// Whether the visit goes on.
enum Next {
    /// Back in the main menu.
    Menu,
    /// The customer left.
    Leave,
}

impl<I: Input, W: Write> Shop<I, W> {
    /// A shop that asks `client` on `runtime`. Must be visited on a thread that may block.
    pub fn new(client: Client, runtime: Handle, input: I, output: W) -> Self {
        Self { client, runtime, input, output }
    }

    /// One visit, from the welcome until the customer leaves. Errors are those of input and output
    /// only; the store's are told to the customer.
    pub fn visit(mut self) -> io::Result<()> {
        writeln!(self.output, "{WELCOME}")?;
        loop {
            writeln!(self.output, "{MENU}")?;
            let Some(line) = self.input.line("> ")? else { break };
            let next = match line.trim() {
                "1" => self.each("Please enter a topic you wish to search for:", Self::search)?,
                "2" => {
                    self.each("Please enter an item number you wish to lookup:", Self::lookup)?
                }
                "3" => self.each("Please enter an item number you wish to buy:", Self::buy)?,
                "q" | "quit" | "exit" => break,
                "" | "b" => Next::Menu,
                other => {
                    writeln!(
                        self.output,
                        "{other:?} is not on the menu; please press 1, 2, 3 or q."
                    )?;
                    Next::Menu
                }
            };
            if let Next::Leave = next {
                break;
            }
        }
        writeln!(self.output, "Goodbye!")
    }

    /// Asks the same question until the customer goes back.
    fn each(
        &mut self,
        question: &str,
        act: fn(&mut Self, &str) -> io::Result<Next>,
    ) -> io::Result<Next> {
        loop {
            writeln!(self.output, "{question}\n{BACK}")?;
            let Some(line) = self.input.line("> ")? else { return Ok(Next::Leave) };
            match line.trim() {
                "" => {}
                "b" => return Ok(Next::Menu),
                "q" => return Ok(Next::Leave),
                answer => {
                    if let Next::Leave = act(self, answer)? {
                        return Ok(Next::Leave);
                    }
                }
            }
        }
    }

    fn search(&mut self, topic: &str) -> io::Result<Next> {
        match self.runtime.block_on(self.client.search(topic)) {
            Ok(found) if found.is_empty() => writeln!(
                self.output,
                "There are no titles under {topic:?}. Topics are written like DistributedSystems, \
                GraduateSchool \
                 or Misc."
            )?,
            Ok(found) => {
                let mut rows: Vec<_> =
                    found.iter().map(|(title, number)| (number, title)).collect();
                rows.sort_by_key(|(number, _)| (number.len(), number.as_str()));
                for (number, title) in rows {
                    writeln!(self.output, "{number:>6}  {title}")?;
                }
            }
            Err(error) => self.say_error(&error)?,
        }
        Ok(Next::Menu)
    }

    fn lookup(&mut self, answer: &str) -> io::Result<Next> {
        let Some(number) = self.item_number(answer)? else { return Ok(Next::Menu) };
        match self.runtime.block_on(self.client.lookup(number)) {
            Ok(Some(item)) => {
                for (name, value) in [
                    ("Cost", &item.cost),
                    ("ItemNumber", &item.item_number),
                    ("Stock", &item.stock),
                    ("Time", &item.time),
                    ("Title", &item.title),
                    ("Topic", &item.topic),
                ] {
                    writeln!(self.output, "{name} : {value}")?;
                }
            }
            Ok(None) => writeln!(self.output, "There is no item {number}.")?,
            Err(error) => self.say_error(&error)?,
        }
        Ok(Next::Menu)
    }

    fn buy(&mut self, answer: &str) -> io::Result<Next> {
        let Some(number) = self.item_number(answer)? else { return Ok(Next::Menu) };
        let order = NewOrder {
            lines: vec![NewOrderLine { item: number, quantity: 1, expected_price_cents: None }],
            customer: None,
            reference: None,
        };
        let key = Client::new_key();
        loop {
            match self.runtime.block_on(self.client.place_order_with_key(&order, &key)) {
                Ok(order) => {
                    let title = order.lines.first().map_or("it", |line| line.title.as_str());
                    let price = crate::cli::cents(order.total_cents);
                    writeln!(
                        self.output,
                        "Bought {title} for {price}. Your order number is {}.",
                        order.id
                    )?;
                }
                Err(ClientError::Refused(problem)) if problem.code == "out_of_stock" => {
                    writeln!(self.output, "Sorry, item {number} is sold out. Nothing was bought.")?;
                }
                Err(ClientError::Refused(problem)) if problem.code == "not_found" => {
                    writeln!(self.output, "There is no item {number}. Nothing was bought.")?;
                }
                Err(ClientError::OutcomeUnknown { .. }) => {
                    writeln!(
                        self.output,
                        "The store did not say whether it took your order. Press Enter to ask \
                        again, which never \
                         buys it twice, or b to leave it at that."
                    )?;
                    let answer = self.input.line("> ")?;
                    if answer.as_deref().map(str::trim) == Some("") {
                        continue;
                    }
                    writeln!(
                        self.output,
                        "It is not known whether item {number} was bought. This finds out later, \
                        and buys it if it \
                         was not: pygmy buy {number} --key {key}"
                    )?;
                    if answer.is_none() {
                        return Ok(Next::Leave);
                    }
                }
                Err(error @ ClientError::Unavailable { .. }) => {
                    writeln!(
                        self.output,
                        "{AWAY}, so nothing was bought. Please try again in a moment. ({})",
                        reason(&error)
                    )?;
                }
                Err(error) => self.say_error(&error)?,
            }
            return Ok(Next::Menu);
        }
    }

    fn item_number(&mut self, answer: &str) -> io::Result<Option<u64>> {
        let number = answer.parse().ok();
        if number.is_none() {
            writeln!(
                self.output,
                "{answer:?} is not an item number; please enter digits, such as 5."
            )?;
        }
        Ok(number)
    }

    fn say_error(&mut self, error: &ClientError) -> io::Result<()> {
        match error {
            ClientError::Unavailable { .. } => {
                writeln!(self.output, "{AWAY}. Please try again in a moment. ({})", reason(error))
            }
            ClientError::Refused(problem) => {
                writeln!(self.output, "The store said no: {}", problem.detail)
            }
            other => writeln!(self.output, "That did not work: {other}"),
        }
    }
}

/// What the last try met, for whoever runs the store.
fn reason(error: &ClientError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests;
