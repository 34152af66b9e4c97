//! Passes this process's standard input, and the signals that would end it, on to a shell line
//! that runs in a guest.

use std::io::Read;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::protocol::{Order, send};

/// Starts the threads that do it. They last as long as the process.
pub(crate) fn pass_input(orders: ChildStdin) -> Result<()> {
    let orders = Arc::new(Mutex::new(orders));
    let give = |orders: &Mutex<ChildStdin>, order, payload: &[u8]| {
        let mut orders = orders.lock().expect("no thread panics while it writes");
        send(&mut *orders, order, payload).is_ok()
    };
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let to = Arc::clone(&orders);
    thread::spawn(move || {
        for signal in signals.forever() {
            if !give(&to, Order::Signal(signal), &[]) {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        loop {
            // An error is treated as the end.
            let n = std::io::stdin().read(&mut buffer).unwrap_or(0);
            if !give(&orders, Order::Stdin, &buffer[..n]) || n == 0 {
                return;
            }
        }
    });
    Ok(())
}
