//! The Kubernetes operator of Sluice.
//!
//! Each controller is a folder with the same file names: `resolve`, `observe` and `act` speak to the API server and to the jobs' pods;
//! `validate`, `decide`, `status`, `build` and the rest are pure.

pub mod capabilities;
pub mod context;
pub mod deployment;
pub mod error;
mod http;
pub mod k8s;
pub mod metrics;
pub mod names;
pub mod run;
pub mod runtime_api;
pub mod savepoint;
pub mod session;
