//! What a process tells the program: a line each.

use serde::{Deserialize, Serialize};

use crate::history::Event;

#[derive(Serialize, Deserialize)]
pub enum Message {
    /// It is connected, and begins.
    Ready,
    /// Something begins that the others may see before it ends. Written at once: what a killed process did not
    /// tell is lost.
    Began(u64, Event),
    /// What began under this number, and how it ended.
    Ended(u64, Event),
    Seen(Vec<Event>),
}
