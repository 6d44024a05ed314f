//! Items, their ledger and their prices.

use reqwest::Method;

use super::{Client, ClientError, Precondition, add_query, condition_headers, send::Call};
use crate::api::{
    ChangeStock, Item, ItemPage, LedgerPage, NewItem, PatchItem, Prices, PutItem, Topics,
};

/// Which items [`Client::items`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemQuery {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only titles and topics with words that begin with all of these, in any order.
    pub q: Option<String>,
    /// Only what can be bought now, or only what cannot.
    pub in_stock: Option<bool>,
    /// `id`, `title`, `price` or `updated`, or one of them after a `-` for the reverse.
    pub sort: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which page [`Client::ledger`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerQuery {
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Client {
    /// A page of items.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::ItemQuery;
    /// let query = ItemQuery { topic: Some("Misc".into()), ..ItemQuery::default() };
    /// for item in store.items(&query).await?.items {
    ///     println!("{} {} ({} left)", item.id, item.title, item.available);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn items(&self, query: &ItemQuery) -> Result<ItemPage, ClientError> {
        let mut url = self.path(&["v1", "items"]);
        add_query(&mut url, "topic", query.topic.as_deref());
        add_query(&mut url, "q", query.q.as_deref());
        add_query(&mut url, "in_stock", query.in_stock);
        add_query(&mut url, "sort", query.sort.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    /// One item.
    pub async fn item(&self, id: u64) -> Result<Item, ClientError> {
        self.read(self.path(&["v1", "items", &id.to_string()])).await
    }

    /// All topics.
    pub async fn topics(&self) -> Result<Topics, ClientError> {
        self.read(self.path(&["v1", "topics"])).await
    }

    /// Creates or replaces an item.
    pub async fn put_item(
        &self,
        id: u64,
        item: &PutItem,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.put_item_with_key(id, item, condition, &Self::new_key()).await
    }

    /// [`Client::put_item`] with the caller's own idempotency key.
    pub async fn put_item_with_key(
        &self,
        id: u64,
        item: &PutItem,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string()]);
        self.write(Method::PUT, url, item, condition, key).await
    }

    /// Changes an item's stock.
    pub async fn change_stock(
        &self,
        id: u64,
        change: &ChangeStock,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.change_stock_with_key(id, change, condition, &Self::new_key()).await
    }

    /// [`Client::change_stock`] with the caller's own idempotency key.
    pub async fn change_stock_with_key(
        &self,
        id: u64,
        change: &ChangeStock,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string(), "stock"]);
        self.write(Method::POST, url, change, condition, key).await
    }

    /// A page of what changed an item's stock, sales among it, newest first. As with orders it may be
    /// short and still name a next one.
    pub async fn ledger(&self, id: u64, query: &LedgerQuery) -> Result<LedgerPage, ClientError> {
        let mut url = self.path(&["v1", "items", &id.to_string(), "ledger"]);
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }

    /// Creates an item under a number that the store gives.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::NewItem;
    /// let (title, topic) = ("Raft in Rhymes".into(), "Misc".into());
    /// let item = store.create_item(&NewItem { title, topic, price_cents: 1250, stock: 40 }).await?;
    /// println!("item {} has version {}", item.id, item.version);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_item(&self, item: &NewItem) -> Result<Item, ClientError> {
        self.create_item_with_key(item, &Self::new_key()).await
    }

    /// [`Client::create_item`] with the caller's own idempotency key.
    pub async fn create_item_with_key(
        &self,
        item: &NewItem,
        key: &str,
    ) -> Result<Item, ClientError> {
        self.write(Method::POST, self.path(&["v1", "items"]), item, Precondition::None, key).await
    }

    /// Changes some of what an item says of itself; what is `None` stays as it is.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::PatchItem;
    /// use pygmy::client::Precondition;
    /// let item = store.item(5).await?;
    /// let cheaper = PatchItem { price_cents: Some(item.price_cents / 2), ..PatchItem::default() };
    /// // Refused if somebody else has changed the item in the meantime.
    /// store.patch_item(5, &cheaper, Precondition::Version(item.version)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn patch_item(
        &self,
        id: u64,
        patch: &PatchItem,
        condition: Precondition,
    ) -> Result<Item, ClientError> {
        self.patch_item_with_key(id, patch, condition, &Self::new_key()).await
    }

    /// [`Client::patch_item`] with the caller's own idempotency key.
    pub async fn patch_item_with_key(
        &self,
        id: u64,
        patch: &PatchItem,
        condition: Precondition,
        key: &str,
    ) -> Result<Item, ClientError> {
        let url = self.path(&["v1", "items", &id.to_string()]);
        self.write(Method::PATCH, url, patch, condition, key).await
    }

    /// Takes an item out of the catalog. Refused while reservations hold pieces of it; orders keep
    /// their copy.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::Precondition;
    /// store.delete_item(5, Precondition::None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_item(&self, id: u64, condition: Precondition) -> Result<(), ClientError> {
        self.delete_item_with_key(id, condition, &Self::new_key()).await
    }

    /// [`Client::delete_item`] with the caller's own idempotency key.
    pub async fn delete_item_with_key(
        &self,
        id: u64,
        condition: Precondition,
        key: &str,
    ) -> Result<(), ClientError> {
        let call = Call {
            method: Method::DELETE,
            url: self.path(&["v1", "items", &id.to_string()]),
            headers: condition_headers(condition),
            body: None,
            key: Some(key.into()),
        };
        self.send(call).await.map(drop)
    }

    /// What an item cost when, and its lowest price of the last 30 days.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// for price in store.prices(5).await?.prices {
    ///     println!("{} cents from {}", price.price_cents, price.from);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn prices(&self, id: u64) -> Result<Prices, ClientError> {
        self.read(self.path(&["v1", "items", &id.to_string(), "prices"])).await
    }
}
