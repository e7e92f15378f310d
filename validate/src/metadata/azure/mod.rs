//! Azure: the instance metadata service at 169.254.169.254 and the wireserver at 168.63.129.16.

mod imds;
mod wireserver;

use hyper::StatusCode;

use super::Observed;
use super::exchange::{Destination, Request, Response};
use super::instance::Instance;

pub use wireserver::{Health, Provisioned};

/// Answers one request, by the address it came to.
pub(super) fn answer(instance: &Instance, observed: &mut Observed, request: &Request) -> Response {
    let metadata = request.path == "/metadata" || request.path.starts_with("/metadata/");
    match request.destination {
        Destination::Metadata => imds::answer(instance, request),
        Destination::Any if metadata => imds::answer(instance, request),
        Destination::Wireserver | Destination::Any => {
            wireserver::answer(instance, &mut observed.health, request)
        }
    }
}

/// Text in the media type that the wireserver gives XML.
fn xml(body: String) -> Response {
    Response::new(StatusCode::OK, "text/xml; charset=utf-8", body)
}
