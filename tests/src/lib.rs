//! The test harness: real services on loopback, topics, and the golden cases.
//!
//! Tests may panic; this crate is never shipped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod avro;
pub mod case;
#[cfg(test)]
mod checkout;
pub mod cluster;
pub mod compare;
pub mod engine;
pub mod jobs;
pub mod postgres;
pub mod proxy;
pub mod registry;
pub mod s3;
pub mod services;
pub mod slack;
pub mod topics;
pub mod trials;
pub mod web;
