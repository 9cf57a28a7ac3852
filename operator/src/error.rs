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
                // What is behind it says the same again.
                Some(kube::Error::Api(status)) => return format!("{text}: {}", status.message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_human_is_told_apart_from_what_passes() {
        let api = |code: u16, message: &str| {
            let status = kube::core::Status { code, message: message.into(), ..kube::core::Status::default() };
            Error::Kube { what: "apply the StatefulSet job-r2".into(), source: Box::new(kube::Error::Api(Box::new(status))) }
        };
        let refused = RuntimeError::Refused { status: 400, message: "unknown field `x`".into() };
        for (error, reason, terminal) in [
            (api(403, "pods is forbidden: exceeded quota: q"), "QuotaExceeded", true),
            (api(403, "cannot find RESTMapping"), "ApiServerError", false),
            (api(403, "because it is being terminated"), NAMESPACE_ENDS, false),
            (api(403, "admission webhook denied the request"), "Forbidden", true),
            (api(422, "is invalid"), "Refused", true),
            (api(409, "the object has been modified"), "Conflict", false),
            (Error::Runtime(refused), "SessionRefused", true),
            (Error::Runtime(RuntimeError::Unreachable { address: "a".into(), message: "b".into() }), "RuntimeError", false),
        ] {
            assert_eq!((error.reason(), error.is_terminal()), (reason, terminal), "{error}");
        }
        // Decisions find the child in it (`Plan::refused`).
        assert_eq!(api(422, "is invalid").text(), "failed to apply the StatefulSet job-r2: is invalid");
    }
}
