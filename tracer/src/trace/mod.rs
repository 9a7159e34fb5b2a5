//! Following packets: scan, program, events, journeys, renderers.

pub mod align;
pub mod beneath;
pub mod decode;
pub mod event;
pub mod extras;
pub mod folded;
pub mod governor;
pub mod headers;
pub mod journey;
pub mod knowledge;
pub mod layers;
pub mod offsets;
pub mod order;
pub mod pipeline;
pub mod plan;
pub mod program;
pub mod reasons;
pub mod record;
pub mod recording;
pub mod render;
pub mod roles;
pub mod rules;
pub mod run;
pub mod session;
pub mod summary;
pub mod trail;
pub mod usual;
pub mod view;

#[cfg(test)]
pub(crate) mod story;
