//! `pygmy changes`: what happened, and with `--follow` what happens.

use std::io;

use futures_util::StreamExt;

use super::args::Changes;
use super::{Answer, Exit, Stop, say, show};
use crate::api::Change;
use crate::client::ChangeQuery;

pub(super) async fn changes(args: Changes) -> Result<Answer, Stop> {
    let client = args.reading.remote.client()?;
    let json = args.reading.json;
    if !args.follow {
        let Changes { after, kinds, limit, .. } = args;
        let page = client.changes(&ChangeQuery { after, kinds, limit: Some(limit.into()) }).await?;
        if json {
            return Ok(Answer::json(&page, Exit::Ok));
        }
        let row = |change: &Change| {
            let (kind, what) = (change.kind.clone(), change.what.clone());
            vec![change.index.to_string(), kind, change.id.to_string(), what]
        };
        let text = match page.changes.is_empty() {
            true => String::new(),
            false => show::table(&["#index", "kind", "#id", "what"], page.changes.iter().map(row)),
        };
        let note = Some(format!("Go on with --after {}", page.next_after));
        return Ok(Answer { text, note, exit: Exit::Ok });
    }
    let kinds: Vec<&str> = args.kinds.iter().map(String::as_str).collect();
    let mut changes = client.follow(args.after, &kinds);
    while let Some(change) = changes.next().await {
        let change = change.map_err(|error| {
            let mut stop = Stop::from(error);
            if let Some(position) = changes.position() {
                stop.message += &format!("; go on with --after {position}");
            }
            stop
        })?;
        let line = match json {
            true => Answer::json(&change, Exit::Ok).text,
            false => format!("{} {} {} {}", change.index, change.kind, change.id, change.what),
        };
        match say(&line) {
            Ok(()) => {}
            // Whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                let message = format!("standard output cannot be written: {error}");
                return Err(Stop { message, exit: Exit::No });
            }
        }
    }
    Ok(Answer::ok(""))
}
