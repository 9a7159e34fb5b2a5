//! Shared by the tests of the back end.

pub mod random;
