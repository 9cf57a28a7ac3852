//! `--local`: an embedded broker and schema registry, the example's data generators, and the output topics printed.

use std::sync::Arc;

use sluice_batch::{Error, Result};
use sluice_plan::Graph;

use crate::script::Script;
use crate::task::stats::Stats;

/// What `--local` has started; ended by [`Local::stop`].
pub struct Local {}

impl Local {
    /// Starts broker, registry, generators and the printer of the output topics.
    ///
    /// # Errors
    /// If a port cannot be bound or a generator is unknown.
    pub fn start(_script: &Script, _stats: Arc<Stats>) -> Result<Self> {
        Err(Error::unsupported("--local"))
    }

    /// Points the connectors of a job at the embedded broker and registry.
    pub fn redirect(&self, _graph: &mut Graph) {}

    pub fn stop(self) {}
}
