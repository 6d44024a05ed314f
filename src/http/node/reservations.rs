//! `/v1/reservations`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use pygmy_raft::types::Reply;
use pygmy_storage::{
    command::{Command, Outcome, Reserve},
    reservations::ReservationStatus,
};

use super::{
    Api,
    extract::{self, Id, Json, Params, before_the_log},
    openapi, orders,
    ranges::Ranges,
    render,
    respond::{self, json, rejection, written},
};
use crate::{
    api::{self, Consistency, WriteOutcome},
    http::problem::{ApiError, Code},
};

/// `POST /v1/reservations`
#[utoipa::path(
    post,
    path = "/v1/reservations",
    operation_id = "reserve",
    tag = "reservations",
    summary = "Holds pieces for a time: all lines or none",
    description = "They stay in stock and are not available to others until the reservation is \
        confirmed, released or over. A repeated reply shows it as it was made.",
    params(openapi::Write),
    request_body = api::NewReservation,
    responses(
        (status = 201, description = "Held", body = api::Reservation,
            headers(("Location" = String, description = "Its path"))),
        openapi::NoSuch,
        openapi::Conflict,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::NewReservation>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(body) = body?;
        check(&body)?;
        Ok(Command::Reserve(Reserve {
            lines: orders::plain_lines(body.lines),
            // More than any policy allows, so it is refused with what the policy says.
            ttl_ms: body.ttl_seconds.saturating_mul(1000),
            customer: body.customer,
            reference: body.reference,
        }))
    })?;
    Ok(reserved(&api.write(&headers, command).await?, StatusCode::CREATED))
}

fn check(wanted: &api::NewReservation) -> Result<(), ApiError> {
    let mut ranges = Ranges::default();
    orders::check_lines(&wanted.lines, "", &mut ranges);
    orders::check_texts(wanted.customer.as_deref(), wanted.reference.as_deref(), "", &mut ranges);
    ranges.expect(wanted.ttl_seconds >= 1, "/ttl_seconds", "must be at least 1");
    ranges.finish()
}

/// The reply to a write that makes a reservation what it is.
fn reserved(reply: &Reply, status: StatusCode) -> Response {
    match &reply.applied.outcome {
        Outcome::Reservation(reservation) => {
            let mut response = json(status, &render::reservation(reservation));
            if status == StatusCode::CREATED {
                response = orders::at(response, &format!("/v1/reservations/{}", reservation.id));
            }
            written(reply, response)
        }
        Outcome::Rejected(why) => written(reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(reply),
    }
}

/// `POST /v1/reservations/{id}/confirm`
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/confirm",
    operation_id = "confirm_reservation",
    tag = "reservations",
    summary = "Sells what a reservation holds, at the prices of then",
    params(("id" = u64, Path, description = "The reservation number"), openapi::Write),
    responses(
        (status = 201, description = "The order", body = api::Order,
            headers(("Location" = String, description = "The order's path"))),
        openapi::NoSuch,
        openapi::WrongState,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish().map_err(|error| error.outcome(WriteOutcome::NotApplied))?;
    let reply = api.write(&headers, Command::ConfirmReservation { id }).await?;
    Ok(orders::ordered(&reply))
}

/// `DELETE /v1/reservations/{id}`
#[utoipa::path(
    delete,
    path = "/v1/reservations/{id}",
    operation_id = "release_reservation",
    tag = "reservations",
    summary = "Gives back what a reservation holds",
    params(("id" = u64, Path, description = "The reservation number"), openapi::Write),
    responses(
        (status = 200, description = "The reservation, released", body = api::Reservation),
        openapi::NoSuch,
        openapi::WrongState,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn release(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish().map_err(|error| error.outcome(WriteOutcome::NotApplied))?;
    let reply = api.write(&headers, Command::ReleaseReservation { id }).await?;
    Ok(reserved(&reply, StatusCode::OK))
}

/// `GET /v1/reservations/{id}`
#[utoipa::path(
    get,
    path = "/v1/reservations/{id}",
    operation_id = "get_reservation",
    tag = "reservations",
    summary = "A reservation",
    description = "One that ended is kept for a while: how many are, the policy says.",
    params(("id" = u64, Path, description = "The reservation number"), openapi::Read),
    responses(
        (status = 200, description = "The reservation", body = api::Reservation),
        openapi::NoSuch,
        openapi::ReadErrors,
    ),
)]
pub(super) async fn get(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    Ok(match answer.view.reservation(id) {
        Some(reservation) => answer.json(&render::reservation(reservation)),
        None => {
            let detail = format!("There is no reservation {id}.");
            answer.error(ApiError::new(Code::NotFound, detail))
        }
    })
}

/// `GET /v1/reservations`
#[utoipa::path(
    get,
    path = "/v1/reservations",
    operation_id = "list_reservations",
    tag = "reservations",
    summary = "Reservations, by number",
    params(openapi::Reservations, openapi::Page, openapi::Read),
    responses(
        (status = 200, description = "A page", body = api::ReservationPage),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (limit, after) = (params.limit(), params.cursor('r'));
    let status = params.text("status");
    if let Some(name) = &status
        && !ReservationStatus::NAMES.contains(&name.as_str())
    {
        params.refuse("status", format!("{name:?} is no status of a reservation"));
    }
    params.finish()?;
    let answer = api.read(freshness).await?;
    let page = answer.view.reservations(status.as_deref(), after, limit);
    let reservations = page.rows.iter().map(|row| render::reservation(row)).collect();
    let next_cursor = extract::cursor('r', page.next_after);
    Ok(answer.json(&api::ReservationPage { reservations, next_cursor }))
}
