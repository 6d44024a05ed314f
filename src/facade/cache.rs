//! Replies that are served again, until something that they depend on has changed.
//!
//! Every entry carries the log index that its reply reflects, and every change the index at which it
//! happened. An entry is served only if no change to what it depends on is known with a higher
//! index. That comparison is made at the moment of serving, so the order in which replies, changes
//! and writes come in does not matter: a reply that was on its way while its item was sold is never
//! served, wherever the two crossed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Entries;
use tokio::time::Instant;

use super::route::Scope;

/// The longest body that is kept.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What an entry takes besides its key and body, roughly.
const ENTRY_BYTES: u64 = 1024;

/// How many items' changes are remembered one by one. Beyond that all older entries are given up.
const CHANGED_ITEMS_MAX: usize = 100_000;

/// A reply that may be served again.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The log index that the reply reflects.
    pub(super) index: u64,
    pub(super) scope: Scope,
    pub(super) stored_at: Instant,
}

/// What is known to have changed.
///
/// - `items` has the newest known change of each item, where that is above `floor`.
/// - `newest_item` is the newest of them all.
/// - Nothing below `floor` is served: what changed before it is not known one by one.
/// - `epoch` counts the clusters: an index of another one means nothing.
/// - `live` says whether changes are being heard. Without, nothing is served or stored.
#[derive(Debug, Default)]
struct Changes {
    items: HashMap<u64, u64>,
    newest_item: u64,
    floor: u64,
    epoch: u64,
    live: bool,
}

impl Changes {
    fn allow(&self, scope: Scope, index: u64) -> bool {
        let changed = match scope {
            Scope::Item(item) => self.items.get(&item).copied().unwrap_or(0),
            Scope::Items => self.newest_item,
        };
        self.live && index >= changed && index >= self.floor
    }
}

#[derive(Debug, Clone)]
struct Weight {
    /// So that the number of entries is bounded too, each weighs at least its share.
    share: u64,
}

impl Weighter<String, Arc<Entry>> for Weight {
    fn weight(&self, key: &String, entry: &Arc<Entry>) -> u64 {
        self.share.max((key.len() + entry.body.len()) as u64 + ENTRY_BYTES)
    }
}

/// A proof of the moment at which a read began; see [`Cache::put`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Began {
    epoch: u64,
}

/// The cache.
pub(super) struct Cache {
    entries: Option<Entries<String, Arc<Entry>, Weight>>,
    changes: Mutex<Changes>,
    ttl: Duration,
}

impl Cache {
    /// A cache of at most `entries_max` replies and `bytes_max` bytes; none at all if either is 0.
    pub(super) fn new(entries_max: usize, bytes_max: u64, ttl: Duration) -> Self {
        let share = bytes_max.checked_div(entries_max as u64).filter(|share| *share > 0);
        Self {
            entries: share
                .map(|share| Entries::with_weighter(entries_max, bytes_max, Weight { share })),
            changes: Mutex::new(Changes::default()),
            ttl,
        }
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        // No code panics while it holds the lock, and every state of the marks is a safe one.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply that nothing is known to have outdated.
    pub(super) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.as_ref()?;
        let entry = entries.get(key)?;
        let (live, valid) = {
            let changes = self.changes();
            (changes.live, changes.allow(entry.scope, entry.index))
        };
        let fresh = entry.stored_at.elapsed() < self.ttl;
        if valid && fresh {
            return Some(entry);
        }
        // While no changes are heard, entries rest: what is missed is heard before they are used.
        if live || !fresh {
            entries.remove(key);
        }
        None
    }

    /// To be taken before a reply is asked for that may be stored.
    pub(super) fn begin(&self) -> Began {
        Began { epoch: self.changes().epoch }
    }

    /// Stores a reply, unless it is outdated already or from another cluster.
    pub(super) fn put(&self, key: String, entry: Entry, began: Began) {
        let Some(entries) = &self.entries else { return };
        if entry.body.len() > BODY_BYTES_MAX {
            return;
        }
        let wanted = {
            let changes = self.changes();
            changes.epoch == began.epoch && changes.allow(entry.scope, entry.index)
        };
        if wanted {
            entries.insert(key, Arc::new(entry));
        }
    }

    /// An item changed at a log index.
    pub(super) fn item_changed(&self, item: u64, index: u64) {
        let mut changes = self.changes();
        changes.newest_item = changes.newest_item.max(index);
        if index <= changes.floor {
            return;
        }
        if changes.items.len() >= CHANGED_ITEMS_MAX && !changes.items.contains_key(&item) {
            changes.floor = changes.newest_item;
            changes.items.clear();
        }
        let newest = changes.items.entry(item).or_default();
        *newest = index.max(*newest);
    }

    /// Anything may have changed up to a log index.
    pub(super) fn all_changed(&self, index: u64) {
        let mut changes = self.changes();
        changes.newest_item = changes.newest_item.max(index);
        changes.floor = changes.floor.max(index);
        let floor = changes.floor;
        changes.items.retain(|_, changed| *changed > floor);
    }

    /// Changes are heard from now on.
    pub(super) fn resume(&self) {
        self.changes().live = true;
    }

    /// Changes are not heard for the time being.
    pub(super) fn suspend(&self) {
        self.changes().live = false;
    }

    /// Forgets everything: the replies, the changes, and what reads under way will bring.
    pub(super) fn reset(&self) {
        {
            let mut changes = self.changes();
            *changes = Changes { epoch: changes.epoch + 1, ..Changes::default() };
        }
        if let Some(entries) = &self.entries {
            entries.clear();
        }
    }

    /// Which cluster the indexes are of: changes with [`Cache::reset`].
    pub(super) fn epoch(&self) -> u64 {
        self.changes().epoch
    }

    /// Forgets the replies under these keys.
    pub(super) fn forget(&self, keys: &[String]) {
        if let Some(entries) = &self.entries {
            for key in keys {
                entries.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn cache() -> Cache {
        let cache = Cache::new(100, 1_000_000, TTL);
        cache.resume();
        cache
    }

    fn entry(scope: Scope, index: u64) -> Entry {
        Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
            index,
            scope,
            stored_at: Instant::now(),
        }
    }

    fn put(cache: &Cache, key: &str, scope: Scope, index: u64) {
        cache.put(key.to_owned(), entry(scope, index), cache.begin());
    }

    fn has(cache: &Cache, key: &str) -> bool {
        cache.get(key).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_outdates_its_item_and_all_lists_only() {
        let cache = cache();
        put(&cache, "5", Scope::Item(5), 10);
        put(&cache, "6", Scope::Item(6), 10);
        put(&cache, "all", Scope::Items, 10);
        cache.item_changed(5, 10);
        assert!(has(&cache, "5"), "the reply has this change in it");
        cache.item_changed(5, 11);
        assert!(!has(&cache, "5") && has(&cache, "6") && !has(&cache, "all"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_crossed_a_change_is_not_stored() {
        let cache = cache();
        let began = cache.begin();
        cache.item_changed(5, 11);
        cache.put("5".into(), entry(Scope::Item(5), 10), began);
        cache.put("all".into(), entry(Scope::Items, 10), began);
        assert!(!has(&cache, "5") && !has(&cache, "all"));
        cache.put("5".into(), entry(Scope::Item(5), 11), began);
        assert!(has(&cache, "5"));
    }

    #[tokio::test(start_paused = true)]
    async fn changes_may_come_in_any_order() {
        let cache = cache();
        cache.item_changed(5, 20);
        cache.item_changed(5, 12);
        put(&cache, "5", Scope::Item(5), 15);
        assert!(!has(&cache, "5"));
        cache.all_changed(30);
        cache.item_changed(6, 25);
        put(&cache, "6", Scope::Item(6), 29);
        assert!(!has(&cache, "6"));
        put(&cache, "6", Scope::Item(6), 30);
        assert!(has(&cache, "6"));
    }

    #[tokio::test(start_paused = true)]
    async fn replies_age() {
        let cache = cache();
        put(&cache, "5", Scope::Item(5), 10);
        tokio::time::advance(TTL - Duration::from_millis(1)).await;
        assert!(has(&cache, "5"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!has(&cache, "5"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_changes_nothing_is_served_or_stored_and_what_is_there_rests() {
        let cache = cache();
        put(&cache, "5", Scope::Item(5), 10);
        cache.suspend();
        put(&cache, "6", Scope::Item(6), 10);
        assert!(!has(&cache, "5"));
        cache.resume();
        assert!(has(&cache, "5") && !has(&cache, "6"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_began_with_another_cluster_is_not_stored() {
        let cache = cache();
        let began = cache.begin();
        put(&cache, "6", Scope::Item(6), 1_000);
        cache.reset();
        cache.resume();
        cache.put("5".into(), entry(Scope::Item(5), 1_000), began);
        assert!(!has(&cache, "5") && !has(&cache, "6"));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_forgetting_is_safe() {
        let cache = Cache::new(10, 1_000_000, TTL);
        cache.resume();
        for n in 0..1_000 {
            put(&cache, &n.to_string(), Scope::Item(n), 10);
        }
        assert!((0..1_000).filter(|n| has(&cache, &n.to_string())).count() <= 10);
        let changed_max = u64::try_from(CHANGED_ITEMS_MAX).unwrap();
        for item in 0..=changed_max {
            cache.item_changed(item, 100 + item);
        }
        assert!(cache.changes().items.len() <= CHANGED_ITEMS_MAX);
        put(&cache, "0", Scope::Item(0), 99 + changed_max - 1);
        assert!(!has(&cache, "0"));
        let none = Cache::new(0, 1_000, TTL);
        none.resume();
        put(&none, "5", Scope::Item(5), 10);
        assert!(!has(&none, "5"));
    }
}
