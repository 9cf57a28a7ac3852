//! Which windows a time is in, and how windows are made of slices (Flink: `SliceAssigners`, `GroupWindowAssigner`s).
//! Times are wall clock milliseconds.

use sluice_batch::algebra::WindowSpec;
use sluice_batch::{Error, Millis, Result};

use crate::time::Zone;

/// Windows of a fixed grid. A slice is the piece of time that no window bound divides; it is named by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    kind: Kind,
    size: Millis,
    /// Distance of window ends.
    step: Millis,
    /// Length of a slice; divides `step` and `size`.
    slice: Millis,
    offset: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
}

impl Grid {
    /// # Errors
    /// If sizes are not positive, or it is a session window.
    pub fn new(window: &WindowSpec) -> Result<Self> {
        let grid = match *window {
            WindowSpec::Tumble { size, offset } => Self { kind: Kind::Tumble, size, step: size, slice: size, offset },
            WindowSpec::Hop { slide, size, offset } => Self { kind: Kind::Hop, size, step: slide, slice: gcd(size, slide), offset },
            WindowSpec::Cumulate { step, max, offset } => Self { kind: Kind::Cumulate, size: max, step, slice: step, offset },
            WindowSpec::Session { .. } => return Err(Error::plan("session windows have no grid")),
        };
        if grid.size <= 0 || grid.step <= 0 {
            return Err(Error::plan("window sizes must be positive"));
        }
        if grid.kind == Kind::Cumulate && grid.size % grid.step != 0 {
            return Err(Error::plan("CUMULATE requires that the maximal size is a multiple of the step"));
        }
        Ok(grid)
    }

    /// Whether each slice is a window of its own.
    pub fn unshared(&self) -> bool {
        self.slice == self.size
    }

    /// The end of the slice that a time is in.
    pub fn slice_end(&self, time: Millis) -> Millis {
        self.slice(time).1
    }

    /// Start and end of the slice that a time is in.
    pub fn slice(&self, time: Millis) -> (Millis, Millis) {
        let start = floor(time, self.offset, self.slice);
        (start, start + self.slice)
    }

    /// The start of the window with this end.
    pub fn start(&self, end: Millis) -> Millis {
        match self.kind {
            Kind::Tumble | Kind::Hop => end - self.size,
            Kind::Cumulate => floor(end - 1, self.offset, self.size),
        }
    }

    /// The ends of the windows that a slice is part of, from the first.
    pub fn ends_of_slice(&self, slice: Millis) -> impl Iterator<Item = Millis> + use<> {
        let (first, last) = self.end_range(slice);
        let step = self.step;
        (0..).map(move |i| first + i * step).take_while(move |e| *e <= last)
    }

    /// The end of the last window that a slice is part of.
    pub fn last_end(&self, slice: Millis) -> Millis {
        self.end_range(slice).1
    }

    fn end_range(&self, slice: Millis) -> (Millis, Millis) {
        match self.kind {
            Kind::Tumble => (slice, slice),
            // Ends are at offset + size + k * step.
            Kind::Hop => {
                let first = floor(slice - 1, self.offset + self.size, self.step) + self.step;
                let last = floor(slice - self.slice + self.size, self.offset + self.size, self.step);
                (first, last)
            }
            Kind::Cumulate => (slice, floor(slice - 1, self.offset, self.size) + self.size),
        }
    }

    /// Start and end of each window that a time is in, in Flink's order (HOP: the latest first).
    pub fn windows(&self, time: Millis) -> impl Iterator<Item = (Millis, Millis)> + use<> {
        let (first, last) = self.end_range(self.slice_end(time));
        let count = (last - first) / self.step + 1;
        let grid = *self;
        (0..count).map(move |i| {
            let end = if grid.kind == Kind::Hop { last - i * grid.step } else { first + i * grid.step };
            (grid.start(end), end)
        })
    }
}

/// Whether the window with this end has fired when time is `progress`.
pub fn is_fired(end: Millis, progress: Millis, zone: Zone) -> bool {
    progress >= zone.to_timer(end - 1)
}

fn floor(time: Millis, offset: Millis, unit: Millis) -> Millis {
    time - (time - offset).rem_euclid(unit)
}

fn gcd(a: Millis, b: Millis) -> Millis {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn windows_of_a_time() {
        let windows = |spec: WindowSpec, time| Grid::new(&spec).unwrap().windows(time).collect::<Vec<_>>();
        assert_eq!(windows(WindowSpec::Tumble { size: 10, offset: 3 }, 12), [(3, 13)]);
        assert_eq!(windows(WindowSpec::Tumble { size: 10, offset: 3 }, 2), [(-7, 3)]);
        assert_eq!(windows(WindowSpec::Hop { slide: 5, size: 10, offset: 0 }, 7), [(5, 15), (0, 10)]);
        // Size is no multiple of slide; slide is larger than size.
        assert_eq!(windows(WindowSpec::Hop { slide: 4, size: 10, offset: 0 }, 9), [(8, 18), (4, 14), (0, 10)]);
        assert_eq!(windows(WindowSpec::Hop { slide: 10, size: 4, offset: 0 }, 5), []);
        assert_eq!(windows(WindowSpec::Hop { slide: 10, size: 4, offset: 0 }, 13), [(10, 14)]);
        assert_eq!(windows(WindowSpec::Cumulate { step: 5, max: 15, offset: 0 }, 22), [(15, 25), (15, 30)]);
    }

    #[test]
    fn slices() {
        let hop = Grid::new(&WindowSpec::Hop { slide: 5, size: 10, offset: 0 }).unwrap();
        assert_eq!((hop.slice_end(7), hop.last_end(10), hop.start(15)), (10, 15, 5));
        assert_eq!(hop.ends_of_slice(10).collect::<Vec<_>>(), [10, 15]);
        assert!(!hop.unshared());
        assert!(Grid::new(&WindowSpec::Hop { slide: 10, size: 10, offset: 0 }).unwrap().unshared());
        assert!(Grid::new(&WindowSpec::Session { gap: 1 }).is_err());
    }
}
