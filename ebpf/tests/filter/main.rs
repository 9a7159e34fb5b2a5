//! The packet filter, held against libpcap and against its own messages.

mod cbpf;
mod differential;
mod oracle;
mod packets;
mod random;
mod run;
mod texts;
mod tunnels;
mod types;
