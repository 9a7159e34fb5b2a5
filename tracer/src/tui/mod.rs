//! The live view of `--tui`: packets on the left, the chosen one's journey on the right.
//!
//! [`view`] is what the screen tells and how keys change it, [`draw`] turns that into a [`buffer`] of characters, both
//! without a terminal; [`screen`] is the only part that has one. Everything drawn is ASCII: so one character is one
//! column, whatever a packet or a process name contains.
//!
//! Deliberately absent: the mouse, and what events mean ([`crate::trace`]).

pub mod buffer;
pub mod draw;
pub mod journey;
pub mod output;
pub mod screen;
#[cfg(test)]
mod tests;
pub mod view;
