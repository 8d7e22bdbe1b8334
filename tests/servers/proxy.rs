//! A TCP proxy that disturbs the way to a server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::process::free_port;

/// Passes bytes between its own port and a server's, until told otherwise.
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(target_port: u16) -> Result<Self, String> {
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port))
            .map_err(|e| format!("cannot listen on port {port}: {e}; retry"))?;
        let way = Arc::new(Way::default());
        let target = SocketAddr::from(([127, 0, 0, 1], target_port));
        let thread = thread::spawn({
            let way = way.clone();
            move || way.serve(&listener, target)
        });
        Ok(Self { port, way, thread: Some(thread) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and every new one at once.
    pub fn cut(&self) {
        self.way.turn(Traffic::Cut);
    }

    /// Keeps all connections and takes new ones, but nothing sent from now on gets through, not
    /// even the end of a connection.
    pub fn stall(&self) {
        self.way.turn(Traffic::Stalls);
    }

    /// What was held back gets through after all; what was cut stays so.
    pub fn resume(&self) {
        self.way.turn(Traffic::Flows);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.way.turn(Traffic::Ended);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the thread that accepts
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Traffic {
    #[default]
    Flows,
    Stalls,
    Cut,
    Ended,
}

/// The client's end and the server's.
type Ends = [TcpStream; 2];

#[derive(Default)]
struct Way {
    state: Mutex<(Traffic, Vec<Weak<Ends>>)>,
    turned: Condvar,
}

impl Way {
    fn state(&self) -> MutexGuard<'_, (Traffic, Vec<Weak<Ends>>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, to: Traffic) {
        let mut state = self.state();
        state.0 = to;
        if matches!(to, Traffic::Cut | Traffic::Ended) {
            for ends in state.1.drain(..).filter_map(|ends| ends.upgrade()) {
                close(&ends);
            }
        }
        self.turned.notify_all();
    }

    fn serve(&self, listener: &TcpListener, target: SocketAddr) {
        // The scope ends after all threads in it.
        thread::scope(|scope| {
            for client in listener.incoming() {
                match self.state().0 {
                    Traffic::Flows | Traffic::Stalls => {}
                    Traffic::Cut => continue,
                    Traffic::Ended => break,
                }
                let Ok(client) = client else { continue };
                scope.spawn(move || self.connect(client, target));
            }
        });
    }

    fn connect(&self, client: TcpStream, target: SocketAddr) {
        self.wait(); // the server must not see the connection either
        // A limit, as a frozen server's queue may be full.
        let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
            return;
        };
        let ends = Arc::new([client, server]);
        for end in &*ends {
            let _ = end.set_nodelay(true);
        }
        {
            let (traffic, all) = &mut *self.state();
            if matches!(traffic, Traffic::Cut | Traffic::Ended) {
                return;
            }
            all.retain(|ends| ends.strong_count() > 0);
            all.push(Arc::downgrade(&ends));
        }
        let [client, server] = &*ends;
        thread::scope(|scope| {
            scope.spawn(|| self.pump(server, client));
            self.pump(client, server);
        });
    }

    fn wait(&self) {
        let stalls = |state: &mut (Traffic, _)| state.0 == Traffic::Stalls;
        drop(self.turned.wait_while(self.state(), stalls));
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer);
            self.wait(); // after the read, so nothing slips through that was sent after `stall`
            let Ok(length @ 1..) = read else { break };
            if to.write_all(&buffer[..length]).is_err() {
                let _ = from.shutdown(Shutdown::Both); // its next bytes would go nowhere
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn close(ends: &Ends) {
    for end in ends {
        let _ = end.shutdown(Shutdown::Both);
    }
}
