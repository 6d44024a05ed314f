//! Orders.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};

use super::{Client, ClientError, Precondition, add_query};
use crate::api::{CancelOrder, NewOrder, NewOrderBatch, Order, OrderBatch, OrderPage, header};

/// Which orders [`Client::orders`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderQuery {
    /// Only orders with a line of this item.
    pub item: Option<u64>,
    /// Only this customer's.
    pub customer: Option<String>,
    /// Only those that stand so.
    pub status: Option<String>,
    /// Only those placed at this time or after: RFC 3339.
    pub from: Option<String>,
    /// Only those placed before this time: RFC 3339.
    pub to: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Client {
    /// Places an order, with a key of its own for all its tries.
    pub async fn place_order(&self, order: &NewOrder) -> Result<Order, ClientError> {
        self.place_order_with_key(order, &Self::new_key()).await
    }

    /// Places an order with the caller's key: the same key never places a second one.
    pub async fn place_order_with_key(
        &self,
        order: &NewOrder,
        key: &str,
    ) -> Result<Order, ClientError> {
        self.write(Method::POST, self.path(&["v1", "orders"]), order, Precondition::None, key).await
    }

    /// Places many orders at once, with a key for all tries; orders that have keys of their own are
    /// placed under those. What came of each order stands in its result: success says that there is
    /// an answer for each, not that all were placed.
    pub async fn place_orders(&self, batch: &NewOrderBatch) -> Result<OrderBatch, ClientError> {
        self.place_orders_with_key(batch, &Self::new_key()).await
    }

    /// [`Client::place_orders`] with the caller's key for the whole batch. Where the orders have keys
    /// of their own, those make the retry safe and this one does not count.
    pub async fn place_orders_with_key(
        &self,
        batch: &NewOrderBatch,
        key: &str,
    ) -> Result<OrderBatch, ClientError> {
        let mut headers = HeaderMap::new();
        if batch.orders.iter().any(|order| order.idempotency_key.is_some()) {
            headers.insert(header::KEY_MADE, HeaderValue::from_static("true"));
        }
        let url = self.path(&["v1", "orders", "batch"]);
        self.send_write(Method::POST, url, batch, headers, key).await
    }

    /// Takes an order back: its pieces return.
    pub async fn cancel_order(&self, id: u64, cancel: &CancelOrder) -> Result<Order, ClientError> {
        self.cancel_order_with_key(id, cancel, &Self::new_key()).await
    }

    /// [`Client::cancel_order`] with the caller's own idempotency key.
    pub async fn cancel_order_with_key(
        &self,
        id: u64,
        cancel: &CancelOrder,
        key: &str,
    ) -> Result<Order, ClientError> {
        let url = self.path(&["v1", "orders", &id.to_string(), "cancel"]);
        self.write(Method::POST, url, cancel, Precondition::None, key).await
    }

    /// One order.
    pub async fn order(&self, id: u64) -> Result<Order, ClientError> {
        self.read(self.path(&["v1", "orders", &id.to_string()])).await
    }

    /// A page of orders. It may be short, or empty, and still name a next one: the store looks at a
    /// bounded part of its history for each.
    pub async fn orders(&self, query: &OrderQuery) -> Result<OrderPage, ClientError> {
        let mut url = self.path(&["v1", "orders"]);
        add_query(&mut url, "item", query.item);
        add_query(&mut url, "customer", query.customer.as_deref());
        add_query(&mut url, "status", query.status.as_deref());
        add_query(&mut url, "from", query.from.as_deref());
        add_query(&mut url, "to", query.to.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }
}
