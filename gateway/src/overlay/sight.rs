//! Whether this edge reaches nodes, with patience both ways.

use std::time::{Duration, Instant};

use holding::Sight;

/// So long no node is heard before the edge is blind,
const GRACE: Duration = Duration::from_secs(1);
/// and before it is cut off: by then all edges know of themselves that they are blind, if it is
/// the nodes that are away.
const PATIENCE: Duration = Duration::from_secs(4);
/// So long one has to be heard after that.
const TRUST: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Since when no node is heard.
    silent: Option<Instant>,
    /// Since when some are.
    heard: Option<Instant>,
    /// Whether one ever was.
    ever: bool,
    /// It was cut off, and hearing a node for a moment is not enough.
    distrusts: bool,
}

impl Look {
    /// Of so many nodes with agents, so many are heard now. Where there are none there is nobody
    /// to be cut off from.
    pub(super) fn at(&mut self, now: Instant, nodes: usize, heard: usize) -> Sight {
        if nodes == 0 {
            *self = Self::default();
            return Sight::Clear;
        }
        if heard > 0 {
            (self.silent, self.ever) = (None, true);
            let since = *self.heard.get_or_insert(now);
            self.distrusts &= now.saturating_duration_since(since) < TRUST;
            return if self.distrusts { Sight::Blind } else { Sight::Clear };
        }
        self.heard = None;
        let since = *self.silent.get_or_insert(now);
        let silent = now.saturating_duration_since(since);
        if silent >= PATIENCE {
            self.distrusts = true;
            return Sight::CutOff;
        }
        let is_blind = silent >= GRACE || self.distrusts || !self.ever;
        if is_blind { Sight::Blind } else { Sight::Clear }
    }
}

#[cfg(test)]
mod tests {
    use Sight::{Blind, Clear, CutOff};

    use super::*;

    #[test]
    fn a_link_that_comes_and_goes_changes_little() {
        let (mut look, start) = (Look::default(), Instant::now());
        let mut at = |seconds: u64, heard| look.at(start + Duration::from_secs(seconds), 3, heard);
        assert_eq!(
            [at(0, 3), at(1, 0), at(2, 0), at(4, 0), at(4, 1)],
            [Clear, Clear, Blind, Blind, Clear]
        );
        assert_eq!([at(5, 0), at(8, 0), at(9, 0), at(20, 0)], [Clear, Blind, CutOff, CutOff]);
        // Back, but not for long; then for long enough.
        assert_eq!([at(21, 3), at(30, 3), at(30, 0), at(33, 0)], [Blind, Blind, Blind, Blind]);
        assert_eq!([at(33, 1), at(42, 1), at(43, 1)], [Blind, Blind, Clear]);
    }

    #[test]
    fn an_edge_is_blind_from_its_start_until_it_hears_a_node() {
        let (mut look, start) = (Look::default(), Instant::now());
        assert_eq!(look.at(start, 2, 0), Blind);
        assert_eq!(look.at(start + GRACE, 2, 1), Clear);
        let mut look = Look::default();
        assert_eq!(look.at(start, 2, 0), Blind);
        assert_eq!(look.at(start + PATIENCE, 2, 0), CutOff);
    }

    #[test]
    fn where_there_are_no_nodes_nobody_is_cut_off_from_them() {
        let (mut look, start) = (Look::default(), Instant::now());
        assert_eq!([look.at(start, 0, 0), look.at(start + TRUST, 0, 0)], [Clear, Clear]);
        assert_eq!(look.at(start, 2, 0), Blind);
        assert_eq!(look.at(start + PATIENCE, 2, 0), CutOff);
        assert_eq!(look.at(start + PATIENCE, 0, 0), Clear);
    }
}
