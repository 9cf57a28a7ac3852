//! What the Kafka connectors share: the client, Java's property names, table options, where to start and to stop.

pub(crate) mod client;
pub(crate) mod jaas;
pub(crate) mod producer;
pub(crate) mod properties;
pub(crate) mod rows;
pub(crate) mod start;
pub(crate) mod table;
