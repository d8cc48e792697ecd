//! What edges say to each other, and how it travels.
//!
//! The task gives out and takes in octets ([`holding::Message::encode`]); who carries them sees to
//! it that they are sealed and whose they are. Without a carrier edges don't hear each other: then
//! an edge that knows of others gives up what it holds when it can't renew.

use tokio::sync::mpsc;

/// Letters that may wait at a time; more are lost.
const QUEUE: usize = 256;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The other edge: to whom it goes, or from whom it surely comes.
    pub edge: String,
    /// What it says.
    pub octets: Vec<u8>,
}

/// One end of the way between the task and who carries letters.
#[derive(Debug)]
pub struct Mail {
    /// Letters go here.
    pub out: mpsc::Sender<Letter>,
    /// And come from here.
    pub into: mpsc::Receiver<Letter>,
}

/// Both ends: the task's, and the carrier's.
pub fn pair() -> (Mail, Mail) {
    let (to_carrier, from_task) = mpsc::channel(QUEUE);
    let (to_task, from_carrier) = mpsc::channel(QUEUE);
    (Mail { out: to_carrier, into: from_carrier }, Mail { out: to_task, into: from_task })
}
