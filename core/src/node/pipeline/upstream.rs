//! The pipeline that fetches what others have built: images and Maven packages.

use crate::node::pipeline::docker::Images;
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::job::{Job, Outcome, Pipeline, Spec};
use crate::node::pipeline::maven::Maven;

/// Fetches from upstreams.
pub struct Upstream {
    /// For images.
    pub images: Images,
    /// For Maven packages.
    pub maven: Maven,
}

impl Pipeline for Upstream {
    fn run(&self, spec: &Spec, job: &Job<'_>) -> Result<Outcome, PipelineError> {
        match spec {
            Spec::Image {
                reference,
                platforms,
            } => self.images.fetch(reference, platforms, job),
            Spec::Maven {
                repository,
                coordinates,
                extras,
            } => match repository {
                Some(url) => self.maven.only(url)?.fetch(coordinates, extras, job),
                None => self.maven.fetch(coordinates, extras, job),
            },
        }
    }
}
