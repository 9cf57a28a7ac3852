//! The pattern as an automaton (Flink: `NFACompiler`): a greedy quantifier is possessive, a reluctant one explores both ways,
//! and the way that completes first wins. `study/match_model.py` is the executable form of the same rules.

use sluice_batch::algebra::PatternElement;

/// A move out of a state. `not`: variables whose condition must *not* hold for the row at hand (a greedy loop before keeps what it can).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub target: usize,
    /// The variable that takes the row; `None` moves on without one.
    pub take: Option<usize>,
    pub not: Vec<usize>,
}

/// States of a pattern with their edges. A state without edges is the end of a match.
#[derive(Clone, Debug)]
pub struct Program {
    pub states: Vec<Vec<Edge>>,
    pub start: usize,
    pub variables: usize,
}

/// The end of a match.
pub const FINAL: usize = 0;

impl Program {
    pub fn compile(pattern: &[PatternElement]) -> Self {
        let mut program = Self { states: vec![vec![]], start: FINAL, variables: pattern.len() };
        let mut sink = FINAL;
        for (variable, element) in pattern.iter().enumerate().rev() {
            sink = program.element(variable, element, sink);
        }
        program.start = sink;
        program
    }

    /// Puts an element before `sink`; answers its first state.
    fn element(&mut self, variable: usize, element: &PatternElement, sink: usize) -> usize {
        let optional = element.min == 0;
        let least = element.min.max(1);
        match element.max {
            None => {
                let looped = self.states.len();
                self.states.push(vec![Edge { target: sink, take: None, not: vec![] }]);
                if element.greedy {
                    self.forbid(sink, variable);
                }
                self.states[looped].push(Edge { target: looped, take: Some(variable), not: vec![] });
                let mut last = looped;
                for _ in 1..least {
                    last = self.single(variable, last, None);
                }
                self.single(variable, last, optional.then_some(sink))
            }
            // `?` is not greedy in Flink: both ways are explored.
            Some(1) => self.single(variable, sink, optional.then_some(sink)),
            Some(most) => {
                if element.greedy && least != most {
                    self.forbid(sink, variable);
                }
                let mut last = sink;
                for _ in least..most {
                    last = self.single(variable, last, Some(sink));
                }
                for _ in 1..least {
                    last = self.single(variable, last, None);
                }
                self.single(variable, last, optional.then_some(sink))
            }
        }
    }

    fn single(&mut self, variable: usize, next: usize, skip: Option<usize>) -> usize {
        let mut edges = vec![Edge { target: next, take: Some(variable), not: vec![] }];
        edges.extend(skip.map(|target| Edge { target, take: None, not: vec![] }));
        self.states.push(edges);
        self.states.len() - 1
    }

    /// No way out of `state` for rows that `variable` could still take.
    fn forbid(&mut self, state: usize, variable: usize) {
        self.states[state].iter_mut().for_each(|e| e.not.push(variable));
    }
}
