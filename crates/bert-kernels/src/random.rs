//! Random numbers as pure functions of what they are for: Philox4x32-10, a counter-based generator.
//!
//! No draw depends on an earlier one, on the number of threads, or on a backend: the same seed, purpose and
//! index give the same bits everywhere, and a run that is resumed draws what the interrupted run would have drawn.
//!
//! # Source
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
pub(crate) const ROUNDS: usize = 10;

/// What a random number is drawn for, so that two purposes never share their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Starting values of new parameters.
    Init = 1,
    /// The order of the training rows.
    Shuffle = 2,
    /// Which rows are held out.
    Split = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Which task or row comes next.
    Sample = 5,
    /// The settings of a trial.
    Search = 6,
}

/// The key of a family of random blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// The key that stands for a seed.
    pub fn new(seed: u64) -> Self {
        Self([seed as u32, (seed >> 32) as u32])
    }

    /// A key of its own for `purpose` and three more words, for example step, micro-batch and site.
    pub fn derive(self, purpose: Purpose, words: [u32; 3]) -> Self {
        let block = self.block([words[0], words[1], words[2], purpose as u32]);
        Self([block[0], block[1]])
    }

    /// Four uniform 32-bit numbers for a counter.
    #[inline]
    pub fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let (mut c, mut key) = (counter, self.0);
        for _ in 0..ROUNDS {
            let low = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
            let high = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
            c = [
                (high >> 32) as u32 ^ c[1] ^ key[0],
                high as u32,
                (low >> 32) as u32 ^ c[3] ^ key[1],
                low as u32,
            ];
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        c
    }

    /// The two words of the key, for generators that draw many blocks at once.
    #[inline]
    pub fn words(self) -> [u32; 2] {
        self.0
    }
}

/// A sequence of draws for one (seed, purpose, index).
#[derive(Debug, Clone)]
pub struct Stream {
    key: Key,
    position: u64,
    block: [u32; 4],
}

impl Stream {
    /// The stream of `purpose` at `index`: the epoch of a shuffle, the number of a parameter, ...
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self {
            key: Key::new(seed).derive(purpose, [index as u32, (index >> 32) as u32, 0]),
            position: 0,
            block: [0; 4],
        }
    }

    /// A uniform 32-bit number.
    pub fn next_u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            let block = self.position / 4;
            self.block = self.key.block([block as u32, (block >> 32) as u32, 0, 0]);
        }
        self.position += 1;
        self.block[lane]
    }

    /// A uniform number in `[0, 1)` with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// A number of the standard normal distribution (Box-Muller, computed in double precision).
    pub fn normal(&mut self) -> f32 {
        // 1 - u is in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.next_u32()) / 4_294_967_296.0).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(self.next_u32()) / 4_294_967_296.0;
        (radius * angle.cos()) as f32
    }

    /// A uniform number below `bound`, without bias.
    ///
    /// # Panics
    /// When `bound` is 0 or above 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(
            bound > 0 && bound as u64 <= 1 << 32,
            "below: the bound must be in 1..=2^32, got {bound}"
        );
        // Draws from the incomplete last multiple of `bound` are drawn again.
        let limit = (1u64 << 32) / bound as u64 * bound as u64;
        loop {
            let draw = u64::from(self.next_u32());
            if draw < limit {
                return (draw % bound as u64) as usize;
            }
        }
    }

    /// Puts `items` into a uniformly random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution for philox4x32-10.
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(Key([0, 0]).block([0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            Key([u32::MAX; 2]).block([u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            Key([0xa409_3822, 0x299f_31d0]).block([
                0x243f_6a88,
                0x85a3_08d3,
                0x1319_8a2e,
                0x0370_7344
            ]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_of_other_purposes_and_indices_differ() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).next_u32();
        let base = first(3, Purpose::Init, 5);
        assert_eq!(base, first(3, Purpose::Init, 5));
        assert_ne!(base, first(4, Purpose::Init, 5));
        assert_ne!(base, first(3, Purpose::Shuffle, 5));
        assert_ne!(base, first(3, Purpose::Init, 6));
        assert_ne!(base, first(3, Purpose::Init, 5 + (1 << 32)));
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut stream = Stream::new(7, Purpose::Init, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| f64::from(stream.normal())).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Standard errors: 0.0032 of the mean, 0.0045 of the variance.
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.023, "{variance}");
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut stream = Stream::new(1, Purpose::Sample, 0);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[stream.below(7)] += 1;
        }
        // Expected 10,000 each, standard deviation 93.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 500), "{counts:?}");
    }

    #[test]
    fn shuffle_is_a_permutation_that_moves() {
        let mut items: Vec<usize> = (0..101).collect();
        Stream::new(1, Purpose::Shuffle, 0).shuffle(&mut items);
        assert_ne!(items, (0..101).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..101).collect::<Vec<_>>());
    }
}
