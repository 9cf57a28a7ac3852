//! `sluice-operator run`: wiring only.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use crate::context::Context;
use crate::error::{Error, Result, What};
use crate::http;
use crate::k8s::lease::Election;
use crate::k8s::watches::{self, Scope};
use crate::metrics::{Metrics, Request};
use crate::runtime_api::http::HttpRuntime;

/// Options of `run`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  sluice-operator run --namespace flink --http 127.0.0.1:8080")]
pub struct Args {
    /// Look after this namespace only. Without it: the operator's own.
    #[arg(long, env = "SLUICE_NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look after all namespaces.
    #[arg(long)]
    all_namespaces: bool,
    /// Serve /livez, /readyz and /metrics here.
    #[arg(long, default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// The runtime's image for deployments that name none.
    #[arg(long, env = "SLUICE_IMAGE", default_value = concat!("sluice:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Namespace of the Lease that one of several operators holds. Without it: the operator's own.
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Act without holding a Lease: there must be no other operator.
    #[arg(long)]
    no_leader_election: bool,
}

/// Runs until a signal comes or the lease is lost.
///
/// # Errors
/// If there is no cluster, or the CRDs are not installed; if the lease is lost.
pub async fn run(args: Args) -> Result<()> {
    let metrics = Metrics::default();
    let client = counted_client(&metrics).await?;
    let own = client.default_namespace().to_owned();
    let scope = if args.all_namespaces { Scope::All } else { Scope::Namespace(args.namespace.clone().unwrap_or_else(|| own.clone())) };
    let mut context = Context::new(client.clone(), &args.image, Arc::new(HttpRuntime::default()));
    context.metrics = metrics;
    let context = Arc::new(context);
    http::start(args.http, context.clone()).await?;
    let version = client.apiserver_version().await.what(|| "ask the API server for its version".into())?;
    tracing::info!(scope = ?scope, image = args.image, api_server = version.git_version, "operator {}", env!("CARGO_PKG_VERSION"));
    let stop = stop_signal()?;
    if args.no_leader_election {
        context.metrics.leader.set(1);
        tokio::select! { () = watches::run(context, &scope) => {}, () = stop => {} }
        return Ok(());
    }
    let lease_namespace = args.lease_namespace.unwrap_or(own);
    let name = match &scope {
        Scope::All => "sluice-operator".to_owned(),
        Scope::Namespace(namespace) => format!("sluice-operator-{namespace}"),
    };
    let identity = format!("{}_{}", std::env::var("POD_NAME").unwrap_or_else(|_| "local".into()), std::process::id());
    let mut election = Election::new(client, &lease_namespace, &name, &identity);
    tokio::pin!(stop);
    tokio::select! { () = election.acquire() => {}, () = &mut stop => return Ok(()) }
    tracing::info!("this operator is the leader ({identity})");
    context.metrics.leader.set(1);
    tokio::select! {
        () = watches::run(context, &scope) => Ok(()),
        // Whoever has lost the lease must not write any more: the process ends, and starts again as a standby.
        () = election.hold() => Err(Error::Setup(format!("the lease {lease_namespace}/{name} is lost"))),
        () = &mut stop => {
            election_release(&lease_namespace, &name, &identity).await;
            Ok(())
        }
    }
}

/// A client whose requests are counted.
async fn counted_client(metrics: &Metrics) -> Result<Client> {
    let none = |error: &dyn std::error::Error| Error::Setup(format!("there is no cluster: no kubeconfig, and this is no pod: {error}"));
    let config = Config::infer().await.map_err(|e| none(&e))?;
    let requests = metrics.requests.clone();
    let count = MapRequestLayer::new(move |request: ::http::Request<Body>| {
        requests.get_or_create(&Request::of(request.method().as_str(), request.uri().path())).inc();
        request
    });
    let builder = ClientBuilder::try_from(config).what(|| "use the configuration of the cluster".into())?;
    Ok(builder.with_layer(&count).build())
}

/// A lease that is given back need not run out.
async fn election_release(namespace: &str, name: &str, identity: &str) {
    if let Ok(client) = Client::try_default().await {
        Election::new(client, namespace, name, identity).release().await;
    }
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| Error::Setup(format!("cannot listen for signals: {e}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    })
}
