//! An embedded, in-memory Kafka broker and Confluent-compatible schema registry, **for local runs and fast tests only**: one node,
//! nothing on disk, no replication, no authentication, no log compaction. What is judged about exactly-once is judged on real Kafka.
//!
//! It speaks the Kafka protocol (messages by the `kafka-protocol` crate): topics, idempotent and transactional producers, fetch with
//! both isolation levels, offsets by time, consumer groups of the classic protocol. Record batches are kept as the bytes that
//! producers sent (compressed as they are); only base offsets are rewritten.

mod batch;
mod cluster;
mod groups;
mod handlers;
mod log;
mod producers;
mod registry;
mod server;
mod topics;
mod transactions;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cluster::Cluster;

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Kafka clients connect; port 0: a free one.
    pub listen: SocketAddr,
    /// Where the schema registry answers; port 0: a free one.
    pub registry_listen: SocketAddr,
    /// Bytes a partition keeps (its oldest batches are dropped above that); `None`: everything.
    pub retention_bytes: Option<u64>,
    /// Partitions of topics that are created without saying how many.
    pub default_partitions: i32,
}

impl Default for Config {
    /// Free ports on the loopback interface, no retention, one partition.
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen: any, registry_listen: any, retention_bytes: None, default_partitions: 1 }
    }
}

/// Why the embedded broker cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the embedded {what} cannot listen on {address}: {source}")]
    Bind { what: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("the embedded broker cannot start its threads: {0}")]
    Threads(#[source] std::io::Error),
    #[error("topic '{name}' cannot be created: {reason}")]
    Topic { name: String, reason: String },
}

/// A running broker with its registry, on threads of its own. Dropping it stops both and forgets all data.
pub struct Broker {
    runtime: Option<tokio::runtime::Runtime>,
    cluster: Arc<Cluster>,
    listen: SocketAddr,
    registry: SocketAddr,
}

impl Broker {
    /// Starts broker and registry; both accept connections when this returns. Must not be called from async code.
    ///
    /// # Errors
    /// If an address cannot be bound or threads cannot be started.
    pub fn start(config: Config) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("embedded-broker")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let bind = |what, address| runtime.block_on(listener(what, address));
        let (kafka, listen) = bind("broker", config.listen)?;
        let (http, registry) = bind("schema registry", config.registry_listen)?;
        let cluster = Arc::new(Cluster::new(&config));
        runtime.spawn(server::serve(kafka, cluster.clone()));
        runtime.spawn(cluster::housekeeping(cluster.clone()));
        runtime.spawn(registry::serve(http));
        tracing::info!("embedded in-memory Kafka broker on {listen} and schema registry on {registry}: for local runs and tests only");
        Ok(Self { runtime: Some(runtime), cluster, listen, registry })
    }

    /// `host:port` for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.listen.to_string()
    }

    /// The registry's URL, without a path.
    pub fn registry_url(&self) -> String {
        format!("http://{}", self.registry)
    }

    /// Creates a topic; one that exists is left as it is.
    ///
    /// # Errors
    /// If the name is not one that Kafka allows, or `partitions` is below 1.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        use kafka_protocol::error::ResponseError::TopicAlreadyExists;
        match self.cluster.topics.create(name, partitions, Default::default()) {
            Ok(_) | Err(TopicAlreadyExists) => Ok(()),
            Err(e) => Err(Error::Topic { name: name.to_owned(), reason: e.to_string() }),
        }
    }
}

async fn listener(what: &'static str, address: SocketAddr) -> Result<(tokio::net::TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { what, address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
