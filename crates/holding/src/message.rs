//! What edges say to each other directly.

/// A message to another edge. It travels sealed, so that who says it is certain; the name in its
/// octets only says whose key opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Promise that you won't fence me."
    Ask {
        /// The asker's incarnation.
        incarnation: u64,
        /// The question's number.
        number: u64,
    },
    /// "I won't, for so long from when I heard you."
    Promise {
        /// Of the question.
        incarnation: u64,
        /// Of the question.
        number: u64,
        /// For how long, in milliseconds.
        millis: u32,
    },
    /// "I might."
    Refusal {
        /// Of the question.
        incarnation: u64,
        /// Of the question.
        number: u64,
    },
    /// "Are you there?"
    Hail {
        /// The asker's incarnation.
        incarnation: u64,
        /// The question's number.
        number: u64,
    },
    /// "I am, and hold what I hold."
    Here {
        /// Of the question.
        incarnation: u64,
        /// Of the question.
        number: u64,
    },
}

const VERSION: u8 = 1;
const LENGTH: usize = 23;

impl Message {
    /// In octets, with the sender's name.
    pub fn encode(&self, from: &str) -> Vec<u8> {
        let (kind, incarnation, number, millis) = match *self {
            Self::Ask { incarnation, number } => (1, incarnation, number, 0),
            Self::Promise { incarnation, number, millis } => (2, incarnation, number, millis),
            Self::Refusal { incarnation, number } => (3, incarnation, number, 0),
            Self::Hail { incarnation, number } => (4, incarnation, number, 0),
            Self::Here { incarnation, number } => (5, incarnation, number, 0),
        };
        let mut octets = vec![VERSION, kind, 0];
        octets.extend_from_slice(&incarnation.to_be_bytes());
        octets.extend_from_slice(&number.to_be_bytes());
        octets.extend_from_slice(&millis.to_be_bytes());
        octets.extend_from_slice(from.as_bytes());
        octets
    }

    /// From octets: who sent it, and what. None if it isn't one.
    pub fn decode(octets: &[u8]) -> Option<(String, Self)> {
        let (head, name) = octets.split_at_checked(LENGTH)?;
        let from = std::str::from_utf8(name).ok().filter(|name| crate::lease::is_name(name))?;
        let (kind, rest) = match head {
            [VERSION, kind, 0, rest @ ..] => (*kind, rest),
            _ => return None,
        };
        let (incarnation, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (millis, _) = rest.split_first_chunk::<4>()?;
        let incarnation = u64::from_be_bytes(*incarnation);
        let number = u64::from_be_bytes(*number);
        let message = match kind {
            1 => Self::Ask { incarnation, number },
            2 => Self::Promise { incarnation, number, millis: u32::from_be_bytes(*millis) },
            3 => Self::Refusal { incarnation, number },
            4 => Self::Hail { incarnation, number },
            5 => Self::Here { incarnation, number },
            _ => return None,
        };
        Some((from.to_owned(), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let (incarnation, number) = (7, u64::MAX);
        for message in [
            Message::Ask { incarnation, number },
            Message::Promise { incarnation, number, millis: 1500 },
            Message::Refusal { incarnation, number },
            Message::Hail { incarnation, number },
            Message::Here { incarnation, number },
        ] {
            let octets = message.encode("edge-1");
            assert_eq!(Message::decode(&octets), Some(("edge-1".to_owned(), message)));
            for length in 0..=LENGTH {
                assert_eq!(Message::decode(&octets[..length]), None);
            }
        }
    }

    #[test]
    fn what_is_not_a_message_is_none() {
        assert_eq!(Message::decode(&[0; 40]), None);
        assert_eq!(Message::decode(&[255; 40]), None);
        let mut octets = Message::Hail { incarnation: 1, number: 2 }.encode("edge-1");
        octets[1] = 9;
        assert_eq!(Message::decode(&octets), None);
    }
}
