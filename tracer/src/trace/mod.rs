//! Following packets: scan, program, events, journeys, renderers.

pub mod decode;
pub mod event;
pub mod offsets;
pub mod plan;
pub mod program;
pub mod record;
pub mod view;
