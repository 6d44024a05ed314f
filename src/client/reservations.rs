//! Reservations.

use reqwest::Method;

use super::{Client, ClientError, Precondition, add_query};
use crate::api::{NewReservation, Order, Reservation, ReservationPage};

/// Which reservations [`Client::reservations`] lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservationQuery {
    /// Only those that stand so.
    pub status: Option<String>,
    /// Rows of the page, 1 to 1000; 100 when not given.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Client {
    /// Holds pieces for a time.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::api::{NewOrderLine, NewReservation};
    /// let cart = NewReservation {
    ///     lines: vec![NewOrderLine { item: 5, quantity: 1, expected_price_cents: None }],
    ///     ttl_seconds: 600,
    ///     customer: Some("ada".into()),
    ///     reference: None,
    /// };
    /// let held = store.reserve(&cart).await?;
    /// // Paid within ten minutes: sold at the price of the reservation.
    /// let order = store.confirm(held.id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reserve(&self, wanted: &NewReservation) -> Result<Reservation, ClientError> {
        self.reserve_with_key(wanted, &Self::new_key()).await
    }

    /// [`Client::reserve`] with the caller's own idempotency key.
    pub async fn reserve_with_key(
        &self,
        wanted: &NewReservation,
        key: &str,
    ) -> Result<Reservation, ClientError> {
        let url = self.path(&["v1", "reservations"]);
        self.write(Method::POST, url, wanted, Precondition::None, key).await
    }

    /// Sells what a reservation holds.
    pub async fn confirm(&self, id: u64) -> Result<Order, ClientError> {
        self.confirm_with_key(id, &Self::new_key()).await
    }

    /// [`Client::confirm`] with the caller's own idempotency key.
    pub async fn confirm_with_key(&self, id: u64, key: &str) -> Result<Order, ClientError> {
        let url = self.path(&["v1", "reservations", &id.to_string(), "confirm"]);
        self.write_bare(Method::POST, url, key).await
    }

    /// Gives back what a reservation holds.
    pub async fn release(&self, id: u64) -> Result<Reservation, ClientError> {
        self.release_with_key(id, &Self::new_key()).await
    }

    /// [`Client::release`] with the caller's own idempotency key.
    pub async fn release_with_key(&self, id: u64, key: &str) -> Result<Reservation, ClientError> {
        let url = self.path(&["v1", "reservations", &id.to_string()]);
        self.write_bare(Method::DELETE, url, key).await
    }

    /// One reservation.
    pub async fn reservation(&self, id: u64) -> Result<Reservation, ClientError> {
        self.read(self.path(&["v1", "reservations", &id.to_string()])).await
    }

    /// A page of reservations, by number.
    pub async fn reservations(
        &self,
        query: &ReservationQuery,
    ) -> Result<ReservationPage, ClientError> {
        let mut url = self.path(&["v1", "reservations"]);
        add_query(&mut url, "status", query.status.as_deref());
        add_query(&mut url, "limit", query.limit);
        add_query(&mut url, "cursor", query.cursor.as_deref());
        self.read(url).await
    }
}
