//! Where randomness comes from.

/// Fills buffers with octets that nobody can guess.
pub trait Rng: Send {
    /// Fills all of it.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// The system's, through aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&mut self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("invariant: aws-lc's generator aborts or delivers");
    }
}

/// For simulations: everybody can guess it, and it is the same each time (SplitMix64).
#[derive(Clone, Debug)]
pub struct SeededRng(u64);

impl SeededRng {
    /// The same seed, the same octets.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Rng for SeededRng {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.iter_mut().zip(z.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_decide() {
        let take = |seed| {
            let mut octets = [0; 21];
            SeededRng::new(seed).fill(&mut octets);
            octets
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        let mut system = [0; 21];
        SystemRng.fill(&mut system);
        assert_ne!(system, [0; 21]);
    }
}
