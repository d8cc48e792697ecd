//! Which sequence numbers have come (RFC 4303, 3.4.3 and appendix A; laid out as RFC 6479 has it).

/// The window of one inbound SA. One worker owns it.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The highest authentic sequence number.
    top: u64,
    /// How many numbers up to the top are known; 0 for no check.
    window: u64,
    /// A ring: number `n` is bit `n % 64` of word `n / 64 % words`. A power of two of words, one
    /// more than the window needs, so that the word being entered can be cleared whole.
    words: Box<[u64]>,
}

/// Without a window, how far back a packet may be for its high half to be guessed right.
const GUESS: u64 = 1 << 31;
/// The largest window, in packets.
const LARGEST: u32 = 1 << 20;

impl Replay {
    /// For so many packets (rounded up to 64, at most 1,048,576); 0 for no check.
    pub fn new(window: u32) -> Self {
        if window == 0 {
            return Self { top: 0, window: 0, words: Box::default() };
        }
        let window = u64::from(window.min(LARGEST)).next_multiple_of(64);
        let words = (window / 64 + 1).next_power_of_two();
        let words = vec![0; usize::try_from(words).unwrap_or(usize::MAX)].into_boxed_slice();
        Self { top: 0, window, words }
    }

    /// The highest sequence number that has come.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The 64-bit number that 32 bits of a packet most likely stand for (appendix A2.2).
    pub(crate) fn extend(&self, low: u32) -> u64 {
        let span = if self.window == 0 { GUESS } else { self.window };
        let (top_high, top_low) = (self.top >> 32, self.top & 0xffff_ffff);
        let low = u64::from(low);
        let high = if top_low + 1 >= span {
            // The window lies within one run of the low half.
            if low >= top_low + 1 - span { top_high } else { top_high.saturating_add(1) }
        } else if low >= (1 << 32) + top_low + 1 - span {
            top_high.saturating_sub(1)
        } else {
            top_high
        };
        high << 32 | low
    }

    /// Whether a packet with this number may still be taken.
    pub(crate) fn allows(&self, sequence: u64) -> bool {
        if sequence == 0 {
            return false;
        }
        if self.window == 0 || sequence > self.top {
            return true;
        }
        self.top - sequence < self.window && self.word(sequence) & bit(sequence) == 0
    }

    /// Notes an authentic packet. False if it must not be taken after all.
    pub(crate) fn accept(&mut self, sequence: u64) -> bool {
        if !self.allows(sequence) {
            return false;
        }
        if sequence > self.top {
            let entered = sequence / 64 - self.top / 64;
            let count = self.words.len() as u64;
            if entered >= count {
                self.words.fill(0);
            } else {
                for step in 1..=entered {
                    let word = self.top / 64 + step;
                    self.set_word(word, 0);
                }
            }
            self.top = sequence;
        }
        let word = self.word(sequence) | bit(sequence);
        self.set_word(sequence / 64, word);
        true
    }

    fn word(&self, sequence: u64) -> u64 {
        self.words.get(self.place(sequence / 64)).copied().unwrap_or(0)
    }

    fn set_word(&mut self, word: u64, value: u64) {
        let place = self.place(word);
        if let Some(word) = self.words.get_mut(place) {
            *word = value;
        }
    }

    fn place(&self, word: u64) -> usize {
        (word & (self.words.len() as u64).wrapping_sub(1)) as usize
    }
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_taken_once_within_the_window() {
        for window in [32, 64, 1024, 4096] {
            let mut replay = Replay::new(window);
            assert!(!replay.accept(0));
            assert!(replay.accept(1));
            assert!(!replay.accept(1));
            assert!(replay.accept(10_000));
            assert!(replay.accept(10_000 - u64::from(window) + 1));
            assert!(!replay.accept(10_000 - u64::from(window) + 1));
            let real = u64::from(window).next_multiple_of(64);
            assert!(!replay.accept(10_000 - real), "older than a window of {window}");
            assert!(replay.accept(10_001));
            assert!(replay.accept(9_999));
            assert!(!replay.accept(9_999));
        }
    }

    #[test]
    fn without_a_window_all_are_taken() {
        let mut replay = Replay::new(0);
        assert!(replay.accept(7) && replay.accept(7) && replay.accept(1));
        assert_eq!(replay.top(), 7);
    }

    #[test]
    fn a_naive_model_agrees() {
        let mut random = fastrand::Rng::with_seed(5);
        for window in [64_u64, 128, 1024] {
            let mut replay = Replay::new(window as u32);
            let mut seen = std::collections::BTreeSet::new();
            let mut top = 0_u64;
            for _ in 0..40_000 {
                let sequence = match random.u32(0..100) {
                    0 => top + random.u64(0..3 * window),
                    1..40 => top + 1,
                    _ => top.saturating_sub(random.u64(0..window + 70)),
                };
                let expected =
                    sequence != 0 && sequence + window > top && !seen.contains(&sequence);
                assert_eq!(replay.accept(sequence), expected, "{sequence} below {top}");
                if expected {
                    seen.insert(sequence);
                    top = top.max(sequence);
                }
            }
        }
    }

    #[test]
    fn the_high_half_is_the_one_nearest_to_the_window() {
        let mut replay = Replay::new(1024);
        assert_eq!(replay.extend(1), 1);
        assert_eq!(replay.extend(u32::MAX), u64::from(u32::MAX));
        assert!(replay.accept(0xffff_fff0));
        assert_eq!(replay.extend(0xffff_ffff), 0xffff_ffff);
        assert_eq!(replay.extend(0xffff_fff0 - 1023), 0xffff_fff0 - 1023);
        assert_eq!(replay.extend(0xffff_fff0 - 1024), 0x1_ffff_fff0 - 1024);
        assert_eq!(replay.extend(5), 0x1_0000_0005);
        assert!(replay.accept(0x1_0000_0005));
        assert_eq!(replay.extend(0xffff_fff8), 0xffff_fff8);
        assert_eq!(replay.extend(6), 0x1_0000_0006);
        assert_eq!(replay.extend(100_000), 0x1_0000_0000 + 100_000);
        let mut off = Replay::new(0);
        assert!(off.accept(0x3_0000_0000));
        assert_eq!(off.extend(0xffff_ffff), 0x2_ffff_ffff);
        assert_eq!(off.extend(9), 0x3_0000_0009);
    }
}
