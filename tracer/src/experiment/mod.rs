//! Experiments: the declarative block, what carries it out, and what becomes of the measurements.
//!
//! [`block`] says what to do; [`build`] makes namespaces and rules, each written down in a [`ledger`] first;
//! [`workload`] runs iperf3; [`engine`] measures, a timeline into its [`history`]; [`answers`], [`plot`] and [`report`] tell
//! the outcome. [`script`] is the whole way.

pub mod answers;
pub mod block;
pub mod build;
pub mod engine;
pub mod history;
pub mod iperf;
pub mod latency;
pub mod ledger;
pub mod parameters;
pub mod plot;
pub mod report;
pub mod results;
pub mod script;
pub mod stats;
pub mod tools;
pub mod workload;
