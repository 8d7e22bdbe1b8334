//! A TCP proxy that disturbs the way to a server.

use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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
        way.target.store(target_port, Ordering::Relaxed);
        let thread = thread::spawn({
            let way = way.clone();
            move || way.serve(&listener)
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

    /// Requests get through, but no reply and no message.
    pub fn mute(&self) {
        self.way.turn(Traffic::Mute);
    }

    /// Replies and messages get through, but no request.
    pub fn gag(&self) {
        self.way.turn(Traffic::Gagged);
    }

    /// No message gets through, nor any reply on a connection that has subscribed; all else does, so much later.
    pub fn deafen(&self, late: Duration) {
        self.way.turn(Traffic::Deaf(late));
    }

    /// All that is sent from now on arrives so much later, in either direction.
    pub fn delay(&self, by: Duration) {
        self.way.turn(Traffic::Late(by));
    }

    /// New connections lead to another server; those that are there stay where they are.
    pub fn lead_to(&self, target_port: u16) {
        self.way.target.store(target_port, Ordering::Relaxed);
    }

    /// Nothing gets through any more over the connections that are there, nor their end; new ones are well.
    pub fn strand(&self) {
        self.way.stranded.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it holds back something with these bytes.
    pub fn holds_back(&self, bytes: &str) -> bool {
        self.way.held().iter().any(|held| holds(held, bytes))
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
    Late(Duration),
    Mute,
    Gagged,
    Deaf(Duration),
    Stalls,
    Cut,
    Ended,
}

/// Whose connection it is.
struct Client {
    /// How often connections had been stranded when it was made.
    born: u64,
    listens: AtomicBool,
}

/// The client's end and the server's.
type Ends = [TcpStream; 2];

#[derive(Default)]
struct Way {
    state: Mutex<(Traffic, Vec<Weak<Ends>>)>,
    turned: Condvar,
    held: Mutex<Vec<Vec<u8>>>,
    target: AtomicU16,
    /// How often connections were stranded: those from before the last time are.
    stranded: AtomicU64,
}

impl Way {
    fn state(&self) -> MutexGuard<'_, (Traffic, Vec<Weak<Ends>>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, to: Traffic) {
        let mut state = self.state();
        state.0 = to;
        self.held().clear();
        if matches!(to, Traffic::Cut | Traffic::Ended) {
            for ends in state.1.drain(..).filter_map(|ends| ends.upgrade()) {
                close(&ends);
            }
        }
        self.turned.notify_all();
    }

    fn serve(&self, listener: &TcpListener) {
        // The scope ends after all threads in it.
        thread::scope(|scope| {
            for client in listener.incoming() {
                match self.state().0 {
                    Traffic::Cut => continue,
                    Traffic::Ended => break,
                    _ => {}
                }
                let Ok(client) = client else { continue };
                scope.spawn(move || self.connect(client));
            }
        });
    }

    fn connect(&self, client: TcpStream) {
        self.wait(); // the server must not see the connection either
        let born = self.stranded.load(Ordering::Relaxed);
        let whose = Client { born, listens: AtomicBool::new(false) };
        let target = SocketAddr::from(([127, 0, 0, 1], self.target.load(Ordering::Relaxed)));
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
            scope.spawn(|| self.pump(server, client, Direction::Replies, &whose));
            self.pump(client, server, Direction::Requests, &whose);
        });
    }

    fn wait(&self) {
        let stalls = |state: &mut (Traffic, _)| state.0 == Traffic::Stalls;
        drop(self.turned.wait_while(self.state(), stalls));
    }

    fn hold_back(&self, bytes: &[u8], direction: Direction, whose: &Client) {
        let mut kept = false;
        let stops = |state: &mut (Traffic, _)| {
            let stops = match state.0 {
                Traffic::Stalls => true,
                Traffic::Mute => direction == Direction::Replies,
                Traffic::Gagged => direction == Direction::Requests,
                Traffic::Deaf(_) => {
                    direction == Direction::Replies && whose.listens.load(Ordering::Relaxed)
                }
                Traffic::Cut | Traffic::Ended => false,
                Traffic::Flows | Traffic::Late(_) => {
                    whose.born < self.stranded.load(Ordering::Relaxed)
                }
            };
            if stops && !mem::replace(&mut kept, true) {
                self.held().push(bytes.into());
            }
            stops
        };
        drop(self.turned.wait_while(self.state(), stops));
    }

    /// Reads on while what was read is on its way, so that a delay is not a queue.
    fn pump(&self, mut from: &TcpStream, to: &TcpStream, direction: Direction, whose: &Client) {
        let (sender, sent) = mpsc::channel::<(Instant, Vec<u8>)>();
        thread::scope(|scope| {
            scope.spawn(move || self.deliver(&sent, from, to));
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = from.read(&mut buffer);
                let bytes = &buffer[..*read.as_ref().unwrap_or(&0)];
                if direction == Direction::Requests && holds(bytes, "SUBSCRIBE") {
                    whose.listens.store(true, Ordering::Relaxed);
                }
                // After the read, so nothing slips through that was sent after the turn.
                self.hold_back(bytes, direction, whose);
                let Ok(length @ 1..) = read else { break };
                let late = match self.state().0 {
                    Traffic::Late(by) | Traffic::Deaf(by) => by,
                    _ => Duration::ZERO,
                };
                if sender.send((Instant::now() + late, buffer[..length].into())).is_err() {
                    break;
                }
            }
            drop(sender);
        });
    }

    fn deliver(&self, sent: &Receiver<(Instant, Vec<u8>)>, from: &TcpStream, mut to: &TcpStream) {
        for (due, bytes) in sent {
            self.wait_until(due);
            if to.write_all(&bytes).is_err() {
                let _ = from.shutdown(Shutdown::Both); // its next bytes would go nowhere
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Or until traffic is no longer late.
    fn wait_until(&self, due: Instant) {
        let is_late =
            |state: &mut (Traffic, _)| matches!(state.0, Traffic::Late(_) | Traffic::Deaf(_));
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            drop(self.turned.wait_timeout_while(self.state(), left, is_late));
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Requests,
    Replies,
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|found| found == text.as_bytes())
}

fn close(ends: &Ends) {
    for end in ends {
        let _ = end.shutdown(Shutdown::Both);
    }
}
