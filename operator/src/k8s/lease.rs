//! Leader election by a Lease: of several operators one acts, and another takes over when it is gone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};

/// As client-go: a lease is good for this long,
pub const DURATION: SignedDuration = SignedDuration::from_secs(15);
/// its holder gives up acting if it could not renew it for this long,
pub const RENEW_DEADLINE: SignedDuration = SignedDuration::from_secs(10);
/// and tries this often.
pub const RETRY: Duration = Duration::from_secs(2);

/// What is to be done about a lease. Pure.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Write this; its resource version guards against another one who does.
    Write(Box<Lease>),
    /// Another process holds it.
    Wait,
}

/// Decides. `seen`: since when this process has seen the lease as it is: clocks of other machines are not trusted.
pub fn decide(lease: Option<&Lease>, identity: &str, seen: Timestamp, now: Timestamp) -> Move {
    let spec = lease.and_then(|l| l.spec.clone()).unwrap_or_default();
    let holder = spec.holder_identity.clone().filter(|h| !h.is_empty());
    let ours = holder.as_deref() == Some(identity);
    let seconds = i64::from(spec.lease_duration_seconds.unwrap_or(15));
    let expired = now.duration_since(seen) > SignedDuration::from_secs(seconds);
    if holder.is_some() && !ours && !expired {
        return Move::Wait;
    }
    let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!ours && lease.is_some());
    let mut next = lease.cloned().unwrap_or_default();
    next.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(DURATION.as_secs() as i32),
        acquire_time: if ours { spec.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    });
    Move::Write(Box::new(next))
}

/// A lease and who wants it.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as it was seen last, and since when.
    seen: Option<(Option<String>, Timestamp)>,
}

impl Election {
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into(), identity: identity.into(), seen: None }
    }

    /// Tries once to get or to renew the lease; true if this process holds it now.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub async fn attempt(&mut self, now: Timestamp) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let version = lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        let seen = match &self.seen {
            Some((old, at)) if *old == version => *at,
            _ => now,
        };
        self.seen = Some((version, seen));
        let Move::Write(mut next) = decide(lease.as_ref(), &self.identity, seen, now) else { return Ok(false) };
        let result = if lease.is_some() {
            self.api.replace(&self.name, &PostParams::default(), &next).await
        } else {
            next.metadata.name = Some(self.name.clone());
            self.api.create(&PostParams::default(), &next).await
        };
        match result {
            Ok(_) => Ok(true),
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns when this process is the leader.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt(Timestamp::now()).await {
                Ok(true) => return,
                Ok(false) => tracing::debug!("another operator holds the lease {}", self.name),
                Err(error) => tracing::warn!("the lease {} cannot be read or written: {error}", self.name),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps the lease; returns when it is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Timestamp::now();
        loop {
            tokio::time::sleep(RETRY).await;
            let now = Timestamp::now();
            match tokio::time::timeout(Duration::from_secs(5), self.attempt(now)).await {
                Ok(Ok(true)) => renewed = now,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!("the lease {} could not be renewed: {error}", self.name),
                Err(_) => tracing::warn!("the lease {} could not be renewed in 5 s", self.name),
            }
            if Timestamp::now().duration_since(renewed) > RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Gives the lease back, so that another one need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(self.identity.as_str())) else { return };
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!("the lease {} could not be given back: {error}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_holds_it() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let Move::Write(first) = decide(None, "a", at(0), at(0)) else { panic!("free") };
        assert_eq!(decide(Some(&first), "b", at(0), at(10)), Move::Wait);
        let Move::Write(renewed) = decide(Some(&first), "a", at(0), at(2)) else { panic!("ours") };
        let spec = renewed.spec.clone().unwrap();
        assert_eq!((spec.acquire_time, spec.renew_time, spec.lease_transitions), (Some(MicroTime(at(0))), Some(MicroTime(at(2))), Some(0)));
        let Move::Write(taken) = decide(Some(&renewed), "b", at(2), at(18)) else { panic!("expired") };
        let spec = taken.spec.clone().unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
        let mut free = *taken;
        free.spec.as_mut().unwrap().holder_identity = None;
        assert!(matches!(decide(Some(&free), "a", at(18), at(18)), Move::Write(_)), "given back");
    }
}
