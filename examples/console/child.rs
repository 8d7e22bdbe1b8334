//! A process that an example starts of itself, and that ends with it.

use std::{error::Error, io::BufRead, process::ExitCode};

use tokio::{
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use crate::console;

/// Runs the process to its end.
pub fn run(
    program: &str,
    runtime: &Runtime,
    live: impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
) -> ExitCode {
    // Ctrl-C reaches every process of the terminal; a child ends when its input does.
    runtime.spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    match runtime.block_on(live) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console::failed(program, &*error),
    }
}

/// The lines that come in. Their end is the end of the process, so that none outlives its program.
pub fn orders() -> UnboundedReceiver<String> {
    let (orders, inbox) = unbounded_channel();
    // A thread, because a blocking read must not hold up the runtime's end.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    inbox
}
