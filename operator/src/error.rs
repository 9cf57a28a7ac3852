//! Errors of a reconcile: one variant a step.

use thiserror::Error;

use crate::runtime_api::RuntimeError;

/// Why a reconcile did not get to its end. "Not ready yet" is none of these: it is a decision.
#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to {what}")]
    Kube { what: String, source: Box<kube::Error> },
    #[error("failed to write {what} as JSON")]
    Json { what: String, source: serde_json::Error },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Setup(String),
}

/// The reason of errors in a namespace that is being deleted: nothing can be made in it any more.
pub const NAMESPACE_ENDS: &str = "NamespaceTerminating";

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The reason that a condition can show: what the API server refused, and whether waiting helps.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 403 && status.message.contains("exceeded quota") => "QuotaExceeded",
                // An API server that checks owner references learns of new CRDs every 30 s only.
                kube::Error::Api(status) if status.code == 403 && status.message.contains("cannot find RESTMapping") => "ApiServerError",
                kube::Error::Api(status) if status.code == 403 && status.message.contains("because it is being terminated") => {
                    NAMESPACE_ENDS
                }
                kube::Error::Api(status) if status.code == 403 => "Forbidden",
                kube::Error::Api(status) if status.code == 422 || status.code == 400 => "Refused",
                kube::Error::Api(status) if status.code == 409 => "Conflict",
                _ => "ApiServerError",
            },
            Self::Json { .. } | Self::Setup(_) => "InternalError",
            Self::Runtime(RuntimeError::Refused { .. }) => "SessionRefused",
            Self::Runtime(_) => "RuntimeError",
        }
    }

    /// Whether a human has to do something: it is worth showing in the status.
    pub fn is_terminal(&self) -> bool {
        matches!(self.reason(), "QuotaExceeded" | "Forbidden" | "Refused" | "SessionRefused")
    }

    /// The whole chain in one line.
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let part = match error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref).or_else(|| error.downcast_ref::<kube::Error>()) {
                Some(kube::Error::Api(status)) => status.message.clone(),
                _ => error.to_string(),
            };
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
            source = error.source();
        }
        text
    }
}

/// `.what("apply the Service x")`
pub trait What<T> {
    /// Says what was being done.
    ///
    /// # Errors
    /// The same, with that.
    fn what(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> What<T> for std::result::Result<T, kube::Error> {
    fn what(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Kube { what: what(), source: Box::new(source) })
    }
}
