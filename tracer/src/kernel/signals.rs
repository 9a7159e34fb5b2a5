//! Signals that end a process, noted instead: a run that is being put together, or ends, has something to take away.
//!
//! Deliberately absent: waiting for signals, which tokio does; its handlers call these, too.

use std::sync::atomic::{AtomicI32, Ordering};

/// What ends a run.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The last one; 0 for none.
static NOTED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    NOTED.store(signal, Ordering::SeqCst);
}

/// Note SIGINT, SIGTERM and SIGHUP from now on; one that comes a second time ends the process as ever. Those that this
/// process ignores (nohup, a shell's background) stay ignored.
pub fn defer() {
    for signal in ENDING {
        // SAFETY: the structures are there, and the handler does nothing but store a number.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut now) != 0
                || now.sa_sigaction != libc::SIG_DFL
            {
                continue;
            }
            let handler: extern "C" fn(libc::c_int) = note;
            let mut noting: libc::sigaction = std::mem::zeroed();
            noting.sa_sigaction = handler as libc::sighandler_t;
            noting.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &raw const noting, std::ptr::null_mut());
        }
    }
}

/// The signal that has come since [`defer`].
pub fn noted() -> Option<i32> {
    match NOTED.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

/// End as the signal would have ended this process.
pub fn obey(signal: i32) -> ! {
    // SAFETY: numbers only.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}
