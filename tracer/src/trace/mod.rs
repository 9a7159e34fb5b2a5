//! Following packets: scan, program, events, journeys, renderers.

pub mod event;
