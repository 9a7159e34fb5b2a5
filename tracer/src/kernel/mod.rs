//! The only room with system calls and `unsafe`.
