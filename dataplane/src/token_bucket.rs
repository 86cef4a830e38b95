//! A bound on how often something may happen: so many a second, so many at once.

/// Tokens in nanoseconds of credit.
#[derive(Debug)]
pub struct TokenBucket {
    cost: u64,
    burst: u64,
    credit: u64,
    filled: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u64, burst: u64) -> TokenBucket {
        let cost = 1_000_000_000 / per_second;
        TokenBucket { cost, burst: cost * burst, credit: cost * burst, filled: 0 }
    }

    /// Fills by the time that has passed; `now` in nanoseconds, never going back.
    pub fn fill(&mut self, now: u64) {
        self.credit = self.burst.min(self.credit + now.saturating_sub(self.filled));
        self.filled = now;
    }

    /// Takes one token if there is one.
    pub fn take(&mut self) -> bool {
        let allowed = self.credit >= self.cost;
        if allowed {
            self.credit -= self.cost;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(1000, 50);
        bucket.fill(5);
        assert_eq!((0..100).filter(|_| bucket.take()).count(), 50);
        bucket.fill(5 + 3_000_000);
        assert_eq!((0..100).filter(|_| bucket.take()).count(), 3);
        bucket.fill(u64::MAX / 2);
        assert_eq!((0..100).filter(|_| bucket.take()).count(), 50);
    }
}
