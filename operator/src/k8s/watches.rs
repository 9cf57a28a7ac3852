//! The controllers: what is watched, and what a change leads to.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_crds::{Savepoint, SessionCluster, StreamingDeployment};

use crate::context::Context;
use crate::deployment::children::{Child, Kinds};
use crate::deployment::mirror::Mirror;
use crate::error::{Error, Result};
use crate::metrics::Kind;
use crate::names;

/// Where to look.
#[derive(Clone, Debug)]
pub enum Scope {
    All,
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// Objects of our own kinds are watched by their metadata, so that one that this version does not understand does not stop the watch.
type Meta<K> = PartialObjectMeta<K>;

type Reconcile = for<'a> fn(&'a Context, &'a str, &'a str) -> Pin<Box<dyn Future<Output = Result<Action>> + Send + 'a>>;

async fn counted<K: Resource<DynamicType = ()>>(object: Arc<Meta<K>>, context: Arc<Context>, reconcile: Reconcile) -> Result<Action> {
    let kind = Kind { kind: K::kind(&()).into_owned() };
    context.metrics.reconciles.get_or_create(&kind).inc();
    let (started, name, namespace) = (Instant::now(), object.name_any(), object.namespace().unwrap_or_default());
    let result = reconcile(&context, &namespace, &name).await;
    context.metrics.duration.observe(started.elapsed().as_secs_f64());
    if let Err(error) = &result {
        context.metrics.failures.get_or_create(&kind).inc();
        tracing::warn!(kind = kind.kind, namespace, name, "{}", error.text());
    }
    result
}

/// Transient errors are tried again soon; what needs a human, rarely.
fn failed<K>(_: Arc<Meta<K>>, error: &Error, _: Arc<Context>) -> Action {
    Action::requeue(if error.is_terminal() { Duration::from_secs(60) } else { Duration::from_secs(5) })
}

/// Between the errors of a controller's watches. These count together: an API server that has just begun refuses each of them once or more, and a
/// pause that grew with every one (kube's default) would leave the controller deaf for minutes.
struct Pause;

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {}
}

/// An operator that begins does not list ten kinds for each deployment while its watches are told of all of them anyway.
async fn looked_at(context: &Context, namespace: &str, name: &str) -> Result<Action> {
    let begun = Instant::now();
    while !context.mirror.is_complete() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crate::deployment::reconcile(context, namespace, name).await
}

/// A watch that cannot begin (a right that is missing) holds nothing up for longer.
const PATIENCE: Duration = Duration::from_secs(10);

async fn drive<K>(controller: Controller<Meta<K>>, context: Arc<Context>, reconcile: Reconcile)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let work = move |object, context| counted::<K>(object, context, reconcile);
    controller
        .with_config(Config::default().concurrency(AT_A_TIME))
        .trigger_backoff(Pause)
        .run(work, failed::<K>, context)
        .for_each(|_| async {})
        .await;
}

/// Reconciles at a time. Without a limit an operator that begins asks the API server for a thousand deployments at once, and is told to wait.
const AT_A_TIME: u16 = 50;

fn children() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::FIELD_MANAGER))
}

/// The deployment that a pod, job or savepoint belongs to, by label.
fn deployment_of<K: ResourceExt>(object: K) -> Option<ObjectRef<Meta<StreamingDeployment>>> {
    let name = object.labels().get(names::DEPLOYMENT_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// The session cluster that a pod belongs to, by label.
fn cluster_of<K: ResourceExt>(object: K) -> Option<ObjectRef<Meta<SessionCluster>>> {
    let name = object.labels().get(names::SESSION_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// A watch of children whose events [`crate::deployment::mirror`] is told, too.
fn mirrored<K, E>(
    context: &Arc<Context>,
    scope: &Scope,
    told: fn(&Mirror, &Event<E>),
) -> impl Stream<Item = Result<E, watcher::Error>> + use<K, E>
where
    K: Child,
    E: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let context = context.clone();
    let selected = if K::KIND == Kinds::SAVEPOINTS { watcher::Config::default() } else { children() };
    watcher(scope.api::<E>(context.client.clone()), selected).inspect_ok(move |event| told(&context.mirror, event)).touched_objects()
}

/// The same of metadata, which is all that is needed of these kinds.
fn plain<K>(context: &Arc<Context>, scope: &Scope) -> impl Stream<Item = Result<Meta<K>, watcher::Error>> + use<K>
where
    K: Child<Seen = ()>,
{
    mirrored::<K, Meta<K>>(context, scope, Mirror::told_plain)
}

/// Runs all controllers until they are dropped.
pub async fn run(context: Arc<Context>, scope: &Scope) {
    let client = || context.client.clone();
    let index = context.clone();
    let readers = move |map: Meta<ConfigMap>| {
        let namespace = map.namespace().unwrap_or_default();
        let refs = index.readers(&namespace, &map.name_any()).into_iter();
        refs.map(move |name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let users = context.clone();
    // A pod of a session cluster is the business of all whose jobs it runs.
    let of_pod = move |pod: Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let own = pod.labels().get(names::DEPLOYMENT_LABEL).cloned();
        let shared = pod.labels().get(names::SESSION_LABEL).map(|cluster| users.users(&namespace, cluster));
        let refs = own.into_iter().chain(shared.unwrap_or_default());
        refs.map(|name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let users = context.clone();
    let of_cluster = move |cluster: Meta<SessionCluster>| {
        let namespace = cluster.namespace().unwrap_or_default();
        let names = users.users(&namespace, &cluster.name_any()).into_iter();
        names.map(|name| ObjectRef::<Meta<StreamingDeployment>>::new(&name).within(&namespace)).collect::<Vec<_>>()
    };
    let places = context.clone();
    let used_by = move |deployment: Meta<StreamingDeployment>| {
        let namespace = deployment.namespace()?;
        let cluster = places.cluster_of(&namespace, &deployment.name_any())?;
        Some(ObjectRef::<Meta<SessionCluster>>::new(&cluster).within(&namespace))
    };
    let deployments = Controller::new(scope.api::<Meta<StreamingDeployment>>(client()), watcher::Config::default())
        .watches_stream(mirrored::<StatefulSet, StatefulSet>(&context, scope, Mirror::told), deployment_of)
        .watches_stream(mirrored::<Pod, Pod>(&context, scope, Mirror::told), of_pod)
        .watches(scope.api::<Meta<SessionCluster>>(client()), watcher::Config::default(), of_cluster)
        .watches_stream(mirrored::<Job, Job>(&context, scope, Mirror::told), deployment_of)
        .watches_stream(mirrored::<ControllerRevision, ControllerRevision>(&context, scope, Mirror::told), deployment_of)
        .watches_stream(plain::<ConfigMap>(&context, scope), deployment_of)
        .watches_stream(plain::<Service>(&context, scope), deployment_of)
        .watches_stream(plain::<ServiceAccount>(&context, scope), deployment_of)
        .watches_stream(plain::<PersistentVolumeClaim>(&context, scope), deployment_of)
        .watches_stream(plain::<PodDisruptionBudget>(&context, scope), deployment_of)
        .watches_stream(mirrored::<Savepoint, Meta<Savepoint>>(&context, scope, Mirror::told_of), deployment_of)
        .watches(scope.api::<Meta<ConfigMap>>(client()), watcher::Config::default(), readers);
    let savepoints = Controller::new(scope.api::<Meta<Savepoint>>(client()), watcher::Config::default());
    let clusters = Controller::new(scope.api::<Meta<SessionCluster>>(client()), watcher::Config::default())
        .watches(scope.api::<Meta<StatefulSet>>(client()), children(), cluster_of)
        .watches(scope.api::<Pod>(client()), children(), cluster_of)
        .watches(scope.api::<Meta<StreamingDeployment>>(client()), watcher::Config::default(), used_by);
    tokio::join!(
        drive(deployments, context.clone(), |c, ns, n| Box::pin(looked_at(c, ns, n))),
        drive(savepoints, context.clone(), |c, ns, n| Box::pin(crate::savepoint::reconcile(c, ns, n))),
        drive(clusters, context.clone(), |c, ns, n| Box::pin(crate::session::reconcile(c, ns, n))),
    );
}
