//! Why a request is refused before anybody is asked. The sentences are Firecracker's.

use super::http::Method;

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No such resource, or not with this method.
    #[error("Invalid request method and/or path: {} {path}.", method.name())]
    NoSuchPath {
        /// The method.
        method: Method,
        /// The first part of the path.
        path: String,
    },
    /// A PUT or PATCH without a body.
    #[error("Empty {} request.", .0.name())]
    Empty(Method),
    /// A GET with one.
    #[error("GET request cannot have a body.")]
    GetWithBody,
    /// A body that is not JSON, or not of the right shape.
    #[error("An error occurred when deserializing the json body of a request: {0}.")]
    Json(String),
    /// A path that ends where an id is expected.
    #[error("The ID cannot be empty.")]
    EmptyId,
    /// An id that cannot be one.
    #[error("API Resource IDs can only contain alphanumeric characters and underscores.")]
    BadId,
    /// Two ids.
    #[error("The id from the path does not match the id from the body!")]
    OtherId,
    /// Two ids of a network interface, for which Firecracker has a sentence of its own.
    #[error("The id from the path [{0}] does not match the id from the body [{1}]!")]
    OtherInterface(String, String),
    /// A descriptor is expected with the request.
    #[error("{0} descriptors came with the request and one was expected: send it as SCM_RIGHTS")]
    Descriptors(usize),
}
