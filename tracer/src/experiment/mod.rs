//! Experiments: statistics, figures and the files that they are made from.
//!
//! What runs them is to come.

pub mod iperf;
pub mod latency;
pub mod plot;
pub mod results;
pub mod stats;
