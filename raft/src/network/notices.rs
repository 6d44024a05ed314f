//! When followers hear what is committed.
//!
//! Every append says so, and the next one mostly comes at once: the client that has its reply sends its
//! next request. A message of its own, and its answer, would keep the members busy just then. So an append
//! that has nothing else to tell is held back for a moment, and what comes meanwhile goes in its place.
//! Nothing that is confirmed depends on it. Who waits for it asks the leader for an index
//! (`node::read`), and that lets go what is held back.
//!
//! The Raft core has its replication tell the others of a commit before it gives it to the log store, and may
//! wait for a disk in between. So what is told is noted here before it is sent: no index for a read may be
//! older than a state that a follower shows.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream,
};
use openraft::{raft::AppendEntriesRequest, type_config::TypeConfigExt};
use tokio::sync::Notify;

use crate::types::{Environment, TypeConfig, alias::LogId};

/// How long what is committed is not told by a message of its own. tokio's timers take up to a millisecond
/// more.
const HOLD: Duration = Duration::from_millis(1);

/// What a node tells others of commits. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Lets go what is held back.
    hurried: Notify,
    committed: Mutex<Option<LogId>>,
}

impl Notices {
    /// Somebody waits for what is committed.
    pub(crate) fn hurry(&self) {
        self.0.hurried.notify_waiters();
    }

    /// Others are about to hear that this is committed.
    pub(super) fn tell(&self, committed: Option<LogId>) {
        let mut told = self.0.committed.lock().unwrap_or_else(PoisonError::into_inner);
        *told = committed.max(*told);
    }

    /// The newest entry that others may know to be committed from this node.
    pub(crate) fn told(&self) -> Option<LogId> {
        *self.0.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Append<E> = AppendEntriesRequest<TypeConfig<E>>;

/// The same appends, but those that have no entries wait for what comes next, and are left out where it
/// says the same and more.
pub(super) fn paced<E: Environment>(
    input: impl Stream<Item = Append<E>> + Unpin,
    notices: Notices,
) -> impl Stream<Item = Append<E>> {
    stream::unfold((input.fuse(), None), move |(mut input, early)| {
        let notices = notices.clone();
        async move {
            let mut append: Append<E> = match early {
                Some(early) => early,
                None => input.next().await?,
            };
            if !append.entries.is_empty() {
                return Some((append, (input, None)));
            }
            let (held, hurried) =
                (pin!(TypeConfig::<E>::sleep(HOLD)), pin!(notices.0.hurried.notified()));
            let mut long_enough = select(held, hurried);
            while append.entries.is_empty() {
                match select(input.next(), &mut long_enough).await {
                    Either::Left((Some(next), _)) if says_as_much(&next, &append) => append = next,
                    Either::Left((Some(next), _)) => return Some((append, (input, Some(next)))),
                    Either::Left((None, _)) | Either::Right(_) => break,
                }
            }
            Some((append, (input, None)))
        }
    })
}

/// Whether an append tells all that one without entries does that came before it.
fn says_as_much<E: Environment>(next: &Append<E>, held: &Append<E>) -> bool {
    next.vote == held.vote
        && next.prev_log_id == held.prev_log_id
        && next.leader_commit >= held.leader_commit
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt;
    use openraft::EntryPayload;
    use tokio::sync::mpsc;

    use super::*;
    use crate::types::{
        Tokio,
        alias::{Entry, LeaderId, Vote},
    };

    const LEADER: LeaderId = LeaderId { term: 3, node_id: 1 };

    /// An append of the entries `(prev, last]` that says what is committed.
    pub(in crate::network) fn append(prev: u64, last: u64, committed: u64) -> Append<Tokio> {
        let id = |index| LogId::new(LEADER, index);
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(id(prev)),
            entries: (prev + 1..=last).map(entry).collect(),
            leader_commit: Some(id(committed)),
        }
    }

    fn told(append: &Append<Tokio>) -> (u64, u64, u64) {
        let index = |id: &Option<LogId>| id.as_ref().unwrap().index;
        let prev = index(&append.prev_log_id);
        (prev, prev + append.entries.len() as u64, index(&append.leader_commit))
    }

    type Paced = std::pin::Pin<Box<dyn Stream<Item = Append<Tokio>>>>;

    fn start() -> (mpsc::UnboundedSender<Append<Tokio>>, Paced, Notices) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let input = stream::poll_fn(move |context| receiver.poll_recv(context));
        let notices = Notices::default();
        (sender, Box::pin(paced::<Tokio>(input, notices.clone())), notices)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_committed_goes_with_the_entries_that_come_next() {
        let (sender, mut paced, _) = start();
        sender.send(append(7, 8, 7)).unwrap();
        assert_eq!(told(&paced.next().await.unwrap()), (7, 8, 7), "entries never wait");
        sender.send(append(8, 8, 8)).unwrap();
        assert!(paced.next().now_or_never().is_none());
        sender.send(append(8, 10, 8)).unwrap();
        assert_eq!(told(&paced.next().now_or_never().unwrap().unwrap()), (8, 10, 8));
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_it_is_told_soon_and_only_the_newest_is() {
        let (sender, mut paced, _) = start();
        sender.send(append(9, 9, 8)).unwrap();
        sender.send(append(9, 9, 9)).unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(told(&paced.next().await.unwrap()), (9, 9, 9));
        assert!(began.elapsed() >= HOLD);
        assert!(paced.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_it_lets_it_go() {
        let (sender, mut paced, notices) = start();
        sender.send(append(9, 9, 9)).unwrap();
        assert!(paced.next().now_or_never().is_none());
        notices.hurry();
        let began = tokio::time::Instant::now();
        assert_eq!(told(&paced.next().await.unwrap()), (9, 9, 9));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_something_else_is_sent_besides() {
        let (sender, mut paced, _) = start();
        sender.send(append(9, 9, 9)).unwrap();
        sender.send(append(4, 6, 9)).unwrap();
        drop(sender);
        assert_eq!(told(&paced.next().await.unwrap()), (9, 9, 9));
        assert_eq!(told(&paced.next().await.unwrap()), (4, 6, 9));
        assert!(paced.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_nothing_is_held_back() {
        let (sender, mut paced, _) = start();
        sender.send(append(9, 9, 9)).unwrap();
        drop(sender);
        assert_eq!(told(&paced.next().now_or_never().unwrap().unwrap()), (9, 9, 9));
        assert!(paced.next().await.is_none());
    }
}
